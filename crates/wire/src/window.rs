//! The sender's memory of what it may have to send again: encoded blocks, and how far each fragment got.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;

use crate::block::{Cursor, MAX_ENCODED_BYTES};
use crate::frame::Fragment;
use crate::pieces::{FragmentId, Pieces};

/// Encoded bytes that are kept: on a line of 3 Mbaud with 200 ms of latency 120 KB are on their way. Those that were received
/// and are not stored yet stay as long as there is space: a receiver that is started again gets them without their being
/// made again.
const ARENA_BYTES: usize = 246 * 1024;

/// Blocks that are kept, however small: a receiver collects so many at the same time.
const MAX_BLOCKS: usize = crate::receiver::MAX_INCOMPLETE;

/// Blocks that may wait for their turn: more would only be taken from memory earlier than they can be sent.
const MAX_UNSENT: usize = 4;

/// Blocks from the first that may be wanted again to the last that was made.
pub(crate) struct Window {
    /// The encoded blocks, one behind the other.
    arena: VecDeque<u8>,
    blocks: VecDeque<Kept>,
    /// Number of the first block kept, or else of the next one made.
    base: u32,
    /// Of blocks before this one every fragment was received or is on its way.
    settled: u32,
    /// Blocks before this one were sent whole, at least once.
    sent: u32,
    /// Where the last block ended, and so where the next one begins.
    end: Cursor,
}

