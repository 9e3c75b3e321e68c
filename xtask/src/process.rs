//! Programs that run other programs: each gets a process group of its own, so that all of them end together.

use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::interrupt::Interrupt;

/// Time a program has to put things away after SIGINT, before SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Exited(ExitStatus),
    /// By us: it took longer than it may.
    Overdue(Duration),
    /// By us: the user wants to end.
    Interrupted,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "ended with {status}"),
            Self::Overdue(deadline) => {
                write!(f, "did not end within {} s and was killed", deadline.as_secs())
            }
            Self::Interrupted => f.write_str("was interrupted"),
        }
    }
}

/// Runs `command` and hands over each line it writes to stdout or stderr, in the order it wrote them.
///
/// # Errors
/// If it cannot be started. How it ended is no error: see [`End`].
pub(crate) fn run_lines(
    mut command: Command,
    deadline: Duration,
    interrupt: &Interrupt,
    mut on_line: impl FnMut(&str),
) -> Result<End> {
    let program = command.get_program().to_string_lossy().into_owned();
    let (reader, writer) = io::pipe().context("making a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
    let mut child = command.spawn().with_context(|| format!("starting {program}"))?;
    // It holds the pipe's other end.
    drop(command);
    let lines = lines_of(reader);
    let start = Instant::now();
    let mut exited = None;
    let end = loop {
        match lines.recv_timeout(POLL) {
            Ok(line) => {
                on_line(&line);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break End::Exited(child.wait()?),
            Err(RecvTimeoutError::Timeout) => {}
        }
        // A grandchild that was left behind may hold the pipe open for ever.
        if let Some(status) = exited {
            break End::Exited(status);
        }
        exited = child.try_wait()?;
        if interrupt.is_set() {
            break End::Interrupted;
        }
        if start.elapsed() > deadline {
            break End::Overdue(deadline);
        }
    };
    end_group(&mut child, !matches!(end, End::Exited(_)))?;
    while let Ok(line) = lines.recv_timeout(POLL) {
        on_line(&line);
    }
    Ok(end)
}

fn lines_of(reader: io::PipeReader) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    // Ends with the last writer of the pipe, or with the last reader of the channel.
    thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
            line.clear();
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Ends what is left of the group that `child` leads: asked first if it is still at work.
fn end_group(child: &mut Child, at_work: bool) -> Result<()> {
    let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return Ok(()) };
    if at_work {
        // Fails only for a group that is gone.
        let _ = kill_process_group(group, Signal::INT);
        let start = Instant::now();
        while child.try_wait()?.is_none() && start.elapsed() < GRACE {
            thread::sleep(POLL);
        }
    }
    let _ = kill_process_group(group, Signal::KILL);
    child.wait()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_outputs_come_line_by_line_in_order() {
        let mut lines = Vec::new();
        let interrupt = Interrupt::default();
        let script = "echo one; echo two >&2; printf three; exit 3";
        let end = run_lines(shell(script), LONG, &interrupt, |line| lines.push(line.to_owned()));
        let End::Exited(status) = end.unwrap() else { panic!("did not end by itself") };
        assert_eq!(status.code(), Some(3));
        assert_eq!(lines, ["one", "two", "three"]);
    }

    #[test]
    fn a_program_and_its_children_end_at_the_deadline() {
        let mut grandchild = String::new();
        let interrupt = Interrupt::default();
        let deadline = Duration::from_millis(300);
        let script = "sleep 1000 & echo $!; wait";
        let end = run_lines(shell(script), deadline, &interrupt, |line| line.clone_into(&mut grandchild));
        assert_eq!(end.unwrap(), End::Overdue(deadline));
        let pid = Pid::from_raw(grandchild.parse().unwrap()).unwrap();
        // Once killed it is gone, or a zombie until init has taken its exit status.
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        let begun = Instant::now();
        while state().is_ok_and(|state| !state.contains(") Z")) {
            assert!(begun.elapsed() < LONG, "still alive");
            thread::sleep(POLL);
        }
    }

    #[test]
    fn a_child_left_behind_does_not_keep_us_waiting() {
        let interrupt = Interrupt::default();
        let end = run_lines(shell("sleep 1000 & exit 0"), LONG, &interrupt, |_| ()).unwrap();
        assert!(matches!(end, End::Exited(status) if status.success()));
    }
}
