//! A journal as a dump.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::memory::PhysAddr;
use vmcore::elfcorehdr::ElfCoreHdr;
use vmcore::headers::Machine;
use vmcore::notes::find_vmcoreinfo;
use vmcore::vmcoreinfo::VmcoreInfo;
use wire::{Block, SessionEnd, SessionHeader};

use super::{Dump, Facts, PageReader, PageState, map_of, segments_of_runs};
use crate::Error;
use crate::file::ReadAt;
use crate::index::{PageIndex, Part, Place, Summary};
use crate::journal::{BlockEntry, Entry, Reader, Tail};
use crate::{pipeline, utsname};

/// Decoded blocks a reader keeps: passes that interleave, and the early ones' scattered pages.
const CACHED_BLOCKS: usize = 16;

/// Where an encoded block lies in the journal.
#[derive(Clone, Copy, Debug)]
struct BlockPlace {
    offset: u64,
    bytes: u32,
}

/// A session as far as it has come: what the receiver builds while it writes the journal, and a reader from it.
pub struct Assembly {
    header: SessionHeader,
    index: PageIndex,
    blocks: Vec<BlockPlace>,
    seen: BTreeSet<(u8, u32)>,
    /// First block of the run, and what the blocks of the run add up to.
    first_block: u32,
    totals: SessionEnd,
    end: Option<SessionEnd>,
    bad_blocks: u32,
}

impl Assembly {
    /// Of a session that has just begun.
    #[must_use]
    pub fn new(header: SessionHeader) -> Self {
        Self {
            index: PageIndex::new(u32::from(header.page_shift)),
            header,
            blocks: Vec::new(),
            seen: BTreeSet::new(),
            first_block: 0,
            totals: SessionEnd::default(),
            end: None,
            bad_blocks: 0,
        }
    }

    /// The number the next block has in the order of arrival.
    #[must_use]
    pub fn next_block(&self) -> u32 {
        u32::try_from(self.blocks.len()).unwrap_or(u32::MAX)
    }

    /// The session header.
    #[must_use]
    pub fn header(&self) -> &SessionHeader {
        &self.header
    }

