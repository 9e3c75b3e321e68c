//! Which page is where among the blocks of a session.
//!
//! Blocks are decoded once, independently of each other ([`Summary::of`], on as many threads as there are), and their
//! summaries merged in the order they came ([`PageIndex::add`]). A page that comes twice counts the first time: the
//! early passes repeat pages that a later pass sends again. Neighbouring pages share one entry, so that the index needs
//! some four bytes per page of a usual dump.

use std::collections::BTreeMap;

use memory::{PageClass, PageCounts, Pfn, Span};
use wire::{Block, BlockError, BlockHeader, MAX_META_TOTAL, MetaKind, Record, Records, SessionEnd};

use crate::dump::PageState;

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
    /// First frame → run. Runs do not overlap.
    pages: BTreeMap<u64, Extent>,
    /// Runs that could not be read; a page that was read another time is a page nevertheless.
    holes: BTreeMap<u64, Extent>,
    /// Physical address → part of a page.
    parts: BTreeMap<u64, Part>,
    /// Pages, parts, and runs of pages that could not be read though they belong to the dump.
    came: u64,
    elfcorehdr: Meta,
    notes: Meta,
    log: Meta,
    counts: Meta,
}

impl PageIndex {
    /// An empty index for pages of `1 << page_shift` bytes.
    #[must_use]
    pub fn new(page_shift: u32) -> Self {
        Self {
            page_bytes: 1_u32.checked_shl(page_shift).unwrap_or(0),
            pages: BTreeMap::new(),
            holes: BTreeMap::new(),
            parts: BTreeMap::new(),
            came: 0,
            elfcorehdr: Meta::default(),
            notes: Meta::default(),
            log: Meta::default(),
            counts: Meta::default(),
        }
    }

