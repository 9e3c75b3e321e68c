//! Which physical ranges of the crashed machine are RAM, and where to read them.

use alloc::vec::Vec;
use core::iter::FusedIterator;
use core::ops::Range;

use vmcore::elfcorehdr::LoadSegment;

use crate::{Pfn, PhysAddr, ReadFault, ReadFaultKind};

/// No physical address reaches this: x86_64 and aarch64 have at most 52 bits.
pub const PHYS_ADDR_END: PhysAddr = PhysAddr(1 << 52);

/// Ranges a map holds at most (24 bytes each).
pub const MAX_RANGES: usize = 16 * 1024;

/// Faults reported of one map, and [`MapFault::TooMany`]; further ones are like them.
pub const MAX_MAP_FAULTS: usize = 64;

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

impl RamRange {
    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Whether the bytes are somewhere else than where the crashed kernel had them.
    #[must_use]
    pub const fn is_redirected(&self) -> bool {
        self.start.0 != self.read_at.0
    }

    /// Where the byte at `pa`, which lies in this range, is read.
    const fn place_of(&self, pa: PhysAddr) -> PhysAddr {
        PhysAddr(self.read_at.0.saturating_add(pa.0.saturating_sub(self.start.0)))
    }

    /// The part of this range from `start` to `end`; `None` if that is empty.
    fn clip(&self, start: PhysAddr, end: PhysAddr) -> Option<Self> {
        let (start, end) = (start.max(self.start), end.min(self.end));
        (start < end).then(|| Self { start, end, read_at: self.place_of(start) })
    }
}

/// Where a run of RAM is read, and how far that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Physical address to read at.
    pub read_at: PhysAddr,
    /// Bytes that can be read there in one go.
    pub bytes: u64,
}

/// The part of a page frame that is RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagePart {
    /// The frame.
    pub pfn: Pfn,
    /// Where in the page the RAM begins, in bytes.
    pub offset: u64,
    /// Bytes of RAM: a page's size, but at the ends of a range.
    pub bytes: u64,
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
    /// The segment lies, or is read, above any physical address there can be ([`PHYS_ADDR_END`]).
    #[error("PT_LOAD at {start} with {bytes:#x} bytes, to be read at {read_at}, is beyond physical memory")]
    Absurd {
        /// p_paddr.
        start: PhysAddr,
        /// p_memsz.
        bytes: u64,
        /// p_offset.
        read_at: PhysAddr,
    },
    /// RAM to the elfcorehdr, but not to the firmware.
    #[error(
        "PT_LOADs cover {bytes:#x} bytes at {start}, where the firmware knows of no RAM: they are left out"
    )]
    Elsewhere {
        /// First byte.
        start: PhysAddr,
        /// Size.
        bytes: u64,
    },
    /// More than [`MAX_RANGES`] separate ranges: those from `start` on are left out.
    #[error("more than {MAX_RANGES} ranges of RAM: those from {start} on are left out")]
    TooMany {
        /// Start of the first range left out.
        start: PhysAddr,
    },
}

impl MemoryMap {
    /// The map that `segments` (the PT_LOADs of an elfcorehdr) describe, and what had to be left out.
    ///
    /// Empty segments are skipped; of one with p_filesz < p_memsz only the bytes that can be read count. Where segments
    /// overlap (the kernel image lies inside RAM) each byte is taken once; a redirected segment (p_offset ≠ p_paddr)
    /// wins over one that is read in place, and of two redirected ones that which begins first.
    #[must_use]
    pub fn from_segments(segments: &[LoadSegment]) -> (Self, Vec<MapFault>) {
        let mut faults = Vec::new();
        let mut in_place = Vec::new();
        let mut redirected = Vec::new();
        for segment in segments {
            match range_of(segment) {
                Ok(Some(range)) if range.is_redirected() => redirected.push(range),
                Ok(Some(range)) => in_place.push(range),
                Ok(None) => {}
                Err(fault) if faults.len() < MAX_MAP_FAULTS => faults.push(fault),
                Err(_) => {}
            }
        }
        let redirected = one_after_another(redirected);
        let mut ranges = without(&one_after_another(in_place), &redirected);
        ranges.extend(redirected);
        let mut ranges = joined(one_after_another(ranges));
        if let Some(first_left_out) = ranges.get(MAX_RANGES) {
            faults.push(MapFault::TooMany { start: first_left_out.start });
            ranges.truncate(MAX_RANGES);
        }
        ranges.shrink_to_fit();
        (Self { ranges }, faults)
    }

