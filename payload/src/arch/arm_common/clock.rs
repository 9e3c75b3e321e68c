//! Time, by the architecture's counter.

use core::time::Duration;

use crate::arch::counter::hertz;
pub(crate) use crate::arch::counter::{find, ticks};

/// Where nobody knows the rate: what most boards have had.
const GUESSED_HERTZ: u64 = 24_000_000;

/// Ticks after which a device is given up: two seconds.
pub(crate) fn patience_ticks() -> u64 {
    hertz().unwrap_or(GUESSED_HERTZ) * 2
}

/// A monotonic clock that starts at zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: u64,
    hertz: u64,
}

impl Clock {
    /// Starts it.
    pub(crate) fn start() -> Self {
        Self { start: ticks(), hertz: hertz().unwrap_or(GUESSED_HERTZ) }
    }

    /// Ticks per second, if nobody knows them.
    pub(crate) fn guessed_hertz(&self) -> Option<u64> {
        hertz().is_none().then_some(self.hertz)
    }
}

impl capture::Clock for Clock {
    /// Time since the start.
    fn now(&self) -> Duration {
        let ticks = ticks().saturating_sub(self.start);
        let seconds = ticks / self.hertz;
        // No overflow: the remainder is below 2^32, as rates are, and 10^9 is below 2^30.
        let nanoseconds = (ticks % self.hertz) * 1_000_000_000 / self.hertz;
        Duration::new(seconds, u32::try_from(nanoseconds).unwrap_or(0))
    }
}
