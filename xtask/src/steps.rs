//! Says what is being done, and how long it took.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Does one step of a chore: its name goes to stderr when it begins, its time when it is done.
///
/// # Errors
/// That of `body`, with the step's name.
pub(crate) fn step<T>(name: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("==> {name}");
    let start = Instant::now();
    let done = body().with_context(|| name.to_owned())?;
    eprintln!("    {name}: {}", Elapsed(start.elapsed()));
    Ok(done)
}

/// A time as people say it: `0.4 s`, `12.0 s`, `3 min 5 s`.
pub(crate) struct Elapsed(pub(crate) Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            0..60 => write!(f, "{:.1} s", self.0.as_secs_f32()),
            seconds => write!(f, "{} min {} s", seconds / 60, seconds % 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        assert_eq!(Elapsed(Duration::from_millis(440)).to_string(), "0.4 s");
        assert_eq!(Elapsed(Duration::from_secs(185)).to_string(), "3 min 5 s");
    }
}