    /// Adds what a block says.
    pub fn add(&mut self, summary: Summary) {
        for (pfn, extent) in summary.pages {
            let (runs, is_wanted) = match extent.place {
                Place::Hole(reason) => (&mut self.holes, PageState::Hole(reason).is_wanted()),
                Place::Block { .. } | Place::Fill(_) => (&mut self.pages, true),
            };
            let new = insert_uncovered(runs, pfn, extent, self.page_bytes);
            self.came += if is_wanted { new } else { 0 };
        }
        for (pa, part) in summary.parts {
            let known = self.parts.entry(pa).or_insert_with(|| {
                self.came += 1;
                part
            });
            if known.bytes < part.bytes {
                *known = part;
            }
        }
        for (kind, offset, total, bytes) in summary.metas {
            match kind {
                MetaKind::Elfcorehdr => self.elfcorehdr.add(offset, total, &bytes),
                MetaKind::Notes => self.notes.add(offset, total, &bytes),
                MetaKind::Log => self.log.add(offset, total, &bytes),
                MetaKind::Counts => self.counts.add(offset, total, &bytes),
            }
        }
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
    /// it on that have not come.
    #[must_use]
    pub fn run_at(&self, pfn: u64) -> (Option<Place>, u64) {
        let (page, pages) = run_at(&self.pages, pfn, self.page_bytes);
        if page.is_some() {
            return (page, pages);
        }
        let (hole, holes) = run_at(&self.holes, pfn, self.page_bytes);
        (hole, pages.min(holes))
    }

    /// Runs of pages that came, ascending, touching ones joined: first frame and number.
    pub fn coverage(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut runs = self.pages.iter().map(|(&first, extent)| (first, u64::from(extent.pages))).peekable();
        std::iter::from_fn(move || {
            let (first, mut pages) = runs.next()?;
            while let Some((_, more)) = runs.next_if(|(next, _)| *next == first + pages) {
                pages += more;
            }
            Some((first, pages))
        })
    }

    /// The parts of pages that begin in the page at physical address `pa`.
    pub fn parts_of_page(&self, pa: u64) -> impl Iterator<Item = (u64, Part)> {
        let end = pa.saturating_add(u64::from(self.page_bytes));
        self.parts.range(pa..end).map(|(&pa, &part)| (pa, part))
    }
}

fn run_at(runs: &BTreeMap<u64, Extent>, pfn: u64, page_bytes: u32) -> (Option<Place>, u64) {
    if let Some((&first, extent)) = runs.range(..=pfn).next_back()
        && let Ok(skip) = u32::try_from(pfn - first)
        && skip < extent.pages
    {
        let rest = extent.skip(skip, page_bytes);
        return (Some(rest.place), u64::from(rest.pages));
    }
    let next = runs.range(pfn..).next().map_or(u64::MAX, |(&next, _)| next);
    (None, next - pfn)
}

/// Inserts the parts of a run that no earlier run covers, and tells how many pages those are.
fn insert_uncovered(runs: &mut BTreeMap<u64, Extent>, first: u64, extent: Extent, page_bytes: u32) -> u64 {
    let mut new = 0;
    let end = first.saturating_add(u64::from(extent.pages));
    let mut at = first;
    while at < end {
        let (known, pages) = run_at(runs, at, page_bytes);
        let next = at.saturating_add(pages).min(end);
        if known.is_none() {
            new += next - at;
            let skip = u32::try_from(at - first).unwrap_or(u32::MAX);
            let piece = Extent {
                pages: u32::try_from(next - at).unwrap_or(u32::MAX),
                ..extent.skip(skip, page_bytes)
            };
            match runs.range_mut(..at).next_back() {
                Some((&before, run))
                    if goes_on((before, *run), (at, piece), page_bytes)
                        && run.pages.checked_add(piece.pages).is_some() =>
                {
                    run.pages += piece.pages;
                }
                _ => {
                    runs.insert(at, piece);
                }
            }
        }
        at = next;
    }
    new
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

    fn prefix(&self) -> &[u8] {
        self.bytes.get(..self.whole).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neighbouring_pages_of_a_block_share_an_entry() {
        let mut index = PageIndex::new(12);
        let (mut raw, page) = (Vec::new(), [7; 4096]);
        for pfn in 5..15 {
            Record::Page { pfn, bytes: &page }.encode(&mut raw);
        }
        index.add(Summary::of(3, &encoded(&raw), 12).unwrap());
        assert_eq!(index.pages.len(), 1);
        assert_eq!(index.run_at(6), (Some(Place::Block { block: 3, offset: 8 + 4104 }), 9));
        assert_eq!(index.run_at(0), (None, 5));
    }

    #[test]
    fn a_page_that_was_read_once_is_no_hole() {
        let mut index = PageIndex::new(12);
        let mut raw = Vec::new();
        Record::Hole { pfn: 1, pages: 10, reason: 3 }.encode(&mut raw);
        Record::Fill { pfn: 4, pages: 1, word: 0 }.encode(&mut raw);
        index.add(Summary::of(0, &encoded(&raw), 12).unwrap());
        assert_eq!(index.run_at(1), (Some(Place::Hole(3)), 3));
        assert_eq!(index.run_at(4), (Some(Place::Fill(0)), 1));
        assert_eq!(index.run_at(5), (Some(Place::Hole(3)), 6));
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
        fn the_first_that_came_counts(runs in prop::collection::vec((0u64..60, 1u32..20), 1..20)) {
            let mut index = PageIndex::new(12);
            let mut model = BTreeMap::new();
            for (word, &(pfn, pages)) in (0..).zip(&runs) {
                let mut raw = Vec::new();
                Record::Fill { pfn, pages, word }.encode(&mut raw);
                index.add(Summary::of(0, &encoded(&raw), 12).unwrap());
                for pfn in pfn..pfn + u64::from(pages) {
                    model.entry(pfn).or_insert(word);
                }
            }
            prop_assert_eq!(index.came(), model.len() as u64);
            for pfn in 0..100 {
                let (place, pages) = index.run_at(pfn);
                prop_assert_eq!(place, model.get(&pfn).map(|&word| Place::Fill(word)));
                prop_assert!(pages > 0);
                for same in pfn..(pfn + pages).min(100) {
                    prop_assert_eq!(model.get(&same), model.get(&pfn));
                }
            }
            let covered: Vec<_> = index.coverage().flat_map(|(first, pages)| first..first + pages).collect();
            prop_assert_eq!(covered, model.keys().copied().collect::<Vec<_>>());
        }
    }
}
