//! Entries of the page tables, of 4 or 5 levels as the loader left the processor, and the registers behind them.

use core::ops::Range;

use rcapture_payload::page_tables::{self, Use};
use x86_64::PhysAddr;
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr3, Cr3Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::{Efer, EferFlags};
use x86_64::structures::paging::PhysFrame;

/// Where the windows may be.
pub(crate) const WINDOWS: [usize; 1] = [0xffff_ffff_8000_0000];
/// The address in an entry.
const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
/// PWT and PCD: entry 3 of the PAT, uncached both by default and as Linux sets it.
const UNCACHED: u64 = 1 << 3 | 1 << 4;
const NO_EXECUTE: u64 = 1 << 63;

/// What of the entries depends on the processor.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    levels: u32,
    /// [`NO_EXECUTE`] where the processor has it.
    no_execute: u64,
}

impl page_tables::Format for Format {
    fn entry_bytes(&self) -> usize {
        8
    }

    fn levels(&self) -> u32 {
        self.levels
    }

    fn index_bits(&self, _level: u32) -> u32 {
        9
    }

    fn page(&self, pa: u64, purpose: Use) -> Option<u64> {
        let flags = match purpose {
            Use::Text => 0,
            Use::Constants | Use::Ram => self.no_execute,
            Use::Data => WRITABLE | self.no_execute,
            Use::Device => WRITABLE | UNCACHED | self.no_execute,
        };
        (pa & !ADDRESS_MASK == 0).then_some(pa | PRESENT | flags)
    }

    fn page_at(&self, entry: u64) -> u64 {
        entry & ADDRESS_MASK
    }

    fn table(&self, pa: u64) -> u64 {
        pa | PRESENT | WRITABLE
    }

    fn table_at(&self, entry: u64) -> u64 {
        entry & ADDRESS_MASK
    }
}

/// Finds out, and turns on what the entries use.
pub(crate) fn prepare() -> Format {
    let levels = if Cr4::read().contains(Cr4Flags::L5_PAGING) { 5 } else { 4 };
    if !has_no_execute() {
        return Format { levels, no_execute: 0 };
    }
    // SAFETY: the bit is implemented; the loader's tables, if they use it, mean the same by it.
    unsafe { Efer::update(|efer| efer.insert(EferFlags::NO_EXECUTE_ENABLE)) };
    Format { levels, no_execute: NO_EXECUTE }
}

/// Leaves the tables in use for those with this root.
///
/// # Safety
/// They must map everything in use where it is.
pub(crate) unsafe fn activate(_format: Format, root_pa: u64) {
    let root = PhysFrame::containing_address(PhysAddr::new_truncate(root_pa));
    // SAFETY: the caller's.
    unsafe { Cr3::write(root, Cr3Flags::empty()) };
}

/// Lets the processor forget the page at `va`.
pub(crate) fn flush(va: usize) {
    tlb::flush(x86_64::VirtAddr::new_truncate(va as u64));
}

/// Lets the processor forget all pages.
pub(crate) fn flush_all() {
    tlb::flush_all();
}

/// New entries are seen at once.
pub(crate) const fn settle() {}

/// Nothing: devices look into the caches.
pub(crate) const fn evict(_memory: &Range<usize>) {}

/// What was written is seen by devices before what is written next.
pub(crate) fn publish() {
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
}

fn has_no_execute() -> bool {
    use core::arch::x86_64::__cpuid;
    __cpuid(0x8000_0000).eax >= 0x8000_0001 && __cpuid(0x8000_0001).edx & (1 << 20) != 0
}
