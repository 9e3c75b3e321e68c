//! The Ethernet's process: moves frames between two ends through two channels.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::channel::{Channel, Counters};
use super::options::EtherOptions;
use crate::control::{Command, Commands, say, say_report};
use crate::outcome::{IoContext, Result};

/// Nothing but a descriptor or this ends a wait.
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// An end that takes no frame now is asked again so soon. (The socket cannot tell: it is not connected, so that QEMU may
/// come late.)
const ASK_AGAIN: Duration = Duration::from_micros(200);
/// More than any frame.
const FRAME_BYTES: usize = 1 << 16;

/// What became of the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// From the target to the host.
    pub to_host: Counters,
    /// From the host to the target.
    pub to_target: Counters,
}

/// The sockets of one end: `NAME` is the Ethernet's, `NAME.qemu` QEMU's.
pub(super) fn sockets(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    (directory.join(name), directory.join(format!("{name}.qemu")))
}

/// Runs an Ethernet until it is told to quit, with `control` until that ends. Its ends are the sockets `target` and `host`
/// in `directory`, and QEMU's are `target.qemu` and `host.qemu`.
///
/// Prints `ready` on stdout when both ends can be sent to. On stdin, if `control` is set, it takes the commands `cut`,
/// `mend`, `report` and `quit`, one a line, and answers each with a line of JSON.
///
/// # Errors
/// If an end cannot be opened.
pub fn simulate(directory: &Path, options: &EtherOptions, control: bool) -> Result<Report> {
    let mut ether = Simulator {
        start: Instant::now(),
        target: End::open(directory, "target")?,
        host: End::open(directory, "host")?,
        to_host: Channel::new(options, 1),
        to_target: Channel::new(options, 2),
    };
    say("ready")?;
    ether.run(control)?;
    Ok(ether.report())
}

struct Simulator {
    start: Instant,
    target: End,
    host: End,
    to_host: Channel,
    to_target: Channel,
}

impl Simulator {
    fn run(&mut self, control: bool) -> Result<()> {
        let mut commands = Commands::default();
        let mut buffer = vec![0; FRAME_BYTES];
        loop {
            let has_command = self.wait(control)?;
            let now = self.start.elapsed();
            pass(&self.target, &mut self.to_host, &self.host, now, &mut buffer);
            pass(&self.host, &mut self.to_target, &self.target, now, &mut buffer);
            for command in if has_command { commands.read() } else { Vec::new() } {
                match command {
                    Command::Cut | Command::Mend => {
                        self.to_host.set_cut(command == Command::Cut);
                        self.to_target.set_cut(command == Command::Cut);
                    }
                    // It has no rate.
                    Command::Report | Command::FullSpeed => {}
                    Command::Quit => return Ok(()),
                }
                say_report(&self.report())?;
            }
        }
    }

    /// Waits until there may be something to do. Whether there is something to read on stdin.
    fn wait(&self, control: bool) -> Result<bool> {
        let now = self.start.elapsed();
        let stdin = io::stdin();
        let mut polled = vec![
            PollFd::new(&self.target.socket, PollFlags::IN),
            PollFd::new(&self.host.socket, PollFlags::IN),
        ];
        if control {
            polled.push(PollFd::new(&stdin, PollFlags::IN));
        }
        let arrivals = [self.to_host.next_arrival(), self.to_target.next_arrival()];
        let waits = arrivals.into_iter().flatten().map(|due| due.saturating_sub(now).max(ASK_AGAIN));
        let wait = waits.fold(LONGEST_WAIT, Duration::min);
        let timeout = Timespec::try_from(wait).map_err(io::Error::other).on("wait for", "the Ethernet")?;
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).on("wait for", "the Ethernet"),
        }
        Ok(polled.get(2).is_some_and(|stdin| !stdin.revents().is_empty()))
    }

    const fn report(&self) -> Report {
        Report { to_host: self.to_host.counters(), to_target: self.to_target.counters() }
    }
}

/// Takes what came at one end, and gives to the other what has arrived.
fn pass(from: &End, channel: &mut Channel, to: &End, now: Duration, buffer: &mut [u8]) {
    while let Ok(count) = from.socket.recv(buffer) {
        channel.send(now, buffer.get_mut(..count).unwrap_or_default());
    }
    while let Some(frame) = channel.arrived(now) {
        match to.socket.send_to(frame, &to.qemu) {
            // Nobody is there: as with a cable that is not plugged in.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Ok(_) | Err(_) => channel.take(),
        }
    }
}

/// One end.
struct End {
    socket: UnixDatagram,
    own: PathBuf,
    qemu: PathBuf,
}

impl End {
    fn open(directory: &Path, name: &str) -> Result<Self> {
        let (own, qemu) = sockets(directory, name);
        let socket = UnixDatagram::bind(&own).on("make the socket", &own)?;
        socket.set_nonblocking(true).on("set up", &own)?;
        Ok(Self { socket, own, qemu })
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // It may be gone with its directory.
        let _ = std::fs::remove_file(&self.own);
    }
}
