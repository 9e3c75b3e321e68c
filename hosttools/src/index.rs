//! Which page is where among the blocks of a session.
//!
//! Blocks are decoded once, independently of each other ([`Summary::of`], on as many threads as there are), and their
//! summaries merged in the order they came ([`PageIndex::add`]). A page that comes twice counts the first time: the
//! early passes repeat pages that a later pass sends again. The index needs 16 bytes a page, but few of them in memory: most
//! are in a file beside the journal.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;

use memory::{PageClass, PageCounts, Pfn, Span};
use wire::{
    Block, BlockError, BlockHeader, MAX_META_TOTAL, MAX_REQUEST_BYTES, MetaKind, Record, Records, SessionEnd,
};

use crate::dump::PageState;
use crate::table::Table;

/// Runs of pages of one word, or that could not be read, have an entry for all of their pages from this length on. Of
/// 64 GiB there are 65,536 such runs at most.
const LONG_PAGES: u32 = 256;

/// Chunks of the table of pages that are in memory: 1 MiB, 256 MiB of the crashed machine's memory.
const CHUNKS_IN_MEMORY: usize = 256;

/// Bytes of a page record before its page: tag and frame number.
const PAGE_HEAD_BYTES: u32 = 8;

/// Where a run of pages is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a block, one page record after the other.
    Block {
        /// Which block, in the order of arrival.
        block: u32,
        /// Where the first page's bytes begin in the decompressed block.
        offset: u32,
    },
    /// Each filled with this word.
    Fill(u64),
    /// Not readable, for this reason.
    Hole(u8),
}

/// A run of pages and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// At least one.
    pub pages: u32,
    /// Where the first is.
    pub place: Place,
}

impl Extent {
    /// Its part from page `skip` on.
    fn skip(self, skip: u32, page_bytes: u32) -> Self {
        let place = match self.place {
            Place::Block { block, offset } => {
                let stride = u64::from(page_bytes + PAGE_HEAD_BYTES);
                let offset = u64::from(offset) + u64::from(skip) * stride;
                Place::Block { block, offset: u32::try_from(offset).unwrap_or(u32::MAX) }
            }
            other => other,
        };
        Self { pages: self.pages.saturating_sub(skip), place }
    }
}

/// Part of a page: where a range of RAM begins or ends inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which block, in the order of arrival.
    pub block: u32,
    /// Where its bytes begin in the decompressed block.
    pub offset: u32,
    /// Less than a page.
    pub bytes: u32,
}

/// What one block says.
pub struct Summary {
    /// The block's own header.
    pub header: BlockHeader,
    /// Counts and digest of its records.
    pub totals: SessionEnd,
    /// Whether it has a record this program cannot read; those behind it are lost.
    pub is_damaged: bool,
    pages: Vec<(u64, Extent)>,
    parts: Vec<(u64, Part)>,
    metas: Vec<(MetaKind, u32, u32, Vec<u8>)>,
}

impl Summary {
    /// Decodes an encoded block, the `block`th that came.
    ///
    /// # Errors
    /// [`BlockError`], if it cannot be decompressed.
    pub fn of(block: u32, encoded: &[u8], page_shift: u32) -> Result<Self, BlockError> {
        let Block { header, raw } = Block::decode(encoded)?;
        let mut summary = Self {
            header,
            totals: SessionEnd::default(),
            is_damaged: false,
            pages: Vec::new(),
            parts: Vec::new(),
            metas: Vec::new(),
        };
        let page_bytes = 1_u32.checked_shl(page_shift).unwrap_or(0);
        for located in Records::new(&raw, page_shift) {
            let Ok(located) = located else {
                summary.is_damaged = true;
                break;
            };
            summary.totals.count(&located.record, located.encoded);
            let start_of = |bytes: &[u8]| {
                u32::try_from(located.offset + located.encoded.len() - bytes.len()).unwrap_or(u32::MAX)
            };
            match located.record {
                Record::Page { pfn, bytes } => {
                    let place = Place::Block { block, offset: start_of(bytes) };
                    summary.push(pfn, Extent { pages: 1, place }, page_bytes);
                }
                Record::Fill { pfn, pages, word } => {
                    summary.push(pfn, Extent { pages, place: Place::Fill(word) }, page_bytes);
                }
                Record::Hole { pfn, pages, reason } => {
                    summary.push(pfn, Extent { pages, place: Place::Hole(reason) }, page_bytes);
                }
                Record::Bytes { pa, bytes } => {
                    let part = Part {
                        block,
                        offset: start_of(bytes),
                        bytes: u32::try_from(bytes.len()).unwrap_or(0),
                    };
                    summary.parts.push((pa, part));
                }
                Record::Meta { kind, offset, total, bytes } => {
                    summary.metas.push((kind, offset, total, bytes.to_vec()));
                }
            }
        }
        Ok(summary)
    }

