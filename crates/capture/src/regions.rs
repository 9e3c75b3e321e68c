//! Which frames are the kernel image and the memmap: what the late passes tell apart, besides classes.

use alloc::vec::Vec;

use memory::Pfn;

/// Runs that are remembered. An image has one to three, a memmap one or two for each NUMA node; what is beyond is sent
/// with the other pages of the kernel.
const MAX_RUNS: usize = 512;

/// What frames of [`memory::PageClass::Kernel`] are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Region {
    /// The image's .data and .bss.
    Data,
    /// The image's read-only data.
    ReadOnly,
    /// The image's text.
    Text,
    /// The array of struct page.
    MemMap,
    /// Anything else.
    Other,
}

/// Runs of frames, ascending, none twice.
#[derive(Debug, Default)]
pub(crate) struct Regions(Vec<Run>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: Pfn,
    end: Pfn,
    region: Region,
}

impl Regions {
    /// With all the memory it will ever take.
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(MAX_RUNS))
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds frames, but for those that are in a region already.
    pub(crate) fn add(&mut self, first: Pfn, end: Pfn, region: Region) {
        let at = self.0.partition_point(|run| run.end <= first);
        let next = self.0.get(at).map_or(Pfn(u64::MAX), |run| run.first);
        let end = end.min(next);
        if first >= end {
            return;
        }
        let joins_next = self.0.get_mut(at).filter(|run| run.first == end && run.region == region);
        if let Some(run) = joins_next {
            run.first = first;
            return;
        }
        let before = at.checked_sub(1).and_then(|before| self.0.get_mut(before));
        if let Some(run) = before.filter(|run| run.end == first && run.region == region) {
            run.end = end;
        } else if self.0.len() < MAX_RUNS {
            self.0.insert(at, Run { first, end, region });
        }
    }

    /// What `pfn` is, and where that ends.
    pub(crate) fn at(&self, pfn: Pfn) -> (Region, Pfn) {
        let at = self.0.partition_point(|run| run.end <= pfn);
        match self.0.get(at) {
            Some(run) if run.first <= pfn => (run.region, run.end),
            Some(run) => (Region::Other, run.first),
            None => (Region::Other, Pfn(u64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(regions: &Regions, pfn: u64) -> (Region, u64) {
        let (region, end) = regions.at(Pfn(pfn));
        (region, end.0)
    }

    #[test]
    fn touching_runs_of_one_region_join_from_both_sides() {
        let mut regions = Regions::new();
        for (first, end) in [(10, 20), (30, 40), (20, 25), (28, 30)] {
            regions.add(Pfn(first), Pfn(end), Region::MemMap);
        }
        assert_eq!(regions.0.len(), 2);
        assert_eq!(at(&regions, 9), (Region::Other, 10));
        assert_eq!(at(&regions, 10), (Region::MemMap, 25));
        assert_eq!(at(&regions, 25), (Region::Other, 28));
        assert_eq!(at(&regions, 39), (Region::MemMap, 40));
        assert_eq!(at(&regions, 40), (Region::Other, u64::MAX));
    }

    #[test]
    fn a_frame_has_the_region_it_was_given_first() {
        let mut regions = Regions::new();
        regions.add(Pfn(10), Pfn(20), Region::Data);
        regions.add(Pfn(5), Pfn(30), Region::Text);
        regions.add(Pfn(15), Pfn(30), Region::Text);
        assert_eq!(at(&regions, 5), (Region::Text, 10));
        assert_eq!(at(&regions, 12), (Region::Data, 20));
        assert_eq!(at(&regions, 20), (Region::Other, u64::MAX));
    }

    #[test]
    fn there_are_never_more_runs_than_there_is_memory_for() {
        let mut regions = Regions::new();
        (0..10_000).for_each(|n| regions.add(Pfn(2 * n), Pfn(2 * n + 1), Region::MemMap));
        assert_eq!((regions.0.len(), regions.0.capacity()), (MAX_RUNS, MAX_RUNS));
    }
}
