//! Long descriptors: tables of 8-byte entries as aarch64 has them, and arm with LPAE (Arm ARM DDI 0487, "VMSAv8-64
//! translation table format descriptors"; DDI 0406, "Long-descriptor translation table format"; Linux
//! arch/arm64/include/asm/pgtable-hwdef.h, arch/arm/include/asm/pgtable-3level-hwdef.h).
//!
//! Levels are numbered from the page up, as everywhere here: Arm's level 3 is our level 1, and its level 0 our level 4.
//! The contiguous bit is a hint to the processor: each of the entries that it marks has its own address.

use super::radix::{Entry, Format, IndexBits, Rights};
use crate::{PhysAddr, VirtAddr};

const VALID: u64 = 1 << 0;
/// An entry of level 1 that lacks it maps nothing; one of a higher level that lacks it maps a block.
const TABLE_OR_PAGE: u64 = 1 << 1;
/// `AP[2]`: may not be written.
const READ_ONLY: u64 = 1 << 7;
/// May be written all the same: the processor clears [`READ_ONLY`] then (aarch64, "hardware management of dirty state").
const DIRTY_BIT_MODIFIER: u64 = 1 << 51;
/// `PXN`: the kernel may not execute it.
const PRIVILEGED_NO_EXECUTE: u64 = 1 << 53;
/// `XN` on arm, where it is for everybody; on aarch64 `UXN`, which is for processes only.
const NO_EXECUTE: u64 = 1 << 54;

// In an entry that leads to a table, for all that lies below it.
const TABLE_READ_ONLY: u64 = 1 << 62;
const TABLE_NO_EXECUTE: u64 = 1 << 60;
const TABLE_PRIVILEGED_NO_EXECUTE: u64 = 1 << 59;

/// Tables that many bits of physical address fit in without a detour.
const PLAIN_ADDRESS_BITS: u32 = 48;

/// How an entry says the physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressFormat {
    /// Bits 47 to the page size.
    Bits48,
    /// 64 KiB pages: bits 15 to 12 of the entry are bits 51 to 48 of the address, if it has that many (LPA).
    Lpa,
    /// 4 and 16 KiB pages with 52 bits of virtual address: bits 49 to the page size, and bits 9 and 8 of the entry are
    /// bits 51 and 50 of the address (LPA2).
    Lpa2,
}

/// Which of the two architectures: they differ in what the bits of an entry allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    Aarch64,
    Arm,
}

/// Tables of long descriptors: where they are, and their shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageTables {
    pub(super) root: PhysAddr,
    pub(super) variant: Variant,
    pub(super) address: AddressFormat,
    /// Pages have `1 << page_shift` bytes, and so have tables, but for the top one.
    pub(super) page_shift: u32,
    /// Bits of an address that the tables translate.
    pub(super) input_bits: u32,
    /// The first and the last address that they are for.
    pub(super) first: VirtAddr,
    pub(super) last: VirtAddr,
}

/// Levels of tables that translate so many bits.
pub(super) const fn levels(page_shift: u32, input_bits: u32) -> u32 {
    input_bits.saturating_sub(page_shift).div_ceil(bits_per_level(page_shift))
}

/// A table of a page's size has entries of 8 bytes.
const fn bits_per_level(page_shift: u32) -> u32 {
    page_shift - 3
}

/// Those bits of an entry, in their place, from `first` up to `end`.
const fn bits(entry: u64, first: u32, end: u32) -> u64 {
    entry & ((1 << end) - (1 << first))
}

impl PageTables {
    /// Bytes that one table of the lowest level maps.
    pub(super) const fn lowest_table_span(&self) -> u64 {
        1 << self.level_shift(2)
    }

    const fn level_shift(&self, level: u32) -> u32 {
        self.page_shift + (level - 1) * bits_per_level(self.page_shift)
    }

    /// The highest level that may map a block.
    const fn max_block_level(&self) -> u32 {
        match (self.page_shift, self.address) {
            // 32 MiB.
            (14, AddressFormat::Bits48) => 2,
            // 512 GiB.
            (12, AddressFormat::Lpa2) => 4,
            // 1 GiB of 4 KiB pages, 64 GiB of 16 KiB pages, 4 TiB of 64 KiB pages.
            _ => 3,
        }
    }

    const fn address_of(&self, entry: u64) -> PhysAddr {
        PhysAddr(match self.address {
            AddressFormat::Bits48 => bits(entry, self.page_shift, PLAIN_ADDRESS_BITS),
            AddressFormat::Lpa => {
                bits(entry, self.page_shift, PLAIN_ADDRESS_BITS) | bits(entry, 12, 16) << 36
            }
            AddressFormat::Lpa2 => bits(entry, self.page_shift, 50) | bits(entry, 8, 10) << 42,
        })
    }

    const fn rights_of_leaf(&self, entry: u64) -> Rights {
        let never = match self.variant {
            Variant::Aarch64 => PRIVILEGED_NO_EXECUTE,
            Variant::Arm => PRIVILEGED_NO_EXECUTE | NO_EXECUTE,
        };
        let is_dirty_managed = matches!(self.variant, Variant::Aarch64) && entry & DIRTY_BIT_MODIFIER != 0;
        Rights { is_writable: entry & READ_ONLY == 0 || is_dirty_managed, is_executable: entry & never == 0 }
    }

    const fn rights_of_table(&self, entry: u64) -> Rights {
        let never = match self.variant {
            Variant::Aarch64 => TABLE_PRIVILEGED_NO_EXECUTE,
            Variant::Arm => TABLE_PRIVILEGED_NO_EXECUTE | TABLE_NO_EXECUTE,
        };
        Rights { is_writable: entry & TABLE_READ_ONLY == 0, is_executable: entry & never == 0 }
    }
}

impl Format for PageTables {
    const ENTRY_BYTES: usize = 8;

    fn root(&self) -> PhysAddr {
        self.root
    }

    fn levels(&self) -> u32 {
        levels(self.page_shift, self.input_bits)
    }

    fn index_bits(&self, level: u32) -> IndexBits {
        let shift = self.level_shift(level);
        // The top table has as many entries as are left.
        IndexBits { shift, count: bits_per_level(self.page_shift).min(self.input_bits.saturating_sub(shift)) }
    }

    fn has(&self, va: VirtAddr) -> bool {
        self.first <= va && va <= self.last
    }

    fn decode(&self, level: u32, entry: u64) -> Entry {
        let is_table_or_page = entry & TABLE_OR_PAGE != 0;
        let pa = self.address_of(entry);
        match level {
            _ if entry & VALID == 0 => Entry::Empty,
            1 if is_table_or_page => {
                Entry::Leaf { pa, shift: self.page_shift, rights: self.rights_of_leaf(entry) }
            }
            2.. if is_table_or_page => Entry::Table { pa, rights: self.rights_of_table(entry) },
            2.. if level <= self.max_block_level() => {
                Entry::Leaf { pa, shift: self.level_shift(level), rights: self.rights_of_leaf(entry) }
            }
            _ => Entry::Empty,
        }
    }
}
