//! Neighbouring pages of one word, and neighbouring holes, become one record.

use wire::Record;

/// Pages that may become part of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    what: Kind,
    pfn: u64,
    pages: u32,
}

/// What is the same on all pages of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Filled with this word.
    Fill(u64),
    /// Not readable, for this reason.
    Hole(u8),
}

impl Run {
    pub(crate) const fn new(what: Kind, pfn: u64) -> Self {
        Self { what, pfn, pages: 1 }
    }

    /// Joins the run of one page that `next` is to this one, if it follows at once.
    pub(crate) fn join(&mut self, next: &Self) -> bool {
        let follows = self.what == next.what && self.end() == next.pfn;
        if follows && let Some(pages) = self.pages.checked_add(next.pages) {
            self.pages = pages;
            return true;
        }
        false
    }

    /// The frame behind the last one.
    pub(crate) const fn end(&self) -> u64 {
        self.pfn + self.pages as u64
    }

    pub(crate) const fn record(&self) -> Record<'static> {
        let Self { pfn, pages, .. } = *self;
        match self.what {
            Kind::Fill(word) => Record::Fill { pfn, pages, word },
            Kind::Hole(reason) => Record::Hole { pfn, pages, reason },
        }
    }
}

/// The 64-bit word that `page` consists of, if it is one word all over.
pub(crate) fn fill_word(page: &[u8]) -> Option<u64> {
    let (words, rest) = page.as_chunks::<8>();
    let first = words.first()?;
    (rest.is_empty() && words.iter().all(|word| word == first)).then(|| u64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_equal_neighbours_join() {
        let mut run = Run::new(Kind::Fill(0), 10);
        assert!(run.join(&Run::new(Kind::Fill(0), 11)));
        assert!(!run.join(&Run::new(Kind::Fill(0), 13)));
        assert!(!run.join(&Run::new(Kind::Fill(1), 12)));
        assert!(!run.join(&Run::new(Kind::Hole(0), 12)));
        assert_eq!(run.record(), Record::Fill { pfn: 10, pages: 2, word: 0 });
    }

    #[test]
    fn a_page_is_filled_only_if_every_word_is_the_same() {
        let mut page = [0xcc; 4096];
        assert_eq!(fill_word(&page), Some(0xcccc_cccc_cccc_cccc));
        page[4095] = 0;
        assert_eq!(fill_word(&page), None);
        assert_eq!(fill_word(&[1, 2, 3]), None);
    }
}
