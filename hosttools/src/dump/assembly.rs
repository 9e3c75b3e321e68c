//! A session as far as it has come, put together block by block.

use std::io;
use std::path::Path;

use ::memory::{DumpLevel, PageCounts};
use vmcore::elfcorehdr::{ElfCoreHdr, LoadSegment};
use vmcore::headers::Machine;
use vmcore::notes::find_vmcoreinfo;
use vmcore::vmcoreinfo::VmcoreInfo;
use wire::{ANSWERS, Cursor, Pass, SessionEnd, SessionHeader, SessionId};

use super::passes::{self, Came};
use super::{Facts, map_of, segments_of_runs};
use crate::file::ReadAt;
use crate::index::{PageIndex, Summary};
use crate::table::Table;
use crate::utsname;

/// Where an encoded block lies in the journal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockPlace {
    pub(super) offset: u64,
    pub(super) bytes: u32,
}

impl BlockPlace {
    fn packed(self) -> [u64; 2] {
        [self.offset.saturating_add(1), self.bytes.into()]
    }

    fn unpacked([offset, bytes]: [u64; 2]) -> Option<Self> {
        Some(Self { offset: offset.checked_sub(1)?, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) })
    }
}

/// Chunks of the tables of blocks that are in memory, each.
const CHUNKS_IN_MEMORY: usize = 64;

/// Numbers of blocks in a stream.
const BLOCKS: u64 = 1 << 32;

/// What is known of a block that counts.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    generation: u32,
    /// `None`: this program cannot read it.
    said: Option<Said>,
    is_damaged: bool,
}

/// What a block says of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Said {
    start: Cursor,
    end: Cursor,
    /// Counts and digest.
    totals: SessionEnd,
}

impl Known {
    fn packed(self) -> [u64; 8] {
        let flags = 1 | u64::from(self.is_damaged) << 1 | u64::from(self.said.is_some()) << 2;
        let head = flags | u64::from(self.generation) << 32;
        let Some(Said { start, end, totals }) = self.said else { return [head, 0, 0, 0, 0, 0, 0, 0] };
        // A block has far fewer fragments than 48 bits count.
        let passes = u64::from(start.pass) | u64::from(end.pass) << 8 | totals.fragments << 16;
        let SessionEnd { pages, filled_pages, hole_pages, digest, .. } = totals;
        [head, start.position, end.position, passes, pages, filled_pages, hole_pages, digest]
    }

    fn unpacked(words: [u64; 8]) -> Option<Self> {
        let [head, start, end, passes, pages, filled_pages, hole_pages, digest] = words;
        if head == 0 {
            return None;
        }
        let [start_pass, end_pass, ..] = passes.to_le_bytes();
        let fragments = passes >> 16;
        let said = Said {
            start: Cursor { pass: start_pass, position: start },
            end: Cursor { pass: end_pass, position: end },
            totals: SessionEnd {
                pages,
                filled_pages,
                hole_pages,
                fragments,
                digest,
                ..SessionEnd::default()
            },
        };
        Some(Self {
            generation: u32::try_from(head >> 32).unwrap_or(0),
            said: (head & 4 != 0).then_some(said),
            is_damaged: head & 2 != 0,
        })
    }
}

/// Why nobody can tell what machine a session is of.
#[derive(Debug)]
pub enum FactsError {
    /// This `e_machine` is none we know.
    Machine(u16),
    /// The index cannot be read.
    Index(io::Error),
}

/// The index has an entry in memory for 256 neighbours, or for a run of at least as many pages; the early passes, which send a
/// page here and there, are why it may be twice as many.
const PAGES_PER_ENTRY: usize = 128;

/// Whatever a machine's size, its memory may lie in pieces, and blocks may come in any order.
const SPARE_ENTRIES: usize = 16 * 1024;

/// The largest machine that is believed without a doubt: 4 TiB with pages of 4 KiB, of which the index takes 400 MB at most.
const MAX_RAM_PAGES: u64 = 1 << 30;

