//! From a counter's ticks to time.

use core::time::Duration;

/// How long so many ticks take at `hertz`, which is not 0, and below 2^34.
pub(super) fn elapsed(ticks: u64, hertz: u64) -> Duration {
    let seconds = ticks / hertz;
    // No overflow: the remainder is below 2^34, and 10^9 is below 2^30.
    let nanoseconds = (ticks % hertz) * 1_000_000_000 / hertz;
    Duration::new(seconds, u32::try_from(nanoseconds).unwrap_or(0))
}
