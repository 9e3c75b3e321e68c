//! What 32-bit and 64-bit Arm have in common: a device tree that tells of the machine, firmware that turns it off, PCI in memory,
//! no I/O ports.

pub(crate) mod boot;
pub(crate) mod clock;
pub(crate) mod exceptions;
pub(crate) mod pci;
pub(crate) mod ports;
pub(crate) mod power;

use crate::arch::exceptions::unmask_errors;
use crate::memory::paging;

/// Where the assembler entry arrives, on the image's own stack, relocated and with bss cleared, at EL1 or in System mode, with
/// its exception vectors and without the MMU.
#[unsafe(no_mangle)]
extern "C" fn rust_entry(device_tree_pa: usize) -> ! {
    if paging::take_over().is_err() {
        // There is nothing yet to say it on.
        power::halt();
    }
    unmask_errors();
    crate::start::run(device_tree_pa as u64)
}
