//! 32-bit Arm, ARMv7-A: from the entry of a zImage to a machine of its own.

pub(crate) mod counter;
pub(crate) mod exceptions;
pub(crate) mod firmware;
pub(crate) mod mmu;
mod registers;

pub(crate) use super::arm_common::{boot, clock, pci, ports, power};

/// As the banner says it.
pub(crate) const NAME: &str = "arm";

#[cfg(target_os = "none")]
core::arch::global_asm!(include_str!("entry.s"), options(raw));
