//! 32-bit Arm, ARMv7-A: from the entry of a zImage to a machine of its own.

pub(crate) mod counter;
pub(crate) mod exceptions;
pub(crate) mod firmware;
pub(crate) mod mmu;
mod registers;

pub(crate) use super::arm_common::{boot, clock, pci, ports, power};
use crate::memory::paging;

/// As the banner says it.
pub(crate) const NAME: &str = "arm";

#[cfg(target_os = "none")]
core::arch::global_asm!(include_str!("entry.s"), options(raw));

/// Where the assembler entry arrives, on the image's own stack, relocated and with bss cleared, in System mode, with its
/// exception vectors and without the MMU.
#[unsafe(no_mangle)]
extern "C" fn rust_entry(device_tree_pa: u32) -> ! {
    if paging::take_over().is_err() {
        // There is nothing yet to say it on.
        power::halt();
    }
    exceptions::unmask_errors();
    crate::start::run(device_tree_pa.into())
}
