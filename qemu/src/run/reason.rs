//! Why a machine did not get as far as it was to: read from its console.

use std::time::Duration;

use super::report::Trouble;
use crate::outcome::Outcome;

/// How far a machine was to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Until it is about to crash, with the capture kernel loaded.
    Boot,
    /// Until the capture kernel says its first word.
    Crash,
}

impl Stage {
    /// What the machine does, as people are told.
    pub(super) const fn doing(self) -> &'static str {
        match self {
            Self::Boot => "booting",
            Self::Crash => "crashing",
        }
    }
}

/// What came instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It turned itself off, or was reset.
    Ended,
    /// Nothing, for so long.
    Overdue(Duration),
}

/// What the guest's init says (guest/init.sh).
const NOT_SUPPORTED: &str = "LAB: not supported: ";
const LOAD_FAILED: &str = "LAB: load failed: ";
const CRASHING: &str = "LAB: crashing";
const COMMAND_FAILED: &str = "LAB: the crash command failed: ";
const PANIC: &str = "Kernel panic - not syncing: ";

/// What to do about the words with which loading fails (docs/boot.md, "When loading fails").
const REMEDIES: [(&str, &str); 5] = [
    ("no memory is reserved", "give the machine more memory, or another --crashkernel"),
    ("Could not find a free area of memory", "the reservation is too small: a larger --crashkernel"),
    ("locate_hole", "the reservation is too small: a larger --crashkernel"),
    ("Cannot assign requested address", "the reservation is too small: a larger --crashkernel"),
    ("Overlapping memory segments", "the reservation is too small: a larger --crashkernel"),
];

/// Explains why a machine with this text on its console `console` (Linux' name: `port`) did not get through `stage`.
pub(super) fn explain(stage: Stage, stop: Stop, console: &str, port: &str) -> Trouble {
    let said = |start| last_behind(console, start);
    if let Some(reason) = said(NOT_SUPPORTED) {
        return Trouble::new(Outcome::NotSupported, reason);
    }
    if let Some(reason) = said(LOAD_FAILED) {
        let remedy = REMEDIES.iter().find(|(words, _)| reason.contains(words));
        let remedy = remedy.map(|(_, remedy)| format!(" ({remedy})")).unwrap_or_default();
        return Trouble::new(Outcome::Failed, format!("the capture kernel was not loaded: {reason}{remedy}"));
    }
    if let Some(status) = said(COMMAND_FAILED) {
        let lines = console.lines().map(str::trim).take_while(|line| !line.contains(COMMAND_FAILED));
        let words = lines.filter(|line| !line.is_empty()).last().filter(|line| !line.contains(CRASHING));
        let words = words.map(|words| format!("; its last words: {words:?}")).unwrap_or_default();
        return Trouble::new(
            Outcome::Failed,
            format!("the crash command failed with status {status}{words}"),
        );
    }
    Trouble { is_of_machine: true, ..what_is_seen(stage, stop, console, port) }
}

/// What can be told of a machine that gave no reason itself.
fn what_is_seen(stage: Stage, stop: Stop, console: &str, port: &str) -> Trouble {
    if let Some(panic) = last_behind(console, PANIC) {
        let what = match stage {
            Stage::Boot if console.contains("LAB: loaded") => "the kernel crashed before it was to",
            Stage::Boot => "the kernel crashed before the capture kernel was loaded",
            Stage::Crash => "the kernel panicked, but the capture kernel did not start",
        };
        return Trouble::new(Outcome::Failed, format!("{what}: {PANIC}{panic}"));
    }
    let last = console.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.contains("] reboot: "));
    match (stop, last) {
        (Stop::Ended, None) => Trouble::new(
            Outcome::MachineLost,
            format!("the machine ended without a word on {port} (does the kernel have its driver built in?)"),
        ),
        (Stop::Ended, Some(last)) => {
            let what = match stage {
                Stage::Boot => "before it was about to crash",
                Stage::Crash => "instead of crashing",
            };
            Trouble::new(Outcome::Failed, format!("the machine ended {what}; its last words: {last:?}"))
        }
        (Stop::Overdue(time), None) => Trouble::new(
            Outcome::MachineLost,
            format!(
                "not a word on {port} for {} s (does the kernel have its driver built in?)",
                time.as_secs()
            ),
        ),
        (Stop::Overdue(time), Some(last)) => {
            let what = match stage {
                Stage::Boot => "it is not about to crash after",
                Stage::Crash => "neither a panic nor the capture kernel within",
            };
            let reason = format!("it hangs: {what} {} s; its last words: {last:?}", time.as_secs());
            Trouble::new(Outcome::MachineLost, reason)
        }
    }
}

