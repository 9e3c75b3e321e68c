//! A machine's course: it boots, crashes, and its dump comes; each takes a while, and none for ever.

use std::fs;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memchr::memmem;

use super::reason::{Stage, Stop, explain};
use super::receiver::{Ear, Received, Receiver, journal};
use super::report::{Report, Trouble};
use super::setup::{QEMU_LOG, SERIAL_LOG, Setup};
use crate::line::Line;
use crate::machine::Machine;
use crate::outcome::{IoContext, Outcome, Result};
use crate::process;

const POLL: Duration = Duration::from_millis(20);
/// How often it is said how far it is.
const PROGRESS: Duration = Duration::from_secs(5);
/// Time the receiver has to make a vmcore of what it has.
const GRACE: Duration = Duration::from_secs(30);
/// Time the line has to bring the beginning of a dump from a machine that is no more.
const LAST_BYTES: Duration = Duration::from_secs(5);
/// What a console with a port of its own says, in the machine's directory and in ours.
const CONSOLE_LOG: &str = "console.log";
/// What the guest says last (guest/init.sh).
const CRASHING: &str = "LAB: crashing";
/// What the capture kernel says first, behind its version.
const BANNER: &str = "capture kernel started";
/// What `rcapture recv` exits with when the dump is incomplete.
const INCOMPLETE: i32 = 3;

/// What is done when both of a machine's stages lie behind it.
const RECEIVING: &str = "receiving the dump";

/// How a wait ended.
enum Wait {
    Over,
    Ended,
    Overdue(Duration),
    Interrupted,
}

/// Lets a machine live and die, and writes into `report` what came of it.
pub(super) fn follow(
    setup: &Setup<'_>,
    interrupted: &AtomicBool,
    report: &mut Report,
) -> Result<(), Trouble> {
    let mut left = setup.scenario.boots;
    loop {
        left -= 1;
        let mut course = Course::begin(setup, interrupted)?;
        let result = course.boot(report);
        match &result {
            Err(trouble) if left > 0 && trouble.is_of_machine && !interrupted.load(Ordering::Relaxed) => {
                course.say(&format!("{}; again", trouble.reason));
            }
            _ => {
                let result = result.and_then(|()| course.crash(report)).and_then(|()| course.dump(report));
                course.keep_logs();
                report.bytes = course.bytes_on_the_wire();
                if let Some(dump) = course.receiver.dump() {
                    // All of it is in the vmcore, if there is one.
                    if report.is_complete {
                        let _ = fs::remove_file(journal(&dump));
                    }
                    report.dump = Some(dump);
                }
                return result;
            }
        }
    }
}

struct Course<'a> {
    setup: &'a Setup<'a>,
    interrupted: &'a AtomicBool,
    /// Ends with this value.
    _line: Line,
    receiver: Receiver,
    machine: Machine,
    start: Instant,
}

impl<'a> Course<'a> {
    fn begin(setup: &'a Setup<'a>, interrupted: &'a AtomicBool) -> Result<Self, Trouble> {
        let line = Line::spawn(setup.line.clone())?;
        let receiver = Receiver::start(setup.ear, &line, &setup.directory)?;
        let machine = setup.machine.clone().line(&line).start()?;
        Ok(Self { setup, interrupted, _line: line, receiver, machine, start: Instant::now() })
    }

    fn boot(&mut self, report: &mut Report) -> Result<(), Trouble> {
        let deadline = self.setup.scenario.boot_deadline;
        let result = self.stage(Stage::Boot, CRASHING, deadline);
        report.times.boot = Some(self.start.elapsed());
        result
    }

    fn crash(&mut self, report: &mut Report) -> Result<(), Trouble> {
        let crashed = Instant::now();
        let deadline = self.setup.scenario.crash_deadline;
        let result = self.stage(Stage::Crash, BANNER, deadline);
        report.times.capture = Some(crashed.elapsed());
        result
    }

    /// Waits until the machine has said `text`.
    fn stage(&mut self, stage: Stage, text: &str, seconds: u64) -> Result<(), Trouble> {
        let stop = match self.wait(Some(stage), seconds, |this| this.machine.has_said(text))? {
            Wait::Over => return Ok(()),
            Wait::Interrupted => return Err(Trouble::interrupted(stage.doing())),
            Wait::Ended => Stop::Ended,
            Wait::Overdue(time) => Stop::Overdue(time),
        };
        Err(explain(stage, stop, &self.console(), self.setup.machine.console_port()))
    }

