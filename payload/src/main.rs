//! The capture kernel.
//!
//! # Flow
//! `arch` entry ─▶ own stack, exception handlers, page tables ─▶ command line ─▶ banner ─▶ clock ─▶ elfcorehdr ─▶ memory map ─▶ the capture pipeline over the link ─▶ `rcapture.final=`.
//!
//! `unsafe` is in `arch`, `memory` and `drivers` only. On the host this program is a stub; clippy looks at the real
//! one there as well.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(any(target_os = "none", clippy))]
extern crate alloc;

#[cfg(any(target_os = "none", clippy))]
mod arch;
#[cfg(any(target_os = "none", clippy))]
mod drivers;
#[cfg(any(target_os = "none", clippy))]
mod fatal;
#[cfg(any(target_os = "none", clippy))]
mod link;
#[cfg(any(target_os = "none", clippy))]
mod memory;
#[cfg(any(target_os = "none", clippy))]
mod platform;
#[cfg(any(target_os = "none", clippy))]
mod start;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is the capture kernel's stub for the host: `cargo xtask image` builds the real one");
    std::process::exit(2);
}
