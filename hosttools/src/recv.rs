//! Receiving a dump: from a line to a directory with a vmcore.
//!
//! # Flow
//! [`Line`] ─▶ `wire::Receiver` ─▶ session (journal, assembly) and console text ─▶ vmcore;
//! and back: journal on disk ─▶ `wire::Receiver` ─▶ outbox ─▶ [`Line`].
//!
//! Nothing is written to the line before a session header and after the end: on it may sit a login prompt or a boot
//! loader. A receiver that finds the unfinished journal of the session goes on with it.
//!
//! [`receive`] takes one dump from one line, [`listen()`] many at the same time from whoever connects.

mod console;
mod directory;
mod dismissal;
mod dmesg;
mod greeting;
mod line;
mod listen;
mod notice;
mod outbox;
mod progress;
mod pull;
mod reception;
mod replay;
mod served;
mod session;
mod syncer;
mod wait;

pub use line::{Line, Mode, Source};
pub use listen::{Limits, Listening, listen};
#[doc(hidden)]
pub use replay::replay;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use progress::Progress;
use pull::Pull;
use reception::{Reason, Reception};
use wait::{Ready, wait};

use crate::Error;
use crate::dump::{Kind, kind_of};
use crate::mount::LiveMount;
use crate::write::{self, WriteBar};

/// Bytes read from the line at once.
const READ_BYTES: usize = 64 << 10;

/// So much of what a pipe brings is looked at for a session before it is taken for something else.
const MAX_FOREIGN_BYTES: u64 = 4 << 20;

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
    /// Show the session as a directory meanwhile.
    pub mount: Option<MountOptions>,
}

/// How a session that is being received is shown as a directory.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// An empty directory.
    pub directory: PathBuf,
    /// A reader gets an error after so long in which nothing came that a reader waits for, and after six times as long
    /// whatever came.
    pub read_timeout: Duration,
    /// Only what is read is to be sent.
    pub on_demand: bool,
}

impl MountOptions {
    fn mount(&self, line: &str) -> Result<LiveMount, Error> {
        let mount = LiveMount::new(&self.directory, self.read_timeout)?;
        mount.live().say(|said| line.clone_into(&mut said.line));
        Ok(mount)
    }

    fn pull(&self, mount: &LiveMount) -> Pull {
        Pull::new(Arc::clone(mount.live()), self.on_demand)
    }
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

/// Receives one dump from `line`. `stop` becomes readable when the user wants to stop. A session that is mounted is there
/// until it is unmounted, released or `stop`ped.
///
/// # Errors
/// [`Error`], if no session came, or what came could not be written. Whatever was received is then in the journal.
pub fn receive(line: Line, stop: &UnixStream, options: &Options) -> Result<Outcome, Error> {
    let mut record = options.record.as_deref().map(Recording::create).transpose()?;
    let mount = options.mount.as_ref().map(|mount| mount.mount(line.name())).transpose()?;
    let pull = options.mount.as_ref().zip(mount.as_ref()).map(|(options, mount)| options.pull(mount));
    let name = line.name().to_owned();
    let mut reception = Reception::new(options, line.mode(), Progress::new(), pull)
        .map_err(Error::io("make a socket pair for", &name))?;
    let mut line = Some(line);
    let mut buf = vec![0; READ_BYTES];
    let mut total_bytes = 0_u64;
    let mut over = None;
    let ended_by = loop {
        if let Some(line) = &mut line {
            reception.answer(line);
        }
        if let Some(reason) = over.or_else(|| reception.is_over()) {
            if !reception.is_looked_at() {
                break reason;
            }
            if over.is_none() {
                over = Some(reason);
                // From here on the terminal of the line is nobody's.
                line = None;
                reception.nothing_more_comes();
            }
        }
        let ready = wait(line.as_ref(), reception.has_replies(), stop, reception.woken())
            .map_err(Error::io("wait for", &name))?;
        let count = match (ready, &mut line) {
            (Ready::Stop, _) => break over.unwrap_or(Reason::Stopped),
            (Ready::Nothing, Some(_)) => {
                reception.idle()?;
                continue;
            }
            (Ready::Other, _) | (_, None) => continue,
            (Ready::Line, Some(line)) => match line.read(&mut buf) {
                Ok(count) => count,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) =>
                {
                    continue;
                }
                // What a pty or an unplugged adapter says when the other end is gone.
                Err(error)
                    if reception.has_session()
                        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) =>
                {
                    0
                }
                Err(error) => return Err(Error::io("read from", &name)(error)),
            },
        };
        if count == 0 {
            reception.line_closed();
            let reason = reception.is_over().unwrap_or(Reason::Closed);
            if !reception.is_looked_at() {
                break reason;
            }
            (over, line) = (Some(reason), None);
            reception.nothing_more_comes();
            continue;
        }
        let bytes = buf.get(..count).unwrap_or_default();
        if let Some(record) = &mut record {
            record.write(bytes)?;
        }
        if total_bytes == 0 {
            refuse_files(bytes)?;
        }
        total_bytes += count as u64;
        reception.push(bytes)?;
        let stats = reception.stats();
        if !reception.has_session() && stats.frames == 0 && stats.rubbish_bytes > MAX_FOREIGN_BYTES {
            if line.as_ref().is_some_and(Line::is_interactive) {
                reception.warn_of_noise();
            } else {
                return Err(not_a_line(total_bytes, stats.rubbish_bytes));
            }
        }
    };
    // From here on the terminal of the line is nobody's, and nobody reads what is about to be written.
    drop(line);
    drop(mount);
    drop(record);
    let stats = reception.stats();
    let Some((session, progress)) = reception.finish() else {
        return Err(match ended_by {
            Reason::Stopped => {
                Error::NotALine { what: "stopped before a session began: nothing to keep".to_owned() }
            }
            _ => not_a_line(total_bytes, stats.rubbish_bytes),
        });
    };
    drop(progress);
    let bar = WriteBar::new();
    session.finish(options, ended_by.text(), &stats, &mut |done, total| bar.show(done, total))
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