/// A session as far as it has come: what the receiver builds while it writes the journal, and a reader from it. What
/// grows with the dump is in files without a name beside the journal, but for a few MiB.
pub struct Assembly {
    session: SessionId,
    header: SessionHeader,
    pub(super) index: PageIndex,
    /// In the order of arrival, those that no longer count too: pages may lie in them.
    places: Table<2>,
    arrived: u32,
    encoded_bytes: u64,
    /// [`key`] of stream and number → the block that counts.
    known: Table<8>,
    /// How many of stream 0 are known.
    blocks: u32,
    /// Behind the highest number of an answer.
    next_request: u32,
    /// Blocks of stream 0 from number 0 on that follow one another, and where the next one begins; `None`: the last
    /// of them cannot be read.
    prefix: (u32, Option<Cursor>),
    end: Option<SessionEnd>,
}

impl Assembly {
    /// Of a session that has just begun. What does not fit in memory is in files in `directory`.
    #[must_use]
    pub fn new(session: SessionId, header: SessionHeader, directory: &Path) -> Self {
        Self {
            session,
            index: PageIndex::new(u32::from(header.page_shift), directory),
            header,
            places: Table::new(directory, CHUNKS_IN_MEMORY),
            arrived: 0,
            encoded_bytes: 0,
            known: Table::new(directory, CHUNKS_IN_MEMORY),
            blocks: 0,
            next_request: 0,
            prefix: (0, Some(Cursor::START)),
            end: None,
        }
    }

    /// The number the next block has in the order of arrival.
    #[must_use]
    pub fn next_block(&self) -> u32 {
        self.arrived
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The session header.
    #[must_use]
    pub fn header(&self) -> &SessionHeader {
        &self.header
    }

    /// Adds a block: its summary ([`Self::next_block`] is the number it was made with; `None` if the block cannot be
    /// decoded), and where its encoded bytes lie in the journal.
    ///
    /// A block that was made again takes the place of the one before. The pages that both brought stay as they came
    /// first: they were in the crashed memory.
    ///
    /// # Errors
    /// Those of the index's files.
    pub fn add(
        &mut self,
        id: (u8, u32),
        generation: u32,
        offset: u64,
        bytes: usize,
        summary: Option<Summary>,
    ) -> io::Result<()> {
        let place = BlockPlace { offset, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) };
        self.places.set(self.arrived.into(), place.packed())?;
        self.arrived = self.arrived.saturating_add(1);
        self.encoded_bytes = self.encoded_bytes.saturating_add(bytes as u64);
        let before = Known::unpacked(self.known.get(key(id))?);
        if before.is_some_and(|before| before.generation == generation) {
            return Ok(());
        }
        let said = summary.as_ref().map(|summary| Said {
            start: summary.header.start,
            end: summary.header.end,
            totals: summary.totals,
        });
        let is_damaged = summary.as_ref().is_none_or(|summary| summary.is_damaged);
        self.known.set(key(id), Known { generation, said, is_damaged }.packed())?;
        let (stream, number) = id;
        match summary {
            Some(summary) if stream == 0 => self.index.add(summary)?,
            Some(summary) if summary.answers(u32::from(self.header.page_shift)).is_some() => {
                self.index.add_answer(summary)?;
            }
            Some(_) | None => {}
        }
        if stream == ANSWERS {
            self.next_request = self.next_request.max(number.saturating_add(1));
        }
        if stream == 0 && before.is_none() {
            self.blocks = self.blocks.saturating_add(1);
        }
        if stream == 0 && number <= self.prefix.0 {
            if number < self.prefix.0 {
                self.prefix = (0, Some(Cursor::START));
            }
            self.extend_prefix()?;
        }
        Ok(())
    }

    /// The first number of a request that no answer has had yet.
    #[must_use]
    pub fn next_request(&self) -> u32 {
        self.next_request
    }

    /// Pages that only answers to requests have brought so far.
    #[must_use]
    pub fn only_asked(&self) -> u64 {
        self.index.only_asked()
    }

    /// Whether [`Self::facts`] say all that they will ever say of the machine.
    #[must_use]
    pub fn is_described(&self) -> bool {
        let (has_elfcorehdr, has_notes) = self.index.is_described();
        // A machine may have no notes.
        let is_behind = self.prefix.1.is_some_and(|at| at.pass > Pass::Meta.number());
        has_elfcorehdr && (has_notes || is_behind)
    }

    /// Whether this block is there already.
    ///
    /// # Errors
    /// Those of the index's files.
    pub fn has(&self, id: (u8, u32), generation: u32) -> io::Result<bool> {
        let known = Known::unpacked(self.known.get(key(id))?);
        Ok(known.is_some_and(|known| known.generation == generation))
    }

