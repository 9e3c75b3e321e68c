//! Receiving a dump: from a line to a directory with a vmcore.
//!
//! # Flow
//! [`Line`] ─▶ `wire::Receiver` ─▶ session (journal, assembly) and console text ─▶ vmcore;
//! and back: journal on disk ─▶ `wire::Receiver` ─▶ outbox ─▶ [`Line`].
//!
//! Nothing is written to the line before a session header and after the end: on it may sit a login prompt or a boot
//! loader. A receiver that finds the unfinished journal of the session goes on with it.

mod console;
mod directory;
mod dmesg;
mod line;
mod outbox;
mod progress;
mod session;
mod syncer;

pub use line::{Line, Mode, Source};

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use console::Console;
use outbox::Outbox;
use progress::Progress;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use session::Session;
use wire::{Cursor, Event, Receiver, SessionHeader, SessionId};

use crate::Error;
use crate::dump::{Kind, kind_of};
use crate::write;

/// Bytes read from the line at once.
const READ_BYTES: usize = 64 << 10;

/// How often the clock is looked at while the line is quiet.
const TICK: Duration = Duration::from_millis(200);

/// After the end came and something is missing, frames are awaited for so long: of a sender that does not hear us, and
/// of one that may, when the line is whole again.
const END_LINGER: Duration = Duration::from_secs(3);
const ANSWERED_END_LINGER: Duration = Duration::from_secs(30);

/// A sender that did not hear that all is stored asks again before this time is over.
const SENDER_GONE: Duration = Duration::from_millis(1200);

/// For so long it is told again.
const STORED_LINGER: Duration = Duration::from_secs(3);

/// So much of what a pipe brings is looked at for a session before it is taken for something else.
const MAX_FOREIGN_BYTES: u64 = 4 << 20;

/// Blocks kept while the session header has not come: it is repeated every 10 s.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// How to receive.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the dump's directory is made.
    pub directory: PathBuf,
    /// How the vmcore is written.
    pub write: write::Options,
    /// After so long without a frame of a session that has begun, it is over.
    pub timeout: Duration,
    /// Keep the journal of a complete dump.
    pub keep_journal: bool,
    /// Write all bytes of the line to this file, as they come.
    pub record: Option<PathBuf>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The dump's directory.
    pub directory: PathBuf,
    /// Whether everything came that was sent.
    pub is_complete: bool,
    /// In one sentence, what came and what did not.
    pub summary: String,
}

