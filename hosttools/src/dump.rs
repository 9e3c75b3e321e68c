//! A dump, whatever it is kept in: which pages it has, and their bytes.
//!
//! # Terms
//! - **[`Facts`]**: what the dump says about the machine as a whole.
//! - **[`PageState`]**: what became of a page. *Excluded* was left out on purpose, *missing* should be there.
//! - **[`PageReader`]**: reads pages; one per thread, with a cache of its own.
//!
//! # Flow
//! [`open`] looks at a file's first bytes ─▶ [`JournalDump`], [`KdumpDump`] or [`ElfDump`], each a [`Dump`];
//! [`classify`] tells what its pages were used for ─▶ [`Filtered`], a [`Dump`] with less in it.

mod assembly;
mod classes;
mod elf;
mod filtered;
mod flattened;
mod journal;
mod kdump;
mod memory;
mod open;
mod own_note;
mod page;
mod passes;
mod recording;

pub use assembly::{Assembly, FactsError};
pub use classes::{Census, UnknownClasses, classify};
pub use elf::ElfDump;
pub use filtered::Filtered;
pub use flattened::Flattened;
pub use journal::JournalDump;
pub(crate) use journal::Recovered;
pub use kdump::KdumpDump;
pub use memory::DumpMemory;
pub use open::{Kind, kind_of, open};
pub(crate) use own_note::with_own_note;
pub(crate) use page::{DecodedBlocks, Made};
pub use passes::Came;

use ::memory::{MemoryMap, Pfn, ReadFaultKind};
use vmcore::elfcorehdr::LoadSegment;
use vmcore::headers::Machine;
use vmcore::notes::{CORE_NAME, NT_PRSTATUS, Note, Notes, find_vmcoreinfo};
use vmcore::prstatus::PrStatus;
use vmcore::vmcoreinfo::VmcoreInfo;

use crate::Error;

/// What a dump says about the machine as a whole.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The architecture.
    pub machine: Machine,
    /// Pages have `1 << page_shift` bytes.
    pub page_shift: u32,
    /// `struct new_utsname` of the crashed kernel; zeros where unknown.
    pub utsname: [u8; wire::UTSNAME_BYTES],
    /// Seconds since 1970 when the kernel crashed; 0 if unknown.
    pub crash_time: u64,
    /// makedumpfile's dump level.
    pub dump_level: u8,
    /// The PT_LOADs as the crashed kernel had them; their `p_offset` is of no use here.
    pub segments: Vec<LoadSegment>,
    /// RAM, by the segments.
    pub map: MemoryMap,
    /// The notes: NT_PRSTATUS of each CPU that saved its registers, then VMCOREINFO.
    pub notes: Vec<u8>,
    /// Whether all is there that the dump was to have.
    pub is_complete: bool,
    /// Pages that are there only because a receiver asked for them.
    pub pulled: u64,
}

impl Facts {
    /// Bytes of a page.
    #[must_use]
    pub fn page_bytes(&self) -> usize {
        1_usize.checked_shl(self.page_shift).unwrap_or(1)
    }

    /// One of the strings of `struct new_utsname`, printable ASCII only: 1 nodename, 2 release, 3 version, 4 machine.
    #[must_use]
    pub fn uts(&self, index: usize) -> &str {
        wire::uts_field(&self.utsname, index)
    }

    /// VMCOREINFO's text.
    #[must_use]
    pub fn vmcoreinfo(&self) -> VmcoreInfo<'_> {
        VmcoreInfo::new(find_vmcoreinfo(&self.notes).unwrap_or_default())
    }

    /// The registers each CPU saved, in the notes' order.
    pub fn registers(&self) -> impl Iterator<Item = PrStatus> {
        let is_registers = |note: &Note<'_>| note.name == CORE_NAME && note.n_type == NT_PRSTATUS;
        Notes::new(&self.notes)
            .filter(is_registers)
            .filter_map(|note| PrStatus::parse(self.machine, note.desc))
    }

    /// One past the highest frame with RAM in it.
    #[must_use]
    pub fn max_mapnr(&self) -> u64 {
        self.map.max_pfn(self.page_shift).map_or(0, |pfn| pfn.0.saturating_add(1))
    }

    /// Frames with RAM in them: runs of first frame and number, ascending, none twice.
    #[must_use]
    pub fn ram_runs(&self) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for range in self.map.ranges() {
            let mut first = range.start.pfn(self.page_shift).0;
            let last = range.end.0.saturating_sub(1) >> self.page_shift.min(63);
            if let Some((before, pages)) = runs.last_mut() {
                // Two ranges may meet inside a page.
                first = first.max(before.saturating_add(*pages));
                if first == before.saturating_add(*pages) {
                    *pages += last.saturating_add(1).saturating_sub(first);
                    continue;
                }
            }
            runs.push((first, last.saturating_add(1).saturating_sub(first)));
        }
        runs.retain(|&(_, pages)| pages > 0);
        runs
    }
}

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// Its bytes are in the dump.
    Data,
    /// Every 64-bit word of it is this one.
    Filled(u64),
    /// It could not be read when the dump was made; the numbers are those of `memory::ReadFaultKind`.
    Hole(u8),
    /// It should be in the dump, and is not.
    Missing,
    /// It was left out on purpose, or is no RAM.
    Excluded,
}

impl PageState {
    /// Whether the dump has the page's bytes.
    #[must_use]
    pub fn is_present(self) -> bool {
        matches!(self, Self::Data | Self::Filled(_))
    }