    /// The pages that this block of the stream of answers is about, if it tells of no others and of no more than anybody
    /// may ask for at once.
    #[must_use]
    pub fn answers(&self, page_shift: u32) -> Option<Range<u64>> {
        let (start, end) = (self.header.start, self.header.end);
        let most = u64::from(MAX_REQUEST_BYTES).checked_shr(page_shift).unwrap_or(0).max(1);
        let pages = start.position..end.position;
        let is_bounded = (start.pass, end.pass) == (0, 0)
            && end.position.checked_sub(start.position).is_some_and(|count| (1..=most).contains(&count));
        let is_inside = |first: u64, last: u64| pages.contains(&first) && pages.contains(&last);
        let are_pages_inside =
            self.pages.iter().all(|(pfn, extent)| is_inside(*pfn, pfn + u64::from(extent.pages) - 1));
        let are_parts_inside = self.parts.iter().all(|(pa, part)| {
            let last = pa.saturating_add(u64::from(part.bytes).saturating_sub(1));
            let pfn = |pa: u64| pa.checked_shr(page_shift).unwrap_or(u64::MAX);
            is_inside(pfn(*pa), pfn(last))
        });
        (is_bounded && are_pages_inside && are_parts_inside).then_some(pages)
    }

    /// Adds a run, joining it to the one before where it goes on.
    fn push(&mut self, pfn: u64, extent: Extent, page_bytes: u32) {
        if let Some((first, last)) = self.pages.last_mut()
            && goes_on((*first, *last), (pfn, extent), page_bytes)
            && let Some(pages) = last.pages.checked_add(extent.pages)
        {
            last.pages = pages;
            return;
        }
        self.pages.push((pfn, extent));
    }
}

/// Whether `next` begins where `run` ends, in memory and in its place.
fn goes_on((first, run): (u64, Extent), next: (u64, Extent), page_bytes: u32) -> bool {
    first + u64::from(run.pages) == next.0 && run.skip(run.pages, page_bytes).place == next.1.place
}

/// Where every page is that the blocks so far have brought.
pub struct PageIndex {
    page_bytes: u32,
    /// Page frame → where it is; see [`packed`].
    pages: Table<2>,
    /// First frame → long run, of pages and of what could not be read. An entry for a page came before the run it is
    /// in. A page that was read another time is a page nevertheless.
    long: BTreeMap<u64, Extent>,
    long_holes: BTreeMap<u64, Extent>,
    /// Physical address → part of a page, and whether it came only because somebody asked for it.
    parts: BTreeMap<u64, (Part, bool)>,
    /// Pages, parts, and runs of pages that could not be read though they belong to the dump.
    came: u64,
    /// Pages, and parts, that only answers to requests have brought so far.
    only_asked: u64,
    elfcorehdr: Meta,
    notes: Meta,
    log: Meta,
    counts: Meta,
}

impl PageIndex {
    /// An empty index for pages of `1 << page_shift` bytes. What does not fit in memory is in a file in `directory`.
    #[must_use]
    pub fn new(page_shift: u32, directory: &Path) -> Self {
        Self {
            page_bytes: 1_u32.checked_shl(page_shift).unwrap_or(0),
            pages: Table::new(directory, CHUNKS_IN_MEMORY),
            long: BTreeMap::new(),
            long_holes: BTreeMap::new(),
            parts: BTreeMap::new(),
            came: 0,
            only_asked: 0,
            elfcorehdr: Meta::default(),
            notes: Meta::default(),
            log: Meta::default(),
            counts: Meta::default(),
        }
    }

