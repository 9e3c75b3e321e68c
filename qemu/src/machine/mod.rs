//! A machine in QEMU that boots a stock kernel, loads the capture image and crashes.

mod board;
mod builder;
mod console;
mod qmp;

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

pub use builder::{MachineBuilder, Serial};

use crate::boot_files::BootFiles;
use crate::initramfs::quoted;
use crate::lab::Userland;
use crate::outcome::{Error, IoContext, Result};
use crate::process;
use crate::truth::Truth;
use console::Console;
use qmp::{Qmp, QmpError};

const START_DEADLINE: Duration = Duration::from_secs(20);
/// `stop`, `cont` and queries answer in milliseconds, if QEMU's main loop runs at all.
const COMMAND_DEADLINE: Duration = Duration::from_secs(20);
/// Gigabytes to a slow disk.
const MEMORY_DEADLINE: Duration = Duration::from_secs(300);

/// A running machine. Dropping it kills QEMU.
///
/// ```no_run
/// use std::time::Duration;
/// use rcapture_qemu::{Lab, Machine, Suite};
/// let lab = Lab::open()?;
/// let mut machine = Machine::builder(lab.kernel(Suite::Bookworm)?, lab.userland()?)
///     .memory_mib(2048)
///     .capture_image("dist/x86_64/rcapture.bin")
///     .capture_cmdline("rcapture.dump_level=31")
///     .start()?;
/// machine.wait_for_line_text("LAB: loaded", Duration::from_secs(60))?;
/// machine.wait_for_line_text("rcapture 0.1.0", Duration::from_secs(20))?;
/// # Ok::<(), rcapture_qemu::Error>(())
/// ```
#[derive(Debug)]
pub struct Machine {
    child: Child,
    qmp: Qmp,
    line: Console,
    /// Where it is not on the line.
    console: Option<Console>,
    /// The file of what QEMU itself says.
    messages: PathBuf,
    directory: TempDir,
}

impl Machine {
    /// A machine that boots `kernel` into `userland`.
    pub fn builder(kernel: impl Into<BootFiles>, userland: Userland) -> MachineBuilder {
        MachineBuilder::new(kernel.into(), userland)
    }

    /// Everything the machine sent on its line so far, as raw bytes in a file.
    pub fn serial_log(&self) -> &Path {
        self.line.path()
    }

