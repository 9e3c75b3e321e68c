//! What the boot loader and the firmware left for the capture kernel, read through [`memory::PhysMemory`]: the part of
//! the payload that can be tested anywhere. The rest is `main.rs`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod boot;
pub mod net;
