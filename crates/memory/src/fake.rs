//! Memory for tests: pages that were written, and nothing else.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use crate::virt::{VirtFault, VirtMemory};
use crate::{PhysAddr, PhysMemory, ReadFault, ReadFaultKind, VirtAddr};

const PAGE: u64 = 4096;

/// Pages by their number, and those that fault although they exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeMemory {
    pages: BTreeMap<u64, Vec<u8>>,
    pub(crate) poisoned: BTreeSet<u64>,
    long_bytes: usize,
}

impl FakeMemory {
    /// Memory of a machine with longs of so many bytes.
    pub(crate) fn with_longs(long_bytes: usize) -> Self {
        Self { long_bytes, ..Self::default() }
    }

    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) {
        for (at, byte) in (address..).zip(bytes) {
            let page = self.pages.entry(at / PAGE).or_insert_with(|| vec![0; PAGE as usize]);
            page[(at % PAGE) as usize] = *byte;
        }
    }

    pub(crate) fn write_u64(&mut self, address: u64, value: u64) {
        self.write(address, &value.to_le_bytes());
    }

    /// Writes a `long` of the machine.
    pub(crate) fn write_long(&mut self, address: u64, value: u64) {
        self.write(address, &value.to_le_bytes()[..self.long_bytes]);
    }

    /// The address of the first byte that is not there.
    fn copy(&self, address: u64, buf: &mut [u8]) -> Result<(), u64> {
        for (index, byte) in buf.iter_mut().enumerate() {
            let at = address.checked_add(index as u64).ok_or(u64::MAX)?;
            let page = self.pages.get(&(at / PAGE)).filter(|_| !self.poisoned.contains(&(at / PAGE)));
            *byte = page.ok_or(at)?[(at % PAGE) as usize];
        }
        Ok(())
    }
}

impl PhysMemory for FakeMemory {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        self.copy(pa.0, buf).map_err(|at| ReadFault { pa: PhysAddr(at), kind: ReadFaultKind::NotRam })
    }
}

impl VirtMemory for FakeMemory {
    fn read(&self, va: VirtAddr, buf: &mut [u8]) -> Result<(), VirtFault> {
        let fault = |at| VirtFault::Read {
            va: VirtAddr(at),
            fault: ReadFault { pa: PhysAddr(at), kind: ReadFaultKind::NotRam },
        };
        self.copy(va.0, buf).map_err(fault)
    }

    fn long_bytes(&self) -> usize {
        self.long_bytes
    }
}
