//! Entries of the page tables, 4 levels of 4 KiB pages (Arm ARM D8.3), and the registers behind them.

use core::arch::asm;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{
    ID_AA64MMFR0_EL1, MAIR_EL1, ReadWriteable, Readable, SCTLR_EL1, TCR_EL1, TTBR0_EL1, Writeable,
};

use crate::memory::layout;
use crate::memory::paging::Use;

/// Where RAM appears: at the end of 48 bits, where no RAM is.
pub(crate) const RAM_WINDOW: usize = 0x0000_ffff_8000_0000;
/// Where device registers appear.
pub(crate) const MMIO_WINDOW: usize = 0x0000_ffff_8020_0000;
/// The address in an entry.
pub(crate) const ADDRESS_MASK: u64 = 0x0000_ffff_ffff_f000;

/// Valid, and a table or, at the last level, a page.
const VALID: u64 = 0b11;
/// AttrIndx: which byte of MAIR_EL1 says what memory it is.
const NORMAL: u64 = 0 << 2;
const DEVICE: u64 = 1 << 2;
/// AP[2].
const READ_ONLY: u64 = 1 << 7;
/// SH: inner shareable.
const SHAREABLE: u64 = 0b11 << 8;
/// AF: otherwise the first access faults.
const ACCESSED: u64 = 1 << 10;
/// PXN and UXN.
const NO_EXECUTE: u64 = 1 << 53 | 1 << 54;

/// Attributes of memory (D19.2.104): write-back, allocated on read and write; device, no gathering, no reordering, early
/// write acknowledgement.
const MAIR: u64 = 0xff | 0x04 << 8;

/// All processors of this kind have the same entries.
#[derive(Clone, Copy)]
pub(crate) struct Format;

impl Format {
    /// Before [`prepare`](Self::prepare).
    pub(crate) const UNKNOWN: Self = Self;

    /// Nothing is to be found out.
    pub(crate) const fn prepare() -> Self {
        Self
    }

    /// Levels of tables.
    pub(crate) const fn levels(self) -> u32 {
        4
    }

    /// The entry of the page at `pa`.
    pub(crate) const fn page(self, pa: u64, purpose: Use) -> u64 {
        let flags = match purpose {
            Use::Text => NORMAL | SHAREABLE | READ_ONLY,
            Use::Constants | Use::Ram => NORMAL | SHAREABLE | READ_ONLY | NO_EXECUTE,
            Use::Data => NORMAL | SHAREABLE | NO_EXECUTE,
            Use::Device => DEVICE | NO_EXECUTE,
        };
        pa | VALID | ACCESSED | flags
    }

    /// Turns the MMU and the caches on, with the tables of this root.
    ///
    /// # Safety
    /// They must map everything in use where it is. The MMU must be off.
    pub(crate) unsafe fn activate(self, root_pa: u64) {
        MAIR_EL1.set(MAIR);
        // 6 would be 52 bits, which pages of 4 KiB do not have.
        let address_bits = ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::PARange).min(5);
        TCR_EL1.write(
            TCR_EL1::T0SZ.val(16)
                + TCR_EL1::IRGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable
                + TCR_EL1::ORGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable
                + TCR_EL1::SH0::Inner
                + TCR_EL1::TG0::KiB_4
                + TCR_EL1::T1SZ.val(16)
                + TCR_EL1::TG1::KiB_4
                + TCR_EL1::EPD1::DisableTTBR1Walks
                + TCR_EL1::IPS.val(address_bits),
        );
        TTBR0_EL1.set(root_pa);
        forget_cached_image();
        // SAFETY: what is thrown away are translations and instructions that nobody uses any more.
        unsafe { asm!("tlbi vmalle1", "ic iallu", options(nostack)) };
        barrier::dsb(barrier::SY);
        barrier::isb(barrier::SY);
        SCTLR_EL1.modify(SCTLR_EL1::M::Enable + SCTLR_EL1::C::Cacheable + SCTLR_EL1::I::Cacheable);
        barrier::isb(barrier::SY);
    }
}

/// What was written without caches is what counts: lines of the image that are still in them are from before.
fn forget_cached_image() {
    let cache_type: usize;
    // SAFETY: CTR_EL0 is only read.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) cache_type, options(nostack, nomem)) };
    // DminLine is the logarithm of the words in a line (D19.2.33).
    let line_bytes = 4 << (cache_type >> 16 & 0xf);
    barrier::dsb(barrier::SY);
    for line in layout::image().step_by(line_bytes) {
        // SAFETY: the line is the image's; with the data cache off none of what it wrote is only in the cache.
        unsafe { asm!("dc ivac, {}", in(reg) line, options(nostack)) };
    }
    barrier::dsb(barrier::SY);
}

/// The entry that leads to the table at `pa`.
pub(crate) const fn table(pa: u64) -> u64 {
    pa | VALID
}

/// Lets the processor forget the page at `va`.
pub(crate) fn flush(va: usize) {
    barrier::dsb(barrier::ISHST);
    // SAFETY: an entry that is looked up again; the operand is the number of the page (C5.5).
    unsafe { asm!("tlbi vaae1, {}", in(reg) va >> 12 & 0xfff_ffff_ffff, options(nostack)) };
    barrier::dsb(barrier::ISH);
    barrier::isb(barrier::SY);
}

/// Lets the processor forget all pages.
pub(crate) fn flush_all() {
    barrier::dsb(barrier::ISHST);
    // SAFETY: entries that are looked up again.
    unsafe { asm!("tlbi vmalle1", options(nostack)) };
    barrier::dsb(barrier::ISH);
    barrier::isb(barrier::SY);
}

/// New entries are seen from here on.
pub(crate) fn settle() {
    barrier::dsb(barrier::ISHST);
    barrier::isb(barrier::SY);
}
