//! The image's own page tables, with 4 or 5 levels as the loader left the processor.
//!
//! | virtual address | what | how |
//! | --- | --- | --- |
//! | where it was loaded | the image itself, one to one | text RX, constants R, data RW |
//! | [`RAM_WINDOW`] | pages of RAM, as they are asked for | R |
//! | [`MMIO_WINDOW`] | device registers | RW, uncached |
//!
//! The tables come from a fixed pool inside the image: their cost does not grow with the machine's memory.

use core::cell::UnsafeCell;
use core::ops::Range;

use spin::Mutex;
use x86_64::PhysAddr;
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr3, Cr3Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::{Efer, EferFlags};
use x86_64::structures::paging::PhysFrame;

use crate::memory::layout;

/// Bytes of a page and of a table.
pub(crate) const PAGE_BYTES: usize = 4096;
/// Where RAM appears: the number of [`WINDOW_PAGES`] is what one table maps.
pub(crate) const RAM_WINDOW: usize = 0xffff_ffff_8000_0000;
/// Where device registers appear.
pub(crate) const MMIO_WINDOW: usize = 0xffff_ffff_8020_0000;
/// Pages of each window.
pub(crate) const WINDOW_PAGES: usize = ENTRIES;
/// The last page of the device window: what is there is only looked at.
const PASSING_PAGE: usize = WINDOW_PAGES - 1;

const ENTRIES: usize = 512;
const INDEX_BITS: u32 = 9;
const PAGE_SHIFT: u32 = 12;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
/// PWT and PCD: entry 3 of the PAT, uncached both by default and as Linux sets it.
const UNCACHED: u64 = 1 << 3 | 1 << 4;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;

/// The image's 3000 KiB touch at most 3 page tables, 2 directories, 2 tables of each level above if they straddle a
/// boundary; the windows take 2 page tables and one of each level above; 1 is the root.
const POOL_TABLES: usize = 15;

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
    levels: u32,
    /// [`NO_EXECUTE`] where the processor has it.
    no_execute: u64,
}

static TABLES: Mutex<Tables> =
    Mutex::new(Tables { pool: &mut [], used: 0, device_pages: 0, levels: 0, no_execute: 0 });

/// A page could not be mapped: the pool is used up, or the address cannot exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("physical address {0:#x} cannot be mapped")]
pub(crate) struct CannotMap(pub(crate) u64);

impl Tables {
    fn map(&mut self, va: usize, pa: u64, flags: u64) -> Result<(), CannotMap> {
        if pa & !ADDRESS_MASK != 0 {
            return Err(CannotMap(pa));
        }
        let entry = self.leaf(va).ok_or(CannotMap(pa))?;
        *entry = pa | flags;
        Ok(())
    }