    /// Adds what a block says.
    ///
    /// # Errors
    /// Those of the index's file.
    pub fn add(&mut self, summary: Summary) -> io::Result<()> {
        for (pfn, extent) in summary.pages {
            let new = self.insert(pfn, extent)?;
            let is_wanted = match extent.place {
                Place::Hole(reason) => PageState::Hole(reason).is_wanted(),
                Place::Block { .. } | Place::Fill(_) => true,
            };
            self.came += if is_wanted { new } else { 0 };
        }
        for (pa, part) in summary.parts {
            let before = self.parts.get(&pa).copied();
            if before.is_none_or(|(_, is_asked)| is_asked) {
                self.came += 1;
            }
            if before.is_some_and(|(_, is_asked)| is_asked) {
                self.only_asked = self.only_asked.saturating_sub(1);
            }
            let known = before.map_or(part, |(known, _)| known);
            self.parts.insert(pa, (if known.bytes < part.bytes { part } else { known }, false));
        }
        for (kind, offset, total, bytes) in summary.metas {
            match kind {
                MetaKind::Elfcorehdr => self.elfcorehdr.add(offset, total, &bytes),
                MetaKind::Notes => self.notes.add(offset, total, &bytes),
                MetaKind::Log => self.log.add(offset, total, &bytes),
                MetaKind::Counts => self.counts.add(offset, total, &bytes),
            }
        }
        Ok(())
    }

    /// Adds what a block of the stream of answers says: pages, as long as none of the passes has brought them. That one
    /// could not be read when somebody asked for it says nothing of the dump.
    ///
    /// # Errors
    /// Those of the index's file.
    pub fn add_answer(&mut self, summary: Summary) -> io::Result<()> {
        let is_page = |extent: &Extent| !matches!(extent.place, Place::Hole(_));
        for (first, extent) in summary.pages.into_iter().filter(|(_, extent)| is_page(extent)) {
            for (skip, pfn) in (0..extent.pages).zip(first..) {
                if matches!(self.run_at(pfn)?.0, Some(Place::Block { .. } | Place::Fill(_))) {
                    continue;
                }
                let place = extent.skip(skip, self.page_bytes).place;
                self.pages.set(pfn, Entry { place, is_asked: true }.packed())?;
                self.only_asked += 1;
            }
        }
        for (pa, part) in summary.parts {
            self.parts.entry(pa).or_insert_with(|| {
                self.only_asked += 1;
                (part, true)
            });
        }
        Ok(())
    }

    /// Inserts the parts of a run that are not known yet, and tells how many pages those are. Of what answers have brought
    /// it is known from now on that it came in its turn, too.
    fn insert(&mut self, first: u64, extent: Extent) -> io::Result<u64> {
        let is_hole = matches!(extent.place, Place::Hole(_));
        let runs = if is_hole { &mut self.long_holes } else { &mut self.long };
        let is_known = |entry: Entry| !entry.is_asked && (is_hole || !matches!(entry.place, Place::Hole(_)));
        let pieces = uncovered(runs, first, extent.pages);
        let is_long = extent.pages >= LONG_PAGES && !matches!(extent.place, Place::Block { .. });
        let mut new = 0;
        for (at, pages) in pieces {
            if is_long {
                new += u64::from(pages);
                let mut next = at;
                while let Some((page, words)) =
                    self.pages.next(next)?.filter(|(page, _)| page - at < u64::from(pages))
                {
                    next = page + 1;
                    let Some(entry) = Entry::unpacked(words) else { continue };
                    new -= u64::from(is_known(entry));
                    if entry.is_asked && !is_hole {
                        self.only_asked = self.only_asked.saturating_sub(1);
                        self.pages.set(page, Entry { is_asked: false, ..entry }.packed())?;
                    }
                }
                runs.insert(at, Extent { pages, ..extent });
                continue;
            }
            for pfn in at..at + u64::from(pages) {
                let before = Entry::unpacked(self.pages.get(pfn)?);
                if before.is_some_and(is_known) {
                    continue;
                }
                let place = match before {
                    // The page that was read on request stays the page.
                    Some(asked) if asked.is_asked => {
                        if is_hole {
                            continue;
                        }
                        self.only_asked = self.only_asked.saturating_sub(1);
                        asked.place
                    }
                    _ => extent.skip(u32::try_from(pfn - first).unwrap_or(u32::MAX), self.page_bytes).place,
                };
                self.pages.set(pfn, Entry { place, is_asked: false }.packed())?;
                new += 1;
            }
        }
        Ok(new)
    }

