//! drgn (with libkdumpfile inside), another reader of vmcores: from PyPI, in a virtual environment of the lab's cache.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::outcome::{Error, Result};
use crate::process;

/// The one that the programs below were tried with.
const VERSION: &str = "0.3.0";
/// pip fetches some megabytes.
const INSTALL_DEADLINE: Duration = Duration::from_secs(5 * 60);

const SAY_VERSION: &str = "
import drgn, importlib.metadata
print(importlib.metadata.version('drgn'))
";

/// Opens a dump as `program`.
const OPEN: &str = "
import sys, drgn
program = drgn.Program()
program.set_core_dump(sys.argv[1])
program.load_debug_info(sys.argv[2:])
";

/// Prints a line of the functions on the stack of the task that crashed, then its name, and the stack as drgn shows it.
const CRASHED: &str = "
thread = program.crashed_thread()
trace = thread.stack_trace()
print(','.join(frame.name or '?' for frame in trace))
command = thread.object.comm.string_().decode(errors='replace')
print(f'PID: {thread.tid}  COMMAND: \"{command}\"')
print(trace)
";

/// A Python with drgn.
#[derive(Clone, Debug)]
pub struct Drgn {
    python: PathBuf,
}

impl Drgn {
    /// The one in `environment`, whether it is there or not.
    pub(crate) fn in_environment(environment: &Path) -> Self {
        Self { python: environment.join("bin/python") }
    }

    /// Whether it is there, works with the system's Python, and is of the lab's version.
    pub(crate) fn is_there(&self) -> bool {
        let version = self.run(SAY_VERSION, [""; 0], INSTALL_DEADLINE);
        version.is_ok_and(|version| version.trim() == VERSION)
    }

    /// Installs it in `environment`, in place of what is there.
    pub(crate) fn install(&self, environment: &Path) -> Result<()> {
        let install = || {
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(environment), "python3")?;
            let package = format!("drgn=={VERSION}");
            let pip = ["-m", "pip", "install", "--quiet", "--timeout", "30", &package];
            run(Command::new(&self.python).args(pip), "pip")
        };
        install()
            .map_err(|error| Error::missing("drgn", error.to_string(), "it needs Python's venv, and PyPI"))
    }

    /// Runs a Python program, and returns what it prints.
    ///
    /// # Errors
    /// If it fails, or does not end within `deadline`.
    pub fn run<A: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = A>,
        deadline: Duration,
    ) -> Result<String> {
        let mut command = Command::new(&self.python);
        command.args(["-c", program]).args(arguments);
        process::run(&mut command, deadline, || {})?.success("drgn")
    }

    /// [`run`](Self::run) of what follows when `vmcore` is open as `program`, by the debug information of `debug_files`.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_on(
        &self,
        vmcore: &Path,
        debug_files: &[&Path],
        program: &str,
        deadline: Duration,
    ) -> Result<String> {
        self.run(&[OPEN, program].concat(), [vmcore].iter().chain(debug_files), deadline)
    }

    /// The task that crashed, by the debug information of `debug_files`.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn crashed_task(
        &self,
        vmcore: &Path,
        debug_files: &[&Path],
        deadline: Duration,
    ) -> Result<CrashedTask> {
        self.run_on(vmcore, debug_files, CRASHED, deadline).map(|text| CrashedTask::parse(&text))
    }
}

/// The task that crashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashedTask {
    /// The functions on its stack, innermost first; `?` where there is no name.
    pub functions: Vec<String>,
    shown: String,
}

impl CrashedTask {
    /// What [`CRASHED`] printed.
    fn parse(text: &str) -> Self {
        let (functions, shown) = text.split_once('\n').unwrap_or((text, ""));
        Self { functions: functions.split(',').map(str::to_owned).collect(), shown: shown.to_owned() }
    }
}

/// Its name and its stack.
impl fmt::Display for CrashedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn run(command: &mut Command, program: &str) -> Result<()> {
    process::run(command, INSTALL_DEADLINE, || {})?.success(program).map(drop)
}
