//! What a listener tells of: a line on stderr for a person, an object on stdout for a program.

use std::io::{self, IsTerminal, Write, stderr};
use std::net::SocketAddr;
use std::path::Path;

use indicatif::{MultiProgress, ProgressDrawTarget};
use jiff::Timestamp;
use serde::Serialize;

/// Something that happened.
#[derive(Clone, Copy, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Notice<'a> {
    Listening {
        address: SocketAddr,
    },
    Connected {
        peer: SocketAddr,
    },
    /// A connection was closed, and nothing of it is kept.
    Rejected {
        peer: SocketAddr,
        why: &'a str,
    },
    Session {
        directory: &'a Path,
        peer: SocketAddr,
        host: &'a str,
        session: u16,
        /// Whether an earlier receiver's journal is gone on with.
        goes_on: bool,
    },
    Log {
        directory: &'a Path,
        file: &'a Path,
    },
    Progress {
        directory: &'a Path,
        pass: &'a str,
        pages: u64,
        kept_pages: Option<u64>,
        bytes: u64,
    },
    Disconnected {
        directory: &'a Path,
        why: &'a str,
    },
    Reconnected {
        directory: &'a Path,
        peer: SocketAddr,
    },
    Warning {
        directory: &'a Path,
        what: &'a str,
    },
    Complete {
        directory: &'a Path,
        vmcore: &'a Path,
        summary: &'a str,
    },
    Incomplete {
        directory: &'a Path,
        vmcore: &'a Path,
        summary: &'a str,
    },
    /// The session is over for now; its journal is kept, and gone on with when its sender comes back.
    Suspended {
        directory: &'a Path,
        why: &'a str,
    },
    Failed {
        peer: SocketAddr,
        error: &'a str,
    },
    /// The command of `--exec` has ended.
    Executed {
        directory: &'a Path,
        command: &'a str,
        status: &'a str,
    },
}

impl Notice<'_> {
    /// For a person; `None`: not worth a line.
    fn text(&self) -> Option<String> {
        Some(match *self {
            Self::Connected { .. } | Self::Progress { .. } => return None,
            Self::Listening { address } => format!("listening on {address}; what comes is not encrypted"),
            Self::Rejected { peer, why } => format!("{peer}: rejected: {why}"),
            Self::Session { directory, peer, goes_on, .. } => {
                let doing = if goes_on { "going on in" } else { "receiving into" };
                format!("{peer}: {doing} {}", directory.display())
            }
            Self::Log { directory, file } => {
                format!("{}: the kernel log is in {}", name(directory), file.display())
            }
            Self::Disconnected { directory, why } => format!("{}: disconnected: {why}", name(directory)),
            Self::Reconnected { directory, peer } => {
                format!("{}: connected again from {peer}", name(directory))
            }
            Self::Warning { directory, what } => format!("{}: warning: {what}", name(directory)),
            Self::Complete { directory, summary, .. } | Self::Incomplete { directory, summary, .. } => {
                format!("{}: {summary}", name(directory))
            }
            Self::Suspended { directory, why } => {
                format!("{}: {why}; all that came is in its journal", name(directory))
            }
            Self::Failed { peer, error } => format!("{peer}: {error}"),
            Self::Executed { directory, command, status } => {
                format!("{}: {command}: {status}", name(directory))
            }
        })
    }
}

/// The last part of a dump's directory.
pub(super) fn name(directory: &Path) -> std::path::Display<'_> {
    directory.file_name().map_or(directory, Path::new).display()
}

/// Tells of what happens in any of the sessions of a listener.
#[derive(Clone)]
pub(super) struct Teller {
    json: bool,
    is_silent: bool,
    /// The sessions' bars, if stderr is a terminal.
    bars: Option<MultiProgress>,
}

impl Teller {
    pub(super) fn new(json: bool) -> Self {
        let target = || ProgressDrawTarget::stderr_with_hz(5);
        let bars = stderr().is_terminal().then(|| MultiProgress::with_draw_target(target()));
        Self { json, is_silent: false, bars }
    }

    /// Tells nobody.
    pub(super) fn silent() -> Self {
        Self { json: false, is_silent: true, bars: None }
    }

    pub(super) fn bars(&self) -> Option<&MultiProgress> {
        self.bars.as_ref()
    }

    pub(super) fn tell(&self, notice: Notice<'_>) {
        #[derive(Serialize)]
        struct Timed<'a> {
            time: String,
            #[serde(flatten)]
            notice: Notice<'a>,
        }
        let mut out = String::new();
        if self.json {
            let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            out = serde_json::to_string(&Timed { time, notice }).unwrap_or_default() + "\n";
        } else if let Notice::Complete { vmcore, .. } | Notice::Incomplete { vmcore, .. } = notice {
            out = format!("crash vmlinux {}\n", vmcore.display());
        }
        let text = notice.text();
        self.around(|| {
            if let Some(text) = text {
                eprintln!("rcapture: {text}");
            }
            let mut stdout = io::stdout().lock();
            // A reader that is gone does not stop the dumps.
            let _ = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush());
        });
    }

    /// Says a line of a session's progress.
    pub(super) fn say(&self, text: &str) {
        self.around(|| eprintln!("rcapture: {text}"));
    }

    /// Runs `write`, which writes to the terminal, with the bars out of its way.
    fn around(&self, write: impl FnOnce()) {
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None if self.is_silent => {}
            None => write(),
        }
    }
}
