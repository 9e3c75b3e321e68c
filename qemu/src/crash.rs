//! crash(8) as judge of a vmcore.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::outcome::{Error, IoContext, Result};
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
    reads_modules: bool,
}

impl Crash {
    pub(crate) fn in_root(root: Root, version: String) -> Result<Self> {
        root.program("crash")?;
        Ok(Self { root, version, reads_modules: true })
    }

    /// The package's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The same without a look at the kernel's modules: what crash does not know of these may keep it from starting.
    #[must_use]
    pub fn without_modules(self) -> Self {
        Self { reads_modules: false, ..self }
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
        self.session(vmlinux, vmcore, &[], commands, deadline).map(|said| said.sections)
    }

    /// As [`run`](Self::run), on a dump that was cut: what it lacks is read as zeros (`--zero_excluded`).
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_on_part(
        &self,
        vmlinux: &Path,
        vmcore: &Path,
        commands: &[&str],
        deadline: Duration,
    ) -> Result<Vec<String>> {
        self.session(vmlinux, vmcore, &["--zero_excluded"], commands, deadline).map(|said| said.sections)
    }

    /// As [`run`](Self::run), with all that crash says.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn say(&self, vmlinux: &Path, vmcore: &Path, commands: &[&str], deadline: Duration) -> Result<Said> {
        self.session(vmlinux, vmcore, &[], commands, deadline)
    }

    fn session(
        &self,
        vmlinux: &Path,
        vmcore: &Path,
        options: &[&str],
        commands: &[&str],
        deadline: Duration,
    ) -> Result<Said> {
        let mut script = tempfile::NamedTempFile::new().on("make a file for", "crash's commands")?;
        let mut lines = String::new();
        for command in commands {
            let _ = writeln!(lines, "{command}\ngdb echo {SEPARATOR}\\n");
        }
        lines.push_str("quit\n");
        script.write_all(lines.as_bytes()).on("write", script.path())?;
        let mut command = self.root.command("crash")?;
        if !self.reads_modules {
            command.arg("--no_modules");
        }
        command.arg("-s").args(options).arg("-i").arg(script.path()).arg(vmlinux).arg(vmcore);
        // Neither the user's ~/.crashrc nor a pager has a say.
        command.env("HOME", "/nonexistent").env("TERM", "dumb").env("LC_ALL", "C");
        let finished = process::run(&mut command, deadline, || {})?;
        let messages = finished.stderr.clone();
        if !finished.status.success()
            && let Some(message) = refusal(&messages).or_else(|| refusal(&finished.stdout))
        {
            let status = finished.status.to_string();
            return Err(Error::Program { program: "crash".into(), status, message });
        }
        let output = finished.success("crash")?;
        let mut sections: Vec<String> = output.split(SEPARATOR_LINE).map(str::to_owned).collect();
        // After the last separator comes nothing.
        sections.truncate(commands.len());
        let commands = commands.iter().map(|&command| command.to_owned()).collect();
        Ok(Said { commands, sections, messages })
    }
}

/// Why crash refuses a dump. What it says last is how it is called.
fn refusal(output: &str) -> Option<String> {
    output.lines().find_map(|line| line.trim().strip_prefix("crash: ")).map(str::to_owned)
}

/// What crash printed.
#[derive(Clone, Debug)]
pub struct Said {
    commands: Vec<String>,
    /// For each command.
    pub sections: Vec<String>,
    /// On its standard error.
    pub messages: String,
}

impl Said {
    /// What crash says of only one of two dumps of the same memory, asked the same: a line is preceded by the command and a `+`
    /// if it is said of this one, a `-` if of `other`. What crash has to complain of in any dump of this kernel cancels; so do
    /// the files' names.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let sections = self.sections.iter().zip(&other.sections);
        let messages = ("messages", (&self.messages, &other.messages));
        let commands = self.commands.iter().map(String::as_str);
        commands
            .zip(sections)
            .chain([messages])
            .flat_map(|(command, (ours, theirs))| differences(command, ours, theirs))
            .collect()
    }
}

/// Lines that are in only one of two outputs of `command`, or there more often.
fn differences(command: &str, ours: &str, theirs: &str) -> Vec<String> {
    let mut surplus: BTreeMap<&str, i64> = BTreeMap::new();
    for (text, weight) in [(ours, 1), (theirs, -1)] {
        for line in text.lines().filter(|line| !line.trim_start().starts_with("DUMPFILE: ")) {
            *surplus.entry(line).or_default() += weight;
        }
    }
    surplus.retain(|_, count| *count != 0);
    let sign = |count| if count > 0 { '+' } else { '-' };
    surplus.into_iter().map(|(line, count)| format!("{command}: {}{line}", sign(count))).collect()
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
    fn what_is_said_of_both_dumps_is_no_difference() {
        let ours = "    DUMPFILE: a  [PARTIAL DUMP]\ncomplaint\nTASKS: 2\nnew complaint\n";
        let theirs = "    DUMPFILE: b\ncomplaint\nTASKS: 3\n";
        assert_eq!(
            differences("sys", ours, theirs),
            ["sys: +TASKS: 2", "sys: -TASKS: 3", "sys: +new complaint"]
        );
        assert!(differences("sys", ours, ours).is_empty());
        assert_eq!(differences("ps", "a\na\n", "a\n"), ["ps: +a"]);
    }

    #[test]
    fn a_refusal_is_told_and_not_the_usage_that_follows_it() {
        let output = "\ncrash: vmlinux and vmcore do not match!\n\nUsage:\n\n  crash [OPTION]...\n\nEnter \"crash -h\" for details.\n";
        assert_eq!(refusal(output).unwrap(), "vmlinux and vmcore do not match!");
        assert_eq!(refusal("Segmentation fault\n"), None);
    }

    #[test]
    fn logs_that_differ_stay_different() {
        assert_ne!(normalised_log(b"[    1.0] one\n"), normalised_log(b"[    1.0] two\n"));
        assert_ne!(normalised_log(b"a\nb\n"), normalised_log(b"ab\n"));
    }
}
