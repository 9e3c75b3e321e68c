//! How far the writing of a vmcore is, on a terminal.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on stderr, if that is a terminal; gone when dropped.
pub struct WriteBar(Option<ProgressBar>);

impl WriteBar {
    /// A bar that is shown once [`WriteBar::show`] is called.
    #[must_use]
    pub fn new() -> Self {
        Self(stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(5));
            let style = "writing vmcore {percent}% [{bar:30}] {pos}/{len} pages, {elapsed} (ETA {eta})";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            bar
        }))
    }

    /// So many pages of so many are written.
    pub fn show(&self, done: u64, total: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(total);
            bar.set_position(done.min(total));
        }
    }
}

impl Default for WriteBar {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for WriteBar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
