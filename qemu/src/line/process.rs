//! The line's process, seen from the one who started it.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::endpoint::Endpoint;
use super::options::LineOptions;
use super::simulator::Report;
use crate::outcome::{Error, IoContext, Result};
use crate::process::{end, spawn};

/// The line's process answers in milliseconds; more than this is a lost process.
const ANSWER_DEADLINE: Duration = Duration::from_secs(15);
/// QEMU writes byte by byte. A socket holds 278 of them, as becomes a line with a rate, but each is a wake-up, and more
/// than 70 KB/s do not get through it; a pipe is several times faster, and holds 64 KiB.
const SOCKET_BAUD: u32 = 500_000;
/// Names the program that simulates the line, should it not be beside the running one.
const PROGRAM_VARIABLE: &str = "RCAPTURE_QEMU";

/// A running line. Dropping it ends its process.
///
/// ```no_run
/// use rcapture_qemu::{Lab, Line, LineOptions, Machine, Suite};
/// let lab = Lab::open()?;
/// let line = Line::spawn(LineOptions { baud: Some(115_200), bit_errors: 1e-5, ..LineOptions::default() })?;
/// let machine = Machine::builder(lab.kernel(Suite::Bookworm)?, lab.userland()?).line(&line).start()?;
/// println!("receive with: rcapture recv unix:{}", line.host_socket().display());
/// # Ok::<(), rcapture_qemu::Error>(())
/// ```
#[derive(Debug)]
pub struct Line {
    child: Child,
    /// Closed to end the process.
    control: Option<ChildStdin>,
    answers: Receiver<String>,
    target: Endpoint,
    host: Endpoint,
    record: PathBuf,
    /// Holds the ends nobody named.
    _directory: TempDir,
}

impl Line {
    /// Starts a line, and returns when both its ends can be connected to. An end that is not named in
    /// `options` is a unix socket of the line's own (the target's on a fast line: a pair of pipes).
    ///
    /// # Errors
    /// [`Error::ToolMissing`] if the program `rcapture-qemu` is neither named by `$RCAPTURE_QEMU` nor beside
    /// the running program.
    pub fn spawn(mut options: LineOptions) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("rcapture-line-").tempdir();
        let directory = directory.on("make a directory in", env::temp_dir())?;
        let own = |name| directory.path().join(name);
        let own_target = || match options.baud {
            Some(..=SOCKET_BAUD) => Endpoint::UnixListen(own("target")),
            _ => Endpoint::Fifo(own("target")),
        };
        let target = options.target.clone().unwrap_or_else(own_target);
        let host = options.host.clone().unwrap_or_else(|| Endpoint::UnixListen(own("host")));
        let record = options.record.clone().unwrap_or_else(|| own("record"));
        options.target = Some(target.clone());
        options.host = Some(host.clone());
        options.record = Some(record.clone());
        let mut command = Command::new(program()?);
        command.arg("line").args(options.arguments()).arg("--control");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = spawn(&mut command)?;
        let (sender, answers) = channel();
        if let Some(stdout) = child.stdout.take() {
            // Ends with the process, whose stdout it reads.
            thread::spawn(move || {
                let lines = BufReader::new(stdout).lines();
                lines.map_while(|line| line.ok()).try_for_each(|line| sender.send(line))
            });
        }
        let control = child.stdin.take();
        let mut line = Self { child, control, answers, target, host, record, _directory: directory };
        line.answer(ANSWER_DEADLINE)?; // "ready"
        Ok(line)
    }

    /// The end a machine's serial port connects to.
    pub const fn target(&self) -> &Endpoint {
        &self.target
    }

    /// The end a receiver connects to.
    pub const fn host(&self) -> &Endpoint {
        &self.host
    }

    /// The unix socket a receiver connects to; empty if the host's end is something else.
    pub fn host_socket(&self) -> &Path {
        match &self.host {
            Endpoint::UnixListen(path) => path,
            _ => Path::new(""),
        }
    }

    /// The file with everything the target sent so far, before any fault.
    pub fn record(&self) -> &Path {
        &self.record
    }

    /// Cuts the line: from now on what is sent, in both directions, is lost.
    ///
    /// # Errors
    /// If the line's process does not answer.
    pub fn cut(&mut self) -> Result<Report> {
        self.command("cut")
    }

    /// Mends the line after [`cut`](Self::cut).
    ///
    /// # Errors
    /// If the line's process does not answer.
    pub fn mend(&mut self) -> Result<Report> {
        self.command("mend")
    }

    /// What became of the bytes so far.
    ///
    /// # Errors
    /// If the line's process does not answer.
    pub fn report(&mut self) -> Result<Report> {
        self.command("report")
    }

    /// Waits for the last bytes to be delivered and ends the line. What stands still for five seconds is
    /// given up.
    ///
    /// # Errors
    /// If the bytes are not delivered within `deadline`, or the line's process does not answer.
    pub fn finish(mut self, deadline: Duration) -> Result<Report> {
        self.command("quit")?;
        // Its last word is the final report.
        self.parse_answer(deadline)
    }

    fn command(&mut self, command: &str) -> Result<Report> {
        if let Some(control) = &mut self.control {
            writeln!(control, "{command}").on("control", "the line's process")?;
        }
        self.parse_answer(ANSWER_DEADLINE)
    }

    fn parse_answer(&mut self, deadline: Duration) -> Result<Report> {
        let answer = self.answer(deadline)?;
        serde_json::from_str(&answer)
            .map_err(|error| Error::malformed(&self.record, format!("its line answered {answer:?}: {error}")))
    }

    fn answer(&mut self, deadline: Duration) -> Result<String> {
        self.answers.recv_timeout(deadline).map_err(|error| match error {
            RecvTimeoutError::Timeout => Error::Overdue { program: "rcapture-qemu line".into(), deadline },
            RecvTimeoutError::Disconnected => Error::Program {
                program: "rcapture-qemu line".into(),
                status: self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string()),
                message: "see its messages above".into(),
            },
        })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // The end of its stdin tells it to leave, removing its sockets.
        self.control = None;
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(500) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        end(&mut self.child);
    }
}

/// `rcapture-qemu` itself: the running program, or one beside it (tests run from a directory below).
fn program() -> Result<PathBuf> {
    if let Some(named) = env::var_os(PROGRAM_VARIABLE) {
        return Ok(named.into());
    }
    let running = env::current_exe().on("find", "the running program")?;
    if running.file_name().is_some_and(|name| name == "rcapture-qemu") {
        return Ok(running);
    }
    let beside = running.ancestors().skip(1).take(2).map(|directory| directory.join("rcapture-qemu"));
    beside.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Error::missing(
            "rcapture-qemu",
            format!("not beside {}", running.display()),
            format!("build it (cargo build -p rcapture-qemu), or name it in {PROGRAM_VARIABLE}"),
        )
    })
}
