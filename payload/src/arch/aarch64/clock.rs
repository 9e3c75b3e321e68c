//! Time: the generic timer's counter, whose rate the firmware left (Arm ARM D12.1).

use core::time::Duration;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTVCT_EL0, Readable};

/// Where the firmware left no rate: what most boards have had.
const GUESSED_HERTZ: u64 = 24_000_000;

/// The counter.
pub(crate) fn ticks() -> u64 {
    // It may be read early otherwise.
    barrier::isb(barrier::SY);
    CNTVCT_EL0.get()
}

/// Ticks after which a device is given up: two seconds.
pub(crate) fn patience_ticks() -> u64 {
    rate().unwrap_or(GUESSED_HERTZ) * 2
}

/// Ticks per second.
fn rate() -> Option<u64> {
    // 32 bits (D19.12.2).
    Some(CNTFRQ_EL0.get() & 0xffff_ffff).filter(|hertz| *hertz > 0)
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
        Self { start: ticks(), hertz: rate().unwrap_or(GUESSED_HERTZ) }
    }

    /// Ticks per second, if nobody knows them.
    pub(crate) fn guessed_hertz(&self) -> Option<u64> {
        rate().is_none().then_some(self.hertz)
    }
}

impl capture::Clock for Clock {
    /// Time since the start.
    fn now(&self) -> Duration {
        let ticks = ticks().saturating_sub(self.start);
        let seconds = ticks / self.hertz;
        // No overflow: the remainder is below 2^32, and 10^9 is below 2^30.
        let nanoseconds = (ticks % self.hertz) * 1_000_000_000 / self.hertz;
        Duration::new(seconds, u32::try_from(nanoseconds).unwrap_or(0))
    }
}
