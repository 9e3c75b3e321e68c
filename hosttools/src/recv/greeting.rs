//! A connection that has not yet said whose it is.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use wire::line::{Chunk, Deframer, MAX_CODED_BYTES};
use wire::{Body, Run, Service, SessionHeader, SessionId};

use super::line::Line;

/// For so long a session header is awaited: a sender that nobody answers repeats it every 10 s.
const PATIENCE: Duration = Duration::from_secs(15);

/// So many bytes that are no frames are taken for something else than a crashed machine.
const MAX_FOREIGN_BYTES: usize = 256 << 10;

/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;

/// A connection whose sender is known.
pub(super) struct Connection {
    pub(super) line: Line,
    pub(super) peer: SocketAddr,
    pub(super) id: SessionId,
    pub(super) header: SessionHeader,
    /// Whether the sender stays when its dump is complete.
    pub(super) stays: bool,
    /// The last bytes that came: the session header is in them.
    pub(super) heard: Vec<u8>,
}

/// What became of a connection.
pub(super) enum Heard {
    /// Nothing that tells yet.
    Nothing,
    /// Its session header.
    Header(SessionId, Box<SessionHeader>),
    /// It is to be closed, for this reason.
    Refused(&'static str),
}

/// A connection that has not yet said whose it is. It holds some 20 KiB at most.
pub(super) struct Greeting {
    line: Line,
    peer: SocketAddr,
    since: Instant,
    deframer: Deframer,
    foreign_bytes: usize,
    stays: bool,
    heard: Vec<u8>,
}

impl Greeting {
    pub(super) fn new(line: Line, peer: SocketAddr) -> Self {
        let (since, deframer) = (Instant::now(), Deframer::new());
        Self { line, peer, since, deframer, foreign_bytes: 0, stays: false, heard: Vec::new() }
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether it has had its time.
    pub(super) fn is_late(&self) -> bool {
        self.since.elapsed() >= PATIENCE
    }

    /// Reads what has come.
    pub(super) fn read(&mut self) -> Heard {
        let mut buf = [0; READ_BYTES];
        match self.line.read(&mut buf) {
            Ok(0) => Heard::Refused("closed before a session header came"),
            Ok(count) => self.take(buf.get(..count).unwrap_or_default()),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                Heard::Nothing
            }
            Err(_) => Heard::Refused("broken before a session header came"),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Heard {
        // A frame that has begun is no longer than this.
        let old = self.heard.len().saturating_sub(MAX_CODED_BYTES + 1);
        self.heard.drain(..old);
        self.heard.extend_from_slice(bytes);
        let (mut header, mut stays, mut foreign_bytes) = (None, false, 0);
        self.deframer.push(bytes, |chunk| match chunk {
            Chunk::Frame(frame) => {
                if let Body::Session(payload) = frame.body
                    && header.is_none()
                    && let Some((_, rest)) = Run::decode(payload)
                {
                    header = SessionHeader::decode(rest).map(|header| (frame.session, header));
                    stays = Service::decode(payload).is_some_and(|service| service.stays);
                }
            }
            Chunk::Unknown(_) => {}
            Chunk::Text(text) => foreign_bytes += text.len(),
            Chunk::Rubbish(count) => foreign_bytes += count,
        });
        self.foreign_bytes += foreign_bytes;
        self.stays = stays;
        match header {
            Some((id, header)) => Heard::Header(id, Box::new(header)),
            None if self.foreign_bytes > MAX_FOREIGN_BYTES => {
                Heard::Refused("what it sends is no rcapture session")
            }
            None => Heard::Nothing,
        }
    }

    /// It has said whose it is.
    pub(super) fn into_connection(self, id: SessionId, header: SessionHeader) -> Connection {
        let Self { line, peer, stays, heard, .. } = self;
        Connection { line, peer, id, header, stays, heard }
    }
}

impl AsFd for Greeting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}
