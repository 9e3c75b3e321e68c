//! How a simulator, a process of its own, is spoken to: commands on its stdin, answers on its stdout, a line each.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command as Program, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::outcome::{Error, IoContext, Result};
use crate::process::{end, spawn};

/// A simulator answers in milliseconds; more than this is a lost process.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(15);
/// Names the program that simulates, should it not be beside the running one.
const PROGRAM_VARIABLE: &str = "RCAPTURE_QEMU";

/// What a simulator is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Cut,
    Mend,
    /// As fast as it goes, from now on.
    FullSpeed,
    Report,
    Quit,
}

/// A simulator's process, seen from the one who started it. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct SimulatorProcess {
    name: String,
    child: Child,
    /// Closed to end the process.
    control: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl SimulatorProcess {
    /// Starts `rcapture-qemu NAME ARGUMENTS --control`, and returns when it is ready.
    pub(crate) fn spawn(name: &str, arguments: Vec<String>) -> Result<Self> {
        let mut command = Program::new(program()?);
        command.arg(name).args(arguments).arg("--control");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = spawn(&mut command)?;
        let (sender, answers) = channel();
        if let Some(stdout) = child.stdout.take() {
            // Ends with the process, whose stdout it reads.
            thread::spawn(move || {
                let lines = BufReader::new(stdout).lines();
                lines.map_while(|line| line.ok()).try_for_each(|line| sender.send(line))
            });
        }
        let control = child.stdin.take();
        let mut simulator = Self { name: format!("rcapture-qemu {name}"), child, control, answers };
        simulator.answer(ANSWER_DEADLINE)?; // "ready"
        Ok(simulator)
    }

    /// Gives a command (`cut`, `mend`, `full-speed`, `report`, `quit`), and returns the report that is the answer to each.
    pub(crate) fn tell<R: DeserializeOwned>(&mut self, command: &str) -> Result<R> {
        if let Some(control) = &mut self.control {
            writeln!(control, "{command}").on("control", &self.name)?;
        }
        self.report(ANSWER_DEADLINE)
    }

    /// The next report.
    pub(crate) fn report<R: DeserializeOwned>(&mut self, deadline: Duration) -> Result<R> {
        let answer = self.answer(deadline)?;
        serde_json::from_str(&answer)
            .map_err(|error| Error::malformed(self.name.as_ref(), format!("it answered {answer:?}: {error}")))
    }

    fn answer(&mut self, deadline: Duration) -> Result<String> {
        self.answers.recv_timeout(deadline).map_err(|error| match error {
            RecvTimeoutError::Timeout => Error::Overdue { program: self.name.clone(), deadline },
            RecvTimeoutError::Disconnected => Error::Program {
                program: self.name.clone(),
                status: self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string()),
                message: "see its messages above".into(),
            },
        })
    }
}

impl Drop for SimulatorProcess {
    fn drop(&mut self) {
        // The end of its stdin tells it to leave, removing its sockets.
        self.control = None;
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(500) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        end(&mut self.child);
    }
}

/// `rcapture-qemu` itself: the running program, or one beside it (tests run from a directory below).
fn program() -> Result<PathBuf> {
    if let Some(named) = env::var_os(PROGRAM_VARIABLE) {
        return Ok(named.into());
    }
    let running = env::current_exe().on("find", "the running program")?;
    if running.file_name().is_some_and(|name| name == "rcapture-qemu") {
        return Ok(running);
    }
    let beside = running.ancestors().skip(1).take(2).map(|directory| directory.join("rcapture-qemu"));
    beside.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Error::missing(
            "rcapture-qemu",
            format!("not beside {}", running.display()),
            format!("build it (cargo build -p rcapture-qemu), or name it in {PROGRAM_VARIABLE}"),
        )
    })
}

/// Commands read from stdin, by the simulator.
#[derive(Default)]
pub(crate) struct Commands {
    partial: Vec<u8>,
}

impl Commands {
    /// Those that came. The end of stdin is the end of whoever started us.
    pub(crate) fn read(&mut self) -> Vec<Command> {
        let mut buffer = [0; 256];
        match rustix::io::read(std::io::stdin(), &mut buffer) {
            Ok(0) => return vec![Command::Quit],
            Ok(count) => self.partial.extend(buffer.iter().take(count)),
            Err(_) => return Vec::new(),
        }
        let mut commands = Vec::new();
        while let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            commands.extend(match line.trim_ascii() {
                b"cut" => Some(Command::Cut),
                b"mend" => Some(Command::Mend),
                b"full-speed" => Some(Command::FullSpeed),
                b"report" => Some(Command::Report),
                b"quit" => Some(Command::Quit),
                _ => None,
            });
        }
        commands
    }
}

/// Answers with a report.
pub(crate) fn say_report(report: &impl Serialize) -> Result<()> {
    say(&serde_json::to_string(report).map_err(std::io::Error::other).on("write", "the report")?)
}

/// Says a line on stdout.
pub(crate) fn say(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).on("write to", "stdout")
}
