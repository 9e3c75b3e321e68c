//! The image's own page tables: what is mapped, and where. What their entries say is the architecture's.
//!
//! | virtual address | what | how |
//! | --- | --- | --- |
//! | where it was loaded | the image itself, one to one | text RX, constants R, data RW |
//! | one of [`mmu::WINDOWS`] | pages of RAM, as they are asked for | R |
//! | behind that | device registers | RW, uncached |
//!
//! The tables are in the image: their cost does not grow with the machine's memory.

use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use rcapture_payload::page_tables::{Room, Tables, Use};
use spin::Mutex;

use super::layout;
use crate::arch::mmu::{self, Format};

pub(crate) use rcapture_payload::page_tables::{CannotMap, PAGE_BYTES};

/// Pages of each window.
pub(crate) const WINDOW_PAGES: usize = 512;
const WINDOW_BYTES: usize = WINDOW_PAGES * PAGE_BYTES;
/// The last page of the device window: what is there is only looked at.
const PASSING_PAGE: usize = WINDOW_PAGES - 1;

/// The image's 3000 KiB touch at most 3 page tables, 2 directories, 2 tables of each level above if they straddle a
/// boundary; the windows take 2 page tables and one of each level above; 1 is the root. There are 5 levels at most.
/// (Short descriptors of arm take less: a root of 16 KiB on a boundary of so many, and tables of 1 KiB for each MiB.)
const ROOM_BYTES: usize = 15 * PAGE_BYTES;

static ROOM: Room<{ ROOM_BYTES / size_of::<u32>() }> = Room::empty();

/// Where the windows are: that over RAM, and behind it that over devices.
static WINDOWS: AtomicUsize = AtomicUsize::new(0);

/// `None` before [`take_over`].
static OURS: Mutex<Option<Ours>> = Mutex::new(None);

struct Ours {
    tables: Tables<'static, Format>,
    /// Pages of the device window in use.
    device_pages: usize,
}

