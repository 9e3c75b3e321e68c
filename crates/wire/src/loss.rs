//! How large fragments should be: large ones carry less framing, small ones lose less when a bit flips.

use crate::frame::MAX_FRAGMENT_BYTES;

/// What a fragment costs on the line besides its bytes: header, CRC, COBS, zero.
const OVERHEAD_BYTES: u64 = 25;

const MIN_FRAGMENT_BYTES: usize = 128;

/// Older experience counts half after so many bytes.
const MEMORY_BYTES: u64 = 256 * 1024;

/// Learns from what was acknowledged and what was lost.
pub(crate) struct FragmentSize {
    sent_bytes: u64,
    /// In quarters, so that halving does not lose the last ones.
    lost_quarters: u64,
}

impl FragmentSize {
    pub(crate) const fn new() -> Self {
        Self { sent_bytes: 0, lost_quarters: 0 }
    }

    /// A fragment of `bytes` came, or did not.
    pub(crate) const fn count(&mut self, bytes: usize, came: bool) {
        self.sent_bytes += bytes as u64 + OVERHEAD_BYTES;
        if !came {
            self.lost_quarters += 4;
        }
        if self.sent_bytes > MEMORY_BYTES {
            self.sent_bytes /= 2;
            self.lost_quarters /= 2;
        }
    }

    /// With framing h and a probability p per byte that it takes its frame with it, a fragment of n bytes gets
    /// (1 − pn)(1 − h/n) through: most at n = √(h/p).
    pub(crate) fn best(&self) -> usize {
        let square = (OVERHEAD_BYTES * self.sent_bytes * 4).checked_div(self.lost_quarters);
        let best = square.map_or(usize::MAX, |square| usize::try_from(square.isqrt()).unwrap_or(usize::MAX));
        best.clamp(MIN_FRAGMENT_BYTES, MAX_FRAGMENT_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(frames: u64, lost_every: u64, bytes: usize) -> usize {
        let mut size = FragmentSize::new();
        for frame in 1..=frames {
            size.count(bytes, !frame.is_multiple_of(lost_every));
        }
        size.best()
    }

    #[test]
    fn a_clean_line_gets_the_largest_fragments() {
        assert_eq!(FragmentSize::new().best(), MAX_FRAGMENT_BYTES);
        assert_eq!(after(1000, 10_000, 1000), MAX_FRAGMENT_BYTES);
    }

    #[test]
    fn at_one_wrong_bit_in_100_000_fragments_are_half_as_large() {
        // 1e-5 per bit is 1e-4 per byte of ten bits: a frame of 1,025 bytes in ten is lost.
        let best = after(5000, 10, 1000);
        assert!((450..560).contains(&best), "{best}");
    }

    #[test]
    fn a_line_that_was_cut_is_forgiven() {
        let mut size = FragmentSize::new();
        (0..200).for_each(|_| size.count(1000, false));
        assert!(size.best() < 200, "{}", size.best());
        (0..5000).for_each(|_| size.count(1000, true));
        assert_eq!(size.best(), MAX_FRAGMENT_BYTES);
    }
}
