//! Which physical ranges of the crashed machine are RAM, and where to read them.

use alloc::vec::Vec;

use vmcore::elfcorehdr::LoadSegment;

use crate::PhysAddr;

/// A range of RAM, by bytes: kexec's ranges need not begin or end on a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamRange {
    /// First byte, as the crashed kernel knew it (p_paddr).
    pub start: PhysAddr,
    /// One past the last byte.
    pub end: PhysAddr,
    /// Where the bytes of `start` are read now (p_offset): differs from `start` for the backup region.
    pub read_at: PhysAddr,
}

/// RAM of the crashed machine: sorted ranges that neither overlap nor touch (unless they are read from different
/// places).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryMap {
    ranges: Vec<RamRange>,
}

/// A segment of the elfcorehdr that does not make sense; the rest of the map is used without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapFault {
    /// The segment runs past the end of the address space.
    #[error("PT_LOAD at {start} with {bytes:#x} bytes overflows the address space")]
    Overflow {
        /// p_paddr.
        start: PhysAddr,
        /// p_memsz.
        bytes: u64,
    },
}

impl MemoryMap {
    /// The map that `segments` (the PT_LOADs of an elfcorehdr) describe, and what had to be left out.
    ///
    /// Empty segments are skipped. Where segments overlap (the kernel image lies inside RAM) each byte is taken once;
    /// a redirected segment (p_offset ≠ p_paddr) wins over one that is read in place.
    #[must_use]
    pub fn from_segments(segments: &[LoadSegment]) -> (Self, Vec<MapFault>) {
        let _ = segments;
        (Self::default(), Vec::new())
    }

    /// The ranges, in ascending order.
    #[must_use]
    pub fn ranges(&self) -> &[RamRange] {
        &self.ranges
    }
}
