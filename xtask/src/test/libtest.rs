//! Reads what `cargo test` prints, so that no test is lost between its output and our summary.
//!
//! libtest's own count at the end of each suite is what the lines are checked against.

use std::collections::BTreeMap;
use std::path::Path;

/// How the names of suites of examples in documentation end.
const DOCUMENTATION: &str = ": documentation";

/// What one suite (a test binary, or a crate's doc tests) said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Suite {
    /// The crate's name and where its tests are: `wire: src/lib.rs`.
    pub(crate) name: String,
    /// The tests in the order in which they ended.
    pub(crate) tests: Vec<(String, Verdict)>,
    /// Captured output by the test's name.
    pub(crate) output: BTreeMap<String, Vec<String>>,
    /// Tests that were announced; `None`: the suite has not begun.
    announced: Option<usize>,
    concluded: Option<Counts>,
}

/// What libtest says of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    /// Not run; the reason, if one is given.
    Ignored(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    ignored: usize,
}

/// Reads line after line.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    suites: Vec<Suite>,
    /// A test that has begun, and whose verdict comes on a later line because something was printed in between.
    begun: Option<String>,
    /// The test whose captured output the lines are.
    section: Option<String>,
}

impl Reader {
    /// Takes a line. Returns the test it concludes.
    pub(crate) fn line(&mut self, line: &str) -> Option<(&str, &Verdict)> {
        if let Some(name) = suite_name(line) {
            self.begun = None;
            self.section = None;
            self.suites.push(Suite { name, ..Suite::default() });
            return None;
        }
        let suite = self.suites.last_mut()?;
        if let Some(count) = announced(line).filter(|_| suite.announced.is_none()) {
            suite.announced = Some(count);
        } else if let Some(counts) = Counts::parse(line) {
            suite.concluded = Some(counts);
            self.section = None;
        } else if let Some(name) = section(line) {
            self.section = Some(name.to_owned());
        } else if let Some(name) = self.section.clone() {
            suite.output.entry(name).or_default().push(line.to_owned());
        } else if let Some((name, verdict)) = self.verdict(line) {
            let suite = self.suites.last_mut()?;
            suite.tests.push((name, verdict));
            return suite.tests.last().map(|(name, verdict)| (name.as_str(), verdict));
        }
        None
    }

    fn verdict(&mut self, line: &str) -> Option<(String, Verdict)> {
        if let Some((name, rest)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            let (name, verdict) = (name.trim_end(), Verdict::parse(rest));
            self.begun = verdict.is_none().then(|| name.to_owned());
            return Some((name.to_owned(), verdict?));
        }
        let verdict = Verdict::parse(line)?;
        Some((self.begun.take()?, verdict))
    }

    /// Whether the last line was a test's captured output.
    pub(crate) fn in_output(&self) -> bool {
        self.section.is_some()
    }

    /// The name of the suite that is running.
    pub(crate) fn suite(&self) -> &str {
        self.suites.last().map_or("", |suite| &suite.name)
    }

    /// All suites that were seen.
    pub(crate) fn finish(self) -> Vec<Suite> {
        self.suites
    }
}

impl Suite {
    /// Whether it is the examples in a crate's documentation.
    pub(crate) fn is_documentation(&self) -> bool {
        self.name.ends_with(DOCUMENTATION)
    }

    /// What is wrong with the suite itself, as opposed to one of its tests.
    pub(crate) fn defect(&self) -> Option<String> {
        let announced = self.announced.unwrap_or_default();
        let Some(concluded) = self.concluded else {
            return Some(format!("ended in the middle, after {} of {announced} tests", self.tests.len()));
        };
        let seen = self.counts();
        (seen != concluded).then(|| format!("reports {concluded:?}, but its lines say {seen:?}"))
    }

    /// Whether it, or one of its tests, failed.
    pub(crate) fn went_wrong(&self) -> bool {
        self.defect().is_some() || self.failures().next().is_some()
    }

    /// The tests that failed, and their output.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.tests
            .iter()
            .filter(|(_, verdict)| *verdict == Verdict::Failed)
            .map(|(test, _)| (test.as_str(), self.output.get(test).map(Vec::as_slice).unwrap_or_default()))
    }

    fn counts(&self) -> Counts {
        self.tests.iter().fold(Counts::default(), |mut counts, (_, verdict)| {
            match verdict {
                Verdict::Passed => counts.passed += 1,
                Verdict::Failed => counts.failed += 1,
                Verdict::Ignored(_) => counts.ignored += 1,
            }
            counts
        })
    }
}

impl Verdict {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "ok" => Some(Self::Passed),
            "FAILED" => Some(Self::Failed),
            "ignored" => Some(Self::Ignored(String::new())),
            // A test marked should_panic, one that took more than a minute with times shown, …
            _ if text.starts_with("FAILED") => Some(Self::Failed),
            _ => {
                let reason = text.strip_prefix("ignored, ");
                let reason = reason.or_else(|| text.strip_prefix("ignored (")?.strip_suffix(')'));
                reason.map(|reason| Self::Ignored(reason.to_owned()))
            }
        }
    }
}

