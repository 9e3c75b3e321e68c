//! The walk over the memmap.

use alloc::vec;
use alloc::vec::Vec;

use super::array::LastSection;
use super::layout::{Block, MAX_COMPOUND_ORDER, MAX_PAGE_BYTES};
use super::slab::SlabCaches;
use super::{MemMap, PageClass, REGION_PAGES, Span};
use crate::virt::Lookaside;
use crate::{DumpLevel, KernelSpace, Pfn, PhysMemory};

/// Frames in a span at most when there is no memmap to look at.
const SPAN_PAGES_WITHOUT_MEMMAP: u64 = 4096;

/// What struct pages are filled with that cannot be read: like those the kernel never set up, they say nothing.
const UNREADABLE: u8 = 0xff;

/// Tells the class of every frame.
///
/// It looks at a region of 512 frames, aligned to that, at a time, and what it finds in one depends on nothing it saw
/// before: wherever a walk begins, it gives the same classes. It owns one buffer, for the struct pages of a region.
///
/// What a dump leaves out is not looked into: damaged frames inside of a free block, or of a large page of a process,
/// count as free or as the process's unless `level` keeps them.
#[derive(Debug)]
pub struct Classifier<M> {
    source: Option<Source<M>>,
    level: DumpLevel,
    /// The region that `classes` is of, by its first frame.
    region: Option<Pfn>,
    classes: Classes,
    pages_in_doubt: u64,
}

/// What the frames of a region are; `None` if nobody can tell.
type Classes = [Option<PageClass>; REGION_PAGES];

/// The memmap, and what is kept from one region to the next.
#[derive(Debug)]
struct Source<M> {
    memmap: MemMap,
    kernel: KernelSpace<M>,
    /// Struct pages of the region.
    pages: Vec<u8>,
    section: LastSection,
    near: Lookaside,
    /// For what is not beside the region's struct pages.
    far: Lookaside,
    /// Whether the last region was one block, so that its struct pages were not read.
    was_skipped: bool,
    /// What the struct page of the last region's first frame says, and which frame that is.
    last_head: Option<(Pfn, Option<Block>)>,
}

impl<M: PhysMemory> Classifier<M> {
    /// A classifier of the frames that `memmap` and the kernel's memory tell of; without these every frame is
    /// [`PageClass::Kernel`].
    #[must_use]
    pub fn new(memmap: Option<(MemMap, KernelSpace<M>)>, level: DumpLevel) -> Self {
        let source = memmap.map(|(memmap, kernel)| Source {
            memmap,
            kernel,
            pages: vec![0; memmap.layout.page_bytes * REGION_PAGES],
            section: LastSection::default(),
            near: Lookaside::default(),
            far: Lookaside::default(),
            was_skipped: false,
            last_head: None,
        });
        Self { source, level, region: None, classes: [None; REGION_PAGES], pages_in_doubt: 0 }
    }

    /// All frames from `pfn` to `end`, for who has no line to look after in between.
    pub fn spans(&mut self, pfn: Pfn, end: Pfn) -> impl Iterator<Item = Span> {
        let mut at = pfn;
        core::iter::from_fn(move || {
            let span = (at < end).then(|| self.span(at, end))?;
            at = span.end();
            Some(span)
        })
    }

    /// The frames of one class from `pfn` on: some, and none from `end` on. There may be more of the class behind them: a
    /// call looks at 512 struct pages at most, so that the caller can look after a line in between.
    pub fn span(&mut self, pfn: Pfn, end: Pfn) -> Span {
        let left = end.0.saturating_sub(pfn.0);
        let (class, pages) = match &mut self.source {
            None => (None, left.min(SPAN_PAGES_WITHOUT_MEMMAP)),
            Some(source) => {
                let index = pfn.0 % REGION_PAGES as u64;
                let region = Pfn(pfn.0 - index);
                if self.region != Some(region) {
                    source.classify(region, self.level, &mut self.classes);
                    self.region = Some(region);
                }
                let behind = usize::try_from(index).ok().and_then(|index| self.classes.get(index..));
                let behind = behind.unwrap_or_default();
                let class = behind.first().copied().flatten();
                let same = behind.iter().position(|other| *other != class).unwrap_or(behind.len());
                (class, left.min(same as u64))
            }
        };
        if class.is_none() {
            self.pages_in_doubt = self.pages_in_doubt.saturating_add(pages);
        }
        Span { first: pfn, pages, class: class.unwrap_or(PageClass::Kernel) }
    }

