//! crash(8) as judge of a vmcore.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::outcome::{IoContext, Result};
use crate::process;
use crate::root::Root;

/// Printed after the output of each command.
const SEPARATOR: &str = "@@rcapture@@";
const SEPARATOR_LINE: &str = "@@rcapture@@\n";

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

    /// Runs `commands` on a dump in one session, and returns what crash printed for each of them.
    ///
    /// Reading a `vmlinux` takes half a minute of one CPU: stop or drop a machine that spins in its panic
    /// before.
    ///
    /// # Errors
    /// If crash refuses the dump or does not end within `deadline`.
    pub fn run(
        &self,
        vmlinux: &Path,
        vmcore: &Path,
        commands: &[&str],
        deadline: Duration,
    ) -> Result<Vec<String>> {
        let mut script = tempfile::NamedTempFile::new().on("make a file for", "crash's commands")?;
        let mut lines = String::new();
        for command in commands {
            let _ = writeln!(lines, "{command}\ngdb echo {SEPARATOR}\\n");
        }
        lines.push_str("quit\n");
        script.write_all(lines.as_bytes()).on("write", script.path())?;
        let mut command = self.root.command("crash")?;
        command.arg("-s").arg("-i").arg(script.path()).arg(vmlinux).arg(vmcore);
        // Neither the user's ~/.crashrc nor a pager has a say.
        command.env("HOME", "/nonexistent").env("TERM", "dumb").env("LC_ALL", "C");
        let finished = process::run(&mut command, deadline, || {})?;
        let output = finished.success("crash")?;
        let mut sections: Vec<String> = output.split(SEPARATOR_LINE).map(str::to_owned).collect();
        // After the last separator comes nothing.
        sections.truncate(commands.len());
        Ok(sections)
    }
}

/// The kernel's log as lines that compare equal whether crash's `log` printed them or they come from
/// `vmcore-dmesg.txt`: crash indents continuation lines, and prints a `.` for every byte it does not know.
pub fn normalised_log(log: &[u8]) -> Vec<String> {
    log.split(|&byte| byte == b'\n')
        .map(|line| {
            let printable = |&byte: &u8| match byte {
                b'\t' | b' '..=b'~' => char::from(byte),
                _ => '.',
            };
            let line: String = line.strip_suffix(b"\r").unwrap_or(line).iter().map(printable).collect();
            line.trim().to_owned()
        })
        .filter(|line| !line.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_compares_equal_with_what_crash_makes_of_it() {
        let kernel = "[    1.000000] first\nsecond line\n[    1.5] gr\u{fc}n\n".as_bytes();
        let crash = b"[    1.000000] first\n               second line\n[    1.5] gr..n\n\n";
        assert_eq!(normalised_log(kernel), normalised_log(crash));
    }

    #[test]
    fn logs_that_differ_stay_different() {
        assert_ne!(normalised_log(b"[    1.0] one\n"), normalised_log(b"[    1.0] two\n"));
        assert_ne!(normalised_log(b"a\nb\n"), normalised_log(b"ab\n"));
    }
}
