//! A session as far as it has come, put together block by block.

use std::collections::BTreeMap;

use ::memory::{DumpLevel, PageCounts};
use vmcore::elfcorehdr::{ElfCoreHdr, LoadSegment};
use vmcore::headers::Machine;
use vmcore::notes::find_vmcoreinfo;
use vmcore::vmcoreinfo::VmcoreInfo;
use wire::{Cursor, Pass, SessionEnd, SessionHeader, SessionId};

use super::passes::{self, Came};
use super::{Facts, map_of, segments_of_runs};
use crate::file::ReadAt;
use crate::index::{PageIndex, Summary};
use crate::utsname;

/// Where an encoded block lies in the journal.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockPlace {
    pub(super) offset: u64,
    pub(super) bytes: u32,
}

/// What is known of a block that counts.
#[derive(Clone, Copy, Debug)]
struct Known {
    generation: u32,
    /// `None`: this program cannot read it.
    said: Option<Said>,
    is_damaged: bool,
}

/// What a block says of itself.
#[derive(Clone, Copy, Debug)]
struct Said {
    start: Cursor,
    end: Cursor,
    totals: SessionEnd,
}

/// A session as far as it has come: what the receiver builds while it writes the journal, and a reader from it.
pub struct Assembly {
    session: SessionId,
    header: SessionHeader,
    pub(super) index: PageIndex,
    /// In the order of arrival, those that no longer count too: pages may lie in them.
    places: Vec<BlockPlace>,
    /// Stream and number → the block that counts.
    known: BTreeMap<(u8, u32), Known>,
    /// Blocks of stream 0 from number 0 on that follow one another, and where the next one begins; `None`: the last
    /// of them cannot be read.
    prefix: (u32, Option<Cursor>),
    end: Option<SessionEnd>,
}

impl Assembly {
    /// Of a session that has just begun.
    #[must_use]
    pub fn new(session: SessionId, header: SessionHeader) -> Self {
        Self {
            session,
            index: PageIndex::new(u32::from(header.page_shift)),
            header,
            places: Vec::new(),
            known: BTreeMap::new(),
            prefix: (0, Some(Cursor::START)),
            end: None,
        }
    }

    /// The number the next block has in the order of arrival.
    #[must_use]
    pub fn next_block(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
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
    pub fn add(
        &mut self,
        id: (u8, u32),
        generation: u32,
        offset: u64,
        bytes: usize,
        summary: Option<Summary>,
    ) {
        self.places.push(BlockPlace { offset, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) });
        if self.has(id, generation) {
            return;
        }
        let said = summary.as_ref().map(|summary| Said {
            start: summary.header.start,
            end: summary.header.end,
            totals: summary.totals,
        });
        let is_damaged = summary.as_ref().is_none_or(|summary| summary.is_damaged);
        self.known.insert(id, Known { generation, said, is_damaged });
        if let Some(summary) = summary {
            self.index.add(summary);
        }
        let (stream, number) = id;
        if stream == 0 && number <= self.prefix.0 {
            if number < self.prefix.0 {
                self.prefix = (0, Some(Cursor::START));
            }
            self.extend_prefix();
        }
    }

    /// Whether this block is there already.
    #[must_use]
    pub fn has(&self, id: (u8, u32), generation: u32) -> bool {
        self.known.get(&id).is_some_and(|known| known.generation == generation)
    }

    /// Moves the prefix over the blocks that follow it.
    fn extend_prefix(&mut self) {
        let (mut next, mut at) = self.prefix;
        for (&(_, number), known) in self.known.range((0, next)..=(0, u32::MAX)) {
            // A pass may repeat something; it leaves nothing out. Of a block that cannot be read here the sender has
            // no better one.
            let follows =
                known.said.zip(at).is_none_or(|(said, at)| said.start <= at || said.start.pass > at.pass);
            if number != next || !follows {
                break;
            }
            (next, at) = (next.saturating_add(1), known.said.map(|said| said.end));
        }
        self.prefix = (next, at);
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
        self.known.range((0, self.prefix.0)..=(0, u32::MAX)).next().is_some()
    }

