//! Lines to receive from: a serial port, a socket, a pipe.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::termios::{self, ControlModes, OptionalActions, Termios};

use crate::Error;

/// How long a TCP peer may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a peer that is not there is looked for again.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// Where a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A serial port or pseudo terminal, and its speed in bits per second.
    Serial(PathBuf, u32),
    /// A unix socket that listens.
    Unix(PathBuf),
    /// HOST:PORT of a TCP port that listens.
    Tcp(String),
    /// Standard input.
    Stdin,
}

/// Whether the receiver may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It answers the sender.
    Answer,
    /// It writes nothing to the line.
    ListenOnly,
}

/// An open line. A terminal gets its settings back when it is dropped.
pub struct Line {
    file: File,
    name: String,
    mode: Mode,
    is_interactive: bool,
    settings: Option<Termios>,
}

impl Line {
    /// Opens a line. A socket that is not there yet is waited for as long as `wait`. Standard input is only listened to.
    ///
    /// # Errors
    /// [`Error::Io`], if it cannot be opened.
    pub fn open(source: &Source, mode: Mode, wait: Duration) -> Result<Self, Error> {
        match source {
            Source::Serial(path, speed) => {
                let doing = "open serial port";
                let file = OpenOptions::new()
                    .read(true)
                    .write(mode == Mode::Answer)
                    .custom_flags((OFlags::NOCTTY | OFlags::NONBLOCK).bits().cast_signed())
                    .open(path)
                    .map_err(Error::io(doing, path))?;
                let settings = make_raw(&file, *speed).map_err(Error::io("set up serial port", path))?;
                let name = path.display().to_string();
                Ok(Self { file, name, mode, is_interactive: true, settings: Some(settings) })
            }
            Source::Unix(path) => {
                let socket =
                    retry(wait, || UnixStream::connect(path)).map_err(Error::io("connect to", path))?;
                Self::socket(socket.into(), path.display().to_string(), mode)
            }
            Source::Tcp(address) => {
                let socket = retry(wait, || connect(address)).map_err(Error::io("connect to", address))?;
                Self::socket(socket.into(), address.clone(), mode)
            }
            Source::Stdin => {
                let stdin = io::stdin().as_fd().try_clone_to_owned();
                let stdin = stdin.map_err(Error::io("open", "standard input"))?;
                Ok(Self {
                    file: stdin.into(),
                    name: "standard input".to_owned(),
                    mode: Mode::ListenOnly,
                    is_interactive: false,
                    settings: None,
                })
            }
        }
    }

    /// A line that is open already: one end of a socket pair, say.
    ///
    /// # Errors
    /// [`Error::Io`], if it cannot be kept from blocking.
    pub fn socket(fd: OwnedFd, name: String, mode: Mode) -> Result<Self, Error> {
        let make_nonblocking = || fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK);
        make_nonblocking().map_err(|error| Error::io("set up socket", &name)(error.into()))?;
        Ok(Self { file: fd.into(), name, mode, is_interactive: true, settings: None })
    }

    /// What to call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the receiver may speak.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether something may still come after any amount of noise.
    #[must_use]
    pub fn is_interactive(&self) -> bool {
        self.is_interactive
    }
}

impl Read for Line {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read(buf)
    }
}

/// Never waits, but for standard input.
impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(settings) = &self.settings {
            // The port may be unplugged by now.
            let _ = termios::tcsetattr(&self.file, OptionalActions::Now, settings);
            let _ = termios::ioctl_tiocnxcl(&self.file);
        }
    }
}

/// Makes a terminal a line of bytes: raw, 8 bits, no parity, one stop bit. Returns its settings before. Another
/// receiver cannot open it meanwhile.
fn make_raw(file: &File, speed: u32) -> io::Result<Termios> {
    let before = termios::tcgetattr(file)?;
    termios::ioctl_tiocexcl(file)?;
    let mut raw = before.clone();
    raw.make_raw();
    raw.control_modes.remove(ControlModes::CSTOPB | ControlModes::PARENB | ControlModes::CRTSCTS);
    raw.control_modes.insert(ControlModes::CREAD | ControlModes::CLOCAL | ControlModes::CS8);
    raw.set_speed(speed)?;
    termios::tcsetattr(file, OptionalActions::Now, &raw)?;
    Ok(before)
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Tries until it works, or fails otherwise than by nobody listening, or `wait` is over.
fn retry<T>(wait: Duration, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let started = Instant::now();
    loop {
        match attempt() {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
                    && started.elapsed() < wait =>
            {
                thread::sleep(RETRY_EVERY);
            }
            result => return result,
        }
    }
}