    /// The blocks of stream 0 from this one on. Where the index cannot be read they end: what is behind is as good as
    /// lost.
    fn blocks_from(&self, first: u32) -> impl Iterator<Item = (u32, Known)> {
        let mut next = u64::from(first);
        std::iter::from_fn(move || {
            let (at, entry) = self.known.next(next).ok()?.filter(|&(at, _)| at < BLOCKS)?;
            next = at + 1;
            Some((u32::try_from(at).ok()?, Known::unpacked(entry)?))
        })
    }

    /// Moves the prefix over the blocks that follow it.
    fn extend_prefix(&mut self) -> io::Result<()> {
        let (mut next, mut at) = self.prefix;
        while let (Some(known), Some(behind)) =
            (Known::unpacked(self.known.get(key((0, next)))?), next.checked_add(1))
        {
            // A pass may repeat something; it leaves nothing out. Of a block that cannot be read here the sender has
            // no better one.
            let follows =
                known.said.zip(at).is_none_or(|(said, at)| said.start <= at || said.start.pass > at.pass);
            if !follows {
                break;
            }
            (next, at) = (behind, known.said.map(|said| said.end));
        }
        self.prefix = (next, at);
        Ok(())
    }

    /// How many blocks of stream 0 are there without a gap.
    #[must_use]
    pub fn prefix(&self) -> u32 {
        self.prefix.0
    }

    /// From which block on more is needed, and where it begins.
    #[must_use]
    pub fn resume_at(&self) -> (u32, Cursor) {
        let (next, at) = self.prefix;
        at.map_or((0, Cursor::START), |at| (next, at))
    }

    /// Whether a block of stream 0 has come that others are missing before.
    #[must_use]
    pub fn has_gaps(&self) -> bool {
        self.blocks > self.prefix.0
    }

    /// Blocks of stream 0 from `first_block` on are void: they come again. The pages they brought stay.
    ///
    /// # Errors
    /// Those of the index's files.
    pub fn restart(&mut self, first_block: u32) -> io::Result<()> {
        let cleared = self.known.clear(first_block.into(), BLOCKS)?;
        self.blocks = self.blocks.saturating_sub(u32::try_from(cleared).unwrap_or(u32::MAX));
        if first_block < self.prefix.0 {
            self.prefix = (0, Some(Cursor::START));
            self.extend_prefix()?;
        }
        self.end = None;
        Ok(())
    }

    /// The sender has said what a complete dump adds up to.
    pub fn end(&mut self, end: SessionEnd) {
        self.end = Some(end);
    }

    /// What the sender said at the end.
    #[must_use]
    pub fn said_end(&self) -> Option<SessionEnd> {
        self.end
    }