    /// Waits until the receiver has it all, or as much as there will be.
    fn dump(&mut self, report: &mut Report) -> Result<(), Trouble> {
        let begun = Instant::now();
        let seconds = self.setup.scenario.seconds_to_dump();
        let (mut received, mut ended) = (None, None);
        let wait = self.wait(None, seconds, |this| {
            received = this.receiver.ended()?;
            // A machine that has ended does not end the wait: the receiver writes the vmcore then, if anything came.
            if ended.is_none() && this.machine.ended()?.is_some() {
                ended = Some(Instant::now());
            }
            let is_in_vain =
                ended.is_some_and(|ended| ended.elapsed() > LAST_BYTES) && this.receiver.dump().is_none();
            Ok(received.is_some() || is_in_vain)
        })?;
        let trouble = match wait {
            _ if self.interrupted.load(Ordering::Relaxed) => Some(Trouble::interrupted(RECEIVING).reason),
            Wait::Over | Wait::Ended if received.is_some() => None,
            Wait::Over | Wait::Ended | Wait::Interrupted => {
                Some("the machine ended, and no dump came".to_owned())
            }
            Wait::Overdue(time) => Some(format!("the dump is not complete after {} s", time.as_secs())),
        };
        let received = if received.is_some() { received } else { self.end_receiver()? };
        report.times.dump = Some(begun.elapsed());
        let Some(Received { status, dump, said }) = received else {
            let reason = trouble.unwrap_or_default() + "; and the receiver does not end";
            return Err(Trouble::new(Outcome::Failed, reason));
        };
        report.vmcore = dump.map(|dump| dump.join("vmcore")).filter(|vmcore| vmcore.exists());
        report.is_complete = status.success() && report.vmcore.is_some();
        report.received = Some(said.clone());
        if let Some(reason) = trouble {
            return Err(Trouble::new(Outcome::Failed, reason));
        }
        match self.machine.ended()? {
            Some(ended) if !ended.success() => Err(self.lost(ended)),
            // What came of an incomplete dump is judged, too.
            _ if status.success() || status.code() == Some(INCOMPLETE) => Ok(()),
            _ => Err(Trouble::new(Outcome::Failed, format!("rcapture recv: {status}: {said}"))),
        }
    }

    /// Makes a vmcore of what has come.
    fn end_receiver(&mut self) -> Result<Option<Received>> {
        self.say("ending the receiver");
        self.receiver.stop()?;
        let asked = Instant::now();
        while asked.elapsed() < GRACE {
            if let Some(received) = self.receiver.ended()? {
                return Ok(Some(received));
            }
            thread::sleep(POLL);
        }
        Ok(None)
    }

    /// Waits until `is_over`, and says now and then that it waits. In a `stage` of the machine its end ends the wait; behind them
    /// the receiver says when it is over.
    fn wait(
        &mut self,
        stage: Option<Stage>,
        seconds: u64,
        mut is_over: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<Wait, Trouble> {
        let (begun, deadline) = (Instant::now(), Duration::from_secs(seconds));
        let mut shown = begun;
        let doing = stage.map_or(RECEIVING, Stage::doing);
        self.say(doing);
        loop {
            // Asked first: what an ended QEMU wrote is all there.
            let ended = if stage.is_some() { self.machine.ended()? } else { None };
            if is_over(self)? {
                return Ok(Wait::Over);
            }
            // Before QEMU's end, which Ctrl-C at a terminal is, too.
            if self.interrupted.load(Ordering::Relaxed) {
                return Ok(Wait::Interrupted);
            }
            if ended.is_some_and(|status| status.success()) {
                return Ok(Wait::Ended);
            }
            if let Some(status) = ended {
                return Err(self.lost(status));
            }
            if begun.elapsed() > deadline {
                return Ok(Wait::Overdue(deadline));
            }
            if shown.elapsed() > PROGRESS {
                shown = Instant::now();
                let come = super::Bytes(self.receiver.bytes());
                let bytes = if stage.is_none() { format!(", {come}") } else { String::new() };
                self.say(&format!("{doing}: {} s{bytes}", begun.elapsed().as_secs()));
            }
            thread::sleep(POLL);
        }
    }

    /// QEMU failed.
    fn lost(&self, status: ExitStatus) -> Trouble {
        let said = fs::read_to_string(self.setup.directory.join(QEMU_LOG)).unwrap_or_default();
        let said = process::last_words(&said).map(|said| format!("; it said: {said}")).unwrap_or_default();
        Trouble::new(Outcome::MachineLost, format!("QEMU ended with {status}{said}"))
    }

    fn say(&self, what: &str) {
        eprintln!("{}: {what}", self.setup.scenario.title());
    }

    /// What the machine has said.
    fn console(&self) -> String {
        let apart = self.machine.logs().join(CONSOLE_LOG);
        let file = if apart.exists() { apart } else { self.machine.serial_log().to_owned() };
        String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
    }

    /// Copies what the machine's own directory has, and drops an empty log of QEMU's. It is a help, and no more.
    fn keep_logs(&self) {
        let has_text = |file: &Path| fs::metadata(file).is_ok_and(|file| file.len() > 0);
        let console = self.machine.logs().join(CONSOLE_LOG);
        if has_text(&console) {
            let _ = fs::copy(console, self.setup.directory.join(CONSOLE_LOG));
        }
        let messages = self.setup.directory.join(QEMU_LOG);
        if !has_text(&messages) {
            let _ = fs::remove_file(messages);
        }
    }

    /// Bytes that the dump took: on a serial line from the capture kernel's banner on, over a network in the journal.
    fn bytes_on_the_wire(&self) -> Option<u64> {
        if let Ear::Port(_) = self.setup.ear {
            return Some(self.receiver.bytes()).filter(|&bytes| bytes > 0);
        }
        bytes_behind(BANNER, &self.setup.directory.join(SERIAL_LOG)).ok().flatten()
    }
}

/// How many bytes of a file come after the last line with `text`.
fn bytes_behind(text: &str, file: &Path) -> Result<Option<u64>> {
    let bytes = fs::read(file).on("read", file)?;
    Ok(memmem::rfind(&bytes, text.as_bytes()).map(|at| (bytes.len() - at - text.len()) as u64))
}
