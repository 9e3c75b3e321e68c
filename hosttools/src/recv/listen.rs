//! Many machines at once: a TCP port that crashed machines connect to.
//!
//! # Flow
//! connection ─▶ [`Greeting`] (all of them on one thread, until a session header comes) ─▶ [`Served`] (a thread for each
//! session), which takes over from connection to connection as its sender needs. One whose dump is complete is told so, and
//! let go ([`dismiss`]).
//!
//! Anybody may connect: everything is bounded before a sender is known, and by [`Limits`] from then on.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wire::{Cursor, SessionHeader, SessionId};

use super::dismissal::dismiss;
use super::greeting::{Connection, Greeting, Heard};
use super::line::{Line, Mode};
use super::notice::{Notice, Teller};
use super::progress::Progress;
use super::reception::{Reason, Reception};
use super::served::{Ending, Served};
use super::wait::TICK;
use super::{Options, Outcome, directory};
use crate::Error;
use crate::mount::LiveMount;

/// Connections that may be without a session header at the same time; the oldest makes room for another. A sender says
/// its header at once.
const MAX_GREETINGS: usize = 64;

/// Connections taken before those that are there are looked at again.
const ACCEPT_AT_ONCE: usize = 16;

/// Sessions that are over and are remembered: a sender that did not hear so may come back.
const MAX_OVER: usize = 256;

/// Senders whose dump is complete that are told so at the same time; others come again.
const MAX_DISMISSALS: usize = 16;

/// Why the sender of a dump that is complete need not come again.
const COMPLETE: &str = "its dump is complete";

/// What a listener allows.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Sessions at the same time.
    pub max_sessions: usize,
    /// Bytes of a session's journal.
    pub max_bytes: Option<u64>,
    /// Bytes that are left free on the disk.
    pub keep_free: u64,
}

/// What else a listener does.
#[derive(Clone, Debug, Default)]
pub struct Listening {
    /// Stop after the first dump.
    pub once: bool,
    /// Run with the directory of each dump as its argument.
    pub exec: Option<OsString>,
    /// Tell what happens as JSON on stdout, an object a line.
    pub json: bool,
}

/// Receives dumps from all machines that connect to `address` (`HOST:PORT`), until `stop` becomes readable; or one only
/// ([`Listening::once`]), and tells what came of it. Only that one can be mounted.
///
/// # Errors
/// [`Error`], if the port cannot be listened on; with [`Listening::once`] also if the dump could not be written.
pub fn listen(
    address: &str,
    stop: &UnixStream,
    options: &Options,
    limits: &Limits,
    listening: &Listening,
) -> Result<Option<Outcome>, Error> {
    std::fs::create_dir_all(&options.directory).map_err(Error::io("create directory", &options.directory))?;
    let io = || Error::io("listen on", address);
    let socket = TcpListener::bind(address).map_err(io())?;
    socket.set_nonblocking(true).map_err(io())?;
    let max_sessions = if listening.once { 1 } else { limits.max_sessions };
    // One directory shows one session.
    let mount = options.mount.as_ref().filter(|_| listening.once);
    let mount = mount.map(|mount| mount.mount(address)).transpose()?;
    let listener = Listener {
        address,
        socket,
        stop,
        options,
        limits: Limits { max_sessions, ..limits.clone() },
        listening,
        teller: Teller::new(listening.json),
        sessions: Mutex::default(),
        dismissals: AtomicUsize::new(0),
        writing: Mutex::new(()),
        mount: Mutex::new(mount),
    };
    listener.teller.tell(Notice::Listening { address: listener.socket.local_addr().map_err(io())? });
    thread::scope(|scope| listener.run(scope)).map_err(io())?;
    let sessions = listener.sessions.into_inner().unwrap_or_else(PoisonError::into_inner);
    sessions.first_dump.transpose()
}

/// Whether less than `keep_free` bytes are free where `directory` is.
pub(super) fn is_disk_full(directory: &Path, keep_free: u64) -> bool {
    // A disk that cannot tell is written to until it says no.
    rustix::fs::statvfs(directory).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < keep_free)
}

struct Listener<'a> {
    /// As the user has it.
    address: &'a str,
    socket: TcpListener,
    stop: &'a UnixStream,
    options: &'a Options,
    limits: Limits,
    listening: &'a Listening,
    teller: Teller,
    sessions: Mutex<Sessions>,
    /// Senders that are being told that their dump is complete.
    dismissals: AtomicUsize,
    /// Held while a vmcore is written: one after the other, for memory's sake.
    writing: Mutex<()>,
    /// Where the only session is shown, until its vmcore is written; or until it is suspended, then the next one.
    mount: Mutex<Option<LiveMount>>,
}

