//! Time, by the architecture's counter.

use core::time::Duration;

use crate::arch::counter::rate;
pub(crate) use crate::arch::counter::{find, ticks};
use crate::arch::elapsed::elapsed;

/// How often the counter counts in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Less than 2^32, and not 0.
    pub(crate) hertz: u64,
    /// Nobody says.
    pub(crate) is_guess: bool,
}

impl Rate {
    /// The generic timer's, which the firmware left in CNTFRQ.
    pub(crate) fn of_generic_timer(frequency: u32) -> Self {
        match frequency {
            // It left none: what most boards have had.
            0 => Self { hertz: 24_000_000, is_guess: true },
            hertz => Self { hertz: hertz.into(), is_guess: false },
        }
    }
}

/// Ticks after which a device is given up: two seconds.
pub(crate) fn patience_ticks() -> u64 {
    rate().hertz * 2
}

/// A monotonic clock that starts at zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: u64,
    rate: Rate,
}

impl Clock {
    /// Starts it.
    pub(crate) fn start() -> Self {
        Self { start: ticks(), rate: rate() }
    }

    /// Ticks per second, if nobody knows them.
    pub(crate) fn guessed_hertz(&self) -> Option<u64> {
        self.rate.is_guess.then_some(self.rate.hertz)
    }
}

impl capture::Clock for Clock {
    /// Time since the start.
    fn now(&self) -> Duration {
        elapsed(ticks().saturating_sub(self.start), self.rate.hertz)
    }
}