struct Kept {
    /// Where the block before it ended: a receiver knows no other name for its begin.
    start: Cursor,
    pieces: Pieces,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self {
            arena: VecDeque::with_capacity(ARENA_BYTES),
            blocks: VecDeque::with_capacity(MAX_BLOCKS),
            base: 0,
            settled: 0,
            sent: 0,
            end: Cursor::START,
        }
    }

    /// Number of the first block that is kept.
    pub(crate) const fn base(&self) -> u32 {
        self.base
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.arena.len()
    }

    /// Number of the next block that is made.
    pub(crate) fn next(&self) -> u32 {
        self.base.wrapping_add(u32::try_from(self.blocks.len()).unwrap_or(0))
    }

    /// Number of the first block of which a fragment was never sent.
    pub(crate) const fn sent(&self) -> u32 {
        self.sent
    }

    /// Where the block with this number begins, if the window knows.
    pub(crate) fn start_of(&self, number: u32) -> Option<Cursor> {
        let index = usize::try_from(number.checked_sub(self.base)?).ok()?;
        match self.blocks.get(index) {
            Some(kept) => Some(kept.start),
            None if index == self.blocks.len() => Some(self.end),
            None => None,
        }
    }

    /// Whether any block has room.
    pub(crate) fn has_room(&self) -> bool {
        let unsent = self.blocks.iter().rev().take_while(|kept| kept.pieces.is_unsent()).count();
        self.has_space() && unsent < MAX_UNSENT
    }

    fn has_space(&self) -> bool {
        self.arena.len() + MAX_ENCODED_BYTES <= ARENA_BYTES && self.blocks.len() < MAX_BLOCKS
    }

    /// Forgets blocks that have been received, oldest first, until there is space.
    pub(crate) fn make_room(&mut self) {
        while !self.has_space() && self.blocks.front().is_some_and(|kept| kept.pieces.is_received()) {
            self.forget_first();
        }
    }

    /// Keeps the next block, which goes up to `end`.
    pub(crate) fn push(&mut self, encoded: &[u8], end: Cursor) {
        let start = core::mem::replace(&mut self.end, end);
        self.blocks.push_back(Kept { start, pieces: Pieces::of(encoded) });
        self.arena.extend(encoded);
    }

    /// This fragment is sent now: if it is its block's first one, the block is cut into fragments of about so many bytes.
    pub(crate) fn cut(&mut self, id: FragmentId, fragment_bytes: usize) {
        if let Some(kept) = self.kept(id) {
            kept.pieces.cut(fragment_bytes);
        }
    }

    /// The first fragment that was neither received nor is on its way.
    pub(crate) fn waiting(&mut self) -> Option<FragmentId> {
        let first = self.settled.max(self.base);
        let skipped = usize::try_from(first - self.base).unwrap_or(usize::MAX);
        let waiting = (first..).zip(self.blocks.iter().skip(skipped)).find_map(|(block, kept)| {
            kept.pieces.waiting().map(|index| FragmentId { stream: 0, block, index })
        });
        self.settled = waiting.map_or_else(|| self.next(), |id| id.block);
        waiting
    }

    /// A fragment's content; its bytes are copied to `scratch`.
    pub(crate) fn fragment<'s>(&self, id: FragmentId, scratch: &'s mut Vec<u8>) -> Option<Fragment<'s>> {
        let block_index = usize::try_from(id.block.checked_sub(self.base)?).ok()?;
        let kept = self.blocks.get(block_index)?;
        let block_at: usize = self.blocks.iter().take(block_index).map(|before| before.pieces.length()).sum();
        let Range { start: from, end: to } = kept.pieces.range(id.index);
        let (first, second) = self.arena.as_slices();
        scratch.clear();
        // The arena is one run of bytes, in at most two slices.
        let (from, to) = (block_at + from, block_at + to);
        scratch.extend_from_slice(first.get(from.min(first.len())..to.min(first.len()))?);
        scratch
            .extend_from_slice(second.get(from.saturating_sub(first.len())..to.saturating_sub(first.len()))?);
        Some(kept.pieces.fragment(id, scratch))
    }

    pub(crate) fn set_in_flight(&mut self, id: FragmentId, in_flight: bool) {
        if let Some(kept) = self.kept(id) {
            kept.pieces.set_in_flight(id.index, in_flight);
            if kept.pieces.waiting().is_some() {
                self.settled = self.settled.min(id.block);
            }
        }
    }

    /// A fragment that was [`Window::waiting`] is sent. They wait in their order: with its last one a block is sent whole,
    /// and so are those before it. Gives [`Window::sent`].
    pub(crate) fn set_sent(&mut self, id: FragmentId) -> u32 {
        if self.kept(id).is_some_and(|kept| kept.pieces.is_last(id.index)) {
            self.sent = self.sent.max(id.block.wrapping_add(1));
        }
        self.sent
    }

    pub(crate) fn set_received(&mut self, id: FragmentId) {
        if let Some(kept) = self.kept(id) {
            kept.pieces.set_received(id.index);
        }
    }

    fn kept(&mut self, id: FragmentId) -> Option<&mut Kept> {
        let index = usize::try_from(id.block.checked_sub(self.base)?).ok()?;
        self.blocks.get_mut(index)
    }

    /// Blocks before `number` are durably stored.
    pub(crate) fn forget_before(&mut self, number: u32) {
        while self.base < number && !self.blocks.is_empty() {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(kept) = self.blocks.pop_front() {
            self.arena.drain(..kept.pieces.length().min(self.arena.len()));
            self.base = self.base.wrapping_add(1);
        }
    }

    /// Everything kept must be sent again: the receiver is a new one.
    pub(crate) fn send_again(&mut self) {
        for kept in &mut self.blocks {
            kept.pieces.send_again();
        }
        self.settled = self.base;
    }

    /// Forgets everything; the next block made has number `base` and begins at `start`.
    pub(crate) fn restart(&mut self, base: u32, start: Cursor) {
        self.end = start;
        self.blocks.clear();
        self.arena.clear();
        (self.base, self.settled, self.sent) = (base, base, base);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::MAX_FRAGMENT_BYTES;
    use alloc::vec;
    use proptest::prelude::*;

    const NOWHERE: Cursor = Cursor { pass: 0, position: 0 };

    /// The next fragment, on its way.
    fn send(window: &mut Window) -> Option<FragmentId> {
        let id = window.waiting()?;
        window.cut(id, 1000);
        window.set_in_flight(id, true);
        Some(id)
    }

    proptest! {
        #[test]
        fn fragments_make_up_their_blocks_wherever_the_arena_wraps(
            blocks in prop::collection::vec((1usize..60_000, 128usize..1200), 1..60),
        ) {
            let mut window = Window::new();
            let mut scratch = Vec::new();
            for (number, (length, fragment_bytes)) in (0u32..).zip(blocks) {
                window.make_room();
                prop_assert!(window.has_room());
                let encoded: Vec<u8> = (0..length).map(|i| (i as u32 * 7 + number) as u8).collect();
                window.push(&encoded, NOWHERE);
                let mut assembled = Vec::new();
                while let Some(id) = window.waiting() {
                    window.cut(id, fragment_bytes);
                    prop_assert_eq!((id.block, id.index as usize), (number, (assembled.len()).div_ceil(window.blocks.back().unwrap().pieces.fragment_bytes())));
                    let fragment = window.fragment(id, &mut scratch).unwrap();
                    prop_assert!(!fragment.bytes.is_empty() && fragment.bytes.len() <= MAX_FRAGMENT_BYTES);
                    assembled.extend_from_slice(fragment.bytes);
                    window.set_received(id);
                }
                prop_assert_eq!(assembled, encoded);
            }
        }
    }

    #[test]
    fn a_lost_fragment_waits_before_later_ones() {
        let mut window = Window::new();
        window.push(&vec![1; 3000], NOWHERE);
        window.push(&vec![2; 3000], NOWHERE);
        let first = send(&mut window).unwrap();
        for _ in 1..4 {
            send(&mut window);
        }
        assert_eq!(window.waiting(), Some(FragmentId { stream: 0, block: 1, index: 1 }));
        window.set_in_flight(first, false);
        assert_eq!(window.waiting(), Some(first));
    }

    #[test]
    fn a_block_is_cut_as_the_line_is_when_it_goes_out() {
        let mut window = Window::new();
        window.push(&vec![1; 3000], NOWHERE);
        let mut scratch = Vec::new();
        let first = window.waiting().unwrap();
        window.cut(first, 500);
        // By then the other end has to do with these.
        window.cut(first, 1000);
        assert_eq!(window.fragment(first, &mut scratch).unwrap().count, 6);
    }

    #[test]
    fn the_largest_block_has_no_more_fragments_than_a_byte_counts() {
        for length in [MAX_ENCODED_BYTES, 255 * 128 + 1, 255 * 129] {
            let mut window = Window::new();
            window.push(&vec![1; length], NOWHERE);
            let (mut bytes, mut scratch) = (0, Vec::new());
            while let Some(id) = window.waiting() {
                window.cut(id, 1);
                window.set_received(id);
                let fragment = window.fragment(id, &mut scratch).unwrap();
                assert!(id.index < fragment.count && !fragment.bytes.is_empty());
                bytes += fragment.bytes.len();
            }
            assert_eq!(bytes, length);
        }
    }

    #[test]
    fn blocks_that_wait_for_their_turn_do_not_cost_those_before_them() {
        let mut window = Window::new();
        while window.has_room() {
            window.push(&vec![0; 1000], NOWHERE);
            if window.next() == 1 {
                let id = send(&mut window).unwrap();
                window.set_received(id);
                window.set_in_flight(id, false);
            }
        }
        window.make_room();
        assert_eq!((window.base(), window.next()), (0, 5));
    }

    #[test]
    fn what_is_on_its_way_is_never_forgotten_for_room() {
        let mut window = Window::new();
        while window.has_room() {
            window.push(&vec![0; 60_000], NOWHERE);
            while send(&mut window).is_some() {}
        }
        window.make_room();
        assert!(!window.has_room());
        assert_eq!(window.base(), 0);
    }
}