    /// Waits until the machine has sent `text` after the text the last wait ended at, on its line or on a
    /// [console apart](MachineBuilder::console_apart).
    ///
    /// # Errors
    /// [`Error::Awaited`] when `deadline` passes first, [`Error::Ended`] if the machine reboots or powers
    /// off first, [`Error::MachineLost`] if QEMU fails. All keep the serial log and name it.
    pub fn wait_for_line_text(&mut self, text: &str, deadline: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            // Asked first: what an ended QEMU wrote is all there.
            let ended = self.ended()?;
            if self.has_said(text)? {
                return Ok(());
            }
            let awaited = format!("{text:?} on the line");
            match ended {
                Some(status) if status.success() => return Err(self.end_before(awaited)),
                Some(status) => return Err(self.lost(format!("waiting for {awaited}"), status.to_string())),
                None if start.elapsed() > deadline => {
                    let log = self.keep_serial_log();
                    return Err(Error::Awaited { awaited, deadline, log });
                }
                None => {}
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the machine has sent `text` after the text the last wait, or look, ended at.
    ///
    /// # Errors
    /// If its log cannot be read.
    pub fn has_said(&mut self, text: &str) -> Result<bool> {
        for port in [Some(&mut self.line), self.console.as_mut()].into_iter().flatten() {
            if port.find(text.as_bytes())? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How QEMU ended, if it has.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().on("wait for", "QEMU")
    }

    /// The directory with QEMU's messages (`qemu.log`, unless they have a [file](MachineBuilder::messages)) and what a console
    /// apart says (`console.log`), while this machine is.
    pub fn logs(&self) -> &Path {
        self.directory.path()
    }

    /// Waits until QEMU ends by itself: the machine rebooted or powered off.
    ///
    /// # Errors
    /// [`Error::Awaited`] when `deadline` passes first.
    pub fn wait_for_end(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if start.elapsed() > deadline {
                let log = self.keep_serial_log();
                return Err(Error::Awaited { awaited: "end of the machine".into(), deadline, log });
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops all CPUs.
    ///
    /// # Errors
    /// [`Error::MachineLost`] if QEMU does not answer.
    pub fn stop(&mut self) -> Result<()> {
        self.command("stop", json!({}), COMMAND_DEADLINE).map(drop)
    }

    /// Lets the CPUs go on.
    ///
    /// # Errors
    /// [`Error::MachineLost`] if QEMU does not answer.
    pub fn cont(&mut self) -> Result<()> {
        self.command("cont", json!({}), COMMAND_DEADLINE).map(drop)
    }

    /// Crashes a machine built with [`Trigger::Nmi`](crate::Trigger::Nmi).
    ///
    /// # Errors
    /// [`Error::MachineLost`] if QEMU does not answer.
    pub fn inject_nmi(&mut self) -> Result<()> {
        self.command("inject-nmi", json!({}), COMMAND_DEADLINE).map(drop)
    }

    /// Executes a command of QEMU's human monitor (`mce`, `info`, …), and returns what it printed.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such command, [`Error::MachineLost`] without an answer.
    pub fn monitor(&mut self, line: &str) -> Result<String> {
        let arguments = json!({ "command-line": line });
        let printed = self.command("human-monitor-command", arguments, COMMAND_DEADLINE)?;
        Ok(printed.as_str().unwrap_or_default().to_owned())
    }

    /// Makes the balloon so large that the guest is left with `mib` of memory, as soon as it has a driver for it.
    fn leave_mib(&mut self, mib: u32) -> Result<()> {
        let value = u64::from(mib) << 20;
        self.command("balloon", json!({ "value": value }), COMMAND_DEADLINE).map(drop)
    }

    /// Writes the machine's physical memory to an ELF file at `path`: the truth to compare a dump with.
    /// The machine is stopped meanwhile; stop it before, to have the memory of a certain moment.
    ///
    /// # Errors
    /// [`Error::Refused`] if QEMU cannot write there, [`Error::MachineLost`] without an answer.
    pub fn dump_truth(&mut self, path: &Path) -> Result<Truth> {
        let place = std::path::absolute(path).on("find", path)?;
        let arguments = json!({ "paging": false, "protocol": format!("file:{}", place.display()) });
        self.command("dump-guest-memory", arguments, MEMORY_DEADLINE)?;
        Truth::open(&place)
    }

    /// Stops the machine and writes its whole state to `path`, for
    /// [`restore_from`](MachineBuilder::restore_from). It goes on with [`cont`](Self::cont).
    ///
    /// # Errors
    /// [`Error::Refused`] if QEMU cannot write there, [`Error::MachineLost`] without an answer.
    pub fn snapshot(&mut self, path: &Path) -> Result<()> {
        self.stop()?;
        // Nobody else uses the machine's time: as fast as the disk allows.
        let unlimited = json!({ "max-bandwidth": u32::MAX });
        self.command("migrate-set-parameters", unlimited, COMMAND_DEADLINE)?;
        let place = std::path::absolute(path).on("find", path)?;
        let uri = format!("exec:cat > {}", quoted(&place.to_string_lossy()));
        self.command("migrate", json!({ "uri": uri }), COMMAND_DEADLINE)?;
        self.wait_for_migration()
    }

    /// Waits until the whole state has gone out, or come in.
    fn wait_for_migration(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            let progress = self.command("query-migrate", json!({}), COMMAND_DEADLINE)?;
            match progress.get("status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    let reason = progress.get("error-desc").and_then(Value::as_str).unwrap_or("no reason");
                    return Err(Error::Refused { command: "migrate".into(), message: reason.into() });
                }
                _ if start.elapsed() > MEMORY_DEADLINE => {
                    return Err(self.lost("migrating".into(), "no end in sight".into()));
                }
                _ => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Keeps the serial log and QEMU's messages after this machine is gone, and returns their directory.
    pub fn keep_logs(&mut self) -> PathBuf {
        self.directory.disable_cleanup(true);
        let log = self.directory.path().join("serial.log");
        if self.line.path() != log {
            // The line's record, which goes with the line.
            let _ = std::fs::copy(self.line.path(), &log);
        }
        // Not a log, and the largest of the files. It may be gone already.
        let _ = std::fs::remove_file(self.directory.path().join("initrd.gz"));
        self.directory.path().to_owned()
    }

    fn command(&mut self, command: &str, arguments: Value, deadline: Duration) -> Result<Value> {
        self.qmp.execute(command, arguments, deadline).map_err(|error| match error {
            QmpError::Refused(message) => Error::Refused { command: command.to_owned(), message },
            QmpError::Lost(error) => self.lost(command.to_owned(), error.to_string()),
        })
    }

    /// Where the serial log is after this machine, and perhaps its line, are gone.
    fn keep_serial_log(&mut self) -> PathBuf {
        self.keep_logs().join("serial.log")
    }

    fn end_before(&mut self, awaited: String) -> Error {
        let log = self.keep_serial_log();
        // A guest that gives up says why on its console.
        let bytes = std::fs::read(self.console.as_ref().map_or(&*log, Console::path)).unwrap_or_default();
        Error::Ended { awaited, last_line: last_line(&String::from_utf8_lossy(&bytes)), log }
    }

    fn lost(&mut self, doing: String, reason: String) -> Error {
        let logs = self.keep_logs();
        let said = std::fs::read_to_string(&self.messages).ok();
        let said = said.as_deref().and_then(process::last_words);
        let reason = said.map_or(reason.clone(), |said| format!("{reason}; QEMU said: {said}"));
        Error::MachineLost { doing, reason, logs }
    }
}

/// The last line on the console before the kernel's own "reboot: Power down".
fn last_line(console: &str) -> String {
    let telling = |line: &&str| !line.is_empty() && !line.contains("] reboot: ");
    console.lines().map(str::trim).rfind(telling).unwrap_or_default().to_owned()
}

impl Drop for Machine {
    fn drop(&mut self) {
        process::end(&mut self.child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_tells_why_the_guest_powered_off() {
        let console = "LAB: load failed: no room\r\n[    3.450743] reboot: Power down\r\n";
        assert_eq!(last_line(console), "LAB: load failed: no room");
    }
}