    /// How many things it has to keep in memory, each some 50 bytes: long runs, parts of pages, and places of pages that are near
    /// each other.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.pages.chunks() + self.long.len() + self.long_holes.len() + self.parts.len()
    }

    /// Pages that only answers to requests have brought so far; a page in two parts counts for each.
    #[must_use]
    pub fn only_asked(&self) -> u64 {
        self.only_asked
    }

    /// Whether what describes the machine has come whole: the elfcorehdr, and the notes.
    #[must_use]
    pub fn is_described(&self) -> (bool, bool) {
        (self.elfcorehdr.is_whole(), self.notes.is_whole())
    }

    /// How many of the dump's pages have come, in whatever form; a page in two parts counts for each.
    #[must_use]
    pub fn came(&self) -> u64 {
        self.came
    }

    /// The elfcorehdr, as far as it came without a gap.
    #[must_use]
    pub fn elfcorehdr(&self) -> &[u8] {
        self.elfcorehdr.prefix()
    }

    /// The notes, as far as they came without a gap.
    #[must_use]
    pub fn notes(&self) -> &[u8] {
        self.notes.prefix()
    }

    /// The text of the kernel log, as far as it came without a gap, and the bytes of all of it.
    #[must_use]
    pub fn log(&self) -> (&[u8], usize) {
        (self.log.prefix(), self.log.bytes.len())
    }

    /// Pages of RAM by class, once they are counted.
    #[must_use]
    pub fn counts(&self) -> Option<PageCounts> {
        let bytes = self.counts.prefix();
        let mut counts = PageCounts::default();
        for (index, class) in PageClass::ALL.into_iter().enumerate() {
            let pages = u64::from_le_bytes(*bytes.get(8 * index..)?.first_chunk()?);
            counts += Span { first: Pfn(0), pages, class };
        }
        Some(counts)
    }

    /// Where page `pfn` is, and how many pages from it on are in the same place; `None` with the number of pages from
    /// it on that have not come. There may be more of either.
    ///
    /// # Errors
    /// Those of the index's file.
    pub fn run_at(&self, pfn: u64) -> io::Result<(Option<Place>, u64)> {
        let entry = Entry::unpacked(self.pages.get(pfn)?);
        let (long, pages) = run_at(&self.long, pfn);
        match (entry.map(|entry| entry.place), long) {
            (Some(place @ (Place::Block { .. } | Place::Fill(_))), _) => {
                return Ok((Some(place), self.pages_like(pfn, place, u64::MAX)?));
            }
            (Some(hole @ Place::Hole(_)), None) => {
                return Ok((Some(hole), self.pages_like(pfn, hole, pages)?));
            }
            (Some(Place::Hole(_)), Some(_)) | (None, _) => {}
        }
        let next = self.pages.next(pfn.saturating_add(1))?;
        let until_next = next.map_or(u64::MAX, |(next, _)| next - pfn);
        if long.is_some() {
            return Ok((long, pages.min(until_next)));
        }
        let (hole, holes) = run_at(&self.long_holes, pfn);
        Ok((hole, pages.min(holes).min(until_next)))
    }

    /// How many pages from `pfn` on, which is in `place`, are where a run of them would be; no more than `most`.
    fn pages_like(&self, pfn: u64, place: Place, most: u64) -> io::Result<u64> {
        let run = Extent { pages: 1, place };
        let mut pages = 1;
        while pages < most.min(u64::from(LONG_PAGES)) {
            let skip = u32::try_from(pages).unwrap_or(u32::MAX);
            let expected = run.skip(skip, self.page_bytes).place;
            let entry = Entry::unpacked(self.pages.get(pfn.saturating_add(pages))?);
            if entry.is_none_or(|entry| entry.place != expected) {
                break;
            }
            pages += 1;
        }
        Ok(pages)
    }

    /// Runs of pages that came, ascending, touching ones joined: first frame and number.
    ///
    /// # Errors
    /// Those of the index's file.
    pub fn coverage(&self) -> io::Result<Vec<(u64, u64)>> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut at = 0_u64;
        loop {
            let (place, pages) = self.run_at(at)?;
            if matches!(place, Some(Place::Block { .. } | Place::Fill(_))) {
                match runs.last_mut() {
                    Some((first, before)) if *first + *before == at => *before += pages,
                    _ => runs.push((at, pages)),
                }
            }
            match at.checked_add(pages) {
                Some(next) if next < u64::MAX => at = next,
                _ => return Ok(runs),
            }
        }
    }

    /// The parts of pages that begin in the page at physical address `pa`.
    pub fn parts_of_page(&self, pa: u64) -> impl Iterator<Item = (u64, Part)> {
        let end = pa.saturating_add(u64::from(self.page_bytes));
        self.parts.range(pa..end).map(|(&pa, &(part, _))| (pa, part))
    }
}

