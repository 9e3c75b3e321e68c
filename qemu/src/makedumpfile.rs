//! makedumpfile(8) as judge of which pages a dump level keeps.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::outcome::Result;
use crate::process;
use crate::root::Root;

/// The makedumpfile utility.
#[derive(Clone, Debug)]
pub struct Makedumpfile {
    root: Root,
    version: String,
}

impl Makedumpfile {
    pub(crate) fn in_root(root: Root, version: String) -> Result<Self> {
        let this = Self { root, version };
        this.program()?;
        Ok(this)
    }

    pub(crate) const fn root(&self) -> &Root {
        &self.root
    }

    pub(crate) fn program(&self) -> Result<PathBuf> {
        self.root.program("makedumpfile")
    }

    /// The package's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Filters `vmcore` (an ELF file) at dump level `level` into the kdump-compressed file `output`, and returns what
    /// makedumpfile said. `options` come first: `-c` compresses each page with zlib, without it pages stay as they are.
    ///
    /// # Errors
    /// If makedumpfile refuses the dump or does not end within `deadline`.
    pub fn filter(
        &self,
        vmcore: &Path,
        output: &Path,
        level: u8,
        options: &[&str],
        deadline: Duration,
    ) -> Result<String> {
        let mut command = self.command(vmcore, output, level, options)?;
        process::run(&mut command, deadline, || {})?.success("makedumpfile")
    }

    /// What [`filter`](Self::filter) runs.
    ///
    /// # Errors
    /// If it is not there.
    pub fn command(&self, vmcore: &Path, output: &Path, level: u8, options: &[&str]) -> Result<Command> {
        let mut command = self.root.command("makedumpfile")?;
        command.args(options).args(["-f", "-d", &level.to_string()]).arg(vmcore).arg(output);
        Ok(command)
    }
}
