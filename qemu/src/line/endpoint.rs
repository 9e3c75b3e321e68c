//! What an end of a line is connected to.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::outcome::{IoContext, Result};

/// How long to wait before another attempt to connect.
const RETRY: Duration = Duration::from_millis(50);

/// An end of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `unix-listen:PATH`: a unix socket the line makes.
    UnixListen(PathBuf),
    /// `unix:PATH`: a unix socket somebody else makes; tried until it is there.
    UnixConnect(PathBuf),
    /// `tcp-listen:HOST:PORT`.
    TcpListen(String),
    /// `tcp:HOST:PORT`; tried until somebody listens.
    TcpConnect(String),
    /// `fifo:PATH`: the named pipes `PATH.in` (to whoever is there) and `PATH.out` (from there), which the
    /// line makes, named as QEMU's `-chardev pipe` wants them.
    Fifo(PathBuf),
    /// `pty:PATH`: a terminal the line makes, with a symbolic link to it at PATH.
    Pty(PathBuf),
    /// `PATH` of a terminal or serial port.
    Tty(PathBuf),
    /// `null`: nobody, ever.
    Null,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("unix-listen", path)) => Ok(Self::UnixListen(path.into())),
            Some(("unix", path)) => Ok(Self::UnixConnect(path.into())),
            Some(("tcp-listen", address)) => Ok(Self::TcpListen(address.into())),
            Some(("tcp", address)) => Ok(Self::TcpConnect(address.into())),
            Some(("fifo", path)) => Ok(Self::Fifo(path.into())),
            Some(("pty", path)) => Ok(Self::Pty(path.into())),
            _ if text.starts_with('/') => Ok(Self::Tty(text.into())),
            _ if text == "null" => Ok(Self::Null),
            _ => Err("unix-listen:PATH, unix:PATH, tcp-listen:HOST:PORT, tcp:HOST:PORT, fifo:PATH, \
                      pty:PATH, the /path of a serial port, or null"
                .into()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnixListen(path) => write!(f, "unix-listen:{}", path.display()),
            Self::UnixConnect(path) => write!(f, "unix:{}", path.display()),
            Self::TcpListen(address) => write!(f, "tcp-listen:{address}"),
            Self::TcpConnect(address) => write!(f, "tcp:{address}"),
            Self::Fifo(path) => write!(f, "fifo:{}", path.display()),
            Self::Pty(path) => write!(f, "pty:{}", path.display()),
            Self::Tty(path) => write!(f, "{}", path.display()),
            Self::Null => f.write_str("null"),
        }
    }
}

/// An open end: perhaps connected, perhaps waiting for somebody.
#[derive(Debug)]
pub(crate) struct Port {
    endpoint: Endpoint,
    listener: Option<OwnedFd>,
    connection: Option<OwnedFd>,
    /// Where to write, if not to the connection.
    output: Option<OwnedFd>,
    /// The other side of a pty is kept open, so that its user may come and go.
    _terminal: Option<OwnedFd>,
    next_attempt: Instant,
}

impl Port {
    /// Opens the end. Only what cannot be mended by waiting is an error.
    pub(crate) fn open(endpoint: &Endpoint) -> Result<Self> {
        let mut port = Self {
            endpoint: endpoint.clone(),
            listener: None,
            connection: None,
            output: None,
            _terminal: None,
            next_attempt: Instant::now(),
        };
        match endpoint {
            Endpoint::UnixListen(path) => {
                remove_stale_socket(path);
                let listener = UnixListener::bind(path).on("listen on", path)?;
                listener.set_nonblocking(true).on("set up", path)?;
                port.listener = Some(listener.into());
            }
            Endpoint::TcpListen(address) => {
                let listener = TcpListener::bind(address).on("listen on", address)?;
                listener.set_nonblocking(true).on("set up", address)?;
                port.listener = Some(listener.into());
            }
            Endpoint::Fifo(path) => {
                let [input, output] = fifos(path);
                port.connection = Some(open_fifo(&output).on("make", &output)?);
                port.output = Some(open_fifo(&input).on("make", &input)?);
            }
            Endpoint::Pty(link) => {
                let (ours, theirs) = open_pty(link).on("make a terminal at", link)?;
                port.connection = Some(ours);
                port._terminal = Some(theirs);
            }
            Endpoint::Tty(path) => port.connection = Some(open_tty(path).on("open", path)?),
            Endpoint::UnixConnect(_) | Endpoint::TcpConnect(_) | Endpoint::Null => {}
        }
        Ok(port)
    }

    /// Whether somebody is there.
    pub(crate) const fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether nobody will ever be there.
    pub(crate) fn is_nobody(&self) -> bool {
        self.endpoint == Endpoint::Null
    }