    /// Whether everything came that was sent, and everything was sent that the dump was to have.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.is_cut() && self.has_all()
    }

    /// Whether the sender stopped before it had sent everything: its budget was spent.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.end.is_some_and(|end| end.is_cut)
    }

    /// Whether everything came that was sent: all blocks are there, and those of the sender's last run add up to the
    /// counts and the digest of the end.
    #[must_use]
    pub fn has_all(&self) -> bool {
        let Some(end) = self.end.filter(|end| end.blocks == self.blocks) else { return false };
        let SessionEnd { blocks, first_block, is_cut, .. } = end;
        let all_came = self.blocks_from(0).map(|(number, _)| number).eq(0..blocks);
        let ours = SessionEnd { blocks, first_block, is_cut, ..self.totals_from(first_block) };
        all_came && end == ours && self.bad_blocks() == 0
    }

    /// How much came of each pass.
    #[must_use]
    pub fn passes(&self) -> Vec<(Pass, Came)> {
        let blocks = self.blocks_from(0);
        let cursors = blocks.map(|(number, known)| (number, known.said.map(|said| (said.start, said.end))));
        passes::came(cursors, self.end)
    }

    /// What the blocks add up to so far.
    #[must_use]
    pub fn totals(&self) -> SessionEnd {
        self.totals_from(0)
    }

    fn totals_from(&self, first_block: u32) -> SessionEnd {
        let blocks = self.blocks_from(first_block);
        blocks.filter_map(|(_, known)| known.said).fold(SessionEnd::default(), |sum, said| SessionEnd {
            pages: sum.pages.saturating_add(said.totals.pages),
            filled_pages: sum.filled_pages.saturating_add(said.totals.filled_pages),
            hole_pages: sum.hole_pages.saturating_add(said.totals.hole_pages),
            fragments: sum.fragments.saturating_add(said.totals.fragments),
            digest: sum.digest.wrapping_add(said.totals.digest),
            ..sum
        })
    }

    /// Blocks of stream 0 that this program could not read, wholly or in part.
    #[must_use]
    pub fn bad_blocks(&self) -> usize {
        self.blocks_from(0).filter(|(_, known)| known.is_damaged).count()
    }

    /// The text of the kernel log, as far as it came without a gap, and the bytes of all of it.
    #[must_use]
    pub fn log(&self) -> (&[u8], usize) {
        self.index.log()
    }

    /// Pages of RAM by class, once they are counted.
    #[must_use]
    pub fn counts(&self) -> Option<PageCounts> {
        self.index.counts()
    }

    /// How many pages the dump is to have, once they are counted.
    #[must_use]
    pub fn kept_pages(&self) -> Option<u64> {
        Some(self.level().kept_pages(&self.counts()?))
    }

    /// Whether the sender tells of more places in memory than a machine of the size in its header has: it would fill the
    /// receiver's memory with them.
    #[must_use]
    pub fn is_absurd(&self) -> bool {
        let ram_pages = usize::try_from(self.header.ram_pages.min(MAX_RAM_PAGES)).unwrap_or(usize::MAX);
        let entries = self.index.entries() + self.known.chunks() + self.places.chunks();
        entries > ram_pages / PAGES_PER_ENTRY + SPARE_ENTRIES
    }

    /// How many of them have come.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.index.came()
    }

    /// The sender's dump level.
    #[must_use]
    pub fn level(&self) -> DumpLevel {
        DumpLevel::new(self.header.dump_level).unwrap_or_default()
    }

    /// Bytes of all blocks that came.
    #[must_use]
    pub fn encoded_bytes(&self) -> u64 {
        self.encoded_bytes
    }

    /// Where a block lies, by the order of arrival.
    pub(super) fn place(&self, block: u32) -> io::Result<Option<BlockPlace>> {
        Ok(BlockPlace::unpacked(self.places.get(block.into())?))
    }

    /// What came so far, as far as it describes the machine.
    ///
    /// # Errors
    /// [`FactsError`].
    pub fn facts(&self) -> Result<Facts, FactsError> {
        let header = &self.header;
        let page_shift = u32::from(header.page_shift);
        let mut segments = self.elfcorehdr_segments();
        if segments.is_empty() {
            let coverage = self.index.coverage().map_err(FactsError::Index)?;
            segments = segments_of_runs(coverage.into_iter(), page_shift);
        }
        let notes = self.index.notes().to_vec();
        let machine =
            Machine::from_e_machine(header.e_machine).ok_or(FactsError::Machine(header.e_machine))?;
        let info = VmcoreInfo::new(find_vmcoreinfo(&notes).unwrap_or_default());
        Ok(Facts {
            machine,
            page_shift,
            utsname: utsname::of_machine(&header.utsname, machine, &info),
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
            pulled: self.only_asked(),
        })
    }

    fn elfcorehdr_segments(&self) -> Vec<LoadSegment> {
        let bytes = self.index.elfcorehdr();
        let mut read = |pa: u64, buf: &mut [u8]| bytes.read_exactly(pa, buf).is_ok();
        let mut loads = ElfCoreHdr::read(0, &mut read).map(|header| header.loads).unwrap_or_default();
        // What the crashed machine's elfcorehdr has no bytes for was not read.
        loads.iter_mut().for_each(|load| load.p_memsz = load.p_memsz.min(load.p_filesz));
        loads
    }
}

