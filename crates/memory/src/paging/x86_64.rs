//! x86_64: four or five levels of 512 entries of 8 bytes (Intel SDM volume 3, "Paging"; Linux
//! arch/x86/include/asm/pgtable_types.h).

use vmcore::vmcoreinfo::VmcoreInfo;

use super::PageTablesError;
use super::radix::{Entry, Format, IndexBits, Rights};
use crate::{PhysAddr, VirtAddr};

/// Where the kernel image is linked; `phys_base` is the physical address of this (`__START_KERNEL_map`).
pub(crate) const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

const PAGE_SHIFT: u32 = 12;
/// Bits of the address that a level translates.
const LEVEL_BITS: u32 = 9;

/// What a table of level 1 maps.
pub(super) const LOWEST_TABLE_SPAN: u64 = 1 << level_shift(2);

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
/// In an entry of level 2 or 3: a page of 2 MiB or 1 GiB.
const PAGE_SIZE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// Physical address in an entry; a larger page has flags in the low bits of it.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Where the page tables are, and their shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageTables {
    root: PhysAddr,
    levels: u32,
    address_mask: u64,
}

impl PageTables {
    /// Tables with their top at physical address `root`, of five levels (LA57) or four. `sme_mask` is the bit of an
    /// entry that says "encrypted" and is no part of the address, or 0.
    pub(super) const fn new(root: PhysAddr, is_five_level: bool, sme_mask: u64) -> Self {
        Self { root, levels: if is_five_level { 5 } else { 4 }, address_mask: ADDRESS & !sme_mask }
    }

    /// The kernel's tables (`init_top_pgt`, also called `swapper_pg_dir`).
    ///
    /// # Errors
    /// [`PageTablesError`] if VMCOREINFO does not say where they are.
    pub(super) fn of_kernel(info: &VmcoreInfo<'_>) -> Result<Self, PageTablesError> {
        let root_va = info
            .symbol("init_top_pgt")
            .or_else(|| info.symbol("swapper_pg_dir"))
            .ok_or(PageTablesError::MissingFact("SYMBOL(swapper_pg_dir)"))?;
        let phys_base =
            info.number_u64("phys_base").ok_or(PageTablesError::MissingFact("NUMBER(phys_base)"))?;
        // phys_base is negative where the kernel lies below its linked address.
        let root = PhysAddr(root_va.wrapping_sub(START_KERNEL_MAP).wrapping_add(phys_base));
        if root.0 & !ADDRESS != 0 {
            return Err(PageTablesError::BadRoot(root));
        }
        let is_five_level = info.number("pgtable_l5_enabled").is_some_and(|enabled| enabled != 0);
        Ok(Self::new(root, is_five_level, info.number_u64("sme_mask").unwrap_or(0)))
    }

    /// The first address of the upper half.
    pub(super) const fn kernel_half(&self) -> VirtAddr {
        VirtAddr(u64::MAX << (level_shift(self.levels + 1) - 1))
    }
}

impl Format for PageTables {
    const ENTRY_BYTES: usize = 8;

    fn root(&self) -> PhysAddr {
        self.root
    }

    fn levels(&self) -> u32 {
        self.levels
    }

    fn index_bits(&self, level: u32) -> IndexBits {
        IndexBits { shift: level_shift(level), count: LEVEL_BITS }
    }

    /// Whether the bits above those that are translated all equal the highest of these.
    fn has(&self, va: VirtAddr) -> bool {
        let unused = u64::BITS - level_shift(self.levels + 1);
        (va.0.cast_signed() << unused >> unused).cast_unsigned() == va.0
    }

    fn decode(&self, level: u32, entry: u64) -> Entry {
        if entry & PRESENT == 0 {
            return Entry::Empty;
        }
        let rights = Rights { is_writable: entry & WRITABLE != 0, is_executable: entry & NO_EXECUTE == 0 };
        let pa = PhysAddr(entry & self.address_mask);
        if level == 1 || (level <= 3 && entry & PAGE_SIZE != 0) {
            Entry::Leaf { pa, shift: level_shift(level), rights }
        } else {
            Entry::Table { pa, rights }
        }
    }
}

/// An entry of `level` maps `1 << level_shift(level)` bytes.
const fn level_shift(level: u32) -> u32 {
    PAGE_SHIFT + (level - 1) * LEVEL_BITS
}

#[cfg(test)]
mod tests;