    /// The descriptor to read from.
    pub(crate) fn input(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(AsFd::as_fd)
    }

    /// The descriptor to write to.
    pub(crate) fn output(&self) -> Option<BorrowedFd<'_>> {
        self.output.as_ref().or(self.connection.as_ref()).map(AsFd::as_fd)
    }

    /// The descriptor that becomes readable when somebody comes.
    pub(crate) fn listener(&self) -> Option<BorrowedFd<'_>> {
        match self.connection {
            None => self.listener.as_ref().map(AsFd::as_fd),
            Some(_) => None,
        }
    }

    /// Whether a connection has to be tried again and again.
    pub(crate) const fn is_trying(&self) -> bool {
        self.connection.is_none()
            && matches!(self.endpoint, Endpoint::UnixConnect(_) | Endpoint::TcpConnect(_) | Endpoint::Tty(_))
    }

    /// Connects, or takes in who came.
    pub(crate) fn attend(&mut self) {
        if self.connection.is_some() {
            return;
        }
        if let Some(listener) = &self.listener {
            self.connection = rustix::net::accept(listener).ok().and_then(|fd| nonblocking(fd).ok());
        } else if self.is_trying() && Instant::now() >= self.next_attempt {
            self.next_attempt = Instant::now() + RETRY;
            self.connection = self.connect().ok().and_then(|fd| nonblocking(fd).ok());
        }
    }

    fn connect(&self) -> io::Result<OwnedFd> {
        match &self.endpoint {
            Endpoint::UnixConnect(path) => Ok(UnixStream::connect(path)?.into()),
            Endpoint::TcpConnect(address) => {
                let address = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
                let stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
                stream.set_nodelay(true)?;
                Ok(stream.into())
            }
            Endpoint::Tty(path) => open_tty(path),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Reads what is there, at most `buffer`. Nothing there: 0.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let Some(connection) = &self.connection else { return 0 };
        match rustix::io::read(connection, buffer) {
            Ok(0) => self.hang_up(),
            Ok(count) => return count,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.hang_up(),
        }
        0
    }

    /// Writes what there is room for.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        let Some(output) = self.output() else { return 0 };
        match rustix::io::write(output, bytes) {
            Ok(count) => return count,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.hang_up(),
        }
        0
    }

    fn hang_up(&mut self) {
        // Our side of a pty stays, whoever comes and goes on the other.
        if !matches!(self.endpoint, Endpoint::Pty(_)) {
            self.connection = None;
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // Left-over names only confuse; whether they can be removed changes nothing.
        match &self.endpoint {
            Endpoint::UnixListen(path) | Endpoint::Pty(path) => drop(fs::remove_file(path)),
            Endpoint::Fifo(path) => fifos(path).iter().for_each(|fifo| drop(fs::remove_file(fifo))),
            _ => {}
        }
    }
}

/// A socket's file outlives the process that made it.
fn remove_stale_socket(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
        && UnixStream::connect(path).is_err()
    {
        // If it cannot be removed, bind says so.
        let _ = fs::remove_file(path);
    }
}

fn nonblocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
    Ok(fd)
}

fn open_tty(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let fd: OwnedFd = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?.into();
    set_raw(&fd)?;
    Ok(fd)
}

/// `PATH.in` and `PATH.out`.
fn fifos(path: &Path) -> [PathBuf; 2] {
    ["in", "out"].map(|extension| {
        let mut name = path.as_os_str().to_owned();
        name.push(".");
        name.push(extension);
        name.into()
    })
}

/// Open for both, so that its end never comes, whoever else opens and closes it.
fn open_fifo(path: &Path) -> io::Result<OwnedFd> {
    match rustix::fs::mkfifoat(rustix::fs::CWD, path, Mode::RUSR | Mode::WUSR) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    nonblocking(File::options().read(true).write(true).open(path)?.into())
}

fn open_pty(link: &Path) -> io::Result<(OwnedFd, OwnedFd)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let name = name.to_str().map_err(io::Error::other)?;
    let theirs = open_tty(Path::new(name))?;
    if fs::symlink_metadata(link).is_ok_and(|found| found.is_symlink()) {
        fs::remove_file(link)?;
    }
    std::os::unix::fs::symlink(name, link)?;
    Ok((nonblocking(ours)?, theirs))
}

/// Bytes as they are: no echo, no line editing.
fn set_raw(fd: &OwnedFd) -> io::Result<()> {
    let mut modes = tcgetattr(fd)?;
    modes.make_raw();
    Ok(tcsetattr(fd, OptionalActions::Now, &modes)?)
}