impl Counts {
    /// `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`
    fn parse(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut numbers = counts.split("; ").map(|part| part.split_once(' ')?.0.parse().ok());
        Some(Self { passed: numbers.next()??, failed: numbers.next()??, ignored: numbers.next()?? })
    }
}

/// `     Running unittests src/lib.rs (target/debug/deps/wire-0123456789abcdef)`, `   Doc-tests wire`
fn suite_name(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{name}{DOCUMENTATION}"));
    }
    let (source, binary) = line.strip_prefix("Running ")?.strip_suffix(')')?.split_once(" (")?;
    let source = source.strip_prefix("unittests ").unwrap_or(source);
    let file = Path::new(binary).file_name()?.to_str()?;
    let (name, _hash) = file.rsplit_once('-')?;
    Some(format!("{name}: {source}"))
}

/// `---- frame::tests::one stdout ----`, and of libtest-mimic `---- x86_64-bug ----`
fn section(line: &str) -> Option<&str> {
    let name = line.strip_prefix("---- ")?.strip_suffix(" ----")?;
    Some(name.strip_suffix(" stdout").unwrap_or(name))
}

/// `running 5 tests`
fn announced(line: &str) -> Option<usize> {
    let (count, what) = line.strip_prefix("running ")?.split_once(' ')?;
    matches!(what, "test" | "tests").then(|| count.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Suite> {
        let mut reader = Reader::default();
        for line in text.lines() {
            reader.line(line);
        }
        reader.finish()
    }

    const GOOD: &str = "
   Compiling wire v0.1.0
     Running unittests src/lib.rs (target/debug/deps/wire-0123456789abcdef)

running 3 tests
test frame::tests::one ... ok
test frame::tests::two ... ignored, needs QEMU: cargo xtask test
test frame::tests::three - should panic ... ok

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s

   Doc-tests wire

running 1 test
test crates/wire/src/lib.rs - Frame (line 12) - compile ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    #[test]
    fn every_test_of_every_suite_is_seen() {
        let suites = read(GOOD);
        let names: Vec<_> = suites.iter().map(|suite| suite.name.as_str()).collect();
        assert_eq!(names, ["wire: src/lib.rs", "wire: documentation"]);
        assert_eq!(suites[0].tests[1].1, Verdict::Ignored("needs QEMU: cargo xtask test".into()));
        assert_eq!(suites[1].tests[0].0, "crates/wire/src/lib.rs - Frame (line 12) - compile");
        assert!(suites.iter().all(|suite| suite.defect().is_none()));
    }

    #[test]
    fn a_verdict_after_foreign_output_belongs_to_the_test_that_had_begun() {
        let suites = read(
            "
     Running tests/boot.rs (target/debug/deps/boot-00)
running 1 test
test boots ... lab: crashing 6.1
lab: still waiting
FAILED
test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        );
        assert_eq!(suites[0].tests, [("boots".to_owned(), Verdict::Failed)]);
        assert_eq!(suites[0].defect(), None);
    }

    #[test]
    fn captured_output_is_kept_by_test_and_no_verdict_is_read_from_it() {
        let suites = read(
            "
     Running tests/boot.rs (target/debug/deps/boot-00)
running 1 test
test boots ... FAILED

failures:

---- boots stdout ----
running 9 tests
test result of the guest
test other ... ok

failures:
    boots

test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        );
        assert_eq!(suites[0].tests.len(), 1);
        assert_eq!(suites[0].output["boots"][1], "test result of the guest");
        assert_eq!(suites[0].defect(), None);
    }

    #[test]
    fn libtest_mimic_is_read_like_libtest() {
        let suites = read(
            "
     Running tests/matrix.rs (target/debug/deps/matrix-00)

running 3 tests
test x86_64-tcp  ... ignored (only with --full)
x86_64-hung: booting
test x86_64-bug  ... ok
test x86_64-hung ... FAILED

failures:

---- x86_64-hung ----
MachineLost: it hangs


failures:
    x86_64-hung

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 95.37s
",
        );
        let verdict = |name: &str| &suites[0].tests.iter().find(|(test, _)| test == name).unwrap().1;
        assert_eq!(verdict("x86_64-tcp"), &Verdict::Ignored("only with --full".into()));
        assert_eq!((verdict("x86_64-bug"), verdict("x86_64-hung")), (&Verdict::Passed, &Verdict::Failed));
        assert_eq!(suites[0].output["x86_64-hung"][0], "MachineLost: it hangs");
        assert_eq!(suites[0].defect(), None);
    }

    #[test]
    fn a_suite_that_dies_is_a_defect() {
        let cut = GOOD.split_once("test frame::tests::two").unwrap().0;
        let suites = read(cut);
        assert_eq!(suites[0].defect().unwrap(), "ended in the middle, after 1 of 3 tests");
    }

    #[test]
    fn a_test_that_vanishes_between_the_lines_is_a_defect() {
        let without = GOOD.replace("test frame::tests::one ... ok\n", "");
        assert!(read(&without)[0].defect().unwrap().contains("passed: 2"));
    }
}
