//! The image's own page tables: what is mapped, and where. What their entries say is the architecture's.
//!
//! | virtual address | what | how |
//! | --- | --- | --- |
//! | where it was loaded | the image itself, one to one | text RX, constants R, data RW |
//! | [`mmu::RAM_WINDOW`] | pages of RAM, as they are asked for | R |
//! | [`mmu::MMIO_WINDOW`] | device registers | RW, uncached |
//!
//! The tables come from a fixed pool inside the image: their cost does not grow with the machine's memory.

use core::cell::UnsafeCell;
use core::ops::Range;

use spin::Mutex;

use super::layout;
use crate::arch::mmu::{self, Format};

/// Bytes of a page and of a table.
pub(crate) const PAGE_BYTES: usize = 4096;
/// Pages of each window: what one table maps.
pub(crate) const WINDOW_PAGES: usize = ENTRIES;
/// The last page of the device window: what is there is only looked at.
const PASSING_PAGE: usize = WINDOW_PAGES - 1;

const ENTRIES: usize = 512;
const INDEX_BITS: u32 = 9;
const PAGE_SHIFT: u32 = 12;

/// The image's 3000 KiB touch at most 3 page tables, 2 directories, 2 tables of each level above if they straddle a
/// boundary; the windows take 2 page tables and one of each level above; 1 is the root. There are 5 levels at most.
const POOL_TABLES: usize = 15;

/// What a page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The image's code.
    Text,
    /// What of the image is never written.
    Constants,
    /// What is.
    Data,
    /// The crashed machine's memory, which is only read.
    Ram,
    /// Registers of a device.
    Device,
}

#[repr(C, align(4096))]
#[derive(Clone, Copy)]
struct Table([u64; ENTRIES]);

/// Apart from what else is known of it: that would take a page of its own on either side.
struct Pool(UnsafeCell<[Table; POOL_TABLES]>);

// SAFETY: `take_over` alone looks into it, once, and gives it to TABLES.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool(UnsafeCell::new([Table([0; ENTRIES]); POOL_TABLES]));

struct Tables {
    /// Empty before [`take_over`].
    pool: &'static mut [Table],
    /// Tables in use; the first one is the root.
    used: usize,
    /// Pages of the device window in use.
    device_pages: usize,
    format: Format,
}

static TABLES: Mutex<Tables> =
    Mutex::new(Tables { pool: &mut [], used: 0, device_pages: 0, format: Format::UNKNOWN });

/// A page could not be mapped: the pool is used up, or the address cannot exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("physical address {0:#x} cannot be mapped")]
pub(crate) struct CannotMap(pub(crate) u64);

impl Tables {
    fn map(&mut self, va: usize, pa: u64, purpose: Use) -> Result<(), CannotMap> {
        if pa & !mmu::ADDRESS_MASK != 0 {
            return Err(CannotMap(pa));
        }
        let entry = self.format.page(pa, purpose);
        *self.leaf(va).ok_or(CannotMap(pa))? = entry;
        Ok(())
    }

    /// The lowest-level entry of `va`; tables on the way are made.
    fn leaf(&mut self, va: usize) -> Option<&mut u64> {
        let mut table = 0;
        for level in (1..self.format.levels()).rev() {
            let index = Self::index(va, level);
            let entry = *self.pool.get(table)?.0.get(index)?;
            let next = if entry == 0 {
                let next = self.used;
                let next_pa = self.pool.get(next)?.0.as_ptr() as u64;
                self.used += 1;
                // Rights are decided by the last level.
                *self.pool.get_mut(table)?.0.get_mut(index)? = mmu::table(next_pa);
                next
            } else {
                let from_start = (entry & mmu::ADDRESS_MASK).checked_sub(self.pool.as_ptr() as u64)?;
                usize::try_from(from_start).ok()? / PAGE_BYTES
            };
            table = next;
        }
        self.pool.get_mut(table)?.0.get_mut(Self::index(va, 0))
    }

    fn index(va: usize, level: u32) -> usize {
        (va >> (PAGE_SHIFT + INDEX_BITS * level)) % ENTRIES
    }

    /// Where in the device window so many pages from `page_pa` on are already.
    fn find_device(&mut self, page_pa: u64, pages: usize) -> Option<usize> {
        let last = self.device_pages.checked_sub(pages)?;
        (0..=last).find(|first| {
            let mut shown = (*first..first + pages).zip((page_pa..).step_by(PAGE_BYTES));
            shown.all(|(page, page_pa)| {
                let entry = self.leaf(mmu::MMIO_WINDOW + page * PAGE_BYTES);
                entry.is_some_and(|entry| *entry & mmu::ADDRESS_MASK == page_pa)
            })
        })
    }

