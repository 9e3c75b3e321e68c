//! A clock for tests in which time means nothing.

use std::cell::Cell;
use std::time::Duration;

use capture::Clock;

/// Advances by itself: every look at it takes 10 µs.
#[derive(Default)]
pub(crate) struct Ticking(Cell<Duration>);

impl Clock for Ticking {
    fn now(&self) -> Duration {
        self.0.set(self.0.get() + Duration::from_micros(10));
        self.0.get()
    }
}
