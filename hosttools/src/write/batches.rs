//! Runs of pages cut in batches: enough work at once for a thread, little enough to hold several.

use crate::dump::Run;

/// Pages read and compressed at once.
pub(super) const BATCH_PAGES: u64 = 256;

/// Runs in a batch at most: where memory is in pieces, most of them need no work.
const BATCH_RUNS: usize = 512;

/// Cuts `runs` in batches of at most [`BATCH_PAGES`] pages whose bytes the dump has (others need no work: any number),
/// all pages in their order.
pub(super) fn batches(mut runs: impl Iterator<Item = Run>) -> impl Iterator<Item = Vec<Run>> {
    let mut left_over: Option<Run> = None;
    std::iter::from_fn(move || {
        let mut batch = Vec::new();
        let mut room = BATCH_PAGES;
        while room > 0
            && batch.len() < BATCH_RUNS
            && let Some(run) = left_over.take().or_else(|| runs.next())
        {
            if !run.state.is_present() {
                batch.push(run);
                continue;
            }
            let pages = run.pages.min(room);
            batch.push(Run { pages, ..run });
            room -= pages;
            if pages < run.pages {
                left_over = Some(Run { first: run.first + pages, pages: run.pages - pages, ..run });
            }
        }
        (!batch.is_empty()).then_some(batch)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::PageState;

    #[test]
    fn every_page_is_in_one_batch_in_order() {
        let run = |first, pages, state| Run { first, pages, state };
        let runs = [
            run(0, 1000, PageState::Data),
            run(1000, 1 << 40, PageState::Missing),
            run(1 << 41, 3, PageState::Filled(0)),
        ];
        let all: Vec<Vec<Run>> = batches(runs.iter().copied()).collect();
        assert_eq!(all.len(), 4);
        let mut joined: Vec<Run> = Vec::new();
        for piece in all.iter().flatten() {
            match joined.last_mut() {
                Some(last) if last.first + last.pages == piece.first && last.state == piece.state => {
                    last.pages += piece.pages;
                }
                _ => joined.push(*piece),
            }
        }
        assert_eq!(joined, runs);
        for batch in all {
            let present: u64 = batch.iter().filter(|run| run.state.is_present()).map(|run| run.pages).sum();
            assert!(present <= BATCH_PAGES);
        }
    }
}
