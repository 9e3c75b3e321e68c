//! What the pages of a dump were used for, by the crashed kernel's own memmap in it.

use std::convert::Infallible;

use ::memory::paging::PageTablesError;
use ::memory::{Classifier, DumpLevel, KernelSpace, MemMap, MemMapError, PageCounts, Pfn, Span};

use super::{Dump, DumpMemory};
use crate::pipeline;

/// Frames that a thread looks at in one go: 128 MiB of memory, whose struct pages are 2 MiB.
const CHUNK_PAGES: u64 = 1 << 15;

/// Frames that are looked at: 64 TiB of memory. More is no machine, but a damaged dump; the rest counts as the kernel's.
const MAX_PAGES: u64 = 1 << 34;

/// Why nobody can tell what the pages of a dump are.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UnknownClasses {
    /// The kernel's page tables cannot be found.
    #[error(transparent)]
    PageTables(#[from] PageTablesError),
    /// The memmap cannot.
    #[error(transparent)]
    MemMap(#[from] MemMapError),
}

/// How many pages of RAM a dump's machine had, by what they were used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// By class.
    pub counts: PageCounts,
    /// Pages that are the kernel's only because nothing else is known of them.
    pub in_doubt: u64,
}

/// Tells `each` the classes of all pages of RAM, in their order, by several threads. What `level` leaves out is not
/// searched for damaged pages.
///
/// # Errors
/// [`UnknownClasses`], before anything is told.
pub fn classify(
    dump: &dyn Dump,
    level: DumpLevel,
    mut each: impl FnMut(Span),
) -> Result<Census, UnknownClasses> {
    let facts = dump.facts();
    let info = facts.vmcoreinfo();
    let memmap = MemMap::find(&info, &KernelSpace::new(DumpMemory::new(dump), facts.machine, &info)?)?;
    let new_classifier = || {
        // What worked a moment ago works again.
        let kernel = KernelSpace::new(DumpMemory::new(dump), facts.machine, &info).ok();
        let mut classifier = Classifier::new(kernel.map(|kernel| (memmap, kernel)), level);
        move |(first, end)| classes_of(&mut classifier, first, end)
    };
    let mut census = Census::default();
    let count = |(spans, in_doubt): (Vec<Span>, u64)| {
        for span in spans {
            census.counts += span;
            each(span);
        }
        census.in_doubt += in_doubt;
        Ok::<_, Infallible>(())
    };
    let Ok(()) = pipeline::in_order(chunks(facts.ram_runs()), new_classifier, count);
    Ok(census)
}

/// The classes of the frames from `first` to `end`, and how many of them are in doubt.
fn classes_of(classifier: &mut Classifier<DumpMemory<'_>>, first: Pfn, end: Pfn) -> (Vec<Span>, u64) {
    let in_doubt_before = classifier.pages_in_doubt();
    let mut spans: Vec<Span> = Vec::new();
    for span in classifier.spans(first, end) {
        match spans.last_mut() {
            Some(last) if last.class == span.class => last.pages += span.pages,
            _ => spans.push(span),
        }
    }
    (spans, classifier.pages_in_doubt() - in_doubt_before)
}

/// Cuts runs of frames where frame numbers are round, so that no struct page is looked at twice.
fn chunks(runs: Vec<(u64, u64)>) -> impl Iterator<Item = (Pfn, Pfn)> {
    let mut left = MAX_PAGES;
    let pieces = runs.into_iter().flat_map(|(first, pages)| {
        let (mut at, end) = (first, first.saturating_add(pages));
        std::iter::from_fn(move || {
            let start = at;
            at = (start / CHUNK_PAGES + 1).saturating_mul(CHUNK_PAGES).min(end);
            (start < at).then_some((Pfn(start), Pfn(at)))
        })
    });
    pieces.take_while(move |(first, end)| {
        let pages = end.0 - first.0;
        let is_within = pages <= left;
        left = left.saturating_sub(pages);
        is_within
    })
}