/// The sessions of a listener.
#[derive(Default)]
struct Sessions {
    live: Vec<Live>,
    /// Those that are over, and why their senders need not come again. The oldest are forgotten.
    over: VecDeque<(SessionId, SessionHeader, &'static str)>,
    first_dump: Option<Result<Outcome, Error>>,
}

/// A session that has a thread.
struct Live {
    id: SessionId,
    header: SessionHeader,
    /// Takes its sender's next connections, until its vmcore is written.
    successors: Option<Sender<Connection>>,
    waker: UnixStream,
}

/// What there is to do.
struct Happened {
    stop: bool,
    connection: bool,
    /// Of each greeting.
    greetings: Vec<bool>,
}

impl Listener<'_> {
    fn mount(&self) -> MutexGuard<'_, Option<LiveMount>> {
        self.mount.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> std::io::Result<()> {
        let mut greetings: Vec<Greeting> = Vec::new();
        loop {
            let happened = self.wait(&greetings)?;
            if happened.stop || (self.listening.once && self.sessions().first_dump.is_some()) {
                return Ok(());
            }
            let mut waiting = Vec::with_capacity(greetings.len());
            for (mut greeting, has_come) in greetings.drain(..).zip(happened.greetings) {
                match if has_come { greeting.read() } else { Heard::Nothing } {
                    Heard::Header(id, header) => self.begin(scope, greeting.into_connection(id, *header)),
                    Heard::Refused(why) => self.reject(greeting.peer(), why),
                    Heard::Nothing if greeting.is_late() => {
                        self.reject(greeting.peer(), "no session header came");
                    }
                    Heard::Nothing => waiting.push(greeting),
                }
            }
            greetings = waiting;
            if happened.connection {
                self.accept(&mut greetings);
            }
        }
    }

