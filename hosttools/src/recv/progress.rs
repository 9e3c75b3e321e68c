//! Progress on stderr: a bar on a terminal, a line now and then elsewhere.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::io::{IsTerminal, Write, stderr};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use wire::{Pass, SessionHeader, SessionId};

use super::notice::{Notice, Teller, name};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Rates are those of so long: a dump's parts differ in how much a page costs.
const RATE_WINDOW: Duration = Duration::from_secs(30);

/// Of less than so long nothing is told about the time that is left.
const MIN_RATE_WINDOW: Duration = Duration::from_secs(4);

/// How often it is noted how much has come.
const NOTE_EVERY: Duration = Duration::from_millis(500);

const BAR_STYLE: &str = "{msg} [{bar:30}] {elapsed}";
const SPINNER_STYLE: &str = "{msg} {spinner} {elapsed}";

/// What has been received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    /// The pass that is being sent.
    pub(super) pass: u8,
    /// Pages that have come, in whatever form.
    pub(super) pages: u64,
    /// Pages that belong to the dump, once they are counted.
    pub(super) kept_pages: Option<u64>,
    /// Compressed bytes that have come.
    pub(super) bytes: u64,
    /// Pages that only answers to requests have brought.
    pub(super) only_asked: u64,
}

/// Shows progress, and keeps other text out of its way.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    has_total: bool,
    pace: Pace,
    line_at: Instant,
    /// Among the sessions of a listener.
    among: Option<Among>,
}

/// One of the sessions of a listener.
struct Among {
    teller: Teller,
    peer: SocketAddr,
    directory: PathBuf,
}

impl Progress {
    /// Of the only session.
    pub(super) fn new() -> Self {
        let bar = stderr()
            .is_terminal()
            .then(|| ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(5)));
        Self::with_bar(bar, None)
    }

    /// Of a session among others, which comes from `peer`.
    pub(super) fn among(teller: Teller, peer: SocketAddr) -> Self {
        let bar = teller.bars().map(|bars| bars.add(ProgressBar::new(0)));
        Self::with_bar(bar, Some(Among { teller, peer, directory: PathBuf::new() }))
    }

    fn with_bar(bar: Option<ProgressBar>, among: Option<Among>) -> Self {
        if let Some(bar) = &bar {
            set_style(bar, SPINNER_STYLE);
        }
        Self { bar, has_total: false, pace: Pace::default(), line_at: Instant::now(), among }
    }

    /// A session has begun, or an earlier receiver's is gone on with.
    pub(super) fn begin(&mut self, directory: &Path, id: SessionId, header: &SessionHeader, goes_on: bool) {
        match &mut self.among {
            Some(among) => {
                among.directory = directory.to_owned();
                let (peer, host, session) = (among.peer, header.uts(1), id.0);
                among.teller.tell(Notice::Session { directory, peer, host, session, goes_on });
            }
            None => {
                let doing = if goes_on { "going on in" } else { "receiving into" };
                self.say(&format!("{doing} {}", directory.display()));
            }
        }
    }

    /// The kernel log has come.
    pub(super) fn log_is_in(&self, file: &Path) {
        match &self.among {
            Some(Among { teller, directory, .. }) => teller.tell(Notice::Log { directory, file }),
            None => self.say(&format!("the kernel log is in {}", file.display())),
        }
    }

    /// The session can be looked at in `directory`.
    pub(super) fn is_mounted(&self, directory: &Path) {
        self.say(&format!("it can be looked at: crash vmlinux {}", directory.join("vmcore").display()));
    }

    pub(super) fn warn(&self, what: &str) {
        match &self.among {
            Some(Among { teller, directory, .. }) => teller.tell(Notice::Warning { directory, what }),
            None => self.say(&format!("warning: {what}")),
        }
    }

    /// Shows text of the crashed machine's console; among others, it is in the session's console.log only.
    pub(super) fn console(&self, clean: &str) {
        if self.among.is_none() {
            self.around(|| {
                let mut out = std::io::stdout().lock();
                // A terminal that is gone does not stop the dump.
                let _ = out.write_all(clean.as_bytes()).and_then(|()| out.flush());
            });
        }
    }

    pub(super) fn show(&mut self, received: Received) {
        let now = Instant::now();
        self.pace.note(now, received);
        let is_line_due = self.line_at.elapsed() >= LINE_EVERY;
        if self.bar.is_none() && !is_line_due {
            return;
        }
        let mut status = Status { received, pace: self.pace.now(received) }.to_string();
        if let Some(Among { directory, .. }) = &self.among {
            status = format!("{}: {status}", name(directory));
        }
        if is_line_due {
            self.line_at = now;
            self.tell(received);
        }
        match &self.bar {
            Some(bar) => {
                if let Some(kept) = received.kept_pages {
                    if !std::mem::replace(&mut self.has_total, true) {
                        set_style(bar, BAR_STYLE);
                    }
                    bar.set_length(kept);
                    bar.set_position(received.pages.min(kept));
                }
                bar.set_message(status);
            }
            None => self.say(&status),
        }
    }

    /// Tells programs how far it is.
    fn tell(&self, Received { pass, pages, kept_pages, bytes, .. }: Received) {
        if let Some(Among { teller, directory, .. }) = &self.among {
            teller.tell(Notice::Progress { directory, pass: &pass_name(pass), pages, kept_pages, bytes });
        }
    }

    /// Says a line.
    fn say(&self, text: &str) {
        match &self.among {
            Some(among) => among.teller.say(text),
            None => self.around(|| eprintln!("rcapture: {text}")),
        }
    }

    /// Runs `write`, which writes to the terminal, with the bar out of its way.
    fn around(&self, write: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// So many pages of so many are in the vmcore.
    pub(super) fn show_writing(&self, done: u64, total: u64) {
        if let (Some(bar), Some(Among { directory, .. })) = (&self.bar, &self.among) {
            bar.set_length(total);
            bar.set_position(done.min(total));
            bar.set_message(format!("{}: writing vmcore", name(directory)));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

pub(super) fn pass_name(number: u8) -> Cow<'static, str> {
    Pass::from_number(number).map_or_else(|| format!("pass {number}").into(), |pass| pass.name().into())
}

fn set_style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

/// How fast it has been going of late.
#[derive(Default)]
struct Pace {
    /// What had come when, oldest first.
    notes: VecDeque<(Instant, Received)>,
}

/// So much in so long, lately.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Lately {
    time: Duration,
    pages: u64,
    bytes: u64,
}

impl Pace {
    fn note(&mut self, now: Instant, received: Received) {
        if self.notes.back().is_some_and(|(at, _)| now.duration_since(*at) < NOTE_EVERY) {
            return;
        }
        while self.notes.len() > 1
            && self.notes.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= RATE_WINDOW)
        {
            self.notes.pop_front();
        }
        self.notes.push_back((now, received));
    }

    /// What has come since the oldest note. An earlier receiver's share is in all notes.
    fn now(&self, received: Received) -> Lately {
        let (Some((first_at, first)), Some((last_at, _))) = (self.notes.front(), self.notes.back()) else {
            return Lately::default();
        };
        Lately {
            time: last_at.duration_since(*first_at),
            pages: received.pages.saturating_sub(first.pages),
            bytes: received.bytes.saturating_sub(first.bytes),
        }
    }
}