    /// How many frames of the spans given so far are [`PageClass::Kernel`] only because nothing is known of them: they
    /// have no struct page, or it cannot be read, or makes no sense.
    #[must_use]
    pub const fn pages_in_doubt(&self) -> u64 {
        self.pages_in_doubt
    }
}

impl<M: PhysMemory> Classifier<M> {
    /// The frames that hold the struct pages of the region of `pfn`; `None` if they cannot be found.
    pub fn memmap_frames(&mut self, pfn: Pfn) -> Option<(Pfn, Pfn)> {
        let Source { memmap, kernel, section, far, .. } = self.source.as_mut()?;
        let region = Pfn(pfn.0 - pfn.0 % REGION_PAGES as u64);
        let va = memmap.array.place_of(kernel, far, section, region)?;
        let bytes = (memmap.layout.page_bytes * REGION_PAGES) as u64;
        let first = kernel.mapping(va).ok()?.place_of(va)?.0;
        let last = kernel.mapping(va.checked_add(bytes - 1)?).ok()?.place_of(va.checked_add(bytes - 1)?)?.0;
        let (first, last) = (first.pfn(memmap.layout.page_shift), last.pfn(memmap.layout.page_shift));
        // Where they do not lie together, the first says where some of them are.
        let end = if first <= last && last.0 - first.0 <= bytes { last } else { first };
        Some((first, Pfn(end.0.saturating_add(1))))
    }

    /// Whether a frame's own struct page says that the frame is damaged: where `level` leaves pages out, [`Self::span`] does not
    /// look for it.
    pub fn is_poisoned(&mut self, pfn: Pfn) -> bool {
        let Some(source) = &mut self.source else { return false };
        let mut pair = [0; 2 * MAX_PAGE_BYTES];
        let pair = source.read_pair(pfn, &mut pair);
        source.memmap.layout.is_poisoned(pair)
    }

    /// Whether the slab page `pfn`, which [`Self::span`] has just told of, is of one of the caches that `names` looks for.
    pub fn is_of(&mut self, names: &mut SlabCaches, pfn: Pfn) -> bool {
        let Some(source) = &mut self.source else { return false };
        let index = usize::try_from(pfn.0 % REGION_PAGES as u64).unwrap_or(0);
        let page_bytes = source.memmap.layout.page_bytes;
        let page = source.pages.get(index * page_bytes..(index + 1) * page_bytes).unwrap_or_default();
        if source.memmap.layout.is_tail(page) {
            return names.last_is_wanted();
        }
        names.is_wanted(&source.kernel, page)
    }
}

impl<M: PhysMemory> Source<M> {
    /// Finds the classes of a region.
    fn classify(&mut self, region: Pfn, level: DumpLevel, classes: &mut Classes) {
        let is_image = self.memmap.image.has_data_in(region, REGION_PAGES as u64);
        let left_out = |block: Option<Block>| {
            let block = block.filter(|block| block.pages >= REGION_PAGES as u64 && !is_image)?;
            (!level.keeps(block.class)).then_some(block.class)
        };
        let mut block = self.block_from_before(region, self.memmap.layout.max_free_order());
        // One large block is often followed by another one.
        if block.is_none() && self.was_skipped {
            let mut pair = [0; 2 * MAX_PAGE_BYTES];
            let pair = self.read_pair(region, &mut pair);
            block = self.first_block(region, pair);
        }
        let is_read = left_out(block).is_none();
        if is_read {
            self.read_region(region);
            if block.is_none() {
                let mut pair = [0; 2 * MAX_PAGE_BYTES];
                let pair = pair.get_mut(..2 * self.memmap.layout.page_bytes).unwrap_or_default();
                pair.copy_from_slice(self.pages.get(..pair.len()).unwrap_or_default());
                block = self.first_block(region, pair);
            }
        }
        self.was_skipped = left_out(block).is_some();
        if let Some(class) = left_out(block) {
            classes.fill(Some(class));
            return;
        }
        let layout = &self.memmap.layout;
        let mut at = 0;
        while at < REGION_PAGES {
            let pages = block.map_or(1, |block| usize::try_from(block.pages).unwrap_or(REGION_PAGES).max(1));
            let end = at.saturating_add(pages).min(REGION_PAGES);
            let class = block.map(|block| block.class);
            let is_searched = pages > 1 && class.is_some_and(|class| level.keeps(class));
            for (index, place) in (at..end).zip(classes.get_mut(at..end).unwrap_or_default()) {
                let is_poisoned = is_searched && layout.is_poisoned(self.pages_from(index));
                *place = if is_poisoned { Some(PageClass::HwPoison) } else { class };
            }
            at = end;
            block = layout.block(frame(region, at), self.pages_from(at));
        }
        if is_image {
            self.guard_image(region, classes);
        }
    }