    /// Adds a block: its summary ([`Self::next_block`] is the number it was made with; `None` if the block cannot be
    /// decoded), and where its encoded bytes lie in the journal.
    pub fn add(&mut self, id: (u8, u32), offset: u64, bytes: usize, summary: Option<Summary>) {
        self.blocks.push(BlockPlace { offset, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) });
        if !self.seen.insert(id) {
            return;
        }
        let Some(summary) = summary else {
            self.bad_blocks += 1;
            return;
        };
        self.bad_blocks += u32::from(summary.is_damaged);
        let (stream, number) = id;
        if stream == 0 && number >= self.first_block {
            let of_block = summary.totals;
            self.totals.pages += of_block.pages;
            self.totals.filled_pages += of_block.filled_pages;
            self.totals.hole_pages += of_block.hole_pages;
            self.totals.fragments += of_block.fragments;
            self.totals.digest = self.totals.digest.wrapping_add(of_block.digest);
        }
        self.index.add(summary);
    }

    /// The sender went back: blocks of stream 0 from `first_block` on come again. The pages they brought stay: they
    /// were in the crashed memory.
    pub fn restart(&mut self, first_block: u32) {
        self.seen.retain(|&(stream, number)| stream != 0 || number < first_block);
        self.first_block = first_block;
        self.totals = SessionEnd::default();
    }

    /// The sender has said what a complete dump adds up to.
    pub fn end(&mut self, end: SessionEnd) {
        self.end = Some(end);
    }

    /// Whether the end came.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether everything came that was sent: the counts and the digest of the end are ours.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let Some(end) = self.end else { return false };
        let passes = self.seen.range((0, 0)..=(0, u32::MAX)).map(|&(_, number)| number);
        let all_came = passes.clone().zip(0..end.blocks).all(|(is, should_be)| is == should_be);
        let blocks = u32::try_from(passes.count()).unwrap_or(u32::MAX);
        let ours = SessionEnd { blocks, first_block: self.first_block, ..self.totals };
        self.bad_blocks == 0 && all_came && end == ours
    }

    /// What the blocks of the run add up to so far.
    #[must_use]
    pub fn totals(&self) -> &SessionEnd {
        &self.totals
    }

    /// Blocks that this program could not read, wholly or in part.
    #[must_use]
    pub fn bad_blocks(&self) -> u32 {
        self.bad_blocks
    }

    /// What came so far, as far as it describes the machine.
    ///
    /// # Errors
    /// The `e_machine`, if it is none we know.
    pub fn facts(&self) -> Result<Facts, u16> {
        let header = &self.header;
        let page_shift = u32::from(header.page_shift);
        let mut segments = self.elfcorehdr_segments();
        if segments.is_empty() {
            segments = segments_of_runs(self.index.coverage(), page_shift);
        }
        let notes = self.index.notes().to_vec();
        let machine = Machine::from_e_machine(header.e_machine).ok_or(header.e_machine)?;
        let info = VmcoreInfo::new(find_vmcoreinfo(&notes).unwrap_or_default());
        Ok(Facts {
            machine,
            page_shift,
            utsname: if header.uts(4).is_empty() { utsname::of(machine, &info) } else { header.utsname },
            crash_time: if header.crash_time == 0 {
                info.crash_time().unwrap_or(0)
            } else {
                header.crash_time
            },
            dump_level: header.dump_level,
            map: map_of(&segments),
            segments,
            notes,
            is_complete: self.is_complete(),
        })
    }

    fn elfcorehdr_segments(&self) -> Vec<vmcore::elfcorehdr::LoadSegment> {
        let bytes = self.index.elfcorehdr();
        let mut read = |pa: u64, buf: &mut [u8]| bytes.read_exactly(pa, buf).is_ok();
        let mut loads = ElfCoreHdr::read(0, &mut read).map(|header| header.loads).unwrap_or_default();
        // What the crashed machine's elfcorehdr has no bytes for was not read.
        loads.iter_mut().for_each(|load| load.p_memsz = load.p_memsz.min(load.p_filesz));
        loads
    }
}

/// A record of a journal, before its block is decoded.
enum Step {
    Block(u32, BlockEntry),
    Done(Done),
}

/// And after.
enum Done {
    Block((u8, u32), u64, usize, Option<Summary>),
    End(SessionEnd),
    Restart(u32),
    Nothing,
}

/// A journal (or the blocks of a recording) as a dump.
pub struct JournalDump {
    path: PathBuf,
    file: Arc<dyn ReadAt + Send + Sync>,
    assembly: Assembly,
    facts: Facts,
    tail: Tail,
}

