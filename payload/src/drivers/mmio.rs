//! Registers of devices in memory.

use rcapture_payload::devices::Registers;

use crate::memory::paging::{self, CannotMap, UncachedPages};

/// Registers, or memory that is accessed as they are, mapped for good.
#[derive(Clone, Copy)]
pub(crate) struct Mmio {
    base: usize,
    bytes: usize,
}

impl Mmio {
    /// Maps `bytes` of registers from `pa` on. The user or the firmware says that they are a device's.
    ///
    /// # Errors
    /// If they cannot be mapped.
    pub(crate) fn map(pa: u64, bytes: usize) -> Result<Self, CannotMap> {
        Ok(Self { base: paging::map_device(pa, bytes)?, bytes })
    }

    /// Pages that are nothing else any more.
    pub(crate) fn of_pages(pages: &UncachedPages) -> Self {
        let pages = pages.addresses();
        Self { base: pages.start, bytes: pages.len() }
    }

    /// Where a register of `size` bytes is. `None`: not among those that are mapped.
    fn place(&self, offset: usize, size: usize) -> Option<usize> {
        let is_inside = offset.checked_add(size).is_some_and(|end| end <= self.bytes);
        let place = self.base.wrapping_add(offset);
        (is_inside && place.is_multiple_of(size)).then_some(place)
    }
}

macro_rules! registers_of {
    ($($word:ty),*) => {$(
        impl Registers<$word> for Mmio {
            fn get(&self, offset: usize) -> $word {
                let Some(place) = self.place(offset, size_of::<$word>()) else { return 0 };
                // SAFETY: it is mapped, uncached and for good, it is aligned, and no Rust object.
                unsafe { core::ptr::with_exposed_provenance::<$word>(place).read_volatile() }
            }

            fn set(&mut self, offset: usize, value: $word) {
                let Some(place) = self.place(offset, size_of::<$word>()) else { return };
                // SAFETY: as above; nobody else uses the device: the crashed kernel is gone. What makes it write to memory,
                // drivers tell it only of memory that is theirs.
                unsafe { core::ptr::with_exposed_provenance_mut::<$word>(place).write_volatile(value) }
            }
        }
    )*};
}

registers_of!(u8, u16, u32);
