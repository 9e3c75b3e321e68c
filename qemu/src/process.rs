//! Running other programs: every one has a deadline, and only our own child is ever killed.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::outcome::{Error, IoContext, Result};

/// What a program wrote, and how it ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// The output of a program that succeeded; otherwise its last words as an error.
    pub(crate) fn success(self, program: &str) -> Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        let message = last_words(&self.stderr).or_else(|| last_words(&self.stdout)).unwrap_or_default();
        Err(Error::Program { program: program.to_owned(), status: self.status.to_string(), message })
    }
}

/// The last line that says something.
pub(crate) fn last_words(output: &str) -> Option<String> {
    output.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
}

/// Runs `command` to its end, or kills it when `deadline` has passed.
///
/// `progress` is called every two seconds or so while the program runs.
pub(crate) fn run(command: &mut Command, deadline: Duration, progress: impl FnMut()) -> Result<Finished> {
    run_with_input(command, Stdio::null(), deadline, progress)
}

/// As [`run`], with something to read.
pub(crate) fn run_with_input(
    command: &mut Command,
    input: Stdio,
    deadline: Duration,
    mut progress: impl FnMut(),
) -> Result<Finished> {
    let program = command.get_program().to_string_lossy().into_owned();
    // Files, not pipes: nothing has to be drained while waiting.
    let mut stdout = tempfile::tempfile().on("make a file for the output of", &program)?;
    let mut stderr = tempfile::tempfile().on("make a file for the output of", &program)?;
    command.stdin(input);
    command.stdout(stdout.try_clone().on("share the output of", &program)?);
    command.stderr(stderr.try_clone().on("share the output of", &program)?);
    let mut child = spawn(command)?;
    let start = Instant::now();
    let mut shown = start;
    let status = loop {
        if let Some(status) = child.try_wait().on("wait for", &program)? {
            break status;
        }
        if start.elapsed() > deadline {
            end(&mut child);
            return Err(Error::Overdue { program, deadline });
        }
        if shown.elapsed() > Duration::from_secs(2) {
            shown = Instant::now();
            progress();
        }
        thread::sleep(Duration::from_millis(5));
    };
    Ok(Finished {
        status,
        stdout: contents(&mut stdout, &program)?,
        stderr: contents(&mut stderr, &program)?,
    })
}

/// Starts a program; one that is not installed is a missing tool, not a failure.
pub(crate) fn spawn(command: &mut Command) -> Result<Child> {
    let program = command.get_program().to_owned();
    command.spawn().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::missing(
            program.to_string_lossy(),
            "no such program in PATH",
            install_hint(Path::new(&program)),
        ),
        _ => Error::Io { action: "start", path: program.into(), source },
    })
}

/// How our own child ended, if it does so within `deadline`.
pub(crate) fn ended_within(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(None) if start.elapsed() < deadline => thread::sleep(Duration::from_millis(5)),
            ended => return ended.ok().flatten(),
        }
    }
}

/// Kills our own child and takes its exit status, so that no zombie stays.
pub(crate) fn end(child: &mut Child) {
    // Both fail only for a child that is already gone.
    let _ = child.kill();
    let _ = child.wait();
}

fn install_hint(program: &Path) -> String {
    let package = match program.file_name().and_then(|name| name.to_str()).unwrap_or_default() {
        "qemu-system-x86_64" => "qemu-system-x86",
        "qemu-system-aarch64" => "qemu-system-arm",
        "qemu-aarch64-static" | "qemu-arm-static" => "qemu-user-static",
        "apt-get" | "apt-cache" => return "the lab fetches Debian packages and needs apt".into(),
        "dpkg-deb" => "dpkg",
        other => other,
    };
    format!("install it: apt-get install --no-install-recommends {package}")
}

fn contents(file: &mut File, program: &str) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind().on("read the output of", program)?;
    file.read_to_end(&mut bytes).on("read the output of", program)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;

    #[test]
    fn a_program_that_does_not_end_is_killed_at_its_deadline() {
        let error = run(Command::new("sleep").arg("60"), Duration::from_millis(50), || {}).unwrap_err();
        assert!(matches!(error, Error::Overdue { .. }), "{error}");
    }

    #[test]
    fn a_program_that_is_not_installed_is_a_missing_tool() {
        let error =
            run(&mut Command::new("no-such-program-at-all"), Duration::from_secs(1), || {}).unwrap_err();
        assert_eq!(error.outcome(), Outcome::ToolMissing);
    }

    #[test]
    fn a_failed_program_is_named_with_its_last_words() {
        let finished =
            run(Command::new("sh").args(["-c", "echo one >&2; echo two >&2; exit 3"]), LONG, || {}).unwrap();
        let error = finished.success("sh").unwrap_err().to_string();
        assert!(error.contains("sh failed") && error.contains("two"), "{error}");
    }

    const LONG: Duration = Duration::from_secs(30);
}
