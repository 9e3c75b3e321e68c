//! One session of a listener, over as many connections as its sender needs.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::greeting::Connection;
use super::line::Line;
use super::listen::{Limits, is_disk_full};
use super::notice::{Notice, Teller};
use super::reception::{Reason, Reception};
use super::session::Session;
use super::wait::{Ready, wait};
use super::{Options, Outcome, READ_BYTES};
use crate::Error;

/// A connection on which no frame came for so long may be half open: a sender says something every second. Another one
/// takes its place.
const HALF_OPEN: Duration = Duration::from_secs(3);

/// For so long another connection waits for that.
const PATIENCE: Duration = Duration::from_secs(5);

/// A session into which nothing new came for this many timeouts is over, however lively its sender.
const STALLED_TIMEOUTS: u32 = 10;

/// How often the disk is looked at.
const DISK_EVERY: Duration = Duration::from_secs(1);

/// Why a connection is closed that has waited in vain.
const TAKEN: &str = "its session is being received over another connection";

/// What became of a session.
pub(super) enum Ending {
    /// A dump.
    Dump(Outcome, Reason),
    /// No block came: nothing is left of it.
    Nothing,
    /// The journal is to be gone on with later.
    Suspended(PathBuf),
}

/// Makes a vmcore of what came; `finishing` is called before. Of a session without a block nothing is left.
pub(super) fn finish(
    reception: Reception<'_>,
    reason: Reason,
    options: &Options,
    finishing: impl FnOnce(),
) -> Result<Ending, Error> {
    let stats = reception.stats();
    let Some((session, progress)) = reception.finish() else { return Ok(Ending::Nothing) };
    if !session.has_blocks() {
        return session.discard().map(|()| Ending::Nothing);
    }
    finishing();
    let mut show = |done, total| progress.show_writing(done, total);
    let outcome = session.finish(options, reason.text(), &stats, &mut show)?;
    Ok(Ending::Dump(outcome, reason))
}

/// A session and the connections it comes over.
pub(super) struct Served<'a> {
    reception: Reception<'a>,
    line: Option<Line>,
    /// Connections of the same sender.
    successors: Receiver<Connection>,
    /// The first of them, and since when it waits.
    successor: Option<(Instant, Connection)>,
    teller: &'a Teller,
    /// Bytes of the journal, and since when.
    grew: (u64, Instant),
    looked_at_disk: Option<Instant>,
}

impl<'a> Served<'a> {
    pub(super) fn new(
        reception: Reception<'a>,
        successors: Receiver<Connection>,
        teller: &'a Teller,
    ) -> Self {
        Self {
            reception,
            line: None,
            successors,
            successor: None,
            teller,
            grew: (0, Instant::now()),
            looked_at_disk: None,
        }
    }

    /// Receives the session that `first` has begun. `finishing` is called when no connection is taken any more, and a
    /// vmcore is about to be written.
    ///
    /// # Errors
    /// [`Error`], if what came could not be written. Whatever was received is then in the journal.
    pub(super) fn receive(
        mut self,
        first: Connection,
        stop: &UnixStream,
        options: &Options,
        limits: &Limits,
        finishing: impl FnOnce(),
    ) -> Result<Ending, Error> {
        self.line = Some(first.line);
        self.push(&first.heard)?;
        let mut buf = vec![0; READ_BYTES];
        let mut over = None;
        let reason = loop {
            if let Some(line) = &mut self.line {
                self.reception.answer(line);
            }
            let reason =
                over.or_else(|| self.reception.is_over()).or_else(|| self.limit_reached(options, limits));
            if let Some(reason) = reason {
                if !self.reception.is_looked_at() {
                    break reason;
                }
                if over.replace(reason).is_none() {
                    self.line = None;
                    self.reception.nothing_more_comes();
                }
            } else if self.looked_at_disk.is_none_or(|at| at.elapsed() >= DISK_EVERY) {
                self.looked_at_disk = Some(Instant::now());
                if is_disk_full(&options.directory, limits.keep_free) {
                    return self.suspend();
                }
            }
            let ready = wait(self.line.as_ref(), self.reception.has_replies(), stop, self.reception.woken());
            match ready.map_err(Error::io("wait for", options.directory.as_path()))? {
                Ready::Stop => break over.unwrap_or(Reason::Stopped),
                Ready::Nothing => self.reception.idle()?,
                Ready::Other => {}
                Ready::Line => self.read(&mut buf)?,
            }
            if over.is_none() {
                self.change_lines()?;
            } else {
                self.reject_successors();
            }
        };
        self.reject_successors();
        let Self { reception, line, .. } = self;
        drop(line);
        finish(reception, reason, options, finishing)
    }

