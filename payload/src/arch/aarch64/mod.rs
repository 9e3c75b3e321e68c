//! aarch64: from the entry of an Image to a machine of its own.

pub(crate) mod counter;
pub(crate) mod exceptions;
pub(crate) mod firmware;
pub(crate) mod mmu;

pub(crate) use super::arm_common::{boot, clock, pci, ports, power};

/// As the banner says it.
pub(crate) const NAME: &str = "aarch64";

#[cfg(target_os = "none")]
core::arch::global_asm!(include_str!("unpack.s"));
#[cfg(target_os = "none")]
core::arch::global_asm!(include_str!("entry.s"));
