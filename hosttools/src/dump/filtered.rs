//! A dump with less in it: what a dump level leaves out is excluded.

use ::memory::DumpLevel;

use super::{Assembly, Census, Dump, Facts, PageReader, PageState, UnknownClasses, classify};
use crate::Error;

/// A dump without the pages that a dump level leaves out. How its zero pages are kept is the writer's business.
pub struct Filtered<'a> {
    dump: &'a dyn Dump,
    facts: Facts,
    /// Frames that the level leaves out: first, and one past the last; ascending, not touching.
    left_out: Vec<(u64, u64)>,
    census: Result<Census, UnknownClasses>,
}

impl<'a> Filtered<'a> {
    /// `dump` without what `level` leaves out. If nobody can tell what its pages are, they are all kept, and
    /// [`Self::census`] says why.
    #[must_use]
    pub fn new(dump: &'a dyn Dump, level: DumpLevel) -> Self {
        let mut left_out: Vec<(u64, u64)> = Vec::new();
        let census = classify(dump, level, |span| {
            if level.keeps(span.class) {
                return;
            }
            let (first, end) = (span.first.0, span.end().0);
            match left_out.last_mut() {
                Some(last) if last.1 == first => last.1 = end,
                _ => left_out.push((first, end)),
            }
        });
        let obeyed = if census.is_ok() { level.number() } else { level.number() & DumpLevel::ZERO };
        let mut facts = dump.facts().clone();
        facts.dump_level |= obeyed;
        Self { dump, facts, left_out, census }
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
        let index = self.left_out.partition_point(|&(_, end)| end <= pfn);
        let next = self.left_out.get(index);
        if let Some(&(_, end)) = next.filter(|&&(first, _)| first <= pfn) {
            return Ok((PageState::Excluded, end - pfn));
        }
        let (state, same) = self.dump.state_at(pfn)?;
        Ok((state, next.map_or(same, |&(first, _)| same.min(first - pfn))))
    }

    fn session(&self) -> Option<&Assembly> {
        self.dump.session()
    }

    fn reader(&self) -> Box<dyn PageReader + '_> {
        self.dump.reader()
    }
}
