//! A counter of 32 bits, made longer.

use core::sync::atomic::{AtomicU64, Ordering};

/// What a counter of 32 bits has counted, if it is looked at once at least while it goes round.
pub struct LongCount(AtomicU64);

impl LongCount {
    /// Nothing was counted yet.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// What has been counted now that the counter is at `count`. For one processor.
    #[expect(clippy::cast_possible_truncation, reason = "the counter's own bits")]
    pub fn at(&self, count: u32) -> u64 {
        let last = self.0.load(Ordering::Relaxed);
        let now = last + u64::from(count.wrapping_sub(last as u32));
        self.0.store(now, Ordering::Relaxed);
        now
    }
}

impl Default for LongCount {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_where_the_counter_begins_again() {
        let long = LongCount::new();
        let counts = [5, 5, 0xffff_fff0, 0xffff_ffff, 0, 7, 0x8000_0000, 6];
        let expected =
            [5, 5, 0xffff_fff0, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0007, 0x1_8000_0000, 0x2_0000_0006];
        assert_eq!(counts.map(|count| long.at(count)), expected);
    }
}
