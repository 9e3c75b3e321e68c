//! `rcapture recv`, which takes the dump.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::line::Line;
use crate::outcome::{Error, IoContext, Result};
use crate::process;
use crate::programs::rcapture;

/// Where it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ear {
    Line,
    Port(u16),
}

impl Ear {
    pub(super) const fn port(self) -> Option<u16> {
        match self {
            Self::Line => None,
            Self::Port(port) => Some(port),
        }
    }
}

/// A running receiver. It ends with this value.
pub(super) struct Receiver {
    child: Child,
    output: PathBuf,
    log: PathBuf,
}

/// What came of it.
pub(super) struct Received {
    pub(super) status: ExitStatus,
    /// The directory of the dump.
    pub(super) dump: Option<PathBuf>,
    /// Its last words.
    pub(super) said: String,
}

impl Receiver {
    /// Starts it. The dump comes into `directory/dump`, what it says into `directory/recv.log`.
    pub(super) fn start(ear: Ear, line: &Line, directory: &Path) -> Result<Self> {
        let (output, log) = (directory.join("dump"), directory.join("recv.log"));
        fs::create_dir_all(&output).on("create", &output)?;
        let messages = File::create(&log).on("create", &log)?;
        let mut command = Command::new(rcapture()?);
        // The journal tells how much came.
        command.args(["recv", "--keep-journal", "-o"]).arg(&output);
        match ear {
            Ear::Line => command.arg("--unix").arg(line.host_socket()),
            Ear::Port(port) => command.args(["--once", "--listen", &format!("127.0.0.1:{port}")]),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages);
        // Ctrl-C at a terminal is not for it: it is asked to end, once.
        command.process_group(0);
        Ok(Self { child: process::spawn(&mut command)?, output, log })
    }

    /// What came of it, if it has ended.
    pub(super) fn ended(&mut self) -> Result<Option<Received>> {
        let Some(status) = self.child.try_wait().on("wait for", "rcapture recv")? else { return Ok(None) };
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let said = verdict(&said).or_else(|| process::last_words(&said)).unwrap_or_default();
        Ok(Some(Received { status, dump: self.dump(), said }))
    }

    /// The dump's directory, once there is one.
    pub(super) fn dump(&self) -> Option<PathBuf> {
        fs::read_dir(&self.output)
            .ok()?
            .find_map(|entry| Some(entry.ok()?.path()).filter(|path| path.is_dir()))
    }

    /// Bytes of the dump so far.
    pub(super) fn bytes(&self) -> u64 {
        self.dump().and_then(|dump| fs::metadata(journal(&dump)).ok()).map_or(0, |file| file.len())
    }

    /// Asks it to end, with what it has.
    pub(super) fn stop(&self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::malformed("rcapture recv".as_ref(), "it has no process id"))?;
        kill_process(pid, Signal::INT).on("end", "rcapture recv")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        process::end(&mut self.child);
    }
}

/// The line that says how much came.
fn verdict(log: &str) -> Option<String> {
    log.lines().rfind(|line| line.contains("complete: ")).map(|line| line.trim().to_owned())
}

/// What a dump's directory keeps of the line.
pub(super) fn journal(dump: &Path) -> PathBuf {
    dump.join("journal")
}
