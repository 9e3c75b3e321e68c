//! The walk itself: one entry in a table of each level, as every architecture does it.

use super::{Mapping, WalkError};
use crate::{PhysAddr, PhysMemory, VirtAddr};

/// How an architecture writes its tables.
pub(super) trait Format {
    /// Bytes of an entry: 4 or 8.
    const ENTRY_BYTES: usize;

    /// Where the top table is.
    fn root(&self) -> PhysAddr;

    /// Levels of tables. The top one's number is this; level 1 has the entries of single pages.
    fn levels(&self) -> u32;

    /// The bits of an address that `level` translates.
    fn index_bits(&self, level: u32) -> IndexBits;

    /// Whether the tables are for this address.
    fn has(&self, va: VirtAddr) -> bool;

    /// What an entry of `level` says.
    fn decode(&self, level: u32, entry: u64) -> Entry;
}

/// Bits of an address: `count` of them from `shift` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct IndexBits {
    pub(super) shift: u32,
    pub(super) count: u32,
}

/// An entry of a table.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    /// It maps nothing.
    Empty,
    /// It leads to a table of the next lower level, and limits what is mapped by that.
    Table { pa: PhysAddr, rights: Rights },
    /// It maps `1 << shift` bytes. The low bits of `pa` mean nothing.
    Leaf { pa: PhysAddr, shift: u32, rights: Rights },
}

/// What the kernel may do with memory, besides reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) is_writable: bool,
    pub(super) is_executable: bool,
}

impl Rights {
    pub(super) const ALL: Self = Self { is_writable: true, is_executable: true };

    /// What both allow.
    const fn and(self, other: Self) -> Self {
        Self {
            is_writable: self.is_writable && other.is_writable,
            is_executable: self.is_executable && other.is_executable,
        }
    }
}

/// Looks `va` up, and gives `entry_at` the level and the physical address of each entry on the way.
pub(super) fn walk<F: Format>(
    format: &F,
    memory: &impl PhysMemory,
    va: VirtAddr,
    mut entry_at: impl FnMut(u32, PhysAddr),
) -> Result<Mapping, WalkError> {
    let nowhere = WalkError::NotCanonical { va };
    if !format.has(va) {
        return Err(nowhere);
    }
    let mut table = format.root();
    let mut allowed = Rights::ALL;
    for level in (1..=format.levels()).rev() {
        let IndexBits { shift, count } = format.index_bits(level);
        let span = 1 << shift;
        let index = (va.0 >> shift) & ((1 << count) - 1);
        let entry_pa = PhysAddr(table.0.saturating_add(index * F::ENTRY_BYTES as u64));
        entry_at(level, entry_pa);
        let mut entry = [0; 8];
        memory
            .read(entry_pa, entry.get_mut(..F::ENTRY_BYTES).unwrap_or_default())
            .map_err(|fault| WalkError::Unreadable { va, level, span, fault })?;
        match format.decode(level, u64::from_le_bytes(entry)) {
            Entry::Empty => return Err(WalkError::NotMapped { va, level, span }),
            Entry::Table { pa, rights } => {
                table = pa;
                allowed = allowed.and(rights);
            }
            Entry::Leaf { pa, shift, rights } => {
                let bytes = 1 << shift;
                let Rights { is_writable, is_executable } = allowed.and(rights);
                let (va, pa) = (VirtAddr(va.0 & !(bytes - 1)), PhysAddr(pa.0 & !(bytes - 1)));
                return Ok(Mapping { va, pa, bytes, is_writable, is_executable });
            }
        }
    }
    // No format has tables below level 1.
    Err(nowhere)
}
