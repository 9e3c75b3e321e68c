//! Reading physical memory that is not the image's own: through the loader's mapping at first, then through the
//! sliding window over RAM. Only bytes copied out ever reach Rust objects, and a fault on the way is a result.

use memory::{PhysAddr, PhysMemory, ReadFault, ReadFaultKind};
use spin::Mutex;

use crate::arch::exceptions::copy_from;
use crate::arch::paging::{self, PAGE_BYTES, WINDOW_PAGES};

/// Physical memory through the loader's own page tables, which map all RAM one to one: until
/// [`paging::take_over`].
pub(crate) struct LoaderMapping;

impl PhysMemory for LoaderMapping {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        let nowhere = ReadFault { pa, kind: ReadFaultKind::NotRam };
        let va = usize::try_from(pa.0).map_err(|_| nowhere)?;
        va.checked_add(buf.len()).ok_or(nowhere)?;
        copy_from(va, buf).map_err(|(kind, copied)| ReadFault { pa: PhysAddr(pa.0 + copied as u64), kind })
    }
}

/// Any physical memory, through the window. What of it is the crashed machine's RAM, [`memory::CrashedMemory`] knows.
pub(crate) struct Physical;

/// Which page each slot of the window shows: page `n` goes to slot `n % WINDOW_PAGES`, and stays until another wants
/// it. One more than its address, so that no page is a zero, half as large as an `Option`.
struct Slots([u64; WINDOW_PAGES]);

static SLOTS: Mutex<Slots> = Mutex::new(Slots([0; WINDOW_PAGES]));

impl Slots {
    fn read_in_page(&mut self, pa: u64, buf: &mut [u8]) -> Result<(), ReadFault> {
        let offset = pa % PAGE_BYTES as u64;
        let page_pa = pa - offset;
        let fault = |kind, bytes: usize| ReadFault { pa: PhysAddr(pa + bytes as u64), kind };
        let index = usize::try_from(page_pa / PAGE_BYTES as u64 % WINDOW_PAGES as u64)
            .map_err(|_| fault(ReadFaultKind::NotRam, 0))?;
        let slot = self.0.get_mut(index).ok_or(fault(ReadFaultKind::NotRam, 0))?;
        let mut page_va = paging::RAM_WINDOW + index * PAGE_BYTES;
        if *slot != page_pa + 1 {
            page_va = paging::map_ram(index, page_pa).map_err(|_| fault(ReadFaultKind::Access, 0))?;
            *slot = page_pa + 1;
        }
        let within = usize::try_from(offset).map_err(|_| fault(ReadFaultKind::NotRam, 0))?;
        copy_from(page_va + within, buf).map_err(|(kind, copied)| {
            // What faulted once must not be met again by speculation.
            paging::unmap_ram(index);
            *slot = 0;
            fault(kind, copied)
        })
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
