//! Short descriptors: two levels of 4-byte entries, as arm has them without LPAE (Arm ARM DDI 0406, "Short-descriptor
//! translation table format"; Linux arch/arm/include/asm/pgtable-2level-hwdef.h).
//!
//! A supersection and a large page are 16 equal entries each. Linux has a second copy of a table's entries, with flags of
//! its own, behind it: the processor does not see that, and neither does this.

use super::radix::{Entry, Format, IndexBits, Rights};
use crate::{PhysAddr, VirtAddr};

const SECTION_SHIFT: u32 = 20;
const SUPERSECTION_SHIFT: u32 = 24;
const LARGE_PAGE_SHIFT: u32 = 16;
const PAGE_SHIFT: u32 = 12;

/// What a table of the lower level maps: 1 MiB.
pub(super) const LOWEST_TABLE_SPAN: u64 = 1 << SECTION_SHIFT;

/// The two low bits: nothing, a table (a large page, in that), and else a section (a small page).
const TYPE: u64 = 0b11;
const TYPE_EMPTY: u64 = 0b00;
const TYPE_TABLE_OR_LARGE: u64 = 0b01;

// Of an entry that leads to a table.
const TABLE_PXN: u64 = 1 << 2;
const TABLE_ADDRESS: u64 = 0xffff_fc00;

// Of a section.
const SECTION_PXN: u64 = 1 << 0;
const SECTION_XN: u64 = 1 << 4;
const SECTION_READ_ONLY: u64 = 1 << 15;
const SUPERSECTION: u64 = 1 << 18;

// Of a page.
const SMALL_XN: u64 = 1 << 0;
const LARGE_XN: u64 = 1 << 15;
const PAGE_READ_ONLY: u64 = 1 << 9;

/// Tables of short descriptors for all of the 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageTables {
    /// Where the table of 4096 sections is.
    pub(super) root: PhysAddr,
}

fn section(entry: u64) -> Entry {
    let rights = Rights {
        is_writable: entry & SECTION_READ_ONLY == 0,
        is_executable: entry & (SECTION_XN | SECTION_PXN) == 0,
    };
    if entry & SUPERSECTION == 0 {
        return Entry::Leaf { pa: PhysAddr(entry), shift: SECTION_SHIFT, rights };
    }
    // Bits 39 to 36 and 35 to 32 of the address are at 8 to 5 and 23 to 20.
    let high = (entry & 0xf0_0000) << 12 | (entry & 0x1e0) << 31;
    Entry::Leaf { pa: PhysAddr(entry & 0xff00_0000 | high), shift: SUPERSECTION_SHIFT, rights }
}

fn page(entry: u64) -> Entry {
    let is_large = entry & TYPE == TYPE_TABLE_OR_LARGE;
    let (shift, never) = if is_large { (LARGE_PAGE_SHIFT, LARGE_XN) } else { (PAGE_SHIFT, SMALL_XN) };
    let rights = Rights { is_writable: entry & PAGE_READ_ONLY == 0, is_executable: entry & never == 0 };
    Entry::Leaf { pa: PhysAddr(entry), shift, rights }
}

impl Format for PageTables {
    const ENTRY_BYTES: usize = 4;

    fn root(&self) -> PhysAddr {
        self.root
    }

    fn levels(&self) -> u32 {
        2
    }

    fn index_bits(&self, level: u32) -> IndexBits {
        match level {
            1 => IndexBits { shift: PAGE_SHIFT, count: SECTION_SHIFT - PAGE_SHIFT },
            _ => IndexBits { shift: SECTION_SHIFT, count: u32::BITS - SECTION_SHIFT },
        }
    }

    fn has(&self, va: VirtAddr) -> bool {
        va.0 <= u32::MAX.into()
    }

    fn decode(&self, level: u32, entry: u64) -> Entry {
        match (level, entry & TYPE) {
            (_, TYPE_EMPTY) => Entry::Empty,
            (1, _) => page(entry),
            (_, TYPE_TABLE_OR_LARGE) => Entry::Table {
                pa: PhysAddr(entry & TABLE_ADDRESS),
                rights: Rights { is_executable: entry & TABLE_PXN == 0, ..Rights::ALL },
            },
            _ => section(entry),
        }
    }
}