    /// Leaves out what is outside of `ram`, and says what that was. Its ranges may overlap, and be in any order.
    pub fn keep_only(&mut self, ram: &[Range<u64>]) -> Vec<MapFault> {
        let of = |range: &Range<u64>| {
            let start = PhysAddr(range.start);
            RamRange { start, end: PhysAddr(range.end), read_at: start }
        };
        let ram = one_after_another(ram.iter().filter(|range| !range.is_empty()).map(of).collect());
        let lost = without(&self.ranges, &ram);
        if !lost.is_empty() {
            self.ranges = without(&self.ranges, &lost);
        }
        let fault = |range: &RamRange| MapFault::Elsewhere { start: range.start, bytes: range.bytes() };
        lost.iter().take(MAX_MAP_FAULTS).map(fault).collect()
    }

    /// The ranges, in ascending order.
    #[must_use]
    pub fn ranges(&self) -> &[RamRange] {
        &self.ranges
    }

    /// Bytes of RAM.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.ranges.iter().fold(0, |total, range| total.saturating_add(range.bytes()))
    }

    /// Whether the byte at `pa` is RAM.
    #[must_use]
    pub fn contains(&self, pa: PhysAddr) -> bool {
        self.range_at(pa).is_some()
    }

    /// Whether all `bytes` from `pa` on are RAM.
    #[must_use]
    pub fn contains_all(&self, pa: PhysAddr, bytes: u64) -> bool {
        let Some(end) = pa.checked_add(bytes) else { return false };
        let mut at = pa;
        // Each range but the first begins where the one before ends.
        while at < end {
            let Some(range) = self.range_at(at) else { return false };
            at = range.end;
        }
        true
    }

    /// Where the `bytes` at `pa` are read: as many of them as lie together, at least one; `None` if `pa` is not RAM.
    #[must_use]
    pub fn translate(&self, pa: PhysAddr, bytes: u64) -> Option<Extent> {
        let range = self.range_at(pa)?;
        let to_end = range.end.0.saturating_sub(pa.0);
        Some(Extent { read_at: range.place_of(pa), bytes: bytes.min(to_end) })
    }

    /// Fills `buf` with the bytes at `pa`, piece by piece where they lie apart. `read` gets the address to read at,
    /// and says how it failed, if it did: with the address it was given, or one behind it.
    ///
    /// # Errors
    /// [`ReadFault`] at the crashed machine's own address: of `read`, or `NotRam`.
    pub fn read_through(
        &self,
        pa: PhysAddr,
        buf: &mut [u8],
        mut read: impl FnMut(PhysAddr, &mut [u8]) -> Result<(), ReadFault>,
    ) -> Result<(), ReadFault> {
        let mut at = pa;
        let mut rest = buf;
        while !rest.is_empty() {
            let not_ram = ReadFault { pa: at, kind: ReadFaultKind::NotRam };
            let extent = self.translate(at, rest.len() as u64).ok_or(not_ram)?;
            let bytes = usize::try_from(extent.bytes).unwrap_or(rest.len());
            let (piece, behind) = rest.split_at_mut_checked(bytes).ok_or(not_ram)?;
            read(extent.read_at, piece).map_err(|fault| ReadFault {
                pa: PhysAddr(at.0.saturating_add(fault.pa.0.saturating_sub(extent.read_at.0))),
                ..fault
            })?;
            at = at.checked_add(extent.bytes).ok_or(not_ram)?;
            rest = behind;
        }
        Ok(())
    }

    /// The highest frame with RAM in it, for pages of `1 << page_shift` bytes; `None` for an empty map.
    #[must_use]
    pub fn max_pfn(&self, page_shift: u32) -> Option<Pfn> {
        let last = self.ranges.last()?.end.0.checked_sub(1)?;
        Some(PhysAddr(last).pfn(page_shift))
    }

    /// The frames with RAM in them, ascending, for pages of `1 << page_shift` bytes.
    ///
    /// A page that two ranges meet in (they are read from different places, or there is a gap) comes once for each.
    #[must_use]
    pub fn pages(&self, page_shift: u32) -> Pages<'_> {
        self.pages_from(Pfn(0), page_shift)
    }

    /// [`pages`](Self::pages) from frame `first` on.
    #[must_use]
    pub fn pages_from(&self, first: Pfn, page_shift: u32) -> Pages<'_> {
        let start = first.start(page_shift).unwrap_or(PhysAddr(u64::MAX));
        let skipped = self.ranges.partition_point(|range| range.end <= start);
        Pages { ranges: self.ranges.get(skipped..).unwrap_or_default(), at: start, page_shift }
    }

    /// The range that holds `pa`.
    fn range_at(&self, pa: PhysAddr) -> Option<&RamRange> {
        let index = self.ranges.partition_point(|range| range.end <= pa);
        self.ranges.get(index).filter(|range| range.start <= pa)
    }
}

