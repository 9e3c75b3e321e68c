//! x86_64: from the 64-bit boot protocol's entry to a machine of its own.

pub(crate) mod boot;
pub(crate) mod clock;
mod encryption;
pub(crate) mod exceptions;
pub(crate) mod mmu;
pub(crate) mod pci;
pub(crate) mod ports;
pub(crate) mod power;
mod segments;

use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};

/// As the banner says it.
pub(crate) const NAME: &str = "x86_64";

#[cfg(target_os = "none")]
core::arch::global_asm!(include_str!("entry.s"));

/// Where the assembler entry arrives, on the image's own stack, relocated and with bss cleared.
#[unsafe(no_mangle)]
extern "C" fn rust_entry(boot_params_pa: u64) -> ! {
    segments::load();
    exceptions::load();
    enable_processor_features();
    crate::start::run(boot_params_pa)
}

/// Machine checks reach the handler instead of shutting the processor down, and read-only pages bind the image too.
fn enable_processor_features() {
    let has_machine_check = core::arch::x86_64::__cpuid(1).edx & (1 << 7) != 0;
    // SAFETY: the exception handlers are loaded; WP only takes rights away, and the loader's tables map everything
    // writable.
    unsafe {
        Cr0::update(|cr0| cr0.insert(Cr0Flags::WRITE_PROTECT));
        if has_machine_check {
            Cr4::update(|cr4| cr4.insert(Cr4Flags::MACHINE_CHECK_EXCEPTION));
        }
    }
}
