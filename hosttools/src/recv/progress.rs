//! Progress on stderr: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What has been received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    /// The pass that is being sent.
    pub(super) pass: u8,
    /// Pages of RAM that have come, in whatever form.
    pub(super) pages: u64,
    /// Pages of RAM that the machine has.
    pub(super) ram_pages: u64,
    /// Compressed bytes that have come.
    pub(super) bytes: u64,
}

/// Shows progress, and keeps other text out of its way.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    line_at: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(5));
            let style = "{msg} {percent}% of memory [{bar:30}] {pos}/{len} pages, {elapsed} (ETA {eta})";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            bar
        });
        let now = Instant::now();
        Self { bar, started: now, line_at: now }
    }

    pub(super) fn show(&mut self, received: Received) {
        let Received { pass, pages, ram_pages, bytes } = received;
        match &self.bar {
            Some(bar) => {
                bar.set_length(ram_pages);
                bar.set_position(pages.min(ram_pages));
                bar.set_message(format!("pass {pass}, {} KiB", bytes >> 10));
            }
            None if self.line_at.elapsed() >= LINE_EVERY => {
                self.line_at = Instant::now();
                let percent = pages.saturating_mul(100) / ram_pages.max(1);
                let rate = bytes as f64 / 1024.0 / self.started.elapsed().as_secs_f64().max(0.001);
                eprintln!(
                    "rcapture: pass {pass}: {percent} % of memory, {} KiB received, {rate:.1} KiB/s",
                    bytes >> 10
                );
            }
            None => {}
        }
    }

    /// Says a line.
    pub(super) fn say(&self, text: &str) {
        self.around(|| eprintln!("rcapture: {text}"));
    }

    /// Runs `write`, which writes to the terminal, with the bar out of its way.
    pub(super) fn around(&self, write: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
