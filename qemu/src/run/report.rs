//! What came of a scenario.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::checks::Check;
use super::junit;
use super::scenario::{Scenario, expression};
use super::setup::Setup;
use crate::outcome::{Error, IoContext, Outcome, Result};

/// The report of one scenario, in its directory.
pub(super) const FILE: &str = "result.json";
/// Those of all scenarios.
const ALL_FILE: &str = "results.json";
const JUNIT_FILE: &str = "junit.xml";

/// What came of a scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its name.
    pub name: String,
    /// How it ended; as it was expected to, if it [passed](Outcome::Passed).
    pub outcome: Outcome,
    /// Why it did not pass; or what was expected to go wrong, and did.
    pub reason: Option<String>,
    /// What its kernel runs on, once that is known.
    pub arch: Option<&'static str>,
    /// Its kernel's file.
    pub kernel: Option<PathBuf>,
    /// How long its parts took.
    pub times: Times,
    /// Bytes that the dump took on the wire.
    pub bytes: Option<u64>,
    /// Whether everything came that was sent.
    pub is_complete: bool,
    /// What the receiver said in the end.
    pub received: Option<String>,
    /// The expectations.
    pub checks: Vec<Check>,
    /// Where all its files are.
    pub directory: PathBuf,
    /// The directory that the receiver made.
    pub dump: Option<PathBuf>,
    /// The dump itself.
    pub vmcore: Option<PathBuf>,
}

/// How long the parts of a run took, as far as it got.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Times {
    /// From QEMU's start until the guest is about to crash.
    #[serde(rename = "boot_seconds", serialize_with = "seconds")]
    pub boot: Option<Duration>,
    /// From there to the capture kernel's first word.
    #[serde(rename = "capture_seconds", serialize_with = "seconds")]
    pub capture: Option<Duration>,
    /// From there to the receiver's end.
    #[serde(rename = "dump_seconds", serialize_with = "seconds")]
    pub dump: Option<Duration>,
}

impl Times {
    /// From the crash to the complete dump.
    #[must_use]
    pub fn crash_to_end(&self) -> Option<Duration> {
        Some(self.capture? + self.dump?)
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> Duration {
        [self.boot, self.capture, self.dump].into_iter().flatten().sum()
    }
}

#[allow(clippy::ref_option, reason = "serde's way to call it")]
fn seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    // Milliseconds are more than is known.
    time.map(|time| (time.as_secs_f64() * 1000.0).round() / 1000.0).serialize(serializer)
}

/// Why a scenario did not get to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) outcome: Outcome,
    pub(super) reason: String,
    /// Whether another start of the machine might go better.
    pub(super) is_of_machine: bool,
}

impl Trouble {
    pub(super) const fn new(outcome: Outcome, reason: String) -> Self {
        Self { outcome, reason, is_of_machine: false }
    }

    pub(super) fn interrupted(doing: &str) -> Self {
        Self::new(Outcome::Failed, format!("interrupted while {doing}"))
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::new(error.outcome(), error.to_string())
    }
}

impl Report {
    /// Of a scenario that has yet to run: what is left of one that never gets to its end.
    pub(super) fn begin(scenario: &Scenario, directory: &Path) -> Self {
        Self {
            name: scenario.title(),
            outcome: Outcome::Failed,
            reason: Some("the run did not end: it was killed, or still goes on".into()),
            arch: None,
            kernel: scenario.kernel.clone(),
            times: Times::default(),
            bytes: None,
            is_complete: false,
            received: None,
            checks: Vec::new(),
            directory: directory.to_owned(),
            dump: None,
            vmcore: None,
        }
    }

    /// Of a scenario that was not run, because somebody ended the matrix.
    #[must_use]
    pub fn not_run(scenario: &Scenario, directory: &Path) -> Self {
        Self { reason: Some("interrupted before it began".into()), ..Self::begin(scenario, directory) }
    }

