//! The sender's memory of what it may have to send again: encoded blocks, and how far each fragment got.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::block::{self, Cursor, MAX_ENCODED_BYTES};
use crate::frame::{Fragment, MAX_FRAGMENT_BYTES};

/// Encoded bytes that are kept: on a line of 3 Mbaud with 200 ms of latency 120 KB are on their way. Those that were received
/// and are not stored yet stay as long as there is space: a receiver that is started again gets them without their being
/// made again.
const ARENA_BYTES: usize = 304 * 1024;

/// Blocks that are kept, however small: a receiver collects so many at the same time.
const MAX_BLOCKS: usize = crate::receiver::MAX_INCOMPLETE;

/// Blocks that may wait for their turn: more would only be taken from memory earlier than they can be sent.
const MAX_UNSENT: usize = 4;

/// Fragments of a block: a frame has a byte for their number.
const MAX_FRAGMENTS: usize = u8::MAX as usize;

const _: () = assert!(MAX_ENCODED_BYTES.div_ceil(MAX_FRAGMENT_BYTES) <= MAX_FRAGMENTS);

/// A fragment by block number and index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FragmentId {
    pub(crate) block: u32,
    pub(crate) index: u8,
}

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
    generation: u32,
    /// Where the block before it ended: a receiver knows no other name for its begin.
    start: Cursor,
    length: usize,
    /// Bytes of each fragment but the last, and how many there are. Until the first one is sent, they are not cut: 0.
    fragment_bytes: usize,
    count: u8,
    received: Fragments,
    in_flight: Fragments,
}

impl Kept {
    /// The first fragment that was neither received nor is on its way.
    fn waiting(&self) -> Option<u8> {
        let index = self.received.with(self.in_flight).first_absent();
        u8::try_from(index).ok().filter(|&index| index < self.count.max(1))
    }

    fn cut(&mut self, fragment_bytes: usize) {
        let count = self.length.div_ceil(fragment_bytes.clamp(1, MAX_FRAGMENT_BYTES)).clamp(1, MAX_FRAGMENTS);
        // Pieces of equal size: a short last one would carry as much framing as the others.
        self.fragment_bytes = self.length.div_ceil(count).max(1);
        // Rounded up, fewer may be enough.
        let count = self.length.div_ceil(self.fragment_bytes).max(1);
        self.count = u8::try_from(count).unwrap_or(u8::MAX);
    }
}

/// Some fragments of a block.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Fragments([u64; MAX_FRAGMENTS.div_ceil(64)]);

impl Fragments {
    const NONE: Self = Self([0; MAX_FRAGMENTS.div_ceil(64)]);

    /// These and the others.
    fn with(self, others: Self) -> Self {
        let mut both = self;
        both.0.iter_mut().zip(others.0).for_each(|(word, other)| *word |= other);
        both
    }

    fn set(&mut self, index: u8, is_in: bool) {
        if let Some(word) = self.0.get_mut(usize::from(index / 64)) {
            let bit = 1 << (index % 64);
            *word = if is_in { *word | bit } else { *word & !bit };
        }
    }

