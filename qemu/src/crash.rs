//! crash(8) as judge of a vmcore.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::outcome::{IoContext, Result};
use crate::process;
use crate::root::Root;

/// The crash utility.
#[derive(Clone, Debug)]
pub struct Crash {
    root: Root,
    version: String,
}

impl Crash {
    pub(crate) fn in_root(root: Root, version: String) -> Result<Self> {
        root.program("crash")?;
        Ok(Self { root, version })
    }

    /// The package's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Runs `commands` on a dump in one session, and returns what crash printed.
    ///
    /// Each command is preceded in the output by crash's own echo of it (`crash> bt`), so that
    /// [`section`] finds what belongs to one of them.
    ///
    /// # Errors
    /// If crash refuses the dump or does not end within `deadline`.
    pub fn run(
        &self,
        vmlinux: &Path,
        vmcore: &Path,
        commands: &[&str],
        deadline: Duration,
    ) -> Result<String> {
        let mut script = tempfile::NamedTempFile::new().on("make a file for", "crash's commands")?;
        let mut lines = String::new();
        for command in commands {
            let _ = writeln!(lines, "{command}");
        }
        lines.push_str("quit\n");
        std::io::Write::write_all(&mut script, lines.as_bytes()).on("write", script.path())?;
        let mut command = self.root.command("crash")?;
        command.arg("-s").arg("-i").arg(script.path()).arg(vmlinux).arg(vmcore);
        // Neither the user's ~/.crashrc nor a pager has a say.
        command.env("HOME", "/nonexistent").env("TERM", "dumb").env("LC_ALL", "C");
        let finished = process::run(&mut command, deadline, || eprintln!("lab: crash is still reading"))?;
        finished.success("crash")
    }
}