/// No block is longer than the bits there are for an offset in it.
const OFFSET_MASK: u32 = (1 << 29) - 1;

/// What the table of pages has of a page.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    place: Place,
    /// Only because somebody asked for it.
    is_asked: bool,
}

impl Entry {
    /// The place's kind is in the lowest two bits.
    fn packed(self) -> [u64; 2] {
        let asked = u64::from(self.is_asked) << 2;
        match self.place {
            Place::Block { block, offset } => {
                [u64::from(block) << 32 | u64::from(offset & OFFSET_MASK) << 3 | asked | 1, 0]
            }
            Place::Fill(word) => [asked | 2, word],
            Place::Hole(reason) => [asked | 3, reason.into()],
        }
    }

    /// `None`: no page has come.
    fn unpacked([head, word]: [u64; 2]) -> Option<Self> {
        let [reason, ..] = word.to_le_bytes();
        let place = match head & 3 {
            1 => Place::Block {
                block: u32::try_from(head >> 32).unwrap_or(u32::MAX),
                offset: u32::try_from(head >> 3 & u64::from(OFFSET_MASK)).unwrap_or(0),
            },
            2 => Place::Fill(word),
            3 => Place::Hole(reason),
            _ => return None,
        };
        Some(Self { place, is_asked: head & 4 != 0 })
    }
}

fn run_at(runs: &BTreeMap<u64, Extent>, pfn: u64) -> (Option<Place>, u64) {
    if let Some((first, extent)) = runs.range(..=pfn).next_back()
        && let Some(left) = u64::from(extent.pages).checked_sub(pfn - first).filter(|&left| left > 0)
    {
        return (Some(extent.place), left);
    }
    let next = runs.range(pfn..).next().map_or(u64::MAX, |(&next, _)| next);
    (None, next - pfn)
}

/// The parts of a run that no earlier run covers: first frame and number.
fn uncovered(runs: &BTreeMap<u64, Extent>, first: u64, pages: u32) -> Vec<(u64, u32)> {
    let mut pieces = Vec::new();
    let end = first.saturating_add(u64::from(pages));
    let mut at = first;
    while at < end {
        let (known, pages) = run_at(runs, at);
        let next = at.saturating_add(pages).min(end);
        if known.is_none() {
            pieces.push((at, u32::try_from(next - at).unwrap_or(u32::MAX)));
        }
        at = next;
    }
    pieces
}

/// Something that comes in pieces.
#[derive(Default)]
struct Meta {
    bytes: Vec<u8>,
    has: Vec<bool>,
    /// Bytes from the start on without a gap.
    whole: usize,
}

impl Meta {
    fn add(&mut self, offset: u32, total: u32, piece: &[u8]) {
        let (offset, total) = (offset as usize, total.min(MAX_META_TOTAL) as usize);
        if total > self.bytes.len() {
            self.bytes.resize(total, 0);
            self.has.resize(total, false);
        }
        let places = self.bytes.iter_mut().zip(&mut self.has).skip(offset);
        for ((byte, has), &new) in places.zip(piece) {
            if !std::mem::replace(has, true) {
                *byte = new;
            }
        }
        self.whole += self.has.iter().skip(self.whole).take_while(|&&has| has).count();
    }

