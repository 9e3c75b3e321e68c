//! What the pipeline needs of the machine it runs on.

use core::time::Duration;

/// A line that bytes go out on, never waiting.
pub trait Link {
    /// Writes as many of `bytes` as fit right now, and says how many those were.
    fn write(&mut self, bytes: &[u8]) -> usize;

    /// Reads what has arrived, at most `buf.len()` bytes, and says how many those were.
    fn read(&mut self, buf: &mut [u8]) -> usize;
}

impl Link for &mut dyn Link {
    fn write(&mut self, bytes: &[u8]) -> usize {
        (**self).write(bytes)
    }

    fn read(&mut self, buf: &mut [u8]) -> usize {
        (**self).read(buf)
    }
}

impl<C: Clock> Clock for &C {
    fn now(&self) -> Duration {
        (*self).now()
    }
}

/// A clock that never goes backwards.
pub trait Clock {
    /// Time since some fixed moment.
    fn now(&self) -> Duration;
}
