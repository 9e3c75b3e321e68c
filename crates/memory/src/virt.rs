//! Reading the crashed kernel's memory by its virtual addresses.

use vmcore::headers::Machine;
use vmcore::vmcoreinfo::VmcoreInfo;

use crate::paging::{Mapping, PageTables, PageTablesError, WalkError};
use crate::{PhysAddr, PhysMemory, ReadFault, VirtAddr};

/// Why a virtual address could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VirtFault {
    /// The page tables lead nowhere.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// The memory they lead to cannot be read.
    #[error("virtual address {va}: {fault}")]
    Read {
        /// Virtual address.
        va: VirtAddr,
        /// Why not.
        fault: ReadFault,
    },
    /// The read would run past the end of the address space.
    #[error("a read at {va} runs past the end of the address space")]
    Wraps {
        /// Virtual address.
        va: VirtAddr,
    },
}

/// The crashed kernel's virtual memory.
pub trait VirtMemory {
    /// Copies `buf.len()` bytes at `va` into `buf`.
    ///
    /// # Errors
    /// The first address that could not be read, and why; what `buf` holds is then unspecified.
    fn read(&self, va: VirtAddr, buf: &mut [u8]) -> Result<(), VirtFault>;

    /// Bytes of the kernel's `long` and of its pointers: 4 or 8.
    fn long_bytes(&self) -> usize;

    /// Reads a `u32`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_u32(&self, va: VirtAddr) -> Result<u32, VirtFault> {
        let mut bytes = [0; 4];
        self.read(va, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads an `unsigned long`, or a pointer.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_long(&self, va: VirtAddr) -> Result<u64, VirtFault> {
        let mut bytes = [0; 8];
        let long = bytes.get_mut(..self.long_bytes()).ok_or(VirtFault::Wraps { va })?;
        self.read(va, long)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads a pointer.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_pointer(&self, va: VirtAddr) -> Result<VirtAddr, VirtFault> {
        self.read_long(va).map(VirtAddr)
    }
}

impl<V: VirtMemory + ?Sized> VirtMemory for &V {
    fn read(&self, va: VirtAddr, buf: &mut [u8]) -> Result<(), VirtFault> {
        (**self).read(va, buf)
    }

    fn long_bytes(&self) -> usize {
        (**self).long_bytes()
    }
}

/// The kernel's address space: physical memory seen through the kernel's own page tables.
#[derive(Clone, Copy, Debug)]
pub struct KernelSpace<M> {
    memory: M,
    machine: Machine,
    tables: PageTables,
}

impl<M: PhysMemory> KernelSpace<M> {
    /// The address space of a kernel of `machine` with this VMCOREINFO.
    ///
    /// # Errors
    /// [`PageTablesError`] if VMCOREINFO does not tell where the page tables are, or they are not there.
    pub fn new(memory: M, machine: Machine, info: &VmcoreInfo<'_>) -> Result<Self, PageTablesError> {
        let tables = PageTables::of_kernel(&memory, machine, info)?;
        Ok(Self { memory, machine, tables })
    }

    /// How `va` is mapped.
    ///
    /// # Errors
    /// [`WalkError`] if it is not.
    pub fn mapping(&self, va: VirtAddr) -> Result<Mapping, WalkError> {
        self.tables.walk(&self.memory, va)
    }

    /// Walks the addresses from `start` up to, not including, `end`: every mapping, and every hole or unreadable table
    /// as one step, however large it is. The first and the last mapping may reach beyond.
    pub fn mappings(&self, start: VirtAddr, end: VirtAddr) -> Mappings<'_, M> {
        Mappings { space: self, at: Some(start), end }
    }

    /// The architecture.
    #[must_use]
    pub const fn machine(&self) -> Machine {
        self.machine
    }

    /// The page tables.
    #[must_use]
    pub const fn tables(&self) -> &PageTables {
        &self.tables
    }

    /// Physical memory.
    #[must_use]
    pub const fn physical(&self) -> &M {
        &self.memory
    }
}

impl<M: PhysMemory> VirtMemory for KernelSpace<M> {
    fn read(&self, va: VirtAddr, buf: &mut [u8]) -> Result<(), VirtFault> {
        Lookaside::default().read(self, va, buf)
    }

    fn long_bytes(&self) -> usize {
        self.machine.long_bytes()
    }
}

/// The mapping that was used last: who reads neighbouring addresses walks the page tables once for all of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lookaside(Option<Mapping>);

impl Lookaside {
    /// As [`VirtMemory::read`] of `space`, which has to be the same one each time.
    pub(crate) fn read<M: PhysMemory>(
        &mut self,
        space: &KernelSpace<M>,
        va: VirtAddr,
        buf: &mut [u8],
    ) -> Result<(), VirtFault> {
        let mut at = va;
        let mut rest = buf;
        while !rest.is_empty() {
            let (pa, left) = self.place_of(space, at)?;
            let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            let (piece, behind) = rest.split_at_mut_checked(bytes).ok_or(VirtFault::Wraps { va: at })?;
            space.memory.read(pa, piece).map_err(|fault| VirtFault::Read {
                va: VirtAddr(at.0.saturating_add(fault.pa.0.saturating_sub(pa.0))),
                fault,
            })?;
            rest = behind;
            if !rest.is_empty() {
                at = at.checked_add(bytes as u64).ok_or(VirtFault::Wraps { va: at })?;
            }
        }
        Ok(())
    }

    /// Reads an `unsigned long`, or a pointer.
    pub(crate) fn read_long<M: PhysMemory>(
        &mut self,
        space: &KernelSpace<M>,
        va: VirtAddr,
    ) -> Result<u64, VirtFault> {
        let mut bytes = [0; 8];
        let long = bytes.get_mut(..space.long_bytes()).ok_or(VirtFault::Wraps { va })?;
        self.read(space, va, long)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Where `va` is, and how many bytes from there on are mapped together with it.
    fn place_of<M: PhysMemory>(
        &mut self,
        space: &KernelSpace<M>,
        va: VirtAddr,
    ) -> Result<(PhysAddr, u64), VirtFault> {
        if let Some(place) = self.0.and_then(|mapping| mapping.place_of(va)) {
            return Ok(place);
        }
        let mapping = space.mapping(va)?;
        self.0 = Some(mapping);
        mapping.place_of(va).ok_or(VirtFault::Wraps { va })
    }
}

/// Iterator of [`KernelSpace::mappings`].
#[derive(Clone, Debug)]
pub struct Mappings<'a, M> {
    space: &'a KernelSpace<M>,
    /// Where to go on; `None` at the end of the address space.
    at: Option<VirtAddr>,
    end: VirtAddr,
}

impl<M: PhysMemory> Iterator for Mappings<'_, M> {
    type Item = Result<Mapping, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at.filter(|at| *at < self.end)?;
        let step = self.space.mapping(at);
        let span = match step {
            Ok(mapping) => Some(mapping.bytes),
            Err(WalkError::NotMapped { span, .. } | WalkError::Unreadable { span, .. }) => Some(span),
            Err(WalkError::NotCanonical { .. }) => None,
        };
        self.at = span.and_then(|span| VirtAddr(at.0 & !span.saturating_sub(1)).checked_add(span));
        Some(step)
    }
}

#[cfg(test)]
mod tests;
