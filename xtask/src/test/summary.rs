//! What became of every test.

use std::fmt;
use std::process::ExitCode;

use super::libtest::{Suite, Verdict};

/// How a test ended. The same four ends as in the lab, and tests that nobody ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    /// QEMU ended or stopped answering: nothing is known about what was to be tested.
    MachineLost,
    /// Something the test needs is not there.
    ToolMissing,
    /// Not asked for, or not needed.
    NotRun,
}

/// How a line begins by which a test says what became of it, and why: `ToolMissing: no image`.
const SAID: [(&str, Outcome); 3] = [
    ("MachineLost: ", Outcome::MachineLost),
    ("ToolMissing: ", Outcome::ToolMissing),
    ("outcome: not run: ", Outcome::NotRun),
];
/// How a line begins by which a test says that it did without something optional: `left out: drgn: no python3`.
const LEFT_OUT: &str = "left out: ";
/// What a test prints that unwraps an error of the lab ([`rcapture_qemu::Error`]).
const UNWRAPPED: [(&str, Outcome); 2] =
    [(": MachineLost {", Outcome::MachineLost), (": ToolMissing {", Outcome::ToolMissing)];

impl Outcome {
    const ALL: [Self; 5] = [Self::Passed, Self::Failed, Self::MachineLost, Self::ToolMissing, Self::NotRun];

    /// The outcome a test printed, and why.
    fn said(line: &str) -> Option<(Self, &str)> {
        let said = SAID.into_iter().find_map(|(start, outcome)| Some((outcome, line.strip_prefix(start)?)));
        said.or_else(|| {
            UNWRAPPED.into_iter().find_map(|(text, outcome)| {
                let (_, why) = line.split_once(text)?;
                Some((outcome, why.trim().trim_end_matches(" }")))
            })
        })
    }
}

impl From<&Verdict> for Outcome {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Passed => Self::Passed,
            Verdict::Failed => Self::Failed,
            Verdict::Ignored(_) => Self::NotRun,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::MachineLost => "lost the machine",
            Self::ToolMissing => "tool missing",
            Self::NotRun => "not run",
        })
    }
}

/// A test, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    test: String,
    outcome: Outcome,
    why: String,
}

/// What to make of tests marked `#[ignore]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ignored {
    /// They are not run, and the summary says so.
    AreListed,
    /// They are another batch's. (But for documentation tests: nobody runs those.)
    AreRunLater,
}

/// What became of all tests.
#[derive(Debug, Default)]
pub(crate) struct Summary(Vec<Entry>);

impl Summary {
    /// Adds something that is no test of a suite.
    pub(crate) fn add(&mut self, test: impl Into<String>, outcome: Outcome, why: impl Into<String>) {
        self.0.push(Entry { test: test.into(), outcome, why: why.into() });
    }

    /// Adds all tests of `suite`.
    pub(crate) fn add_suite(&mut self, suite: &Suite, ignored: Ignored) {
        for (test, verdict) in &suite.tests {
            let is_ignored = matches!(verdict, Verdict::Ignored(_));
            if is_ignored && ignored == Ignored::AreRunLater && !suite.is_documentation() {
                continue;
            }
            let output = suite.output.get(test).map(Vec::as_slice).unwrap_or_default();
            let said = output.iter().find_map(|line| Outcome::said(line));
            let (outcome, why) = match (verdict, said) {
                (Verdict::Ignored(reason), _) => (Outcome::NotRun, reason.as_str()),
                (_, Some(said)) => said,
                (verdict, None) => (Outcome::from(verdict), ""),
            };
            self.add(format!("{} {test}", suite.name), outcome, why);
            for part in output.iter().filter_map(|line| line.strip_prefix(LEFT_OUT)) {
                self.add(format!("{} {test}, a part", suite.name), Outcome::NotRun, part);
            }
        }
        if let Some(defect) = suite.defect() {
            self.add(suite.name.clone(), Outcome::Failed, defect);
        }
    }

    /// Whether something failed, or could not be carried out although it was asked for.
    pub(crate) fn has_failures(&self) -> bool {
        self.0.iter().any(|entry| {
            matches!(entry.outcome, Outcome::Failed | Outcome::MachineLost | Outcome::ToolMissing)
        })
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.0.iter().filter(|entry| entry.outcome == outcome).count()
    }