    /// Whether the page belongs into the dump, whether it is there or not. Those that the crashed kernel had given up or
    /// given away do not, at any dump level.
    #[must_use]
    pub fn is_wanted(self) -> bool {
        const GIVEN_UP: u8 = ReadFaultKind::HwPoison as u8;
        const GIVEN_AWAY: u8 = ReadFaultKind::Offline as u8;
        !matches!(self, Self::Excluded | Self::Hole(GIVEN_UP | GIVEN_AWAY))
    }

    /// Whether the page belongs into the dump, and is not there.
    #[must_use]
    pub fn is_lost(self) -> bool {
        self.is_wanted() && !self.is_present()
    }
}

/// Neighbouring pages of which the same became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First frame.
    pub first: u64,
    /// At least one.
    pub pages: u64,
    /// What became of them.
    pub state: PageState,
}

/// A dump that can be read.
pub trait Dump: Send + Sync {
    /// What it says about the machine as a whole.
    fn facts(&self) -> &Facts;

    /// What became of page `pfn`, and of at least how many pages from it on (not 0) the same did.
    ///
    /// # Errors
    /// If the dump itself cannot be read.
    fn state_at(&self, pfn: u64) -> Result<(PageState, u64), Error>;

    /// What the sender said besides pages, if the dump is kept as it came.
    fn session(&self) -> Option<&Assembly> {
        None
    }

    /// A reader of pages.
    fn reader(&self) -> Box<dyn PageReader + '_>;
}

/// Reads the pages of a dump.
pub trait PageReader: Send {
    /// Fills `page` (a page's size) with the bytes of page `pfn`, whose state is [`PageState::Data`]. Where only a part
    /// of it is RAM, the rest is zero.
    ///
    /// # Errors
    /// If it is not in the dump, or is damaged.
    fn read(&mut self, pfn: u64, page: &mut [u8]) -> Result<(), Error>;

    /// Fills `pages` (some pages of `page_bytes` each) with the bytes of `first` and those behind it, the state of all of
    /// which is [`PageState::Data`].
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_run(&mut self, first: u64, page_bytes: usize, pages: &mut [u8]) -> Result<(), Error> {
        self.read_each(first, page_bytes, pages)
    }

    /// [`read_run`](Self::read_run), page by page.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_each(&mut self, first: u64, page_bytes: usize, pages: &mut [u8]) -> Result<(), Error> {
        (first..).zip(pages.chunks_mut(page_bytes)).try_for_each(|(pfn, page)| self.read(pfn, page))
    }
}

/// All pages of RAM as runs, ascending; neighbouring runs differ in their state. An error, if the dump itself cannot be
/// read, is the last item.
pub fn each_run(dump: &dyn Dump) -> impl Iterator<Item = Result<Run, Error>> + '_ {
    let mut ram = dump.facts().ram_runs().into_iter();
    let (mut at, mut end) = (0, 0);
    let mut before: Option<Run> = None;
    std::iter::from_fn(move || {
        loop {
            if at >= end {
                match ram.next() {
                    Some((first, pages)) => (at, end) = (first, first.saturating_add(pages)),
                    None => return before.take().map(Ok),
                }
                continue;
            }
            let (state, same) = match dump.state_at(at) {
                Ok(known) => known,
                Err(error) => {
                    (ram, at, before) = (Vec::new().into_iter(), end, None);
                    return Some(Err(error));
                }
            };
            let run = Run { first: at, pages: same.clamp(1, end - at), state };
            at += run.pages;
            match &mut before {
                Some(before) if before.state == state && before.first + before.pages == run.first => {
                    before.pages += run.pages;
                }
                _ => {
                    if let Some(whole) = before.replace(run) {
                        return Some(Ok(whole));
                    }
                }
            }
        }
    })
}

/// All of [`each_run`].
///
/// # Errors
/// If the dump itself cannot be read.
pub fn runs(dump: &dyn Dump) -> Result<Vec<Run>, Error> {
    each_run(dump).collect()
}

/// Fills a page with one word.
pub(crate) fn fill(page: &mut [u8], word: u64) {
    for (byte, from) in page.iter_mut().zip(word.to_le_bytes().into_iter().cycle()) {
        *byte = from;
    }
}

/// Segments for a dump whose elfcorehdr is not known: one for each run of pages.
pub(crate) fn segments_of_runs(runs: impl Iterator<Item = (u64, u64)>, page_shift: u32) -> Vec<LoadSegment> {
    runs.filter_map(|(first, pages)| {
        let start = Pfn(first).start(page_shift)?.0;
        let bytes = pages.checked_shl(page_shift)?;
        // No virtual address is known: the kernel writes the same for memory it has not mapped.
        Some(LoadSegment {
            p_vaddr: u64::MAX,
            p_paddr: start,
            p_offset: start,
            p_filesz: bytes,
            p_memsz: bytes,
        })
    })
    .collect()
}

/// The map of segments that are read where they are: here `p_offset` is of a file, or of memory no longer there.
pub(crate) fn map_of(segments: &[LoadSegment]) -> MemoryMap {
    let in_place: Vec<_> = segments
        .iter()
        .map(|segment| LoadSegment { p_offset: segment.p_paddr, p_filesz: segment.p_memsz, ..*segment })
        .collect();
    MemoryMap::from_segments(&in_place).0
}