    fn add_device(&mut self, page_pa: u64, pages: usize) -> Result<usize, CannotMap> {
        let first = self.device_pages;
        if pages > PASSING_PAGE - first {
            return Err(CannotMap(page_pa));
        }
        self.device_pages = first + pages;
        for (page, page_pa) in (first..first + pages).zip((page_pa..).step_by(PAGE_BYTES)) {
            self.map_device_page(page, page_pa)?;
        }
        Ok(first)
    }

    fn map_device_page(&mut self, page: usize, page_pa: u64) -> Result<usize, CannotMap> {
        let va = mmu::MMIO_WINDOW + page * PAGE_BYTES;
        // Never from one page to another: in between there is none (Arm ARM, break-before-make).
        self.unmap(va);
        self.map(va, page_pa, Use::Device)?;
        mmu::settle();
        Ok(va)
    }

    /// Takes a page away, if there is one.
    fn unmap(&mut self, va: usize) {
        if let Some(entry) = self.leaf(va)
            && core::mem::take(entry) != 0
        {
            mmu::flush(va);
        }
    }

    fn map_image(&mut self, pages: Range<usize>, purpose: Use) -> Result<(), CannotMap> {
        pages.step_by(PAGE_BYTES).try_for_each(|address| self.map(address, address as u64, purpose))
    }
}

/// Builds the tables and leaves the loader's, or none, for them. To be called once.
///
/// # Errors
/// Never, unless [`POOL_TABLES`] is wrong.
pub(crate) fn take_over() -> Result<(), CannotMap> {
    let format = Format::prepare();
    // SAFETY: `arch` calls this once, and nobody else looks into the pool.
    let pool = unsafe { &mut *POOL.0.get() };
    let mut tables = Tables { pool, used: 1, device_pages: 0, format };
    tables.map_image(layout::text(), Use::Text)?;
    tables.map_image(layout::constants(), Use::Constants)?;
    tables.map_image(layout::data(), Use::Data)?;
    tables.map_image(layout::stack_and_heap(), Use::Data)?;

    // One to one so far: the address of the root is its physical address.
    let root_pa = tables.pool.as_ptr() as u64;
    // SAFETY: the new tables map the whole image where it runs, stack included; nothing else is in use.
    unsafe { format.activate(root_pa) };
    // Not earlier: without the MMU there may be no locks, either (Arm ARM, exclusive accesses to Device memory).
    *TABLES.lock() = tables;
    Ok(())
}

/// Where page `slot` of the RAM window appears.
pub(crate) const fn ram_va(slot: usize) -> usize {
    mmu::RAM_WINDOW + slot % WINDOW_PAGES * PAGE_BYTES
}

/// Lets page `slot` of the RAM window, which shows nothing, show the page at `page_pa`, read-only. The processor does not
/// remember that there was nothing (SDM volume 3, 4.10.2.3; Arm ARM D8.16).
///
/// # Errors
/// If no processor could have memory at `page_pa`.
pub(crate) fn map_ram(slot: usize, page_pa: u64) -> Result<(), CannotMap> {
    TABLES.lock().map(ram_va(slot), page_pa, Use::Ram)?;
    mmu::settle();
    Ok(())
}

/// Takes the page at `slot` of the RAM window away.
pub(crate) fn unmap_ram(slot: usize) {
    TABLES.lock().unmap(ram_va(slot));
}

/// Takes all pages of the RAM window away.
pub(crate) fn clear_ram_window() {
    let mut tables = TABLES.lock();
    for slot in 0..WINDOW_PAGES {
        if let Some(entry) = tables.leaf(ram_va(slot)) {
            *entry = 0;
        }
    }
    mmu::flush_all();
}

/// Maps `bytes` of device registers from `pa` on, uncached, for good; returns where `pa` appears. What is mapped already
/// takes no more room.
///
/// # Errors
/// If no processor could have a device at `pa`, or there were too many: [`WINDOW_PAGES`].
pub(crate) fn map_device(pa: u64, bytes: usize) -> Result<usize, CannotMap> {
    let offset = pa % PAGE_BYTES as u64;
    let from_page = usize::try_from(offset).map_err(|_| CannotMap(pa))?;
    let pages = from_page.checked_add(bytes).ok_or(CannotMap(pa))?.div_ceil(PAGE_BYTES);
    let mut tables = TABLES.lock();
    let first = match tables.find_device(pa - offset, pages) {
        Some(first) => first,
        None => tables.add_device(pa - offset, pages)?,
    };
    Ok(mmu::MMIO_WINDOW + first * PAGE_BYTES + from_page)
}

/// Shows the device registers on the page at `page_pa`, uncached, until it is called again; returns where they appear.
///
/// # Errors
/// If no processor could have a device there.
pub(crate) fn show_device(page_pa: u64) -> Result<usize, CannotMap> {
    TABLES.lock().map_device_page(PASSING_PAGE, page_pa)
}
