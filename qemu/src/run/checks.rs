//! Expectations, and whether they were met.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::Bytes;
use super::report::Report;
use super::scenario::{Scenario, expression};
use super::setup::Setup;
use crate::outcome::{IoContext, Result};

/// The file of the backtrace, if a debugger made one.
const BACKTRACE: &str = "backtrace.txt";
/// A debugger reads half a gigabyte of debug information, on a busy machine.
const DEBUGGER_DEADLINE: Duration = Duration::from_secs(10 * 60);
/// How a call trace begins in the kernel's log: with these words, of whatever case.
const CALL_TRACE: [&str; 2] = ["call trace:", "backtrace:"];

/// An expectation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Of what: `complete`, `log`, `backtrace`, `time`, `bytes`.
    pub name: &'static str,
    /// Whether it was met.
    pub passed: bool,
    /// What was found.
    pub said: String,
}

/// Compares what came with what `scenario` expects.
///
/// # Errors
/// If the debugger is missing.
pub(super) fn all(scenario: &Scenario, setup: &Setup<'_>, report: &Report) -> Result<Vec<Check>> {
    let received = report.received.as_deref().unwrap_or("nothing came");
    let mut checks = vec![Check::new("complete", report.is_complete, format!("the dump: {received}"))];
    let log = report.dump.as_ref().map(|dump| fs::read(dump.join("vmcore-dmesg.txt")).unwrap_or_default());
    let log = String::from_utf8_lossy(&log.unwrap_or_default()).into_owned();
    checks.extend(scenario.expect_log.iter().map(|text| matches("log", text, "the kernel's log", &log)));
    if setup.vmlinux.is_some() || !scenario.expect_bt.is_empty() {
        checks.extend(backtrace(scenario, setup, report, &log)?);
    }
    if let (Some(most), Some(time)) = (scenario.max_time, report.times.crash_to_end()) {
        let is_met = time <= Duration::from_secs(most);
        checks.push(Check::new("time", is_met, format!("it took {:.1} s, of {most} s", time.as_secs_f64())));
    }
    if let (Some(most), Some(bytes)) = (scenario.max_bytes, report.bytes.map(Bytes)) {
        checks.push(Check::new("bytes", bytes <= most, format!("the wire carried {bytes}, of {most}")));
    }
    Ok(checks)
}

impl Check {
    const fn new(name: &'static str, passed: bool, said: String) -> Self {
        Self { name, passed, said }
    }
}

fn matches(name: &'static str, text: &str, what: &str, found: &str) -> Check {
    match expression(text).map(|it| it.find(found).map(|found| found.as_str().trim().to_owned())) {
        Ok(Some(found)) => Check::new(name, true, format!("{what}: {found}")),
        Ok(None) => Check::new(name, false, format!("{what} has no match for {text:?}")),
        Err(error) => Check::new(name, false, error.to_string()),
    }
}

/// What was expected of the backtrace: a debugger's, or what the kernel's log has. A debugger that makes none is a failure,
/// whatever was expected.
fn backtrace(scenario: &Scenario, setup: &Setup<'_>, report: &Report, log: &str) -> Result<Vec<Check>> {
    let judged = |of: &str, backtrace: &str| {
        scenario.expect_bt.iter().map(|text| matches("backtrace", text, of, backtrace)).collect()
    };
    let (Some(vmlinux), Some(vmcore)) = (&setup.vmlinux, &report.vmcore) else {
        let lacking = if setup.vmlinux.is_some() { "vmcore" } else { "vmlinux" };
        let of = format!("the call trace in the kernel's log (there is no {lacking} for a debugger)");
        return Ok(judged(&of, call_trace(log)));
    };
    let debugger = setup.lab.debugger(setup.kernel.arch)?;
    let modules: Vec<&Path> = setup.crash_module.iter().map(PathBuf::as_path).collect();
    let name = debugger.name();
    eprintln!("{}: reading the dump with {name}", report.name);
    match debugger.backtrace(vmlinux, &modules, vmcore, !report.is_complete, DEBUGGER_DEADLINE) {
        Ok(backtrace) => {
            let path = setup.directory.join(BACKTRACE);
            fs::write(&path, &backtrace).on("write", &path)?;
            Ok(judged(&format!("{name}'s backtrace"), &backtrace))
        }
        Err(error) => {
            let said = format!("{name} made no backtrace of the dump with {}: {error}", vmlinux.display());
            Ok(vec![Check::new("backtrace", false, said)])
        }
    }
}

/// A log from its first call trace on.
fn call_trace(log: &str) -> &str {
    let start = log.lines().find(|line| CALL_TRACE.iter().any(|words| line.to_lowercase().contains(words)));
    let start = start.and_then(|line| log.find(line));
    start.and_then(|start| log.get(start..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "[    1.0] Run /init\n[    2.0] sysrq: Trigger a crash\n[    2.0] Call Trace:\n\
                       [    2.0]  sysrq_handle_crash+0x16/0x20\n[    2.0]  ksys_write+0x6b/0xf0\n";

    #[test]
    fn without_a_debugger_the_logs_call_trace_is_the_backtrace() {
        assert!(call_trace(LOG).starts_with("[    2.0] Call Trace:"));
        assert!(matches("backtrace", r"sysrq_handle_crash\+", "the trace", call_trace(LOG)).passed);
        assert!(
            !matches("backtrace", "Run /init", "the trace", call_trace(LOG)).passed,
            "it is above the trace"
        );
        assert_eq!(call_trace("[    1.0] Run /init\n"), "");
    }

    #[test]
    fn a_match_is_told_and_so_is_what_has_none() {
        let found = matches("log", "^.*sysrq: .*$", "the log", LOG);
        assert_eq!(found.said, "the log: [    2.0] sysrq: Trigger a crash");
        let missing = matches("log", "BUG: .*", "the log", LOG);
        assert_eq!((missing.passed, missing.said.as_str()), (false, "the log has no match for \"BUG: .*\""));
    }
}
