//! The MMU: long descriptors where the processor has them, else short ones; and the registers behind them.

use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::AtomicU32;

use rcapture_payload::page_tables::long::{self, Long};
use rcapture_payload::page_tables::short::Short;
use rcapture_payload::page_tables::{self, Use};

use super::registers::{read, synchronize, write};
use crate::memory::layout;

/// Where the windows may be: the image is one to one, and so in the way of one of them at most.
pub(crate) const WINDOWS: [usize; 2] = [0xff80_0000, 0x0080_0000];

/// Bits of SCTLR: MMU; data, branch and instruction caches.
const MMU_AND_CACHES: u32 = 1 << 0 | 1 << 2 | 1 << 11 | 1 << 12;

/// TTBCR for long descriptors: EAE; of TTBR0, which is for all addresses, write-back, allocated on write, inner shareable;
/// EPD1: nothing else.
const LONG_CONTROL: u32 = 1 << 31 | 1 << 23 | 0b11 << 12 | 0b01 << 10 | 0b01 << 8;

/// TTBR0 of short descriptors: write-back, allocated on write; and where others look into memory inner shareable (IRGN, NOS,
/// RGN and S).
const SHORT_SHARED: u32 = 1 << 6 | 1 << 5 | 0b01 << 3 | 1 << 1;
/// Where none does: write-back. The lowest bit is all that a processor without the multiprocessing extensions knows.
const SHORT_ALONE: u32 = 1 << 6 | 0b01 << 3 | 1 << 0;

/// DACR: the rights that entries say count in domain 0, and nothing does in others.
const CLIENT_OF_DOMAIN_0: u32 = 0b01;

/// Which entries the processor has.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    entries: Entries,
    /// Whether it looks for entries in its data cache, or in memory only.
    walks_see_cache: bool,
}

#[derive(Clone, Copy)]
enum Entries {
    Short(Short),
    Long(Long),
}

impl Format {
    fn entries(&self) -> &dyn page_tables::Format {
        match &self.entries {
            Entries::Short(short) => short,
            Entries::Long(long) => long,
        }
    }
}

impl page_tables::Format for Format {
    fn entry_bytes(&self) -> usize {
        self.entries().entry_bytes()
    }

    fn levels(&self) -> u32 {
        self.entries().levels()
    }

    fn index_bits(&self, level: u32) -> u32 {
        self.entries().index_bits(level)
    }

    fn page(&self, pa: u64, purpose: Use) -> Option<u64> {
        self.entries().page(pa, purpose)
    }

    fn page_at(&self, entry: u64) -> u64 {
        self.entries().page_at(entry)
    }

    fn table(&self, pa: u64) -> u64 {
        self.entries().table(pa)
    }

    fn table_at(&self, entry: u64) -> u64 {
        self.entries().table_at(entry)
    }

    fn show(&self, written: &AtomicU32) {
        if !self.walks_see_cache {
            // SAFETY: DCCMVAU: what the cache has of this word goes to memory.
            unsafe { write!("0", "c7, c11, 1", written.as_ptr()) };
        }
    }
}

/// Asks the processor.
pub(crate) fn prepare() -> Format {
    // ID_MMFR0.VMSA.
    let has_long = read!("0", "c0, c1, 4") & 0xf >= 5;
    // MPIDR: the multiprocessing extensions, and not alone. Linux shares its memory by the same criterion
    // (arch/arm/kernel/head.S, `__fixup_smp`).
    let is_shared = read!("0", "c0, c0, 5") >> 30 == 0b10;
    let entries = if has_long { Entries::Long(Long::ARM) } else { Entries::Short(Short { is_shared }) };
    // ID_MMFR3, "coherent walk".
    Format { entries, walks_see_cache: read!("0", "c0, c1, 7") >> 20 & 0xf != 0 }
}

/// Turns the MMU and the caches on, with the tables of this root.
///
/// # Safety
/// They must map everything in use where it is. The MMU must be off.
pub(crate) unsafe fn activate(format: Format, root_pa: u64) {
    #[expect(clippy::cast_possible_truncation, reason = "it is in the image, whose addresses have 32 bits")]
    let root_pa = root_pa as u32;
    let control = read!("0", "c1, c0, 0"); // SCTLR
    forget_cached_image();
    // SAFETY: the MMU is off: none of this counts before it is on. What is thrown away are translations, instructions and
    // branches that nobody uses any more. Then the caller's tables are in force.
    unsafe {
        match format.entries {
            Entries::Short(Short { is_shared }) => {
                write!("0", "c2, c0, 2", 0_u32); // TTBCR: TTBR0 for all addresses
                let walks = if is_shared { SHORT_SHARED } else { SHORT_ALONE };
                write!("0", "c2, c0, 0", root_pa | walks); // TTBR0
                write!("0", "c3, c0, 0", CLIENT_OF_DOMAIN_0); // DACR
            }
            Entries::Long(_) => {
                write!("0", "c2, c0, 2", LONG_CONTROL); // TTBCR
                write!("0", "c10, c2, 0", long::ATTRIBUTES); // MAIR0
                asm!("mcrr p15, 0, {}, {}, c2", in(reg) root_pa, in(reg) 0, options(nostack, preserves_flags)); // TTBR0
            }
        }
        write!("0", "c8, c7, 0", 0_u32); // TLBIALL
        write!("0", "c7, c5, 0", 0_u32); // ICIALLU
        write!("0", "c7, c5, 6", 0_u32); // BPIALL
        synchronize();
        write!("0", "c1, c0, 0", control | MMU_AND_CACHES);
    }
    synchronize();
}

/// What was written without caches is what counts: lines of the image that are still in them are from before.
fn forget_cached_image() {
    synchronize();
    for line in layout::image().step_by(line_bytes()) {
        // SAFETY: DCIMVAC: the line is the image's; with the data cache off none of what it wrote is only in the cache.
        unsafe { write!("0", "c7, c6, 1", line) };
    }
    synchronize();
}

/// Lines of our own memory that are in a cache go to memory, and stay there.
pub(crate) fn evict(memory: &Range<usize>) {
    synchronize();
    for line in memory.clone().step_by(line_bytes()) {
        // SAFETY: DCCIMVAC: what memory has, or is to have, does not change.
        unsafe { write!("0", "c7, c14, 1", line) };
    }
    synchronize();
}

/// What was written is seen by devices before what is written next.
pub(crate) fn publish() {
    synchronize();
}

/// Bytes of the shortest line of a cache.
fn line_bytes() -> usize {
    // CTR: DminLine is the logarithm of the words in a line.
    4 << (read!("0", "c0, c0, 1") >> 16 & 0xf)
}

/// Lets the processor forget the page at `va`.
pub(crate) fn flush(va: usize) {
    synchronize();
    // SAFETY: TLBIMVA: an entry that is looked up again. Ours are global: of every address space.
    unsafe { write!("0", "c8, c7, 1", va & !0xfff) };
    synchronize();
}

/// Lets the processor forget all pages.
pub(crate) fn flush_all() {
    synchronize();
    // SAFETY: TLBIALL: entries that are looked up again.
    unsafe { write!("0", "c8, c7, 0", 0_u32) };
    synchronize();
}

/// New entries are seen from here on.
pub(crate) fn settle() {
    synchronize();
}