/// Iterator of [`MemoryMap::pages`].
#[derive(Clone, Debug)]
pub struct Pages<'a> {
    /// Those not yet passed.
    ranges: &'a [RamRange],
    /// Everything below has been passed.
    at: PhysAddr,
    page_shift: u32,
}

impl Iterator for Pages<'_> {
    type Item = PagePart;

    fn next(&mut self) -> Option<PagePart> {
        let (range, behind) = self.ranges.split_first()?;
        let start = self.at.max(range.start);
        let pfn = start.pfn(self.page_shift);
        let page_start = pfn.start(self.page_shift)?;
        let page_end = pfn.checked_add(1).and_then(|next| next.start(self.page_shift));
        let end = page_end.map_or(range.end, |page_end| page_end.min(range.end));
        if end == range.end {
            self.ranges = behind;
        }
        self.at = end;
        Some(PagePart { pfn, offset: start.0.checked_sub(page_start.0)?, bytes: end.0.checked_sub(start.0)? })
    }
}

impl FusedIterator for Pages<'_> {}

/// The range a segment gives: `None` if it is empty.
fn range_of(segment: &LoadSegment) -> Result<Option<RamRange>, MapFault> {
    let start = PhysAddr(segment.p_paddr);
    let read_at = PhysAddr(segment.p_offset);
    let overflow = MapFault::Overflow { start, bytes: segment.p_memsz };
    start.checked_add(segment.p_memsz).ok_or(overflow)?;
    let bytes = segment.p_filesz.min(segment.p_memsz);
    let end = start.checked_add(bytes).ok_or(overflow)?;
    let read_end = read_at.checked_add(bytes).ok_or(overflow)?;
    if end > PHYS_ADDR_END || read_end > PHYS_ADDR_END {
        return Err(MapFault::Absurd { start, bytes: segment.p_memsz, read_at });
    }
    Ok((bytes != 0).then_some(RamRange { start, end, read_at }))
}

/// Sorts ranges, and clips each so that it begins where those before it have ended.
fn one_after_another(mut ranges: Vec<RamRange>) -> Vec<RamRange> {
    ranges.sort_unstable_by_key(|range| (range.start, range.end, range.read_at));
    let mut covered = PhysAddr(0);
    ranges.retain_mut(|range| match range.clip(covered, range.end) {
        Some(clipped) => {
            covered = clipped.end;
            *range = clipped;
            true
        }
        None => false,
    });
    ranges
}

/// What of `ranges` lies outside `holes`; both sorted, without overlaps.
fn without(ranges: &[RamRange], holes: &[RamRange]) -> Vec<RamRange> {
    let mut outside = Vec::new();
    let mut holes = holes;
    for range in ranges {
        let mut at = range.start;
        while let Some((hole, behind)) = holes.split_first() {
            if hole.start >= range.end {
                break;
            }
            outside.extend(range.clip(at, hole.start));
            at = at.max(hole.end);
            if hole.end > range.end {
                break; // It goes on in the next range.
            }
            holes = behind;
        }
        outside.extend(range.clip(at, range.end));
    }
    outside
}

/// Joins ranges that touch, in memory and where they are read.
fn joined(ranges: Vec<RamRange>) -> Vec<RamRange> {
    let mut joined: Vec<RamRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start && last.place_of(last.end) == range.read_at => {
                last.end = range.end;
            }
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests;
