//! A fuzzer's bytes as memory.

use memory::{PhysAddr, PhysMemory, ReadFault, ReadFaultKind, VirtAddr, VirtFault, VirtMemory};

/// Memory that has bytes from `start` on, and nothing else.
pub(crate) struct SliceMemory<'a> {
    pub(crate) start: u64,
    pub(crate) bytes: &'a [u8],
    /// Of the machine.
    pub(crate) long_bytes: usize,
}

impl SliceMemory<'_> {
    /// Copies bytes; `false` if they are not all there.
    pub(crate) fn copy(&self, address: u64, buf: &mut [u8]) -> bool {
        let offset = address.checked_sub(self.start).and_then(|offset| usize::try_from(offset).ok());
        let found = offset.and_then(|offset| self.bytes.get(offset..)?.get(..buf.len()));
        found.is_some_and(|found| {
            buf.copy_from_slice(found);
            true
        })
    }
}

impl PhysMemory for SliceMemory<'_> {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        if self.copy(pa.0, buf) { Ok(()) } else { Err(ReadFault { pa, kind: ReadFaultKind::NotRam }) }
    }
}

impl VirtMemory for SliceMemory<'_> {
    fn read(&self, va: VirtAddr, buf: &mut [u8]) -> Result<(), VirtFault> {
        let fault = ReadFault { pa: PhysAddr(va.0), kind: ReadFaultKind::NotRam };
        if self.copy(va.0, buf) { Ok(()) } else { Err(VirtFault::Read { va, fault }) }
    }

    fn long_bytes(&self) -> usize {
        self.long_bytes
    }
}
