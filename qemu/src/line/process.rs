//! The line's process, seen from the one who started it.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::endpoint::Endpoint;
use super::options::LineOptions;
use super::simulator::Report;
use crate::control::SimulatorProcess;
use crate::outcome::{IoContext, Result};

/// QEMU writes byte by byte. A socket holds 278 of them, as becomes a line with a rate, but each is a wake-up, and more
/// than 70 KB/s do not get through it; a pipe is several times faster, and holds 64 KiB.
const SOCKET_BAUD: u32 = 500_000;

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
    simulator: SimulatorProcess,
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
    /// [`Error::ToolMissing`](crate::Error::ToolMissing) if the program `rcapture-qemu` is neither named by
    /// `$RCAPTURE_QEMU` nor beside the running program.
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
        let simulator = SimulatorProcess::spawn("line", options.arguments())?;
        Ok(Self { simulator, target, host, record, _directory: directory })
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
        self.simulator.tell("cut")
    }

    /// Mends the line after [`cut`](Self::cut).
    ///
    /// # Errors
    /// If the line's process does not answer.
    pub fn mend(&mut self) -> Result<Report> {
        self.simulator.tell("mend")
    }

    /// Lets the line carry from now on what its ends can: what was to be seen at its rate has been.
    ///
    /// # Errors
    /// If the line's process does not answer.
    pub fn set_full_speed(&mut self) -> Result<Report> {
        self.simulator.tell("full-speed")
    }

    /// What became of the bytes so far.
    ///
    /// # Errors
    /// If the line's process does not answer.
    pub fn report(&mut self) -> Result<Report> {
        self.simulator.tell("report")
    }

    /// Waits for the last bytes to be delivered and ends the line. What stands still for five seconds is
    /// given up.
    ///
    /// # Errors
    /// If the bytes are not delivered within `deadline`, or the line's process does not answer.
    pub fn finish(mut self, deadline: Duration) -> Result<Report> {
        self.simulator.tell::<Report>("quit")?;
        // Its last word is the final report.
        self.simulator.report(deadline)
    }
}