/// Where a dump is, in one line.
struct Status {
    received: Received,
    pace: Lately,
}

impl Status {
    /// Time until all pages that are kept have come, if it goes on as it did lately.
    fn time_left(&self, kept_pages: u64) -> Option<Duration> {
        let left = kept_pages.saturating_sub(self.received.pages);
        if self.pace.time < MIN_RATE_WINDOW || self.pace.pages == 0 {
            return None;
        }
        let seconds = self.pace.time.as_secs_f64() * left as f64 / self.pace.pages as f64;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, pace } = self;
        write!(f, "{}", pass_name(received.pass))?;
        if let Some(kept) = received.kept_pages {
            // What is there is not all before the end says so.
            let percent = received.pages.saturating_mul(100).checked_div(kept).unwrap_or(100).min(99);
            write!(f, ", {percent} % of {kept} pages")?;
        }
        write!(f, ", {} KiB", received.bytes >> 10)?;
        if pace.time > Duration::ZERO {
            write!(f, ", {:.1} KiB/s", pace.bytes as f64 / 1024.0 / pace.time.as_secs_f64())?;
        }
        let Some(kept) = received.kept_pages else { return Ok(()) };
        match self.time_left(kept).map(|left| left.as_secs()) {
            Some(seconds @ 0..3600) => write!(f, ", {}:{:02} left", seconds / 60, seconds % 60),
            Some(seconds) => write!(f, ", {} h {:02} min left", seconds / 3600, seconds / 60 % 60),
            None => write!(f, ", ? left"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pass: Pass, received: Received, time: u64, pages: u64) -> String {
        let pace = Lately { time: Duration::from_secs(time), pages, bytes: 11_264 * time };
        Status { received: Received { pass: pass.number(), ..received }, pace }.to_string()
    }

    #[test]
    fn before_pages_are_counted_bytes_are_all_that_is_told() {
        let received = Received { bytes: 20_480, ..Received::default() };
        assert_eq!(status(Pass::Log, received, 2, 0), "kernel log, 20 KiB, 11.0 KiB/s");
        assert_eq!(status(Pass::Meta, Received::default(), 0, 0), "notes, 0 KiB");
    }

    #[test]
    fn the_time_left_follows_the_pages_of_late() {
        let received =
            Received { pages: 2500, kept_pages: Some(10_000), bytes: 1 << 20, ..Received::default() };
        let said = status(Pass::Slab, received, 10, 300);
        assert_eq!(said, "slab, 25 % of 10000 pages, 1024 KiB, 11.0 KiB/s, 4:10 left");
        let said = status(Pass::Slab, received, 30, 10);
        assert!(said.ends_with(", 6 h 15 min left"), "{said}");
    }

    #[test]
    fn a_time_left_that_nobody_knows_is_not_told() {
        let received = Received { pages: 9, kept_pages: Some(10_000), ..Received::default() };
        for (time, pages) in [(0, 0), (3, 100), (30, 0)] {
            let said = status(Pass::Data, received, time, pages);
            assert!(said.ends_with(", ? left"), "{said}");
        }
        // More came than was counted: all is not said before the end is.
        let received = Received { pages: 10_001, ..received };
        assert!(status(Pass::Rest, received, 30, 10).contains(", 99 % of 10000 pages, "));
    }

    #[test]
    fn the_pace_is_that_of_the_last_half_minute() {
        let mut pace = Pace::default();
        let start = Instant::now();
        for second in 0..100 {
            // Ten pages in a second, then one.
            let pages = if second < 50 { second * 10 } else { 450 + second };
            let received = Received { pages, bytes: pages * 100, ..Received::default() };
            pace.note(start + Duration::from_secs(second), received);
        }
        let received = Received { pages: 549, bytes: 54_900, ..Received::default() };
        let lately = pace.now(received);
        assert!((30..=31).contains(&lately.time.as_secs()), "{lately:?}");
        assert_eq!((lately.pages, lately.bytes), (lately.time.as_secs(), lately.time.as_secs() * 100));
        assert!(pace.notes.len() < 70);
    }
}
