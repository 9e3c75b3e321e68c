//! The line's process: moves bytes between two ends through two channels.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::channel::{Channel, Counters};
use super::endpoint::{Endpoint, Port};
use super::options::LineOptions;
use crate::control::{Command, Commands, say, say_report};
use crate::outcome::{Error, IoContext, Result};

/// Nothing but a descriptor or this ends a wait.
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// How long what is under way may stand still after `quit` before it is given up.
const LAST_BYTES: Duration = Duration::from_secs(5);
const CHUNK: usize = 1 << 16;

/// What became of the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// From the target to the host.
    pub to_host: Counters,
    /// From the host to the target.
    pub to_target: Counters,
}

struct Simulator {
    start: Instant,
    target: Port,
    host: Port,
    to_host: Channel,
    to_target: Channel,
    record: Option<(PathBuf, BufWriter<File>)>,
}

/// Runs a line until it is told to quit, with `control` until that ends.
///
/// Prints `ready` on stdout when both ends can be connected to. On stdin, if `control` is set, it takes
/// the commands `cut`, `mend`, `full-speed`, `report` and `quit`, one a line, and answers each with a line of JSON.
///
/// # Errors
/// If an end or the record cannot be opened, or the record not be written.
pub fn simulate(options: &LineOptions, control: bool) -> Result<Report> {
    let end = |endpoint: &Option<Endpoint>, name: &str| {
        endpoint.clone().ok_or_else(|| {
            Error::missing(format!("the line's {name} end"), "not given", format!("--{name} ENDPOINT"))
        })
    };
    let record = match &options.record {
        Some(path) => Some((path.clone(), BufWriter::new(File::create(path).on("create", path)?))),
        None => None,
    };
    let mut simulator = Simulator {
        start: Instant::now(),
        target: Port::open(&end(&options.target, "target")?)?,
        host: Port::open(&end(&options.host, "host")?)?,
        to_host: Channel::new(options.to_host(), options.seed, 1),
        to_target: Channel::new(options.to_target(), options.seed, 2),
        record,
    };
    say("ready")?;
    simulator.run(control)?;
    Ok(simulator.report())
}

impl Simulator {
    fn run(&mut self, control: bool) -> Result<()> {
        let mut commands = Commands::default();
        // Since when nothing moved any more, once told to quit.
        let mut leaving: Option<(Duration, Report)> = None;
        loop {
            let ready = self.wait(control && leaving.is_none())?;
            let now = self.start.elapsed();
            self.target.attend();
            self.host.attend();
            self.pass_to_host(now)?;
            pass(&mut self.host, &mut self.to_target, &mut self.target, now, |_| Ok(()))?;
            if ready {
                for command in commands.read() {
                    self.obey(&command)?;
                    if matches!(command, Command::Quit) {
                        leaving = Some((now, self.report()));
                    }
                }
            }
            if let Some((since, last)) = leaving {
                let report = self.report();
                let done = self.to_host.is_empty() && self.to_target.is_empty();
                if done || now.saturating_sub(since) >= LAST_BYTES {
                    return self.flush_record();
                }
                if report != last {
                    leaving = Some((now, report));
                }
            }
        }
    }

    fn obey(&mut self, command: &Command) -> Result<()> {
        for channel in [&mut self.to_host, &mut self.to_target] {
            match command {
                Command::Cut | Command::Mend => channel.set_cut(*command == Command::Cut),
                Command::FullSpeed => channel.set_full_speed(),
                Command::Report | Command::Quit => {}
            }
        }
        say_report(&self.report())
    }

    fn pass_to_host(&mut self, now: Duration) -> Result<()> {
        let record = &mut self.record;
        pass(&mut self.target, &mut self.to_host, &mut self.host, now, |bytes| match record {
            Some((path, file)) => file.write_all(bytes).on("write", path.as_path()),
            None => Ok(()),
        })?;
        self.flush_record()
    }

    fn flush_record(&mut self) -> Result<()> {
        match &mut self.record {
            Some((path, file)) => file.flush().on("write", path.as_path()),
            None => Ok(()),
        }
    }

    /// Waits until there may be something to do. Whether there is something to read on stdin.
    fn wait(&self, control: bool) -> Result<bool> {
        let now = self.start.elapsed();
        let mut wake = now + LONGEST_WAIT;
        let stdin = std::io::stdin();
        let mut interests: Vec<(BorrowedFd<'_>, PollFlags)> = Vec::new();
        if control {
            interests.push((stdin.as_fd(), PollFlags::IN));
        }
        for (port, sends, receives) in
            [(&self.target, &self.to_host, &self.to_target), (&self.host, &self.to_target, &self.to_host)]
        {
            interests.extend(port.listener().map(|fd| (fd, PollFlags::IN)));
            if let Some(fd) = port.input() {
                // Less than that is not worth waking up for, and reading late is not reading slower.
                if sends.room_at() <= now {
                    interests.push((fd, PollFlags::IN));
                } else {
                    wake = wake.min(sends.room_at());
                }
            }
            if receives.has_arrived(now) {
                interests.extend(port.output().map(|fd| (fd, PollFlags::OUT)));
            }
            wake = receives.next_arrival().map_or(wake, |due| wake.min(due.max(now)));
        }
        let mut polled: Vec<PollFd<'_>> =
            interests.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let timeout = Timespec::try_from(wake.saturating_sub(now)).map_err(std::io::Error::other);
        match poll(&mut polled, Some(&timeout.on("wait for", "the line")?)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).on("wait for", "the line"),
        }
        Ok(control && polled.first().is_some_and(|first| !first.revents().is_empty()))
    }

    const fn report(&self) -> Report {
        Report { to_host: self.to_host.counters(), to_target: self.to_target.counters() }
    }
}

/// Reads from one end at the line's rate, and writes to the other what has arrived.
fn pass(
    from: &mut Port,
    channel: &mut Channel,
    to: &mut Port,
    now: Duration,
    mut sent: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut buffer = [0; CHUNK];
    let room = channel.room(now);
    if let Some(buffer) = buffer.get_mut(..room.min(CHUNK)).filter(|buffer| !buffer.is_empty()) {
        let count = from.read(buffer);
        let bytes = buffer.get(..count).unwrap_or_default();
        sent(bytes)?;
        channel.send(now, bytes);
    }
    loop {
        let arrived = channel.arrived(now);
        if arrived.is_empty() {
            return Ok(());
        }
        let count = to.write(arrived);
        if count == 0 {
            break;
        }
        channel.take(count);
    }
    if !to.is_connected() {
        channel.nobody_listens(now, !to.is_nobody());
    }
    Ok(())
}