    /// 0 if everything that was asked for ran and passed.
    pub(crate) fn exit_code(&self) -> ExitCode {
        if self.has_failures() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

impl fmt::Display for Summary {
    /// Every test that did not pass with its reason, the number of each outcome, and one line for machines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in self.0.iter().filter(|entry| entry.outcome != Outcome::Passed) {
            let Entry { test, outcome, why } = entry;
            let separator = if why.is_empty() { "" } else { ": " };
            writeln!(f, "{outcome:>16}  {test}{separator}{why}")?;
        }
        writeln!(f)?;
        for outcome in Outcome::ALL {
            writeln!(f, "{outcome:>16}  {}", self.count(outcome))?;
        }
        let passed = self.count(Outcome::Passed);
        let failed = self.count(Outcome::Failed) + self.count(Outcome::MachineLost);
        let skipped = self.count(Outcome::ToolMissing) + self.count(Outcome::NotRun);
        write!(f, "\n{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::super::libtest::Reader;
    use super::*;

    fn summary(text: &str) -> Summary {
        let mut reader = Reader::default();
        for line in text.lines() {
            reader.line(line);
        }
        let mut summary = Summary::default();
        for suite in reader.finish() {
            summary.add_suite(&suite, Ignored::AreListed);
        }
        summary
    }

    fn outcomes(summary: &Summary) -> Vec<Outcome> {
        summary.0.iter().map(|entry| entry.outcome).collect()
    }

    const MIXED: &str = r#"
     Running tests/boot.rs (target/debug/deps/boot-00)
running 5 tests
test a ... ok
test b ... FAILED
test c ... FAILED
test d ... FAILED
test e ... ignored, only with --full

failures:

---- b stdout ----
assertion failed
---- c stdout ----
called `Result::unwrap()` on an `Err` value: MachineLost { doing: "stop", reason: "QEMU ended" }
---- d stdout ----
called `Result::unwrap()` on an `Err` value: ToolMissing { what: "crash", reason: "not there" }

test result: FAILED. 1 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.00s"#;

    #[test]
    fn the_four_outcomes_and_tests_not_run_stay_apart() {
        let summary = summary(MIXED);
        assert_eq!(
            outcomes(&summary),
            [Outcome::Passed, Outcome::Failed, Outcome::MachineLost, Outcome::ToolMissing, Outcome::NotRun]
        );
        let text = summary.to_string();
        assert!(text.contains("tool missing  boot: tests/boot.rs d: what: \"crash\""), "{text}");
        assert!(text.contains("not run  boot: tests/boot.rs e: only with --full"), "{text}");
        assert_eq!(text.lines().last(), Some("1 passed, 2 failed, 2 skipped"));
        assert!(summary.has_failures());
    }

    #[test]
    fn the_labs_errors_are_recognised_as_a_test_prints_them() {
        let missing = rcapture_qemu::Error::ToolMissing {
            what: "crash".into(),
            reason: "not in sid".into(),
            remedy: "wait".into(),
        };
        let line = format!("called `Result::unwrap()` on an `Err` value: {missing:?}");
        assert_eq!(Outcome::said(&line).unwrap().0, Outcome::ToolMissing);
        let lost = rcapture_qemu::Error::MachineLost {
            doing: "stop".into(),
            reason: "QEMU ended".into(),
            logs: "/tmp".into(),
        };
        let own = "ToolMissing: there is no image";
        assert_eq!(Outcome::said(own), Some((Outcome::ToolMissing, "there is no image")));
        assert_eq!(Outcome::said(&format!("no restart: {lost:?}")).unwrap().0, Outcome::MachineLost);
    }

    #[test]
    fn what_was_not_asked_for_is_no_failure_but_a_missing_tool_is() {
        let mut summary = Summary::default();
        summary.add("a", Outcome::Passed, "");
        summary.add("b", Outcome::NotRun, "only with --full");
        assert!(!summary.has_failures());
        summary.add("c", Outcome::ToolMissing, "no QEMU");
        assert!(summary.has_failures());
    }

    #[test]
    fn a_test_may_leave_out_what_is_optional_and_still_pass() {
        let summary = summary(
            "
     Running tests/boot.rs (target/debug/deps/boot-00)
running 2 tests
test a ... ok
test b ... ok

successes:

---- a stdout ----
left out: drgn: no python3
---- b stdout ----
outcome: not run: only with --full

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        );
        assert_eq!(outcomes(&summary), [Outcome::Passed, Outcome::NotRun, Outcome::NotRun]);
        assert!(!summary.has_failures());
    }

    #[test]
    fn what_another_batch_runs_is_not_counted_twice() {
        let mut reader = Reader::default();
        for line in MIXED.lines() {
            reader.line(line);
        }
        let mut summary = Summary::default();
        for suite in reader.finish() {
            summary.add_suite(&suite, Ignored::AreRunLater);
        }
        assert!(!outcomes(&summary).contains(&Outcome::NotRun));
    }

    #[test]
    fn a_suite_that_died_is_a_failure() {
        let cut = MIXED.split_once("test b").unwrap().0;
        let summary = summary(cut);
        assert_eq!(outcomes(&summary), [Outcome::Passed, Outcome::Failed]);
    }
}
