//! Reading the crashed machine's memory.

use crate::PhysAddr;

/// The crashed machine's physical memory.
///
/// In the payload it is real memory behind a fault-tolerant window; on the host a vmcore; in tests whatever the test
/// needs. Addresses are those of the crashed machine: a backup region is redirected inside `read`.
pub trait PhysMemory {
    /// Copies `buf.len()` bytes at `pa` into `buf`.
    ///
    /// # Errors
    /// A fault names the first address that could not be read; what `buf` holds is then unspecified.
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault>;
}

impl<M: PhysMemory + ?Sized> PhysMemory for &M {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        (**self).read(pa, buf)
    }
}

/// Why physical memory could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read physical address {pa}: {kind}")]
pub struct ReadFault {
    /// Where.
    pub pa: PhysAddr,
    /// Why.
    pub kind: ReadFaultKind,
}

/// The kinds of read faults; the numbers are those of a Hole record on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum ReadFaultKind {
    /// No RAM there by the memory map, or the address does not exist.
    #[error("not RAM")]
    NotRam = 1,
    /// The processor refused the access (#PF, #GP, external abort).
    #[error("access fault")]
    Access = 2,
    /// The memory is damaged (machine check, poisoned page).
    #[error("machine check")]
    MachineCheck = 3,
    /// The page exists but this dump does not hold it.
    #[error("not in the dump")]
    NotInDump = 4,
    /// The crashed kernel had given the page up as damaged (hwpoison): it was not read.
    #[error("given up as damaged (hwpoison)")]
    HwPoison = 5,
    /// The crashed kernel had given the page back to its hypervisor: it was not read.
    #[error("offline")]
    Offline = 6,
}
