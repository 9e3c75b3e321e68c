//! Frames that an early pass has sent, so that a late one need not send them again.

use alloc::vec;
use alloc::vec::Vec;

use memory::Pfn;

/// Places for frames: a power of two (128 KiB of memory).
const PLACES: usize = 32 * 1024;
/// Frames remembered; of more each comes twice, which costs time and nothing else.
const MAX_FRAMES: usize = PLACES / 2;
/// Marks a place without a frame.
const EMPTY: u32 = u32::MAX;

/// A set of frames that never grows: a hash table with open addressing.
#[derive(Debug)]
pub(crate) struct EarlyFrames {
    places: Vec<u32>,
    frames: usize,
}

impl EarlyFrames {
    pub(crate) fn new() -> Self {
        Self { places: vec![EMPTY; PLACES], frames: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.places.fill(EMPTY);
        self.frames = 0;
    }

    pub(crate) fn contains(&self, pfn: Pfn) -> bool {
        u32::try_from(pfn.0).is_ok_and(|frame| self.place_of(frame).is_some_and(|(_, found)| found == frame))
    }

    /// Adds a frame, if there is room.
    pub(crate) fn insert(&mut self, pfn: Pfn) {
        let Ok(frame) = u32::try_from(pfn.0) else { return };
        if self.frames < MAX_FRAMES
            && frame != EMPTY
            && let Some((place, EMPTY)) = self.place_of(frame)
            && let Some(place) = self.places.get_mut(place)
        {
            *place = frame;
            self.frames += 1;
        }
    }

    /// Where `frame` is, or would be, and what is there.
    fn place_of(&self, frame: u32) -> Option<(usize, u32)> {
        // Fibonacci hashing: neighbours spread over the table.
        let start = frame.wrapping_mul(0x9e37_79b9) as usize >> 8;
        (0..PLACES)
            .map(|step| (start + step) % PLACES)
            .map(|place| (place, self.places.get(place).copied().unwrap_or(EMPTY)))
            .find(|&(_, found)| found == frame || found == EMPTY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_holds_what_was_put_in_and_nothing_else(frames in prop::collection::btree_set(0u64..1 << 33, 0..300)) {
            let mut early = EarlyFrames::new();
            frames.iter().for_each(|&frame| early.insert(Pfn(frame)));
            for frame in frames.iter().flat_map(|&frame| [frame, frame + 1]) {
                let is_in = frames.contains(&frame) && frame < u64::from(u32::MAX);
                prop_assert_eq!(early.contains(Pfn(frame)), is_in);
            }
        }
    }

    #[test]
    fn a_full_set_forgets_nothing_and_takes_no_more() {
        let mut early = EarlyFrames::new();
        (0..40_000).for_each(|frame| early.insert(Pfn(frame * 7)));
        let held: BTreeSet<_> = (0..40_000).filter(|frame| early.contains(Pfn(frame * 7))).collect();
        assert!(held.into_iter().eq(0..MAX_FRAMES as u64));
        early.clear();
        assert!(!early.contains(Pfn(0)));
    }
}
