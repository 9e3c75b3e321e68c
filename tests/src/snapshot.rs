//! A crashed machine that can be let go again and again, each time over another line.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::memmem;
use rcapture_qemu::{Line, LineOptions, MachineBuilder, Truth};

use crate::{BANNER, Crashed, Spec};

/// Times that a machine is crashed until it is stopped before its first frame. (Between the banner and that it
/// measures its clock for 30 ms.)
const CRASHES: usize = 5;

/// The state of a machine whose capture kernel has just started, and has sent nothing of the dump.
pub struct Snapshot {
    spec: Spec,
    /// Has no name any more: it goes with this process.
    state: File,
    truth: Arc<Truth>,
}

impl Snapshot {
    /// Crashes a machine, and keeps its state and its memory.
    #[must_use]
    pub fn take(spec: &Spec) -> Self {
        Self::take_with(spec, |machine| machine)
    }

    /// [`take`](Self::take), with a change to the machine.
    #[must_use]
    pub fn take_with(spec: &Spec, change: impl Fn(MachineBuilder) -> MachineBuilder) -> Self {
        for _ in 0..CRASHES {
            let mut crashed = spec.crash_at(BANNER, &change);
            let path = crashed.path("state");
            crashed.machine.snapshot(&path).unwrap();
            // The line takes what the machine has sent before it answers.
            crashed.line.report().unwrap();
            if ends_with_the_banner(crashed.line.record()) {
                let state = File::open(&path).unwrap();
                fs::remove_file(&path).unwrap();
                return Self { spec: spec.clone(), state, truth: crashed.truth };
            }
            println!("the machine was stopped too late, again");
        }
        panic!("the machine was stopped too late {CRASHES} times");
    }

    /// The machine once more, still stopped, at another line.
    #[must_use]
    pub fn restore(&self, line: LineOptions) -> Crashed {
        self.restore_with(line, |machine| machine)
    }

    /// [`restore`](Self::restore), with the change to the machine with which it was taken, or one like it.
    #[must_use]
    pub fn restore_with(
        &self,
        line: LineOptions,
        change: impl FnOnce(MachineBuilder) -> MachineBuilder,
    ) -> Crashed {
        let directory = tempfile::Builder::new().prefix("rcapture-test-").tempdir().unwrap();
        let line = Line::spawn(line).unwrap();
        let machine = change(self.spec.machine(&line)).restore_from(self.path()).start().unwrap();
        Crashed { directory, line, machine, truth: Arc::clone(&self.truth) }
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.state.as_raw_fd()).into()
    }
}

/// Whether nothing follows the line of text that the banner is.
fn ends_with_the_banner(record: &Path) -> bool {
    let record = fs::read(record).unwrap();
    let banner = memmem::rfind(&record, BANNER.as_bytes()).unwrap();
    memchr::memchr(b'\n', &record[banner..]).is_none_or(|end| banner + end + 1 == record.len())
}