    fn wait(&self, greetings: &[Greeting]) -> std::io::Result<Happened> {
        let mut fds = vec![PollFd::new(self.stop, PollFlags::IN), PollFd::new(&self.socket, PollFlags::IN)];
        fds.extend(greetings.iter().map(|greeting| PollFd::new(greeting, PollFlags::IN)));
        let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
        match poll(&mut fds, Some(&tick)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut happened = fds.iter().map(|fd| !fd.revents().is_empty());
        let (stop, connection) = (happened.next() == Some(true), happened.next() == Some(true));
        Ok(Happened { stop, connection, greetings: happened.collect() })
    }

    fn accept(&self, greetings: &mut Vec<Greeting>) {
        for _ in 0..ACCEPT_AT_ONCE {
            let (socket, peer) = match self.socket.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    // A connection that is gone already, or no descriptors are left: some time will mend it.
                    thread::sleep(Duration::from_millis(10));
                    return;
                }
            };
            self.teller.tell(Notice::Connected { peer });
            // Replies are small, and wanted at once.
            let _ = socket.set_nodelay(true);
            match Line::socket(socket.into(), peer.to_string(), Mode::Answer) {
                Ok(line) => greetings.push(Greeting::new(line, peer)),
                Err(error) => self.teller.tell(Notice::Failed { peer, error: &error.to_string() }),
            }
            if greetings.len() > MAX_GREETINGS {
                let oldest = greetings.remove(0);
                self.reject(oldest.peer(), "no session header came, and others wait");
            }
        }
    }

    fn reject(&self, peer: SocketAddr, why: &str) {
        self.teller.tell(Notice::Rejected { peer, why });
    }

    /// Gives a connection to the session it belongs to, or begins one.
    fn begin<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, connection: Connection) {
        let peer = connection.peer;
        let mut sessions = self.sessions();
        if let Some(live) = sessions.live.iter().find(|live| live.is(&connection)) {
            let refused = match &live.successors {
                Some(successors) => successors.send(connection).is_err(),
                None => true,
            };
            if refused {
                self.reject(peer, "its vmcore is being written");
            } else {
                // Full: then it is awake.
                let _ = std::io::Write::write(&mut &live.waker, &[0]);
            }
            return;
        }
        // One that stays is there to be looked at.
        let is_wanted = connection.stays && self.mount().is_some();
        let finished = directory::find_finished(&self.options.directory, connection.id, &connection.header)
            .filter(|_| !is_wanted);
        if let Some(stored) = finished {
            return self.dismiss(scope, connection, stored);
        }
        if let Some((.., why)) =
            sessions.over.iter().find(|(id, header, _)| *id == connection.id && *header == connection.header)
        {
            return self.reject(peer, why);
        }
        if sessions.live.len() >= self.limits.max_sessions {
            return self.reject(peer, "as many sessions as allowed are being received");
        }
        if is_disk_full(&self.options.directory, self.limits.keep_free) {
            return self.reject(peer, "too little is free on the disk");
        }
        let progress = Progress::among(self.teller.clone(), peer);
        let pull = self
            .options
            .mount
            .as_ref()
            .zip(self.mount().as_ref())
            .map(|(options, mount)| options.pull(mount));
        let begun = Reception::new(self.options, Mode::Answer, progress, pull).and_then(|reception| {
            let waker = reception.waker()?;
            let (successors, connections) = channel();
            let (id, header) = (connection.id, connection.header.clone());
            let served = Served::new(reception, connections, &self.teller);
            thread::Builder::new()
                .name(peer.to_string())
                .spawn_scoped(scope, move || self.serve(served, connection))?;
            Ok(Live { id, header, successors: Some(successors), waker })
        });
        match begun {
            Ok(live) => sessions.live.push(live),
            Err(error) => self.teller.tell(Notice::Failed { peer, error: &error.to_string() }),
        }
    }

    /// Tells a sender whose dump is complete that it is, and lets it go. The thread is of no session, and soon over.
    fn dismiss<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        connection: Connection,
        stored: (u32, Cursor),
    ) {
        let peer = connection.peer;
        self.reject(peer, COMPLETE);
        if self.dismissals.fetch_add(1, Ordering::Relaxed) >= MAX_DISMISSALS {
            self.dismissals.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let dismissed = thread::Builder::new().name(peer.to_string()).spawn_scoped(scope, move || {
            // A connection that breaks is made again.
            let _ = dismiss(connection, stored, self.stop);
            self.dismissals.fetch_sub(1, Ordering::Relaxed);
        });
        if let Err(error) = dismissed {
            self.dismissals.fetch_sub(1, Ordering::Relaxed);
            self.teller.tell(Notice::Failed { peer, error: &error.to_string() });
        }
    }

    /// Receives one session, and tells what came of it.
    fn serve(&self, served: Served<'_>, first: Connection) {
        let (id, header, peer) = (first.id, first.header.clone(), first.peer);
        let mut turn = None;
        let ending = served.receive(first, self.stop, self.options, &self.limits, || {
            for live in self.sessions().live.iter_mut().filter(|live| live.id == id && live.header == header)
            {
                live.successors = None;
            }
            // Nobody reads what is about to be written.
            drop(self.mount().take());
            turn = Some(self.writing.lock().unwrap_or_else(PoisonError::into_inner));
        });
        drop(turn);
        let (mut over, mut dump) = (None, None);
        match ending {
            Ok(Ending::Nothing) => self.reject(peer, "nothing came but a session header"),
            Ok(Ending::Suspended(directory)) => {
                let why = "suspended: too little is free on the disk";
                self.teller.tell(Notice::Suspended { directory: &directory, why });
                self.mount_anew(peer);
            }
            Ok(Ending::Dump(outcome, reason)) => {
                self.tell_of_dump(&outcome);
                over = match reason {
                    Reason::TooManyBytes => Some("its limit of bytes was reached"),
                    Reason::Absurd => Some("it told of more memory than it has"),
                    _ if outcome.is_complete => Some(COMPLETE),
                    _ => None,
                };
                dump = Some(Ok(outcome));
            }
            Err(error) => {
                self.teller.tell(Notice::Failed { peer, error: &chain(&error) });
                dump = Some(Err(error));
            }
        }
        let mut sessions = self.sessions();
        sessions.live.retain(|live| !(live.id == id && live.header == header));
        if let Some(why) = over {
            if sessions.over.len() >= MAX_OVER {
                sessions.over.pop_front();
            }
            sessions.over.push_back((id, header, why));
        }
        if self.listening.once && sessions.first_dump.is_none() {
            sessions.first_dump = dump;
        }
    }

    /// Whoever looks at a session that is suspended looks at no other: the next one may be another machine's.
    fn mount_anew(&self, peer: SocketAddr) {
        let mut mount = self.mount();
        let (Some(options), Some(before)) = (&self.options.mount, mount.take()) else { return };
        drop(before);
        match options.mount(self.address) {
            Ok(new) => *mount = Some(new),
            Err(error) => self.teller.tell(Notice::Failed { peer, error: &chain(&error) }),
        }
    }

    fn tell_of_dump(&self, outcome: &Outcome) {
        let Outcome { directory, is_complete, summary } = outcome;
        let vmcore = &directory.join("vmcore");
        self.teller.tell(if *is_complete {
            Notice::Complete { directory, vmcore, summary }
        } else {
            Notice::Incomplete { directory, vmcore, summary }
        });
        let Some(program) = &self.listening.exec else { return };
        // Its words are for people: stdout may be for programs.
        let status = Command::new(program)
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(std::io::stderr())
            .status()
            .map_or_else(|error| error.to_string(), |status| status.to_string());
        let command = &program.to_string_lossy();
        self.teller.tell(Notice::Executed { directory, command, status: &status });
    }
}

impl Live {
    fn is(&self, connection: &Connection) -> bool {
        self.id == connection.id && self.header == connection.header
    }
}

/// An error and what caused it, in one line.
fn chain(error: &Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
