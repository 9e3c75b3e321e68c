//! What the crashed kernel left for its dump: memory map, notes, VMCOREINFO.

use alloc::vec::Vec;
use core::ops::Range;

use memory::{CrashedMemory, MapFault, MemoryMap, Pfn, PhysAddr, PhysMemory, RamRange};
use vmcore::elfcorehdr::{ElfCoreHdr, ElfCoreHdrError, MAX_NOTE_BYTES, NoteSegment, SegmentFault};
use vmcore::notes::{Notes, find_vmcoreinfo};
use vmcore::vmcoreinfo::VmcoreInfo;

/// The page size if VMCOREINFO does not tell: 4 KiB.
const DEFAULT_PAGE_SHIFT: u32 = 12;

/// Everything that is known of the crashed machine before its memory is walked.
#[derive(Clone, Debug)]
pub struct Crash {
    /// The elfcorehdr.
    pub core: ElfCoreHdr,
    /// RAM, by the elfcorehdr's PT_LOADs.
    pub map: MemoryMap,
    /// PT_LOADs that made no sense.
    pub map_faults: Vec<MapFault>,
    /// The text of VMCOREINFO; empty if there is none.
    pub vmcoreinfo: Vec<u8>,
    page_shift: u32,
}

impl Crash {
    /// Reads what the crashed kernel left, from its elfcorehdr on. `physical` is memory as it is now.
    ///
    /// # Errors
    /// Without an elfcorehdr there is nothing to go by.
    pub fn read(elfcorehdr_pa: u64, physical: &impl PhysMemory) -> Result<Self, ElfCoreHdrError> {
        Self::read_in(elfcorehdr_pa, &[], physical)
    }

    /// [`read`](Self::read), where nothing but `ram` is looked at: what firmware says is RAM. Nothing: it does not say.
    ///
    /// # Errors
    /// Without an elfcorehdr there is nothing to go by.
    pub fn read_in(
        elfcorehdr_pa: u64,
        ram: &[Range<u64>],
        physical: &impl PhysMemory,
    ) -> Result<Self, ElfCoreHdrError> {
        let is_ram = |pa: u64| ram.is_empty() || ram.iter().any(|range| range.contains(&pa));
        let core = ElfCoreHdr::read(elfcorehdr_pa, &mut |pa, buf| {
            is_ram(pa) && physical.read(PhysAddr(pa), buf).is_ok()
        })?;
        let (mut map, mut map_faults) = MemoryMap::from_segments(&core.loads);
        if !ram.is_empty() {
            map_faults.extend(map.keep_only(ram));
        }
        let mut crash =
            Self { core, map, map_faults, vmcoreinfo: Vec::new(), page_shift: DEFAULT_PAGE_SHIFT };
        let mut buffer = Vec::new();
        for segment in &crash.core.notes {
            let notes = read_notes(segment, physical, &mut buffer);
            if let Some(text) = find_vmcoreinfo(notes) {
                crash.vmcoreinfo = text.to_vec();
                break;
            }
        }
        if let Some(page_shift) = crash.info().page_shift() {
            crash.page_shift = page_shift;
        }
        Ok(crash)
    }

    /// The machine's memory by its own addresses.
    pub const fn memory<'a, M: PhysMemory>(&'a self, physical: &'a M) -> CrashedMemory<'a, &'a M> {
        CrashedMemory::new(&self.map, physical)
    }

    /// What VMCOREINFO says.
    #[must_use]
    pub fn info(&self) -> VmcoreInfo<'_> {
        VmcoreInfo::new(&self.vmcoreinfo)
    }

    /// Pages have `1 << page_shift` bytes.
    #[must_use]
    pub const fn page_shift(&self) -> u32 {
        self.page_shift
    }

    /// Page frames with RAM in them.
    #[must_use]
    pub fn ram_pages(&self) -> u64 {
        self.ram_pages_below(Pfn(u64::MAX))
    }

    /// Page frames below `limit` with RAM in them; one that two ranges meet in counts for each.
    #[must_use]
    pub fn ram_pages_below(&self, limit: Pfn) -> u64 {
        let shift = self.page_shift();
        let pages = |range: &RamRange| {
            let behind = PhysAddr(range.end.0.saturating_sub(1)).pfn(shift).0.saturating_add(1);
            behind.min(limit.0).saturating_sub(range.start.pfn(shift).0)
        };
        self.map.ranges().iter().map(pages).fold(0, u64::saturating_add)
    }

    /// What of the elfcorehdr could not be used, for a person to read.
    pub fn faults(&self) -> impl Iterator<Item = Fault<'_>> {
        let segments = self.core.faults.iter().map(Fault::Segment);
        segments.chain(self.map_faults.iter().map(Fault::Map))
    }
}

/// A part of the elfcorehdr that was left out.
#[derive(Debug, thiserror::Error)]
pub enum Fault<'a> {
    /// A program header.
    #[error("{0}")]
    Segment(&'a SegmentFault),
    /// A range of memory.
    #[error("{0}")]
    Map(&'a MapFault),
}

/// The notes of a segment without the zeros behind them; none if they cannot be read.
///
/// Its p_offset is where the notes are now: not an address of the crashed machine's memory map.
pub(crate) fn read_notes<'b>(
    segment: &NoteSegment,
    physical: &impl PhysMemory,
    buffer: &'b mut Vec<u8>,
) -> &'b [u8] {
    let bytes = usize::try_from(segment.p_filesz.min(MAX_NOTE_BYTES)).unwrap_or(0);
    buffer.clear();
    buffer.resize(bytes, 0);
    if physical.read(PhysAddr(segment.p_offset), buffer).is_err() {
        return &[];
    }
    let mut notes = Notes::new(buffer);
    notes.by_ref().for_each(drop);
    let used = bytes - notes.remaining().len();
    buffer.get(..used).unwrap_or_default()
}
