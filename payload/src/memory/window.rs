//! Reading physical memory that is not the image's own, through the sliding window over RAM. Only bytes copied out ever
//! reach Rust objects, and a fault on the way is a result.

use memory::{PhysAddr, PhysMemory, ReadFault, ReadFaultKind};
use spin::Mutex;

use super::paging::{self, PAGE_BYTES, WINDOW_PAGES};
use crate::arch::guarded_copy::copy_from;

/// Any physical memory, through the window. What of it is the crashed machine's RAM, [`memory::CrashedMemory`] knows.
pub(crate) struct Physical;

/// What the window shows. Slots are taken one after the other, and given back all at once: what was there is then forgotten
/// by the processor in one go, which for each page would take longer than to read it.
struct Slots {
    /// The page in each slot.
    pages: [u64; WINDOW_PAGES],
    /// In which slot a page was shown last, by its number modulo their count.
    last: [u16; WINDOW_PAGES],
    /// Slots in use: the first ones.
    used: usize,
}

static SLOTS: Mutex<Slots> = Mutex::new(Slots { pages: [0; WINDOW_PAGES], last: [0; WINDOW_PAGES], used: 0 });

/// No page begins here.
const NOWHERE: u64 = 1;

impl Slots {
    fn read_in_page(&mut self, pa: u64, buf: &mut [u8]) -> Result<(), ReadFault> {
        let offset = pa % PAGE_BYTES as u64;
        let page_pa = pa - offset;
        let fault = |kind, bytes: usize| ReadFault { pa: PhysAddr(pa + bytes as u64), kind };
        let slot = self.slot_of(page_pa).ok_or(fault(ReadFaultKind::Access, 0))?;
        let within = usize::try_from(offset).map_err(|_| fault(ReadFaultKind::NotRam, 0))?;
        copy_from(paging::ram_va(slot) + within, buf).map_err(|(kind, copied)| {
            // What faulted once must not be met again by speculation.
            paging::unmap_ram(slot);
            if let Some(page) = self.pages.get_mut(slot) {
                *page = NOWHERE;
            }
            fault(kind, copied)
        })
    }

    /// The slot that shows a page. `None`: no processor could have memory there.
    fn slot_of(&mut self, page_pa: u64) -> Option<usize> {
        let number = page_pa / PAGE_BYTES as u64;
        let last = self.last.get_mut(usize::try_from(number % WINDOW_PAGES as u64).ok()?)?;
        let slot = usize::from(*last);
        if slot < self.used && self.pages.get(slot) == Some(&page_pa) {
            return Some(slot);
        }
        if self.used == WINDOW_PAGES {
            paging::clear_ram_window();
            self.used = 0;
        }
        let slot = self.used;
        paging::map_ram(slot, page_pa).ok()?;
        *self.pages.get_mut(slot)? = page_pa;
        *last = u16::try_from(slot).ok()?;
        self.used += 1;
        Some(slot)
    }
}

impl PhysMemory for Physical {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        let mut slots = SLOTS.lock();
        let mut at = pa.0;
        let mut rest = buf;
        while !rest.is_empty() {
            let nowhere = ReadFault { pa: PhysAddr(at), kind: ReadFaultKind::NotRam };
            let to_page_end = PAGE_BYTES - usize::try_from(at % PAGE_BYTES as u64).map_err(|_| nowhere)?;
            let bytes = rest.len().min(to_page_end);
            let (piece, behind) = rest.split_at_mut_checked(bytes).ok_or(nowhere)?;
            slots.read_in_page(at, piece)?;
            rest = behind;
            if !rest.is_empty() {
                at = at.checked_add(bytes as u64).ok_or(nowhere)?;
            }
        }
        Ok(())
    }
}
