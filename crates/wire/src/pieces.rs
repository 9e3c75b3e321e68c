//! An encoded block in its fragments: how far each of them got.

use core::ops::Range;

use crate::block::{self, MAX_ENCODED_BYTES};
use crate::frame::{Fragment, MAX_FRAGMENT_BYTES};

/// Fragments of a block: a frame has a byte for their number.
const MAX_FRAGMENTS: usize = u8::MAX as usize;

const _: () = assert!(MAX_ENCODED_BYTES.div_ceil(MAX_FRAGMENT_BYTES) <= MAX_FRAGMENTS);

/// A fragment by its block's stream and number, and its index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FragmentId {
    pub(crate) stream: u8,
    pub(crate) block: u32,
    pub(crate) index: u8,
}

/// A block's fragments.
pub(crate) struct Pieces {
    generation: u32,
    length: usize,
    /// Bytes of each fragment but the last, and how many there are. Until the first one is sent, they are not cut: 0.
    fragment_bytes: usize,
    count: u8,
    received: Fragments,
    in_flight: Fragments,
}

impl Pieces {
    /// Of a block that is not cut yet.
    pub(crate) fn of(encoded: &[u8]) -> Self {
        Self {
            generation: block::generation(encoded),
            length: encoded.len(),
            fragment_bytes: 0,
            count: 0,
            received: Fragments::NONE,
            in_flight: Fragments::NONE,
        }
    }

    /// Bytes of the block.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    /// A fragment is sent now: if it is the first one, the block is cut into fragments of about so many bytes.
    pub(crate) fn cut(&mut self, fragment_bytes: usize) {
        if self.count != 0 {
            return;
        }
        let count = self.length.div_ceil(fragment_bytes.clamp(1, MAX_FRAGMENT_BYTES)).clamp(1, MAX_FRAGMENTS);
        // Pieces of equal size: a short last one would carry as much framing as the others.
        self.fragment_bytes = self.length.div_ceil(count).max(1);
        // Rounded up, fewer may be enough.
        let count = self.length.div_ceil(self.fragment_bytes).max(1);
        self.count = u8::try_from(count).unwrap_or(u8::MAX);
    }

    /// The first fragment that was neither received nor is on its way.
    pub(crate) fn waiting(&self) -> Option<u8> {
        let index = self.received.with(self.in_flight).first_absent();
        u8::try_from(index).ok().filter(|&index| index < self.count.max(1))
    }

    /// Whether no fragment was sent.
    pub(crate) fn is_unsent(&self) -> bool {
        self.received.with(self.in_flight) == Fragments::NONE
    }

    /// Whether all fragments were received.
    pub(crate) fn is_received(&self) -> bool {
        self.waiting().is_none() && self.in_flight == Fragments::NONE
    }

    pub(crate) fn is_last(&self, index: u8) -> bool {
        self.count.checked_sub(1) == Some(index)
    }

    pub(crate) fn set_in_flight(&mut self, index: u8, in_flight: bool) {
        self.in_flight.set(index, in_flight);
    }

    pub(crate) fn set_received(&mut self, index: u8) {
        self.received.set(index, true);
    }

    /// All of them must be sent again.
    pub(crate) const fn send_again(&mut self) {
        (self.received, self.in_flight) = (Fragments::NONE, Fragments::NONE);
    }

    /// Where in the block a fragment is.
    pub(crate) fn range(&self, index: u8) -> Range<usize> {
        let from = (usize::from(index) * self.fragment_bytes).min(self.length);
        from..(from + self.fragment_bytes).min(self.length)
    }

    /// A fragment, whose bytes are these.
    pub(crate) const fn fragment<'a>(&self, id: FragmentId, bytes: &'a [u8]) -> Fragment<'a> {
        let FragmentId { stream, block, index } = id;
        Fragment { stream, block, generation: self.generation, index, count: self.count, bytes }
    }

    #[cfg(test)]
    pub(crate) const fn fragment_bytes(&self) -> usize {
        self.fragment_bytes
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