    pub(super) fn knows(&mut self, setup: &Setup<'_>) {
        self.arch = Some(setup.kernel.arch.name());
        self.kernel = Some(setup.kernel.image.clone());
    }

    /// Compares how it went with how it was to go.
    pub(super) fn conclude(&mut self, scenario: &Scenario, result: Result<(), Trouble>) {
        let failed: Vec<&str> =
            self.checks.iter().filter(|check| !check.passed).map(|check| check.said.as_str()).collect();
        let (outcome, reason) = match result {
            Err(trouble) => (trouble.outcome, Some(trouble.reason)),
            Ok(()) if failed.is_empty() => (Outcome::Passed, None),
            Ok(()) => (Outcome::Failed, Some(failed.join("; "))),
        };
        let expected = scenario.expect_outcome;
        let said = reason.clone().unwrap_or_default();
        let is_for_that = scenario
            .expect_reason
            .as_deref()
            .is_none_or(|text| expression(text).is_ok_and(|it| it.is_match(&said)));
        (self.outcome, self.reason) = if expected == Outcome::Passed {
            (outcome, reason)
        } else if outcome != expected {
            (Outcome::Failed, Some(format!("expected: {expected}; it ended: {outcome}: {said}")))
        } else if !is_for_that {
            (Outcome::Failed, Some(format!("{expected}, as expected, but not for that reason: {said}")))
        } else {
            (Outcome::Passed, Some(format!("as expected: {expected}: {said}")))
        };
    }

    pub(super) fn write(&self) -> Result<()> {
        write_json(&self.directory.join(FILE), self)
    }
}

/// Writes `results.json` and `junit.xml` into `directory`.
///
/// # Errors
/// If they cannot be written.
pub fn write(reports: &[Report], directory: &Path) -> Result<()> {
    write_json(&directory.join(ALL_FILE), reports)?;
    let path = directory.join(JUNIT_FILE);
    let text = junit::document(reports).on("write", &path)?;
    fs::write(&path, text).on("write", &path)
}

fn write_json<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(std::io::Error::other).on("write", path)?;
    text.push(b'\n');
    fs::write(path, text).on("write", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concluded(scenario: &Scenario, checks: &[bool], result: Result<(), Trouble>) -> (Outcome, String) {
        let mut report = Report::begin(scenario, Path::new("x"));
        let check = |&passed| Check { name: "log", passed, said: format!("check {passed}") };
        report.checks = checks.iter().map(check).collect();
        report.conclude(scenario, result);
        (report.outcome, report.reason.unwrap_or_default())
    }

    fn lost() -> Trouble {
        Trouble::new(Outcome::MachineLost, "it hangs: for ever".into())
    }

    #[test]
    fn one_failing_expectation_fails_the_run() {
        let scenario = Scenario::default();
        assert_eq!(concluded(&scenario, &[true, true], Ok(())), (Outcome::Passed, String::new()));
        assert_eq!(concluded(&scenario, &[true, false], Ok(())), (Outcome::Failed, "check false".into()));
        assert_eq!(concluded(&scenario, &[], Err(lost())).0, Outcome::MachineLost);
    }

    #[test]
    fn a_scenario_that_is_to_go_wrong_passes_only_if_it_does_for_that_reason() {
        let scenario = Scenario {
            expect_outcome: Outcome::MachineLost,
            expect_reason: Some("^it hangs".into()),
            ..Scenario::default()
        };
        assert_eq!(concluded(&scenario, &[], Err(lost())).0, Outcome::Passed);
        let other = Trouble::new(Outcome::MachineLost, "QEMU ended".into());
        assert_eq!(concluded(&scenario, &[], Err(other)).0, Outcome::Failed);
        let (outcome, reason) = concluded(&scenario, &[true], Ok(()));
        assert_eq!(outcome, Outcome::Failed);
        assert!(reason.starts_with("expected: lost the machine; it ended: passed"), "{reason}");
    }
}