/// Receives one dump from `line`. `stop` becomes readable when the user wants to stop.
///
/// # Errors
/// [`Error`], if no session came, or what came could not be written. Whatever was received is then in the journal.
pub fn receive(mut line: Line, stop: &UnixStream, options: &Options) -> Result<Outcome, Error> {
    let mut record = options.record.as_deref().map(Recording::create).transpose()?;
    let (synced, notify) = UnixStream::pair().map_err(Error::io("make a socket pair for", line.name()))?;
    let nonblocking = synced.set_nonblocking(true).and_then(|()| notify.set_nonblocking(true));
    nonblocking.map_err(Error::io("make a socket pair for", line.name()))?;
    let mut receiver = Receiver::new(random_id());
    let mut outbox = Outbox::default();
    let mut state = State::new(options, line.mode(), notify);
    let mut buf = vec![0; READ_BYTES];
    let mut total_bytes = 0_u64;
    let ended_by = loop {
        state.answer(&mut receiver, &mut outbox);
        outbox.flush(&mut line);
        if let Some(reason) = state.is_over() {
            break reason;
        }
        let ready =
            wait(&line, !outbox.is_empty(), stop, &synced).map_err(Error::io("wait for", line.name()))?;
        let count = match ready {
            Ready::Stop => break Reason::Stopped,
            Ready::Nothing => {
                state.deliver(|sink| receiver.idle(sink))?;
                state.tick(&receiver);
                continue;
            }
            Ready::Other => continue,
            Ready::Line => match line.read(&mut buf) {
                Ok(count) => count,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) =>
                {
                    continue;
                }
                // What a pty or an unplugged adapter says when the other end is gone.
                Err(error)
                    if state.has_session()
                        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) =>
                {
                    0
                }
                Err(error) => return Err(Error::io("read from", line.name())(error)),
            },
        };
        if count == 0 {
            break Reason::Closed;
        }
        let bytes = buf.get(..count).unwrap_or_default();
        if let Some(record) = &mut record {
            record.write(bytes)?;
        }
        if total_bytes == 0 {
            refuse_files(bytes)?;
        }
        total_bytes += count as u64;
        state.deliver(|sink| receiver.push(bytes, sink))?;
        state.tick(&receiver);
        if !state.has_session()
            && receiver.stats().frames == 0
            && receiver.stats().rubbish_bytes > MAX_FOREIGN_BYTES
        {
            if line.is_interactive() {
                state.warn_of_noise();
            } else {
                return Err(not_a_line(total_bytes, receiver.stats().rubbish_bytes));
            }
        }
    };
    // From here on the terminal of the line is nobody's.
    drop(line);
    drop(record);
    let Some(session) = state.finish_text() else {
        return Err(match ended_by {
            Reason::Stopped => {
                Error::NotALine { what: "stopped before a session began: nothing to keep".to_owned() }
            }
            _ => not_a_line(total_bytes, receiver.stats().rubbish_bytes),
        });
    };
    session.finish(options, ended_by.text(), &receiver.stats())
}

/// Why receiving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Complete,
    BudgetSpent,
    EndWithGaps,
    Silence,
    Closed,
    Stopped,
    AnotherSession,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Self::Complete => "all of it came",
            Self::BudgetSpent => "the sender's budget was spent",
            Self::EndWithGaps => "parts were lost on the line",
            Self::Silence => "the line fell silent before the end",
            Self::Closed => "the line was closed before the end",
            Self::Stopped => "stopped before the end",
            Self::AnotherSession => "another session began before the end",
        }
    }
}

