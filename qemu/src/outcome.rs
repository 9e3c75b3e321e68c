//! How a run in the lab may end, kept apart from the first error to the exit code.
//!
//! A test that failed, a machine that was lost and a tool that is not installed call for different people:
//! the author of the change, the owner of the runner, and the one who sets the runner up.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// What was to be shown was shown.
    Passed,
    /// The machine ran and answered; what it did is not what was asked for.
    Failed,
    /// QEMU ended or stopped answering: nothing is known about what was to be tested.
    #[value(name = "lost the machine")]
    #[serde(rename = "lost the machine")]
    MachineLost,
    /// Something the run needs is not there (a program, a package, a suite, the mirror).
    #[value(name = "tool missing")]
    #[serde(rename = "tool missing")]
    ToolMissing,
    /// The kernel, or the machine, cannot do what was asked for, whatever we do.
    #[value(name = "not supported")]
    #[serde(rename = "not supported")]
    NotSupported,
}

impl Outcome {
    /// The process's exit code: 0 passed, 1 failed, 4 machine lost, 5 tool missing, 6 not supported (2 is wrong usage).
    pub const fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::MachineLost => 4,
            Self::ToolMissing => 5,
            Self::NotSupported => 6,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.code())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::MachineLost => "lost the machine",
            Self::ToolMissing => "tool missing",
            Self::NotSupported => "not supported",
        })
    }
}

/// What went wrong in the lab. [`Error::outcome`] says which kind of end it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program, package, suite or file the run needs is not there.
    #[error("{what} is missing: {reason}; {remedy}")]
    ToolMissing {
        /// What is missing.
        what: String,
        /// What was seen.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
    /// What was asked for cannot be done with this kernel, or on this machine.
    #[error("{what}: not supported: {reason}; {remedy}")]
    NotSupported {
        /// What cannot be done, or used.
        what: String,
        /// Why not.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
    /// QEMU ended or no longer answers.
    #[error("lost the machine while {doing}: {reason} (logs kept in {})", logs.display())]
    MachineLost {
        /// What was being done.
        doing: String,
        /// What was seen.
        reason: String,
        /// The directory with the serial log and QEMU's own messages.
        logs: PathBuf,
    },
    /// The machine lives, but what was waited for did not come.
    #[error("no {awaited} within {} s (serial log kept: {})", deadline.as_secs_f32(), log.display())]
    Awaited {
        /// What was waited for.
        awaited: String,
        /// How long.
        deadline: Duration,
        /// The serial log so far.
        log: PathBuf,
    },
    /// The machine rebooted or powered off before what was waited for came.
    #[error("the machine ended before {awaited}; last on the line: {last_line:?} (serial log kept: {})", log.display())]
    Ended {
        /// What was waited for.
        awaited: String,
        /// The last line it sent.
        last_line: String,
        /// The serial log.
        log: PathBuf,
    },
    /// A program that was run did not end in time.
    #[error("{program} did not end within {} s and was killed", deadline.as_secs())]
    Overdue {
        /// The program.
        program: String,
        /// How long it was given.
        deadline: Duration,
    },
    /// A program that was run failed.
    #[error("{program} failed ({status}): {message}")]
    Program {
        /// The program.
        program: String,
        /// How it ended.
        status: String,
        /// Its last words.
        message: String,
    },
    /// QEMU refused a command.
    #[error("QEMU refused {command}: {message}")]
    Refused {
        /// The QMP command.
        command: String,
        /// QEMU's description.
        message: String,
    },
    /// A file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refused an operation on a file, socket or process.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A result of the lab.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Which kind of end this error is.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::ToolMissing { .. } => Outcome::ToolMissing,
            Self::MachineLost { .. } => Outcome::MachineLost,
            Self::NotSupported { .. } => Outcome::NotSupported,
            _ => Outcome::Failed,
        }
    }

    pub(crate) fn missing(
        what: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::ToolMissing { what: what.into(), reason: reason.into(), remedy: remedy.into() }
    }

    pub(crate) fn malformed(path: &Path, reason: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), reason: reason.into() }
    }
}

/// Says on what an I/O error happened.
pub(crate) trait IoContext<T> {
    fn on(self, action: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> IoContext<T> for std::result::Result<T, E> {
    fn on(self, action: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::Io { action, path: path.as_ref().to_owned(), source: source.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_an_exit_code_of_its_own() {
        let ends = [
            Outcome::Passed,
            Outcome::Failed,
            Outcome::MachineLost,
            Outcome::ToolMissing,
            Outcome::NotSupported,
        ];
        assert_eq!(ends.map(Outcome::code), [0, 1, 4, 5, 6]);
    }

    #[test]
    fn a_missing_tool_and_a_lost_machine_are_not_failures() {
        assert_eq!(Error::missing("crash", "not in sid", "wait").outcome(), Outcome::ToolMissing);
        let lost =
            Error::MachineLost { doing: "stop".into(), reason: "QEMU ended".into(), logs: PathBuf::new() };
        assert_eq!(lost.outcome(), Outcome::MachineLost);
        let overdue = Error::Overdue { program: "crash".into(), deadline: Duration::from_secs(1) };
        assert_eq!(overdue.outcome(), Outcome::Failed);
    }
}