    /// The lowest index that is not among them.
    fn first_absent(self) -> u32 {
        let mut index = 0;
        for word in self.0 {
            index += word.trailing_ones();
            if word != u64::MAX {
                break;
            }
        }
        index
    }
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
        let is_unsent = |kept: &&Kept| kept.received.with(kept.in_flight) == Fragments::NONE;
        let unsent = self.blocks.iter().rev().take_while(is_unsent).count();
        self.has_space() && unsent < MAX_UNSENT
    }

    fn has_space(&self) -> bool {
        self.arena.len() + MAX_ENCODED_BYTES <= ARENA_BYTES && self.blocks.len() < MAX_BLOCKS
    }

    /// Forgets blocks that have been received, oldest first, until there is space.
    pub(crate) fn make_room(&mut self) {
        let is_received = |kept: &Kept| kept.waiting().is_none() && kept.in_flight == Fragments::NONE;
        while !self.has_space() && self.blocks.front().is_some_and(is_received) {
            self.forget_first();
        }
    }

    /// Keeps the next block, which goes up to `end`.
    pub(crate) fn push(&mut self, encoded: &[u8], end: Cursor) {
        self.blocks.push_back(Kept {
            generation: block::generation(encoded),
            start: core::mem::replace(&mut self.end, end),
            length: encoded.len(),
            fragment_bytes: 0,
            count: 0,
            received: Fragments::NONE,
            in_flight: Fragments::NONE,
        });
        self.arena.extend(encoded);
    }

    /// A fragment of this block is sent now: if it is the first one, the block is cut into fragments of about so many
    /// bytes.
    pub(crate) fn cut(&mut self, id: FragmentId, fragment_bytes: usize) {
        if let Some(kept) = self.kept(id).filter(|kept| kept.count == 0) {
            kept.cut(fragment_bytes);
        }
    }

    /// The first fragment that was neither received nor is on its way.
    pub(crate) fn waiting(&mut self) -> Option<FragmentId> {
        let first = self.settled.max(self.base);
        let skipped = usize::try_from(first - self.base).unwrap_or(usize::MAX);
        let waiting = (first..)
            .zip(self.blocks.iter().skip(skipped))
            .find_map(|(block, kept)| kept.waiting().map(|index| FragmentId { block, index }));
        self.settled = waiting.map_or_else(|| self.next(), |id| id.block);
        waiting
    }

    /// A fragment's content; its bytes are copied to `scratch`.
    pub(crate) fn fragment<'s>(&self, id: FragmentId, scratch: &'s mut Vec<u8>) -> Option<Fragment<'s>> {
        let block_index = usize::try_from(id.block.checked_sub(self.base)?).ok()?;
        let kept = self.blocks.get(block_index)?;
        let block_at: usize = self.blocks.iter().take(block_index).map(|before| before.length).sum();
        let from = usize::from(id.index) * kept.fragment_bytes;
        let to = (from + kept.fragment_bytes).min(kept.length);
        let (first, second) = self.arena.as_slices();
        scratch.clear();
        // The arena is one run of bytes, in at most two slices.
        let (from, to) = (block_at + from, block_at + to);
        scratch.extend_from_slice(first.get(from.min(first.len())..to.min(first.len()))?);
        scratch
            .extend_from_slice(second.get(from.saturating_sub(first.len())..to.saturating_sub(first.len()))?);
        Some(Fragment {
            stream: 0,
            block: id.block,
            generation: kept.generation,
            index: id.index,
            count: kept.count,
            bytes: scratch,
        })
    }

    pub(crate) fn set_in_flight(&mut self, id: FragmentId, in_flight: bool) {
        if let Some(kept) = self.kept(id) {
            kept.in_flight.set(id.index, in_flight);
            if kept.waiting().is_some() {
                self.settled = self.settled.min(id.block);
            }
        }
    }

    /// A fragment that was [`Window::waiting`] is sent. They wait in their order: with its last one a block is sent whole,
    /// and so are those before it. Gives [`Window::sent`].
    pub(crate) fn set_sent(&mut self, id: FragmentId) -> u32 {
        if self.kept(id).is_some_and(|kept| kept.count.checked_sub(1) == Some(id.index)) {
            self.sent = self.sent.max(id.block.wrapping_add(1));
        }
        self.sent
    }

    pub(crate) fn set_received(&mut self, id: FragmentId) {
        if let Some(kept) = self.kept(id) {
            kept.received.set(id.index, true);
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
            self.arena.drain(..kept.length.min(self.arena.len()));
            self.base = self.base.wrapping_add(1);
        }
    }

    /// Everything kept must be sent again: the receiver is a new one.
    pub(crate) fn send_again(&mut self) {
        for kept in &mut self.blocks {
            (kept.received, kept.in_flight) = (Fragments::NONE, Fragments::NONE);
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
                    prop_assert_eq!((id.block, id.index as usize), (number, (assembled.len()).div_ceil(window.blocks.back().unwrap().fragment_bytes)));
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
        assert_eq!(window.waiting(), Some(FragmentId { block: 1, index: 1 }));
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