/// A number by which the sender tells this receiver from the one before.
fn random_id() -> u8 {
    // The standard library's source of randomness.
    let [byte, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
    byte.max(1)
}

/// What there is to do.
enum Ready {
    Line,
    Stop,
    Nothing,
    /// The line takes replies again, or more is on disk.
    Other,
}

fn wait(line: &Line, has_replies: bool, stop: &UnixStream, synced: &UnixStream) -> io::Result<Ready> {
    let of_line = if has_replies { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
    let mut fds = [
        PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(synced.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(line.as_fd(), of_line),
    ];
    let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
    match poll(&mut fds, Some(&tick)) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(Ready::Nothing),
        Err(error) => return Err(error.into()),
    }
    let [stop, on_disk, line] = &fds;
    if !on_disk.revents().is_empty() {
        let mut woken = [0; 64];
        let _ = (&mut &*synced).read(&mut woken);
    }
    Ok(if !stop.revents().is_empty() {
        Ready::Stop
    } else if line.revents().intersects(PollFlags::OUT.complement()) {
        Ready::Line
    } else if line.revents().is_empty() && on_disk.revents().is_empty() {
        Ready::Nothing
    } else {
        Ready::Other
    })
}

/// A vmcore on stdin is a mistake worth a word of its own.
fn refuse_files(first: &[u8]) -> Result<(), Error> {
    match kind_of(first) {
        None => Ok(()),
        Some(kind) => {
            let what = format!(
                "the input is {}, not a line: use `rcapture {}` on the file",
                kind.name(),
                match kind {
                    Kind::Journal | Kind::Kdump | Kind::Elf | Kind::Flattened => "convert",
                }
            );
            Err(Error::NotALine { what })
        }
    }
}

fn not_a_line(bytes: u64, rubbish: u64) -> Error {
    Error::NotALine {
        what: format!(
            "no rcapture session in {bytes} bytes ({rubbish} of them neither frames nor text): is it the right line, \
             at the right speed?"
        ),
    }
}

/// The raw bytes of the line, as they come.
struct Recording {
    file: File,
    path: PathBuf,
}

impl Recording {
    fn create(path: &Path) -> Result<Self, Error> {
        Ok(Self { file: crate::file::create_new(path)?, path: path.to_owned() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(Error::io("write recording", &self.path))
    }
}

/// A block that came before its session's header.
struct Waiting {
    session: SessionId,
    stream: u8,
    number: u32,
    generation: u32,
    encoded: Vec<u8>,
}

/// What has come so far.
struct State<'a> {
    options: &'a Options,
    mode: Mode,
    notify: Option<UnixStream>,
    console: Console,
    progress: Progress,
    session: Option<Session>,
    /// Where the sender is to go on, until the receiver has been told.
    resume_at: Option<(u32, Cursor)>,
    /// Since when all of it is stored.
    stored_at: Option<Instant>,
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    another_session: bool,
    /// Whether the console's text so far ends with a line end.
    ends_line: bool,
    warned: bool,
    /// Frames at the last look, and when their number last changed.
    frames: u64,
    heard_at: Instant,
}

impl<'a> State<'a> {
    fn new(options: &'a Options, mode: Mode, notify: UnixStream) -> Self {
        Self {
            options,
            mode,
            notify: Some(notify),
            console: Console::new(),
            progress: Progress::new(),
            session: None,
            resume_at: None,
            stored_at: None,
            waiting: Vec::new(),
            waiting_bytes: 0,
            another_session: false,
            ends_line: true,
            warned: false,
            frames: 0,
            heard_at: Instant::now(),
        }
    }

    fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// Runs the receiver, and takes what it hands over up to the first error.
    fn deliver(&mut self, run: impl FnOnce(&mut dyn FnMut(Event<'_>))) -> Result<(), Error> {
        let mut result = Ok(());
        run(&mut |event| {
            if result.is_ok() {
                result = self.take(event);
            }
        });
        result
    }

    fn take(&mut self, event: Event<'_>) -> Result<(), Error> {
        match event {
            Event::Text(text) => self.text(text),
            Event::Session(id, header) => self.begin(id, header),
            Event::Block { session: id, stream, number, generation, encoded } => match &mut self.session {
                Some(session) if session.id() == id => {
                    session.block(stream, number, generation, encoded)?;
                    self.tell_of_log();
                    Ok(())
                }
                Some(_) => Ok(()),
                None => {
                    self.waiting_bytes += encoded.len();
                    if self.waiting_bytes <= MAX_WAITING_BYTES {
                        let encoded = encoded.to_vec();
                        self.waiting.push(Waiting { session: id, stream, number, generation, encoded });
                    }
                    Ok(())
                }
            },
            Event::End(id, end) => match &mut self.session {
                Some(session) if session.id() == id => session.end(&end),
                _ => Ok(()),
            },
            Event::Restarted { first_block } => match &mut self.session {
                Some(session) => session.restart(first_block),
                None => {
                    // A sender that does not hear us does not send them again.
                    if self.mode == Mode::Answer {
                        self.waiting.retain(|block| block.stream != 0 || block.number < first_block);
                    }
                    Ok(())
                }
            },
            Event::Unknown(error) => {
                if !std::mem::replace(&mut self.warned, true) {
                    self.progress.say(&format!("warning: {error}: a newer rcapture may understand it"));
                }
                Ok(())
            }
        }
    }

    fn begin(&mut self, id: SessionId, header: &SessionHeader) -> Result<(), Error> {
        if self.session.is_some() {
            self.another_session = true;
            return Ok(());
        }
        let Some(notify) = self.notify.take() else { return Ok(()) };
        let mut session = Session::begin(&self.options.directory, id, header, self.mode, notify)?;
        let (next_block, _) = session.resume_at();
        let doing = if next_block == 0 { "receiving into" } else { "going on in" };
        self.progress.say(&format!("{doing} {}", session.directory().display()));
        session.console(self.console.early())?;
        if next_block > 0 && self.mode == Mode::Answer {
            self.resume_at = Some(session.resume_at());
            // They may be of a time before the sender went back; it sends them again.
            self.waiting.clear();
        }
        for block in self.waiting.drain(..).filter(|block| block.session == id) {
            session.block(block.stream, block.number, block.generation, &block.encoded)?;
        }
        self.session = Some(session);
        self.tell_of_log();
        Ok(())
    }

    /// A person need not wait for the rest to read the kernel's last words.
    fn tell_of_log(&mut self) {
        if let Some(path) = self.session.as_mut().and_then(Session::new_log) {
            self.progress.say(&format!("the kernel log is in {}", path.display()));
        }
    }

    fn text(&mut self, text: &[u8]) -> Result<(), Error> {
        let clean = self.console.clean(text);
        self.show(&clean)
    }

    fn show(&mut self, clean: &str) -> Result<(), Error> {
        if clean.is_empty() {
            return Ok(());
        }
        self.ends_line = clean.ends_with('\n');
        self.progress.around(|| {
            let mut out = io::stdout().lock();
            // A terminal that is gone does not stop the dump.
            let _ = out.write_all(clean.as_bytes()).and_then(|()| out.flush());
        });
        match &mut self.session {
            Some(session) => session.console(clean),
            None => {
                self.console.keep_early(clean);
                Ok(())
            }
        }
    }

    /// Has the receiver say what it has to say.
    fn answer(&mut self, receiver: &mut Receiver, outbox: &mut Outbox) {
        if let Some((next_block, cursor)) = self.resume_at.take() {
            receiver.resume_at(next_block, cursor);
        }
        if let Some(session) = &mut self.session {
            receiver.set_durable(session.durable());
        }
        let replies = receiver.take_replies();
        if self.mode == Mode::Answer {
            outbox.add(&replies);
        }
    }

    fn tick(&mut self, receiver: &Receiver) {
        let frames = receiver.stats().frames;
        if frames != self.frames {
            self.frames = frames;
            self.heard_at = Instant::now();
        }
        if let Some(session) = &self.session {
            self.progress.show(session.received());
        }
    }

    fn is_over(&mut self) -> Option<Reason> {
        let session = self.session.as_mut()?;
        let silence = self.heard_at.elapsed();
        if self.another_session {
            return Some(Reason::AnotherSession);
        }
        let reason = session.end_reason();
        if self.mode == Mode::ListenOnly && reason != Reason::EndWithGaps {
            return Some(reason);
        }
        if self.mode == Mode::Answer && session.is_stored() {
            let stored_at = *self.stored_at.get_or_insert_with(Instant::now);
            let is_over =
                silence.min(stored_at.elapsed()) >= SENDER_GONE || stored_at.elapsed() >= STORED_LINGER;
            return is_over.then_some(reason);
        }
        self.stored_at = None;
        let end_linger = if self.mode == Mode::Answer { ANSWERED_END_LINGER } else { END_LINGER };
        if session.has_ended() && silence >= end_linger {
            Some(reason)
        } else if silence >= self.options.timeout {
            Some(Reason::Silence)
        } else {
            None
        }
    }

    fn warn_of_noise(&mut self) {
        if !std::mem::replace(&mut self.warned, true) {
            self.progress.say("warning: nothing but noise so far: is it the right speed?");
        }
    }

    /// The rest of the console's text, and the session.
    fn finish_text(mut self) -> Option<Session> {
        let mut rest = self.console.flush();
        if !self.ends_line {
            rest.push('\n');
        }
        let _ = self.show(&rest);
        self.progress.clear();
        self.session
    }
}
