//! drgn (with libkdumpfile inside), another reader of vmcores: from PyPI, in a virtual environment of the lab's cache.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::outcome::{Error, Result};
use crate::process;

/// pip fetches some megabytes.
const INSTALL_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// A Python with drgn.
#[derive(Clone, Debug)]
pub struct Drgn {
    python: PathBuf,
}

impl Drgn {
    /// The one in `environment`, where it is installed if it is not there.
    pub(crate) fn in_environment(environment: &Path) -> Result<Self> {
        let this = Self { python: environment.join("bin/python") };
        if this.run("import drgn", [""; 0], INSTALL_DEADLINE).is_ok() {
            return Ok(this);
        }
        let install = || {
            run(Command::new("python3").args(["-m", "venv"]).arg(environment), "python3")?;
            let pip = ["-m", "pip", "install", "--quiet", "--timeout", "30", "drgn"];
            run(Command::new(&this.python).args(pip), "pip")
        };
        install().map_err(|error| {
            Error::missing("drgn", error.to_string(), "it needs Python's venv, and PyPI; it is optional")
        })?;
        Ok(this)
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
}

fn run(command: &mut Command, program: &str) -> Result<()> {
    process::run(command, INSTALL_DEADLINE, || {})?.success(program).map(drop)
}