impl JournalDump {
    /// Reads a journal from its start to where it ends now.
    ///
    /// # Errors
    /// [`Error`], if it is no journal, or none of a session.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::read(path, Arc::new(crate::file::open(path)?))
    }

    /// Reads the journal in `file`, which errors call `path`.
    ///
    /// # Errors
    /// [`Error`], if it is no journal, or none of a session.
    pub fn read(path: &Path, file: Arc<dyn ReadAt + Send + Sync>) -> Result<Self, Error> {
        let damaged = |what: String| Error::Damaged { path: path.to_owned(), what };
        let mut reader = Reader::new(&*file).map_err(|error| damaged(error.to_string()))?;
        let mut next = || reader.next_entry().map_err(Error::io("read journal", path));
        let Some(Entry::Session(_, header)) = next()? else {
            return Err(damaged(
                "the journal ends before its session header: nothing was received".to_owned(),
            ));
        };
        let page_shift = u32::from(header.page_shift);
        let mut assembly = Assembly::new(*header);
        let mut number = 0;
        let mut failed = None;
        // Blocks are decoded by several threads; the rest keeps its place among them.
        let steps = std::iter::from_fn(|| match next() {
            Ok(Some(Entry::Block(block))) => {
                number += 1;
                Some(Step::Block(number - 1, block))
            }
            Ok(Some(Entry::End(end))) => Some(Step::Done(Done::End(end))),
            Ok(Some(Entry::Restart(first))) => Some(Step::Done(Done::Restart(first))),
            Ok(Some(Entry::Session(..))) => Some(Step::Done(Done::Nothing)),
            Ok(None) => None,
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        let decode = || {
            move |step| match step {
                Step::Block(number, block) => {
                    let summary = Summary::of(number, &block.encoded, page_shift).ok();
                    Done::Block((block.stream, block.number), block.offset, block.encoded.len(), summary)
                }
                Step::Done(done) => done,
            }
        };
        pipeline::in_order(steps, decode, |done| {
            match done {
                Done::Block(id, offset, bytes, summary) => assembly.add(id, offset, bytes, summary),
                Done::End(end) => assembly.end(end),
                Done::Restart(first_block) => assembly.restart(first_block),
                Done::Nothing => {}
            }
            Ok::<_, Error>(())
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let tail = reader.tail();
        Self::new(path, file, assembly, tail)
    }

    /// What the receiver has assembled while it wrote the journal.
    ///
    /// # Errors
    /// [`Error`], if it is of a machine this program does not know.
    pub fn received(path: &Path, file: File, assembly: Assembly) -> Result<Self, Error> {
        Self::new(path, Arc::new(file), assembly, Tail::Clean)
    }

    fn new(
        path: &Path,
        file: Arc<dyn ReadAt + Send + Sync>,
        assembly: Assembly,
        tail: Tail,
    ) -> Result<Self, Error> {
        let facts = assembly.facts().map_err(|e_machine| Error::Damaged {
            path: path.to_owned(),
            what: format!(
                "the crashed machine's architecture (e_machine {e_machine}) is not known to this version"
            ),
        })?;
        Ok(Self { path: path.to_owned(), file, assembly, facts, tail })
    }

    /// What came.
    #[must_use]
    pub fn assembly(&self) -> &Assembly {
        &self.assembly
    }

    /// How the journal ended when it was read.
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// What the parts of a page give: `None` if none came.
    fn state_of_parts(&self, pfn: u64) -> Option<PageState> {
        let pa = ::memory::Pfn(pfn).start(self.facts.page_shift)?;
        self.assembly.index.parts_of_page(pa.0).next()?;
        let page_end = pa.checked_add(self.facts.page_bytes() as u64)?;
        let all_came = self
            .facts
            .map
            .pages_from(::memory::Pfn(pfn), self.facts.page_shift)
            .take_while(|part| part.pfn.0 == pfn)
            .all(|part| {
                let (start, end) = (pa.0 + part.offset, pa.0 + part.offset + part.bytes);
                let mut parts = self.assembly.index.parts_of_page(pa.0);
                end <= page_end.0 && parts.any(|(at, came)| at <= start && at + u64::from(came.bytes) >= end)
            });
        Some(if all_came { PageState::Data } else { PageState::Missing })
    }
}

impl Dump for JournalDump {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn state_at(&self, pfn: u64) -> Result<(PageState, u64), Error> {
        let (place, pages) = self.assembly.index.run_at(pfn);
        let state = match place {
            Some(Place::Block { .. }) => PageState::Data,
            Some(Place::Fill(word)) => PageState::Filled(word),
            Some(Place::Hole(_)) | None => {
                if let Some(state) = self.state_of_parts(pfn) {
                    return Ok((state, 1));
                }
                // Only the first and last page of a range of RAM can have come in parts.
                let edge = self.next_edge(pfn);
                let state = match place {
                    Some(Place::Hole(reason)) => PageState::Hole(reason),
                    _ if self.facts.is_complete => PageState::Excluded,
                    _ => PageState::Missing,
                };
                return Ok((state, pages.min(edge)));
            }
        };
        Ok((state, pages))
    }

    fn reader(&self) -> Box<dyn PageReader + '_> {
        Box::new(BlockReader { dump: self, cache: VecDeque::new() })
    }
}

impl JournalDump {
    /// How many pages from `pfn` on (at least 1) come before the next one that is RAM only in part.
    fn next_edge(&self, pfn: u64) -> u64 {
        let page_bytes = self.facts.page_bytes() as u64;
        let shift = self.facts.page_shift;
        let after = PhysAddr(pfn.saturating_add(1).checked_shl(shift).unwrap_or(u64::MAX));
        let ranges = self.facts.map.ranges();
        let from = ranges.partition_point(|range| range.end <= after);
        ranges
            .get(from..)
            .unwrap_or_default()
            .iter()
            .flat_map(|range| [range.start, range.end])
            .filter(|edge| edge.0 % page_bytes != 0)
            .map(|edge| edge.pfn(shift).0)
            .find(|&edge| edge > pfn)
            .map_or(u64::MAX, |edge| edge - pfn)
    }
}

/// Reads pages out of blocks, of which it keeps the last few decoded.
struct BlockReader<'a> {
    dump: &'a JournalDump,
    /// Most recently used last.
    cache: VecDeque<(u32, Vec<u8>)>,
}

impl BlockReader<'_> {
    fn block(&mut self, number: u32, pfn: u64) -> Result<&[u8], Error> {
        let place = self.cache.iter().position(|(cached, _)| *cached == number);
        let entry = match place.and_then(|place| self.cache.remove(place)) {
            Some(entry) => entry,
            None => (number, self.decode(number, pfn)?),
        };
        if self.cache.len() >= CACHED_BLOCKS {
            self.cache.pop_front();
        }
        self.cache.push_back(entry);
        Ok(self.cache.back().map(|(_, raw)| raw.as_slice()).unwrap_or_default())
    }

    fn decode(&self, number: u32, pfn: u64) -> Result<Vec<u8>, Error> {
        let dump = self.dump;
        let bad = |what: String| Error::Page { pfn, what };
        let place = dump
            .assembly
            .blocks
            .get(number as usize)
            .ok_or_else(|| bad(format!("block {number} is unknown")))?;
        let mut encoded = vec![0; place.bytes as usize];
        dump.file.read_exactly(place.offset, &mut encoded).map_err(Error::io("read journal", &dump.path))?;
        let block = Block::decode(&encoded).map_err(|error| bad(error.to_string()))?;
        Ok(block.raw)
    }

    fn copy(&mut self, pfn: u64, block: u32, offset: u32, to: &mut [u8]) -> Result<(), Error> {
        let raw = self.block(block, pfn)?;
        let from = raw.get(offset as usize..).and_then(|rest| rest.get(..to.len()));
        let from = from.ok_or_else(|| Error::Page { pfn, what: format!("block {block} has changed") })?;
        to.copy_from_slice(from);
        Ok(())
    }
}

impl PageReader for BlockReader<'_> {
    fn read(&mut self, pfn: u64, page: &mut [u8]) -> Result<(), Error> {
        match self.dump.assembly.index.run_at(pfn).0 {
            Some(Place::Block { block, offset }) => self.copy(pfn, block, offset, page),
            Some(Place::Fill(word)) => {
                super::fill(page, word);
                Ok(())
            }
            Some(Place::Hole(_)) | None => {
                let not_here = || Error::Page { pfn, what: "not in the dump".to_owned() };
                let pa = ::memory::Pfn(pfn).start(self.dump.facts.page_shift).ok_or_else(not_here)?;
                let parts: Vec<(u64, Part)> = self.dump.assembly.index.parts_of_page(pa.0).collect();
                if parts.is_empty() {
                    return Err(not_here());
                }
                page.fill(0);
                for (at, part) in parts {
                    let start = usize::try_from(at - pa.0).unwrap_or(usize::MAX);
                    let bytes = part.bytes as usize;
                    if let Some(to) = page.get_mut(start..).and_then(|rest| rest.get_mut(..bytes)) {
                        self.copy(pfn, part.block, part.offset, to)?;
                    }
                }
                Ok(())
            }
        }
    }
}