    fn is_whole(&self) -> bool {
        !self.bytes.is_empty() && self.whole == self.bytes.len()
    }

    fn prefix(&self) -> &[u8] {
        self.bytes.get(..self.whole).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index() -> PageIndex {
        PageIndex::new(12, &std::env::temp_dir())
    }

    #[test]
    fn neighbouring_pages_of_a_block_are_one_run() {
        let mut index = index();
        let (mut raw, page) = (Vec::new(), [7; 4096]);
        for pfn in 5..15 {
            Record::Page { pfn, bytes: &page }.encode(&mut raw);
        }
        index.add(Summary::of(3, &encoded(&raw), 12).unwrap()).unwrap();
        assert_eq!(index.run_at(6).unwrap(), (Some(Place::Block { block: 3, offset: 8 + 4104 }), 9));
        assert_eq!(index.run_at(0).unwrap(), (None, 5));
        assert_eq!(index.run_at(15).unwrap(), (None, u64::MAX - 15));
    }

    #[test]
    fn a_page_that_was_read_once_is_no_hole() {
        for (pages, hole_pages) in [(1, 10), (300, 10), (1, 300), (300, 400)] {
            for is_hole_first in [true, false] {
                let mut index = index();
                let hole = Record::Hole { pfn: 1, pages: hole_pages, reason: 3 };
                let fill = Record::Fill { pfn: 4, pages, word: 0 };
                for record in if is_hole_first { [hole, fill] } else { [fill, hole] } {
                    let mut raw = Vec::new();
                    record.encode(&mut raw);
                    index.add(Summary::of(0, &encoded(&raw), 12).unwrap()).unwrap();
                }
                let (fills, holes) = (4..4 + u64::from(pages), 1..1 + u64::from(hole_pages));
                let place_of = |pfn| match (fills.contains(&pfn), holes.contains(&pfn)) {
                    (true, _) => Some(Place::Fill(0)),
                    (false, true) => Some(Place::Hole(3)),
                    (false, false) => None,
                };
                for pfn in 0..500 {
                    let (place, same) = index.run_at(pfn).unwrap();
                    assert!(same > 0);
                    for pfn in pfn..pfn.saturating_add(same).min(500) {
                        assert_eq!(place, place_of(pfn), "{pfn}: {pages} pages, {hole_pages} holes");
                    }
                }
            }
        }
    }

    /// A block of one record, and the pages it says it is about.
    fn summary(record: &Record<'_>, pages: Range<u64>) -> Summary {
        let mut raw = Vec::new();
        record.encode(&mut raw);
        let mut summary = Summary::of(7, &encoded(&raw), 12).unwrap();
        (summary.header.start.position, summary.header.end.position) = (pages.start, pages.end);
        summary
    }

    #[test]
    fn a_page_that_was_asked_for_counts_once_its_turn_has_come() {
        let page = [7; 4096];
        let asked = || summary(&Record::Page { pfn: 9, bytes: &page }, 9..10);
        for (pages, is_long) in [(5, false), (300, true)] {
            let mut index = index();
            index.add_answer(asked()).unwrap();
            index.add_answer(asked()).unwrap();
            assert_eq!((index.came(), index.only_asked()), (0, 1));
            let place = Place::Block { block: 7, offset: 8 };
            index.add(summary(&Record::Hole { pfn: 9, pages: 1, reason: 3 }, 0..1)).unwrap();
            assert_eq!(index.run_at(9).unwrap().0, Some(place));
            let before = index.came();
            index.add(summary(&Record::Fill { pfn: 6, pages, word: 1 }, 0..1)).unwrap();
            // What was read on request stays.
            assert_eq!(index.run_at(9).unwrap(), (Some(place), 1), "long: {is_long}");
            assert_eq!(index.run_at(10).unwrap().0, Some(Place::Fill(1)));
            assert_eq!((index.came() - before, index.only_asked()), (u64::from(pages), 0));
            index.add_answer(asked()).unwrap();
            assert_eq!(index.only_asked(), 0);
        }
        let mut index = index();
        index.add_answer(summary(&Record::Hole { pfn: 9, pages: 1, reason: 3 }, 9..10)).unwrap();
        assert_eq!(index.run_at(9).unwrap().0, None);
    }

    #[test]
    fn so_does_a_part_of_a_page() {
        let mut index = index();
        let part = |pa, bytes| summary(&Record::Bytes { pa, bytes }, 9..10);
        index.add_answer(part(0x9000, &[1; 100])).unwrap();
        index.add_answer(part(0x9000, &[1; 100])).unwrap();
        assert_eq!((index.came(), index.only_asked()), (0, 1));
        for _ in 0..2 {
            index.add(part(0x9000, &[1; 100])).unwrap();
            assert_eq!((index.came(), index.only_asked()), (1, 0));
        }
        index.add_answer(part(0x9000, &[1; 100])).unwrap();
        assert_eq!((index.came(), index.only_asked()), (1, 0));
        // What is longer is more.
        index.add(part(0x9000, &[1; 200])).unwrap();
        assert_eq!(
            index.parts_of_page(0x9000).map(|(pa, part)| (pa, part.bytes)).collect::<Vec<_>>(),
            [(0x9000, 200)]
        );
        assert_eq!(index.came(), 1);
    }

    #[test]
    fn an_answer_tells_of_what_it_says_it_is_about() {
        let fill = |pfn, pages| Record::Fill { pfn, pages, word: 1 };
        for (record, about, expected) in [
            (fill(5, 3), 5..8, true),
            (fill(5, 3), 5..7, false),
            (fill(4, 1), 5..8, false),
            (fill(5, 1), 5..21, true),
            (fill(5, 1), 5..22, false),
            (fill(5, 1), Range { start: 6, end: 5 }, false),
            (Record::Bytes { pa: 0x5ff0, bytes: &[1; 16] }, 5..6, true),
            (Record::Bytes { pa: 0x5ff0, bytes: &[1; 16] }, 6..7, false),
        ] {
            let answers = summary(&record, about.clone()).answers(12);
            assert_eq!(answers, expected.then_some(about), "{record:?}");
        }
        let mut of_a_pass = summary(&fill(5, 1), 5..6);
        of_a_pass.header.end.pass = 1;
        assert_eq!(of_a_pass.answers(12), None);
    }

    #[test]
    fn what_describes_the_machine_is_given_up_to_the_first_gap() {
        let mut meta = Meta::default();
        meta.add(0, 10, b"abc");
        meta.add(5, 10, b"fghij");
        assert_eq!(meta.prefix(), b"abc");
        meta.add(3, 10, b"de");
        assert_eq!(meta.prefix(), b"abcdefghij");
    }

    fn encoded(raw: &[u8]) -> Vec<u8> {
        let header = BlockHeader {
            start: wire::Cursor::default(),
            end: wire::Cursor::default(),
            codec: codec::CodecId::None,
            filter: codec::Filter::None,
            raw_bytes: u32::try_from(raw.len()).unwrap(),
        };
        [&header.encode()[..], raw].concat()
    }

    proptest! {
        #[test]
        fn the_first_that_came_counts(runs in prop::collection::vec((0u64..600, prop_oneof![1u32..20, 200u32..400]), 1..20)) {
            let mut index = index();
            let mut model = BTreeMap::new();
            for (word, &(pfn, pages)) in (0..).zip(&runs) {
                let mut raw = Vec::new();
                Record::Fill { pfn, pages, word }.encode(&mut raw);
                index.add(Summary::of(0, &encoded(&raw), 12).unwrap()).unwrap();
                for pfn in pfn..pfn + u64::from(pages) {
                    model.entry(pfn).or_insert(word);
                }
            }
            prop_assert_eq!(index.came(), model.len() as u64);
            for pfn in 0..1100 {
                let (place, pages) = index.run_at(pfn).unwrap();
                prop_assert_eq!(place, model.get(&pfn).map(|&word| Place::Fill(word)));
                prop_assert!(pages > 0);
                for same in pfn..pfn.saturating_add(pages).min(1100) {
                    prop_assert_eq!(model.get(&same), model.get(&pfn));
                }
            }
            let covered: Vec<_> = index.coverage().unwrap().into_iter().flat_map(|(first, pages)| first..first + pages).collect();
            prop_assert_eq!(covered, model.keys().copied().collect::<Vec<_>>());
        }
    }
}
