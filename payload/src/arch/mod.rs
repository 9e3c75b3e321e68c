//! What differs from one architecture to the next, under the same list of names: `boot`, `clock`, `exceptions`, `mmu`, `pci`,
//! `ports`, `power`, `NAME`; and what does not.

mod elapsed;
pub(crate) mod guarded_copy;
mod report;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "arm")]
mod arm;
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
mod arm_common;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(crate) use self::aarch64::*;
#[cfg(target_arch = "arm")]
pub(crate) use self::arm::*;
#[cfg(target_arch = "x86_64")]
pub(crate) use self::x86_64::*;