impl Ours {
    /// Where in the device window so many pages from `page_pa` on are already.
    fn find_device(&mut self, page_pa: u64, pages: usize) -> Option<usize> {
        let last = self.device_pages.checked_sub(pages)?;
        (0..=last).find(|first| {
            let mut shown = (*first..first + pages).zip((page_pa..).step_by(PAGE_BYTES));
            shown.all(|(page, page_pa)| self.tables.page_at(device_va(page)) == Some(page_pa))
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
        let va = device_va(page);
        // Never from one page to another: in between there is none (Arm ARM, break-before-make).
        self.unmap(va);
        self.tables.map(va, page_pa, Use::Device)?;
        mmu::settle();
        Ok(va)
    }

    /// Takes a page away, if there is one.
    fn unmap(&mut self, va: usize) {
        if self.tables.unmap(va) {
            mmu::flush(va);
        }
    }
}

/// Builds the tables and leaves the loader's, or none, for them. To be called once.
///
/// # Errors
/// Never, unless [`ROOM_BYTES`] is wrong.
pub(crate) fn take_over() -> Result<(), CannotMap> {
    let format = mmu::prepare();
    // One to one so far: addresses are physical ones.
    let room_pa = ROOM.words().as_ptr() as u64;
    let mut tables = Tables::new(format, ROOM.words(), room_pa)?;
    for (pages, purpose) in [
        (layout::text(), Use::Text),
        (layout::constants(), Use::Constants),
        (layout::data(), Use::Data),
        (layout::stack_and_heap(), Use::Data),
    ] {
        pages.step_by(PAGE_BYTES).try_for_each(|address| tables.map(address, address as u64, purpose))?;
    }
    WINDOWS.store(place_windows(&layout::image()).ok_or(CannotMap(room_pa))?, Ordering::Relaxed);

    // SAFETY: the new tables map the whole image where it runs, stack included; nothing else is in use.
    unsafe { mmu::activate(format, tables.root_pa()) };
    // Not earlier: without the MMU there may be no locks, either (Arm ARM, exclusive accesses to Device memory).
    *OURS.lock() = Some(Ours { tables, device_pages: 0 });
    Ok(())
}

/// The first place for the windows where the image is not.
fn place_windows(image: &Range<usize>) -> Option<usize> {
    let is_free = |start: &usize| image.end <= *start || start + 2 * WINDOW_BYTES <= image.start;
    mmu::WINDOWS.into_iter().find(is_free)
}

/// Where a page of the device window appears.
fn device_va(page: usize) -> usize {
    ram_va(0) + WINDOW_BYTES + page * PAGE_BYTES
}

/// Where page `slot` of the RAM window appears.
pub(crate) fn ram_va(slot: usize) -> usize {
    WINDOWS.load(Ordering::Relaxed) + slot % WINDOW_PAGES * PAGE_BYTES
}

/// Lets page `slot` of the RAM window, which shows nothing, show the page at `page_pa`, read-only. The processor does not
/// remember that there was nothing (SDM volume 3, 4.10.2.3; Arm ARM D8.16).
///
/// # Errors
/// If no processor could have memory at `page_pa`.
pub(crate) fn map_ram(slot: usize, page_pa: u64) -> Result<(), CannotMap> {
    let mut ours = OURS.lock();
    ours.as_mut().ok_or(CannotMap(page_pa))?.tables.map(ram_va(slot), page_pa, Use::Ram)?;
    mmu::settle();
    Ok(())
}

/// Takes the page at `slot` of the RAM window away.
pub(crate) fn unmap_ram(slot: usize) {
    if let Some(ours) = OURS.lock().as_mut() {
        ours.unmap(ram_va(slot));
    }
}

/// Takes all pages of the RAM window away.
pub(crate) fn clear_ram_window() {
    if let Some(ours) = OURS.lock().as_mut() {
        for slot in 0..WINDOW_PAGES {
            ours.tables.unmap(ram_va(slot));
        }
        mmu::flush_all();
    }
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
    let mut ours = OURS.lock();
    let ours = ours.as_mut().ok_or(CannotMap(pa))?;
    let first = match ours.find_device(pa - offset, pages) {
        Some(first) => first,
        None => ours.add_device(pa - offset, pages)?,
    };
    Ok(device_va(first) + from_page)
}

/// Pages of the heap that no cache has: for memory that devices use, too.
#[derive(Clone, Debug)]
pub(crate) struct UncachedPages(Range<usize>);

impl UncachedPages {
    /// Where they are, and where devices see them: one to one.
    pub(crate) fn addresses(&self) -> Range<usize> {
        self.0.clone()
    }
}

/// Makes pages of the heap uncached, for good, with what is in them. They are accessed as device registers are.
///
/// # Errors
/// Never, unless they are not the heap's.
pub(crate) fn make_uncached(pages: Range<usize>) -> Result<UncachedPages, CannotMap> {
    let nowhere = CannotMap(pages.start as u64);
    let heap = layout::heap();
    if !heap.contains(&pages.start) || pages.end > heap.end {
        return Err(nowhere);
    }
    mmu::evict(&pages);
    let mut ours = OURS.lock();
    let ours = ours.as_mut().ok_or(nowhere)?;
    for page in pages.clone().step_by(PAGE_BYTES) {
        ours.unmap(page);
        ours.tables.map(page, page as u64, Use::Device)?;
    }
    mmu::settle();
    // What the processor has fetched meanwhile, ahead of nobody's use.
    mmu::evict(&pages);
    Ok(UncachedPages(pages))
}

/// Shows the device registers on the page at `page_pa`, uncached, until it is called again; returns where they appear.
///
/// # Errors
/// If no processor could have a device there.
pub(crate) fn show_device(page_pa: u64) -> Result<usize, CannotMap> {
    OURS.lock().as_mut().ok_or(CannotMap(page_pa))?.map_device_page(PASSING_PAGE, page_pa)
}
