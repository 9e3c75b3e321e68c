//! The project's matrix, as `rcapture-qemu run --matrix tests/matrix.toml` runs it: each scenario is a test.
//!
//! Dumps of machines that crash by sysrq are what the tests beside compare page for page: here those scenarios are run with
//! `--full`, or by their names.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use end_to_end::is_full;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use rcapture_qemu::run::{Report, Scenario, Way, read_matrix, run, write_reports};
use rcapture_qemu::{Lab, Outcome};

/// Who ends one early ends this program.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let matrix = Path::new(env!("CARGO_MANIFEST_DIR")).join("matrix.toml");
    let runs_all = is_full() || arguments.filter.is_some();
    let reports = Arc::new(Mutex::new(Vec::new()));
    let trial = |scenario: Scenario| {
        let reports = Arc::clone(&reports);
        let (title, runs) = (scenario.title(), runs_all || !is_elsewhere(&scenario));
        let attempt = move || if runs { attempt(&scenario, &reports) } else { Ok(left_out()) };
        // It takes QEMU, as the other tests that are marked so.
        Trial::ignorable_test(title, attempt).with_ignored_flag(true)
    };
    let conclusion =
        libtest_mimic::run(&arguments, read_matrix(&matrix).unwrap().into_iter().map(trial).collect());
    let reports = reports.lock().unwrap();
    if !reports.is_empty() {
        write_reports(&reports, &output()).unwrap();
    }
    conclusion.exit_code()
}

/// Whether another test looks closer at the dump of such a machine. One that has no dump has no log to expect anything of.
fn is_elsewhere(scenario: &Scenario) -> bool {
    scenario.crash == Way::Sysrq && !scenario.expect_log.is_empty()
}

fn left_out() -> Completion {
    Completion::ignored_with("only with --full")
}

/// Where the reports are.
fn output() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("matrix")
}

fn attempt(scenario: &Scenario, reports: &Mutex<Vec<Report>>) -> Result<Completion, Failed> {
    let directory = output().join(scenario.title());
    let report = run(scenario, &Lab::open()?, &directory, &INTERRUPTED)?;
    let reason = report.reason.clone().unwrap_or_default();
    let result = match report.outcome {
        Outcome::Passed => {
            // The dump, and what it came of.
            let _ = fs::remove_dir_all(directory.join("dump"));
            let _ = fs::remove_file(directory.join("serial.log"));
            Ok(Completion::Completed)
        }
        // In the words that the summary of all tests knows them by.
        Outcome::MachineLost => Err(format!("MachineLost: {reason}").into()),
        Outcome::ToolMissing => Err(format!("ToolMissing: {reason}").into()),
        Outcome::Failed | Outcome::NotSupported => Err(reason.into()),
    };
    reports.lock().unwrap().push(report);
    result
}
