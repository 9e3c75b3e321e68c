//! `rcapture-qemu run`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::{Args, Command, Id};
use rcapture_qemu::run::{Report, Scenario, read_matrix, run, table, write_reports};
use rcapture_qemu::{Lab, Mirror, Outcome};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::wrong_usage;

/// What a shell reports for a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Crash a kernel, receive its dump, look into it, and compare that with what you expect
///
/// Boots the kernel into a small userland of its own, loads the capture image by kexec, crashes, and receives the dump.
/// OUTPUT/NAME has everything that came of it: serial.log, dump/…/vmcore and vmcore-dmesg.txt, recv.log, backtrace.txt,
/// result.json; OUTPUT/results.json and OUTPUT/junit.xml are about all scenarios.
///
/// Exit status: 0 if everything passed, else that of what is worst: 1 failed, 4 the machine was lost, 5 a tool is missing,
/// 6 not supported. 2 is wrong usage, and nothing was run.
#[derive(Args)]
#[command(after_help = "Examples:
  rcapture-qemu run arch/x86/boot/bzImage
  rcapture-qemu run arch/arm64/boot/Image.gz --vmlinux vmlinux --expect-bt sysrq_handle_crash
  rcapture-qemu run bzImage --crash nullptr --headers . --expect-log 'BUG: kernel NULL pointer' --max-time 60
  rcapture-qemu run bzImage --initramfs rootfs.cpio.gz --crash-command /test.sh --link tcp --max-bytes 8M
  rcapture-qemu run --matrix tests/matrix.toml --only arm")]
pub(crate) struct Run {
    /// Run the scenarios in this file (docs/ci.md)
    #[arg(long, value_name = "FILE", conflicts_with_all = options_of_a_scenario())]
    matrix: Option<PathBuf>,
    /// Of the matrix only scenarios with this in their name
    #[arg(long, value_name = "TEXT", requires = "matrix", default_value = "")]
    only: String,
    /// Directory for everything that comes of it
    #[arg(short, long, value_name = "DIRECTORY", default_value = "rcapture-run")]
    output: PathBuf,
    /// Debian mirror to fetch the guest's programs from [default: the one in this system's apt sources]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    #[command(flatten)]
    scenario: Box<Scenario>,
}

/// Each by its name, not their group's: then an error names the one that was given.
fn options_of_a_scenario() -> Vec<Id> {
    Scenario::augment_args(Command::new("")).get_arguments().map(|option| option.get_id().clone()).collect()
}

impl Run {
    pub(crate) fn run(self) -> Result<Outcome> {
        let scenarios = self.scenarios().unwrap_or_else(|error| wrong_usage(&error));
        let mut lab = Lab::open()?;
        if let Some(url) = &self.mirror {
            lab = lab.with_mirror(Mirror::at(url));
        }
        let interrupted = interrupted().context("handling Ctrl-C")?;
        let reports = run_all(&scenarios, &lab, &self.output, &interrupted)?;
        eprintln!();
        print!("{}", table(&reports));
        eprintln!("\nfiles: {}", self.output.display());
        let worst = |outcome: &Outcome| {
            [Outcome::NotSupported, Outcome::ToolMissing, Outcome::MachineLost, Outcome::Failed]
                .iter()
                .position(|it| it == outcome)
        };
        Ok(reports.iter().map(|report| report.outcome).max_by_key(worst).unwrap_or(Outcome::Passed))
    }

    fn scenarios(&self) -> Result<Vec<Scenario>> {
        let mut scenarios = match &self.matrix {
            Some(path) => read_matrix(path)?,
            None => vec![Scenario::clone(&self.scenario)],
        };
        scenarios.retain(|scenario| scenario.title().contains(&self.only));
        anyhow::ensure!(!scenarios.is_empty(), "there is no scenario with {:?} in its name", self.only);
        scenarios.iter().try_for_each(Scenario::check)?;
        Ok(scenarios)
    }
}

/// One after the other. What there is of reports is written after each.
fn run_all(
    scenarios: &[Scenario],
    lab: &Lab,
    output: &Path,
    interrupted: &AtomicBool,
) -> Result<Vec<Report>> {
    let mut reports: Vec<Report> = Vec::new();
    for scenario in scenarios {
        let directory = output.join(scenario.title());
        let report = if interrupted.load(Ordering::Relaxed) {
            Report::not_run(scenario, &directory)
        } else {
            run(scenario, lab, &directory, interrupted)?
        };
        eprintln!("{}: {}", report.name, report.reason.as_deref().map_or_else(
            || report.outcome.to_string(),
            |reason| format!("{}: {reason}", report.outcome),
        ));
        reports.push(report);
        write_reports(&reports, output)?;
    }
    Ok(reports)
}

/// Set by the first SIGINT or SIGTERM; the second ends the program at once.
fn interrupted() -> std::io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the shutdown looks at the flag before the same signal sets it.
        flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&interrupted))?;
        flag::register(signal, Arc::clone(&interrupted))?;
    }
    Ok(interrupted)
}
