//! The MMU: 4 levels of tables, and the registers behind them.

use core::arch::asm;
use core::ops::Range;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{
    ID_AA64MMFR0_EL1, MAIR_EL1, ReadWriteable, Readable, SCTLR_EL1, TCR_EL1, TTBR0_EL1, Writeable,
};

use rcapture_payload::page_tables::long::{self, Long};

use crate::memory::layout;

/// Where the windows may be: at the end of 48 bits, where no RAM is.
pub(crate) const WINDOWS: [usize; 1] = [0x0000_ffff_8000_0000];

/// All processors of this kind have the same entries.
pub(crate) type Format = Long;

/// Nothing is to be found out.
pub(crate) const fn prepare() -> Format {
    Long::AARCH64
}

/// Turns the MMU and the caches on, with the tables of this root.
///
/// # Safety
/// They must map everything in use where it is. The MMU must be off.
pub(crate) unsafe fn activate(_format: Format, root_pa: u64) {
    MAIR_EL1.set(long::ATTRIBUTES.into());
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

/// What was written without caches is what counts: lines of the image that are still in them are from before.
fn forget_cached_image() {
    barrier::dsb(barrier::SY);
    for line in layout::image().step_by(line_bytes()) {
        // SAFETY: the line is the image's; with the data cache off none of what it wrote is only in the cache.
        unsafe { asm!("dc ivac, {}", in(reg) line, options(nostack)) };
    }
    barrier::dsb(barrier::SY);
}

/// Lines of our own memory that are in a cache go to memory, and stay there.
pub(crate) fn evict(memory: &Range<usize>) {
    barrier::dsb(barrier::SY);
    for line in memory.clone().step_by(line_bytes()) {
        // SAFETY: what memory has, or is to have, does not change.
        unsafe { asm!("dc civac, {}", in(reg) line, options(nostack)) };
    }
    barrier::dsb(barrier::SY);
}

/// What was written is seen by devices before what is written next.
pub(crate) fn publish() {
    barrier::dsb(barrier::SY);
}

/// Bytes of the shortest line of a cache.
fn line_bytes() -> usize {
    let cache_type: usize;
    // SAFETY: CTR_EL0 is only read.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) cache_type, options(nostack, nomem)) };
    // DminLine is the logarithm of the words in a line (D19.2.33).
    4 << (cache_type >> 16 & 0xf)
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