/// The number of a block in the table of all.
fn key((stream, number): (u8, u32)) -> u64 {
    u64::from(stream) * BLOCKS + u64::from(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use codec::CodecId;
    use wire::{BlockHeader, Record};

    fn assembly() -> Assembly {
        let header = SessionHeader {
            e_machine: 62,
            page_shift: 12,
            dump_level: 0,
            crash_time: 1,
            ram_pages: 100,
            utsname: [0; wire::UTSNAME_BYTES],
        };
        Assembly::new(SessionId(1), header, &std::env::temp_dir())
    }

    /// A block of one page, which lies between these cursors of pass 2.
    fn add(assembly: &mut Assembly, number: u32, start: u64, end: u64, word: u64) -> SessionEnd {
        let mut raw = Vec::new();
        Record::Fill { pfn: start, pages: u32::try_from(end - start).unwrap(), word }.encode(&mut raw);
        let cursor = |position| Cursor { pass: 2, position };
        let header = BlockHeader {
            start: cursor(start),
            end: cursor(end),
            codec: CodecId::None,
            filter: codec::Filter::None,
            raw_bytes: u32::try_from(raw.len()).unwrap(),
        };
        let encoded = [&header.encode()[..], &raw].concat();
        let summary = Summary::of(assembly.next_block(), &encoded, 12).unwrap();
        let totals = summary.totals;
        let generation = wire::generation(&encoded);
        assembly.add((0, number), generation, 0, encoded.len(), Some(summary)).unwrap();
        totals
    }

    #[test]
    fn what_is_known_of_a_block_survives_the_table() {
        let totals = SessionEnd {
            pages: 1,
            filled_pages: u64::MAX,
            hole_pages: 3,
            fragments: 4,
            digest: u64::MAX,
            ..SessionEnd::default()
        };
        let (start, end) = (Cursor { pass: 1, position: u64::MAX }, Cursor { pass: 255, position: 7 });
        let said = Some(Said { start, end, totals });
        for known in [
            Known { generation: u32::MAX, said, is_damaged: true },
            Known { generation: 0, said: None, is_damaged: true },
            Known { generation: 0, said, is_damaged: false },
        ] {
            assert_eq!(Known::unpacked(known.packed()), Some(known));
        }
        assert_eq!(Known::unpacked([0; 8]), None);
    }

    #[test]
    fn the_prefix_ends_at_the_first_block_that_is_missing_or_does_not_follow() {
        let mut it = assembly();
        add(&mut it, 0, 0, 4, 0);
        add(&mut it, 2, 8, 9, 0);
        assert_eq!(it.resume_at(), (1, Cursor { pass: 2, position: 4 }));
        assert!(it.has_gaps());
        // Of an earlier run, cut otherwise: memory would be left out between them.
        add(&mut it, 1, 5, 8, 0);
        assert_eq!(it.prefix(), 1);
        add(&mut it, 1, 4, 8, 0);
        assert_eq!(it.resume_at(), (3, Cursor { pass: 2, position: 9 }));
        assert!(!it.has_gaps());
        it.restart(2).unwrap();
        assert_eq!(it.resume_at(), (2, Cursor { pass: 2, position: 8 }));
    }

    #[test]
    fn a_block_that_was_made_again_counts_once() {
        let mut it = assembly();
        add(&mut it, 0, 0, 4, 0);
        add(&mut it, 1, 4, 9, 7);
        it.restart(1).unwrap();
        let of_run = add(&mut it, 1, 4, 10, 7);
        add(&mut it, 1, 4, 10, 7);
        it.end(SessionEnd { blocks: 2, first_block: 1, ..of_run });
        assert!(it.is_complete());
        assert_eq!(it.totals().filled_pages, 4 + 6);
        assert_eq!(it.prefix(), 2);
    }

    #[test]
    fn a_sender_that_stopped_early_leaves_an_incomplete_dump_of_which_all_came() {
        let mut it = assembly();
        let totals = add(&mut it, 0, 0, 4, 0);
        it.end(SessionEnd { blocks: 1, is_cut: true, ..totals });
        assert!(it.has_all() && it.is_cut() && !it.is_complete());
    }

    #[test]
    fn blocks_of_another_run_than_the_end_speaks_of_make_no_complete_dump() {
        let mut it = assembly();
        let first = add(&mut it, 0, 0, 4, 0);
        add(&mut it, 1, 4, 9, 7);
        it.end(SessionEnd { blocks: 2, ..first });
        assert!(!it.is_complete());
        it.end(SessionEnd { blocks: 1, ..first });
        assert!(!it.is_complete());
        it.restart(1).unwrap();
        it.end(SessionEnd { blocks: 1, ..first });
        assert!(it.is_complete());
    }
}
