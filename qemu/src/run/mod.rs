//! A crash from end to end: a kernel boots, loads the capture kernel, crashes; its dump is received, read, and judged.
//!
//! # Words
//! - **Scenario**: what is crashed, how, and what is expected of it ([`Scenario`]). A command line and a file
//!   ([`read_matrix`]) say it in the same words.
//! - **Matrix**: scenarios of one file, which are run one after the other.
//! - **Check**: an expectation, and whether it was met.
//!
//! # Flow
//! [`Scenario`] ─▶ setup (files, machine, receiver) ─▶ course (boot, crash, dump, each with a deadline) ─▶ checks ─▶
//! [`Report`] ─▶ [`write_reports`]: JSON and JUnit, and [`table()`].
//!
//! Whatever happens, a scenario ends with a report: an [`Outcome`](crate::Outcome) and, unless it passed, the reason.

mod checks;
mod course;
mod junit;
mod matrix;
mod reason;
mod receiver;
mod report;
mod scenario;
mod setup;
mod table;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

pub use checks::Check;
pub use matrix::read as read_matrix;
pub use report::{Report, Times, write as write_reports};
pub use scenario::{Bytes, Link, Scenario, Way};
pub use table::table;

use crate::lab::Lab;
use crate::outcome::{Error, IoContext, Result};
use report::{FILE as RESULT, Trouble};
use setup::Setup;

/// Runs a scenario. All that it leaves is in `directory`, which is made; one that an earlier run left is replaced.
/// `interrupted` ends it early, in good order.
///
/// # Errors
/// If the report cannot be written. Everything else is in it, also that `directory` is somebody else's.
pub fn run(scenario: &Scenario, lab: &Lab, directory: &Path, interrupted: &AtomicBool) -> Result<Report> {
    let mut report = Report::begin(scenario, directory);
    if let Err(error) = replace(directory) {
        report.reason = Some(error.to_string());
        return Ok(report);
    }
    // Whoever ends this program before it is done finds that in it; and the next run, that the directory is ours.
    report.write()?;
    let result = attempt(scenario, lab, interrupted, &mut report);
    report.conclude(scenario, result);
    report.write()?;
    Ok(report)
}

fn attempt(
    scenario: &Scenario,
    lab: &Lab,
    interrupted: &AtomicBool,
    report: &mut Report,
) -> Result<(), Trouble> {
    let setup = Setup::of(scenario, lab, &report.directory)?;
    report.knows(&setup);
    course::follow(&setup, interrupted, report)?;
    report.checks = checks::all(scenario, &setup, report)?;
    Ok(())
}

/// Makes an empty directory.
fn replace(directory: &Path) -> Result<()> {
    let is_ours = directory.join(RESULT).exists();
    let is_empty = fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none());
    if !is_ours && !is_empty {
        return Err(Error::malformed(
            directory,
            "is there, and not of an earlier run: remove it, or name another output with -o",
        ));
    }
    if is_ours {
        fs::remove_dir_all(directory).on("remove", directory)?;
    }
    fs::create_dir_all(directory).on("create", directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;

    #[test]
    fn what_is_somebody_elses_stays_and_the_report_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("scenario");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("serial.log"), "text").unwrap();
        let (lab, never) = (Lab::open_at(directory.path().join("cache")), AtomicBool::new(false));
        // It is not what was expected to fail.
        let scenario = Scenario { expect_outcome: Outcome::Failed, ..Scenario::default() };
        let report = run(&scenario, &lab, &place, &never).unwrap();
        let reason = report.reason.unwrap();
        assert!(report.outcome == Outcome::Failed && reason.contains("remove it"), "{reason}");
        assert_eq!(fs::read(place.join("serial.log")).unwrap(), b"text");
    }

    #[test]
    fn what_a_run_left_that_was_killed_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("scenario");
        replace(&place).unwrap();
        Report::begin(&Scenario::default(), &place).write().unwrap();
        let begun = fs::read_to_string(place.join(RESULT)).unwrap();
        assert!(begun.contains("did not end"), "{begun}");
        fs::write(place.join("serial.log"), "text").unwrap();
        replace(&place).unwrap();
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
    }
}