    /// What the region begins with: a block of its own, or a compound page from before. `pair` are its first struct pages.
    fn first_block(&mut self, region: Pfn, pair: &[u8]) -> Option<Block> {
        let layout = &self.memmap.layout;
        let may_have_head_before = layout.may_have_head_before(region, pair);
        let own = layout.block(region, pair);
        self.last_head = Some((region, own));
        let before =
            if may_have_head_before { self.block_from_before(region, MAX_COMPOUND_ORDER) } else { None };
        before.or(own)
    }

    /// The block that begins before the region and reaches into it, as far as it does. Blocks are aligned to their size,
    /// so there are few places where it can begin.
    fn block_from_before(&mut self, region: Pfn, max_order: u32) -> Option<Block> {
        let mut tried = region;
        for order in REGION_PAGES.ilog2() + 1..=max_order {
            let head = Pfn(region.0 & !((1 << order) - 1));
            if head == tried {
                continue;
            }
            tried = head;
            let Some(block) = self.block_at(head) else { continue };
            let end = head.0.saturating_add(block.pages);
            if end > region.0 {
                return Some(Block { class: block.class, pages: end - region.0 });
            }
        }
        None
    }

    /// What the struct page of a region's first frame says.
    fn block_at(&mut self, head: Pfn) -> Option<Block> {
        if let Some((last, block)) = self.last_head
            && last == head
        {
            return block;
        }
        let mut pair = [0; 2 * MAX_PAGE_BYTES];
        let pair = self.read_pair(head, &mut pair);
        self.memmap.layout.block(head, pair)
    }

    /// The struct page of a frame and the one behind it; [`UNREADABLE`] if they cannot be read.
    fn read_pair<'b>(&mut self, pfn: Pfn, pair: &'b mut [u8; 2 * MAX_PAGE_BYTES]) -> &'b [u8] {
        let pair = pair.get_mut(..2 * self.memmap.layout.page_bytes).unwrap_or_default();
        let place = self.memmap.array.place_of(&self.kernel, &mut self.far, &mut self.section, pfn);
        let is_read = place.is_some_and(|va| self.far.read(&self.kernel, va, pair).is_ok());
        if !is_read {
            pair.fill(UNREADABLE);
        }
        pair
    }

    /// Reads the struct pages of a region; [`UNREADABLE`] where they cannot be read.
    fn read_region(&mut self, region: Pfn) {
        let place = self.memmap.array.place_of(&self.kernel, &mut self.far, &mut self.section, region);
        let Some(start) = place else {
            self.pages.fill(UNREADABLE);
            return;
        };
        if self.near.read(&self.kernel, start, &mut self.pages).is_ok() {
            return;
        }
        let page_bytes = self.memmap.layout.page_bytes;
        for index in 0..REGION_PAGES {
            let offset = index * page_bytes;
            let Some(page) = self.pages.get_mut(offset..offset + page_bytes) else { return };
            let va = start.checked_add(offset as u64);
            if va.is_none_or(|va| self.near.read(&self.kernel, va, page).is_err()) {
                page.fill(UNREADABLE);
            }
        }
    }

    /// The struct pages of the region from `index` on; none behind its end.
    fn pages_from(&self, index: usize) -> &[u8] {
        self.pages.get(index * self.memmap.layout.page_bytes..).unwrap_or_default()
    }

    /// Keeps the kernel image's data, whatever its struct pages say; but not what the kernel gave to its page allocator.
    fn guard_image(&self, region: Pfn, classes: &mut Classes) {
        for (index, class) in classes.iter_mut().enumerate() {
            if matches!(class, Some(PageClass::HwPoison | PageClass::Offline)) {
                continue;
            }
            let is_data = self.memmap.image.has_data_in(frame(region, index), 1);
            if is_data && self.memmap.layout.is_reserved(self.pages_from(index)) {
                *class = Some(PageClass::Kernel);
            }
        }
    }
}

/// The frame at an index of a region.
const fn frame(region: Pfn, index: usize) -> Pfn {
    Pfn(region.0.saturating_add(index as u64))
}
