//! Which page a reader will want next, by those it has read.
//!
//! crash(8) reads what it looks at object by object, and each in pieces that end where pages do: a task_struct of 9 KiB is
//! a piece up to the end of its first page, then whole pages, then a piece from the start of its last one. So a piece
//! that ends before its page does is the last of its object, and a whole page that nothing led to (a page table, most
//! often) is one too. A page that is asked for in vain costs the line as much as one that somebody waits for.

use std::collections::VecDeque;

/// Pages whose reading is remembered: those of a few objects.
const MAX_RECENT: usize = 64;

/// A run as long as this has proved itself: two pages ahead of it are worth asking for.
const LONG_RUN: u32 = 4;

/// The pages that were read last.
#[derive(Default)]
pub(super) struct Neighbours {
    /// A page, and how many pages up to it were read one after the other. Latest last.
    recent: VecDeque<(u64, u32)>,
}

impl Neighbours {
    /// Takes note of a read of `bytes` (not 0) bytes at `pa`: the pages that are likely to be wanted next, most likely first.
    pub(super) fn read(&mut self, pa: u64, bytes: u64, page_bytes: u64) -> impl Iterator<Item = u64> + use<> {
        let end = pa.saturating_add(bytes);
        let (first, last) = (pa / page_bytes, end.saturating_sub(1) / page_bytes);
        let run_of = |page: u64| self.recent.iter().find(|(read, _)| *read == page).map(|(_, run)| *run);
        let before = first.checked_sub(1).and_then(run_of).unwrap_or(0);
        let pages = u32::try_from(last - first + 1).unwrap_or(u32::MAX);
        let run = before.saturating_add(pages).max(run_of(last).unwrap_or(0));
        self.recent.retain(|(page, _)| *page != last);
        if self.recent.len() >= MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((last, run));
        let is_lone_page = run == 1 && pa.is_multiple_of(page_bytes);
        let goes_on = end.is_multiple_of(page_bytes) && !is_lone_page;
        let ahead = if !goes_on {
            0
        } else if run >= LONG_RUN {
            2
        } else {
            1
        };
        (1..=ahead).map(move |step| last.saturating_add(step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;

    /// What is expected after each of these reads.
    fn after(reads: &[(u64, u64)]) -> Vec<Vec<u64>> {
        let mut neighbours = Neighbours::default();
        reads.iter().map(|&(pa, bytes)| neighbours.read(pa, bytes, PAGE).collect()).collect()
    }

    #[test]
    fn of_an_object_that_goes_on_the_next_page_is_expected_up_to_its_last() {
        let task = 0x7_1a40;
        let reads = [(task, 0x5c0), (0x7_2000, PAGE), (0x7_3000, PAGE), (0x7_4000, 0x400)];
        assert_eq!(after(&reads), [vec![0x72], vec![0x73], vec![0x74], vec![]]);
    }

    #[test]
    fn a_lone_page_and_a_small_piece_lead_nowhere() {
        assert_eq!(
            after(&[(0x5000, PAGE), (0x9010, 8), (0x5000, PAGE), (0x5000, 8)]),
            vec![Vec::<u64>::new(); 4]
        );
    }

    #[test]
    fn a_long_run_is_worth_two_pages() {
        let reads: Vec<(u64, u64)> = (0..5).map(|page| (page * PAGE, PAGE)).collect();
        assert_eq!(after(&reads), [vec![], vec![2], vec![3], vec![4, 5], vec![5, 6]]);
        // In one read, too.
        assert_eq!(after(&[(0, 8 * PAGE)]), [vec![8, 9]]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut neighbours = Neighbours::default();
        for page in 0..10_000 {
            let _ = neighbours.read(page * 2 * PAGE, 8, PAGE);
            assert!(neighbours.recent.len() <= MAX_RECENT);
        }
        assert_eq!(neighbours.read(u64::MAX - 1, u64::MAX, PAGE).count(), 0);
    }
}