    /// Blocks of stream 0 from `first_block` on are void: they come again. The pages they brought stay.
    pub fn restart(&mut self, first_block: u32) {
        self.known.retain(|&(stream, number), _| stream != 0 || number < first_block);
        if first_block < self.prefix.0 {
            self.prefix = (0, Some(Cursor::START));
            self.extend_prefix();
        }
        self.end = None;
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
        let Some(end) = self.end else { return false };
        let passes = self.known.range((0, 0)..=(0, u32::MAX)).map(|(&(_, number), _)| number);
        let all_came = passes.clone().zip(0..end.blocks).all(|(is, should_be)| is == should_be);
        let blocks = u32::try_from(passes.count()).unwrap_or(u32::MAX);
        let SessionEnd { first_block, is_cut, .. } = end;
        let ours = SessionEnd { blocks, first_block, is_cut, ..self.totals_from(first_block) };
        all_came && end == ours && self.bad_blocks() == 0
    }

    /// How much came of each pass.
    #[must_use]
    pub fn passes(&self) -> Vec<(Pass, Came)> {
        let blocks = self.known.range((0, 0)..=(0, u32::MAX));
        let cursors =
            blocks.map(|(&(_, number), known)| (number, known.said.map(|said| (said.start, said.end))));
        passes::came(cursors, self.end)
    }

    /// What the blocks add up to so far.
    #[must_use]
    pub fn totals(&self) -> SessionEnd {
        self.totals_from(0)
    }

    fn totals_from(&self, first_block: u32) -> SessionEnd {
        let blocks = self.known.range((0, first_block)..=(0, u32::MAX)).map(|(_, known)| known);
        blocks.filter_map(|known| known.said).fold(SessionEnd::default(), |sum, said| SessionEnd {
            pages: sum.pages.saturating_add(said.totals.pages),
            filled_pages: sum.filled_pages.saturating_add(said.totals.filled_pages),
            hole_pages: sum.hole_pages.saturating_add(said.totals.hole_pages),
            fragments: sum.fragments.saturating_add(said.totals.fragments),
            digest: sum.digest.wrapping_add(said.totals.digest),
            ..sum
        })
    }

    /// Blocks that this program could not read, wholly or in part.
    #[must_use]
    pub fn bad_blocks(&self) -> usize {
        self.known.values().filter(|known| known.is_damaged).count()
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
        self.places.iter().map(|place| u64::from(place.bytes)).sum()
    }

    pub(super) fn place(&self, block: u32) -> Option<BlockPlace> {
        self.places.get(usize::try_from(block).ok()?).copied()
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

    fn elfcorehdr_segments(&self) -> Vec<LoadSegment> {
        let bytes = self.index.elfcorehdr();
        let mut read = |pa: u64, buf: &mut [u8]| bytes.read_exactly(pa, buf).is_ok();
        let mut loads = ElfCoreHdr::read(0, &mut read).map(|header| header.loads).unwrap_or_default();
        // What the crashed machine's elfcorehdr has no bytes for was not read.
        loads.iter_mut().for_each(|load| load.p_memsz = load.p_memsz.min(load.p_filesz));
        loads
    }
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
        Assembly::new(SessionId(1), header)
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
        assembly.add((0, number), generation, 0, encoded.len(), Some(summary));
        totals
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
        it.restart(2);
        assert_eq!(it.resume_at(), (2, Cursor { pass: 2, position: 8 }));
    }

    #[test]
    fn a_block_that_was_made_again_counts_once() {
        let mut it = assembly();
        add(&mut it, 0, 0, 4, 0);
        add(&mut it, 1, 4, 9, 7);
        it.restart(1);
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
        it.restart(1);
        it.end(SessionEnd { blocks: 1, ..first });
        assert!(it.is_complete());
    }
}
