//! A dump with less in it: what a dump level leaves out is excluded.

use ::memory::{DumpLevel, PageClass, Span};

use super::{Assembly, Census, Dump, Facts, PageReader, PageState, UnknownClasses, classify};
use crate::Error;

/// A dump without the pages that a dump level leaves out. How its zero pages are kept is the writer's business.
pub struct Filtered<'a> {
    dump: &'a dyn Dump,
    facts: Facts,
    /// Pages that the level leaves out.
    left_out: Frames,
    /// Pages that were never to be in the dump: they are not missing.
    never_wanted: Frames,
    census: Result<Census, UnknownClasses>,
}

impl<'a> Filtered<'a> {
    /// `dump` without what `level` leaves out. If nobody can tell what its pages are, they are all kept, and
    /// [`Self::census`] says why.
    #[must_use]
    pub fn new(dump: &'a dyn Dump, level: DumpLevel) -> Self {
        Self::with(dump, level, |class| !level.keeps(class))
    }

    /// `dump` with all that came, if it is not complete: of its missing pages those are excluded that its own level leaves
    /// out, as far as its memmap came.
    #[must_use]
    pub fn incomplete(dump: &'a dyn Dump) -> Option<Self> {
        let facts = dump.facts();
        let is_filtered = !facts.is_complete && facts.dump_level != 0;
        is_filtered.then(|| Self::with(dump, DumpLevel::ALL, |_| false))
    }

    fn with(dump: &'a dyn Dump, level: DumpLevel, leaves_out: impl Fn(PageClass) -> bool) -> Self {
        let mut facts = dump.facts().clone();
        let both = DumpLevel::new(facts.dump_level | level.number()).unwrap_or(level);
        let (mut left_out, mut never_wanted) = (Frames::default(), Frames::default());
        let census = classify(dump, level, |span| {
            if leaves_out(span.class) {
                left_out.push(span);
            } else if !facts.is_complete && !both.keeps(span.class) {
                never_wanted.push(span);
            }
        });
        if level != DumpLevel::ALL {
            // They may be among those that are left out now.
            facts.pulled = 0;
        }
        facts.dump_level |= if census.is_ok() { level.number() } else { level.number() & DumpLevel::ZERO };
        Self { dump, facts, left_out, never_wanted, census }
    }

    /// What the dump's machine used its pages for; or why nobody can tell, and all pages are kept.
    ///
    /// # Errors
    /// Why nobody can tell.
    pub fn census(&self) -> Result<Census, &UnknownClasses> {
        self.census.as_ref().copied()
    }
}

impl Dump for Filtered<'_> {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn state_at(&self, pfn: u64) -> Result<(PageState, u64), Error> {
        let (is_left_out, pages) = self.left_out.at(pfn);
        if is_left_out {
            return Ok((PageState::Excluded, pages));
        }
        let (state, same) = self.dump.state_at(pfn)?;
        let pages = same.min(pages);
        if state != PageState::Missing {
            return Ok((state, pages));
        }
        let (is_never_wanted, same) = self.never_wanted.at(pfn);
        Ok((if is_never_wanted { PageState::Excluded } else { state }, pages.min(same)))
    }

    fn session(&self) -> Option<&Assembly> {
        self.dump.session()
    }

    fn reader(&self) -> Box<dyn PageReader + '_> {
        self.dump.reader()
    }
}

/// A set of frames: runs of first and one past the last, ascending, not touching.
#[derive(Default)]
struct Frames(Vec<(u64, u64)>);

impl Frames {
    /// Adds frames behind all others.
    fn push(&mut self, span: Span) {
        let (first, end) = (span.first.0, span.end().0);
        match self.0.last_mut() {
            Some(last) if last.1 == first => last.1 = end,
            _ => self.0.push((first, end)),
        }
    }

    /// Whether `pfn` is one of them, and of how many frames from it on the same is true.
    fn at(&self, pfn: u64) -> (bool, u64) {
        let behind = self.0.partition_point(|&(_, end)| end <= pfn);
        match self.0.get(behind) {
            Some(&(first, end)) if first <= pfn => (true, end - pfn),
            Some(&(first, _)) => (false, first - pfn),
            None => (false, u64::MAX - pfn),
        }
    }
}