    /// The lowest-level entry of `va`; tables on the way are made.
    fn leaf(&mut self, va: usize) -> Option<&mut u64> {
        let mut table = 0;
        for level in (1..self.levels).rev() {
            let index = Self::index(va, level);
            let entry = *self.pool.get(table)?.0.get(index)?;
            let next = if entry & PRESENT == 0 {
                let next = self.used;
                let next_pa = self.pool.get(next)?.0.as_ptr() as u64;
                self.used += 1;
                // Rights are decided by the last level.
                *self.pool.get_mut(table)?.0.get_mut(index)? = next_pa | PRESENT | WRITABLE;
                next
            } else {
                let from_start = (entry & ADDRESS_MASK).checked_sub(self.pool.as_ptr() as u64)?;
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
                let entry = self.leaf(MMIO_WINDOW + page * PAGE_BYTES);
                entry.is_some_and(|entry| *entry & ADDRESS_MASK == page_pa)
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
        let va = MMIO_WINDOW + page * PAGE_BYTES;
        self.map(va, page_pa, PRESENT | WRITABLE | UNCACHED | self.no_execute)?;
        tlb::flush(x86_64::VirtAddr::new_truncate(va as u64));
        Ok(va)
    }

    fn map_image(&mut self, pages: Range<usize>, flags: u64) -> Result<(), CannotMap> {
        pages.step_by(PAGE_BYTES).try_for_each(|address| self.map(address, address as u64, PRESENT | flags))
    }
}

/// Builds the tables and leaves the loader's for them.
///
/// # Errors
/// Never, unless [`POOL_TABLES`] is wrong.
pub(crate) fn take_over() -> Result<(), CannotMap> {
    let mut tables = TABLES.lock();
    tables.levels = if Cr4::read().contains(Cr4Flags::L5_PAGING) { 5 } else { 4 };
    if has_no_execute() {
        // SAFETY: the bit is implemented; the loader's tables, if they use it, mean the same by it.
        unsafe { Efer::update(|efer| efer.insert(EferFlags::NO_EXECUTE_ENABLE)) };
        tables.no_execute = NO_EXECUTE;
    }
    let no_execute = tables.no_execute;
    // SAFETY: start.rs calls this once, and nobody else looks into the pool.
    tables.pool = unsafe { &mut *POOL.0.get() };
    tables.used = 1;
    tables.map_image(layout::text(), 0)?;
    tables.map_image(layout::constants(), no_execute)?;
    tables.map_image(layout::data(), WRITABLE | no_execute)?;
    tables.map_image(layout::stack_and_heap(), WRITABLE | no_execute)?;

    // One to one under the loader's tables: the address of the root is its physical address.
    let root_pa = tables.pool.as_ptr() as u64;
    drop(tables);
    let root = PhysFrame::containing_address(PhysAddr::new_truncate(root_pa));
    // SAFETY: the new tables map the whole image where it runs, stack included; nothing else is in use.
    unsafe { Cr3::write(root, Cr3Flags::empty()) };
    Ok(())
}

fn has_no_execute() -> bool {
    use core::arch::x86_64::__cpuid;
    __cpuid(0x8000_0000).eax >= 0x8000_0001 && __cpuid(0x8000_0001).edx & (1 << 20) != 0
}

/// Where page `slot` of the RAM window appears.
pub(crate) const fn ram_va(slot: usize) -> usize {
    RAM_WINDOW + slot % WINDOW_PAGES * PAGE_BYTES
}

/// Lets page `slot` of the RAM window, which shows nothing, show the page at `page_pa`, read-only. The processor does not
/// remember that there was nothing (SDM volume 3, 4.10.2.3).
///
/// # Errors
/// If no processor could have memory at `page_pa`.
pub(crate) fn map_ram(slot: usize, page_pa: u64) -> Result<(), CannotMap> {
    let mut tables = TABLES.lock();
    let flags = PRESENT | tables.no_execute;
    tables.map(ram_va(slot), page_pa, flags)
}

/// Takes the page at `slot` of the RAM window away.
pub(crate) fn unmap_ram(slot: usize) {
    let va = ram_va(slot);
    if let Some(entry) = TABLES.lock().leaf(va) {
        *entry = 0;
    }
    tlb::flush(x86_64::VirtAddr::new_truncate(va as u64));
}

/// Takes all pages of the RAM window away.
pub(crate) fn clear_ram_window() {
    let mut tables = TABLES.lock();
    for slot in 0..WINDOW_PAGES {
        if let Some(entry) = tables.leaf(ram_va(slot)) {
            *entry = 0;
        }
    }
    tlb::flush_all();
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
    Ok(MMIO_WINDOW + first * PAGE_BYTES + from_page)
}

/// Shows the device registers on the page at `page_pa`, uncached, until it is called again; returns where they appear.
///
/// # Errors
/// If no processor could have a device there.
pub(crate) fn show_device(page_pa: u64) -> Result<usize, CannotMap> {
    TABLES.lock().map_device_page(PASSING_PAGE, page_pa)
}