    fn limit_reached(&mut self, options: &Options, limits: &Limits) -> Option<Reason> {
        let bytes = self.reception.session().map_or(0, Session::journal_bytes);
        if bytes != self.grew.0 {
            self.grew = (bytes, Instant::now());
        }
        if limits.max_bytes.is_some_and(|most| bytes > most) {
            Some(Reason::TooManyBytes)
        } else if !self.reception.is_looked_at()
            && self.grew.1.elapsed() >= options.timeout.saturating_mul(STALLED_TIMEOUTS)
        {
            Some(Reason::Stalled)
        } else {
            None
        }
    }

    fn suspend(self) -> Result<Ending, Error> {
        let Some((session, _)) = self.reception.finish() else { return Ok(Ending::Nothing) };
        if session.has_blocks() {
            session.suspend().map(Ending::Suspended)
        } else {
            session.discard().map(|()| Ending::Nothing)
        }
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<(), Error> {
        let Some(line) = &mut self.line else { return Ok(()) };
        match line.read(buf) {
            Ok(0) => {
                self.reception.line_closed();
                self.disconnect("closed by its sender");
            }
            Ok(count) => self.push(buf.get(..count).unwrap_or_default())?,
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => self.disconnect(&error.to_string()),
        }
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.reception.push(bytes)?;
        if self.reception.is_another_session() {
            self.disconnect("it went on with another session");
        }
        Ok(())
    }

    fn disconnect(&mut self, why: &str) {
        self.line = None;
        // A sender that has heard that all is stored may go.
        if !self.reception.is_stored() {
            self.teller.tell(Notice::Disconnected { directory: self.directory(), why });
        }
    }

    fn directory(&self) -> &Path {
        self.reception.session().map_or(Path::new(""), Session::directory)
    }

    /// Lets another connection of the same sender take the place of one that is gone, or of one that is quiet.
    fn change_lines(&mut self) -> Result<(), Error> {
        while let Ok(connection) = self.successors.try_recv() {
            if self.successor.is_none() {
                self.successor = Some((Instant::now(), connection));
            } else {
                self.reject(&connection, TAKEN);
            }
        }
        let is_free = self.line.is_none() || self.reception.silence() >= HALF_OPEN;
        match self.successor.take() {
            Some((_, Connection { line, peer, heard, .. })) if is_free => {
                self.line = Some(line);
                self.reception.line_changed();
                self.teller.tell(Notice::Reconnected { directory: self.directory(), peer });
                self.push(&heard)?;
            }
            Some((since, connection)) if since.elapsed() >= PATIENCE => self.reject(&connection, TAKEN),
            waiting => self.successor = waiting,
        }
        Ok(())
    }

    /// Nothing more is taken of its sender.
    fn reject_successors(&mut self) {
        let first = self.successor.take().map(|(_, connection)| connection);
        for connection in first.into_iter().chain(self.successors.try_iter()) {
            self.reject(&connection, "its session is over");
        }
    }

    fn reject(&self, connection: &Connection, why: &str) {
        self.teller.tell(Notice::Rejected { peer: connection.peer, why });
    }
}
