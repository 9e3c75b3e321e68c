//! Memory for devices that do not look into caches.

use alloc::alloc::{Layout, alloc};

use rcapture_payload::devices::Registers;
use rcapture_payload::devices::fec::{DMA_BYTES, DmaMemory};
use spin::Once;

use super::mmio::Mmio;
use crate::arch::mmu;
use crate::memory::paging::{self, PAGE_BYTES};

const POOL_BYTES: usize = DMA_BYTES.next_multiple_of(PAGE_BYTES);

/// Pages of the heap that no cache has. There is one piece of them, for good: links are tried again and again.
#[derive(Clone, Copy)]
pub(crate) struct Uncached {
    memory: Mmio,
    pa: u32,
}

/// `None`: there was no room for it.
static UNCACHED: Once<Option<Uncached>> = Once::new();

impl Uncached {
    /// The one there is. Who takes it has seen to it that no device uses it any more.
    pub(crate) fn take() -> Option<Self> {
        *UNCACHED.call_once(Self::new)
    }

    fn new() -> Option<Self> {
        let layout = Layout::from_size_align(POOL_BYTES, PAGE_BYTES).ok()?;
        // SAFETY: it has bytes.
        let start = unsafe { alloc(layout) }.expose_provenance();
        // The heap is mapped one to one, and devices have addresses of 32 bits.
        let pa = u32::try_from(start).ok().filter(|pa| *pa != 0)?;
        let memory = Mmio::of_pages(&paging::make_uncached(start..start.checked_add(POOL_BYTES)?).ok()?);
        Some(Self { memory, pa })
    }
}

impl Registers for Uncached {
    fn get(&self, offset: usize) -> u32 {
        self.memory.get(offset)
    }

    fn set(&mut self, offset: usize, value: u32) {
        self.memory.set(offset, value);
    }
}

impl DmaMemory for Uncached {
    fn pa(&self) -> u32 {
        self.pa
    }

    fn publish(&self) {
        mmu::publish();
    }
}