/// The rest of the last line that has `start` in it.
fn last_behind(console: &str, start: &str) -> Option<String> {
    console.lines().rev().find_map(|line| Some(line.split_once(start)?.1.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Stop = Stop::Overdue(Duration::from_secs(60));

    fn explain(stage: Stage, stop: Stop, console: &str) -> (Outcome, String) {
        let trouble = super::explain(stage, stop, console, "ttyS0");
        (trouble.outcome, trouble.reason)
    }

    #[test]
    fn what_a_kernel_cannot_do_is_not_its_failure() {
        let console = "[    1.2] Run /init as init process\r\nLAB: init on 6.1.176\r\n\
                       LAB: not supported: the kernel has no kexec for crashes (CONFIG_KEXEC, CONFIG_CRASH_DUMP)\r\n\
                       [    1.4] reboot: Power down\r\n";
        let (outcome, reason) = explain(Stage::Boot, Stop::Ended, console);
        assert_eq!(outcome, Outcome::NotSupported);
        assert_eq!(reason, "the kernel has no kexec for crashes (CONFIG_KEXEC, CONFIG_CRASH_DUMP)");
    }

    #[test]
    fn loading_that_fails_is_told_with_what_mends_it() {
        let console = "LAB: init on 6.1\r\nLAB: load failed: no memory is reserved: the kernel did not grant its \
                       crashkernel=: crashkernel reservation failed - memory is in use.\r\n[  1.0] reboot: Power down\r\n";
        let (outcome, reason) = explain(Stage::Boot, Stop::Ended, console);
        assert_eq!(outcome, Outcome::Failed);
        assert!(
            reason.contains("memory is in use") && reason.ends_with("another --crashkernel)"),
            "{reason}"
        );
    }

    #[test]
    fn a_crash_is_told_with_its_panic_and_when_it_came() {
        let panic = "[    2.0] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n";
        let (outcome, reason) = explain(Stage::Boot, Stop::Ended, panic);
        assert_eq!(outcome, Outcome::Failed);
        assert_eq!(
            reason,
            "the kernel crashed before the capture kernel was loaded: Kernel panic - not syncing: VFS: Unable to mount root fs"
        );
        let (_, reason) = explain(Stage::Boot, LATE, &format!("LAB: loaded\n{panic}"));
        assert!(reason.starts_with("the kernel crashed before it was to"), "{reason}");
        let (outcome, reason) = explain(Stage::Crash, LATE, &format!("LAB: loaded\nLAB: crashing\n{panic}"));
        assert!(outcome == Outcome::Failed && reason.contains("did not start"), "{reason}");
    }

    #[test]
    fn a_machine_that_says_nothing_more_is_lost() {
        let (outcome, reason) = explain(Stage::Boot, LATE, "LAB: init on 6.1\r\n");
        assert_eq!(outcome, Outcome::MachineLost);
        assert_eq!(
            reason,
            "it hangs: it is not about to crash after 60 s; its last words: \"LAB: init on 6.1\""
        );
        let (outcome, reason) = explain(Stage::Boot, LATE, "");
        assert!(outcome == Outcome::MachineLost && reason.contains("not a word on ttyS0"), "{reason}");
        let (outcome, reason) = explain(Stage::Crash, LATE, "LAB: crashing\r\n");
        assert!(outcome == Outcome::MachineLost && reason.contains("neither a panic"), "{reason}");
    }

    #[test]
    fn a_crash_command_that_fails_is_told_with_its_status_and_its_words() {
        let failed = "LAB: the crash command failed: 127\r\n[    3.4] reboot: Power down\r\n";
        let console = format!("LAB: crashing\r\n/init: line 1: crahs: not found\r\n{failed}");
        let (outcome, reason) = explain(Stage::Crash, Stop::Ended, &console);
        assert_eq!(outcome, Outcome::Failed);
        assert_eq!(
            reason,
            "the crash command failed with status 127; its last words: \"/init: line 1: crahs: not found\""
        );
        let (_, reason) = explain(Stage::Crash, Stop::Ended, &format!("LAB: crashing\r\n{failed}"));
        assert_eq!(reason, "the crash command failed with status 127");
    }

    #[test]
    fn a_machine_that_turns_itself_off_has_failed() {
        let (outcome, reason) =
            explain(Stage::Crash, Stop::Ended, "LAB: crashing\r\nbye\r\n[    3.4] reboot: Power down\r\n");
        assert_eq!(outcome, Outcome::Failed);
        assert_eq!(reason, "the machine ended instead of crashing; its last words: \"bye\"");
    }
}
