//! `cargo xtask bench`: how fast the parts are, by criterion, and the tables of docs/benchmarks.md.

mod tables;

use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rcapture_qemu::Arch;

use crate::cargo::cargo_for_reading;
use crate::host_tools::{self, Profile};
use crate::image;
use crate::interrupt::Interrupt;
use crate::process::{self, End};
use crate::setup::{self, Need};
use tables::Tables;

const DOCUMENT: &str = "docs/benchmarks.md";
const DEADLINE: Duration = Duration::from_secs(3 * 60 * 60);

/// What to measure.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench --quick                     every table of docs/benchmarks.md, roughly
  cargo xtask bench --tables wire_bytes         one of them as it should be
  cargo xtask bench codec -- --save-baseline before")]
pub(crate) struct Args {
    /// Only benchmarks whose name contains this
    filter: Option<String>,
    /// Only those that have a table in docs/benchmarks.md
    #[arg(long)]
    tables: bool,
    /// The tables within ten minutes: fewer runs, smaller machines
    #[arg(long)]
    quick: bool,
    /// Arguments for criterion, such as `--save-baseline before`
    #[arg(last = true)]
    criterion: Vec<String>,
}

/// Runs benchmarks of the workspace. Criterion's results stay in target/criterion and are compared with the run before; tables
/// that were measured take the place of those in docs/benchmarks.md.
///
/// # Errors
/// If one cannot be built or run.
pub(crate) fn run(args: &Args, interrupt: &Interrupt) -> Result<()> {
    let measured_on = measured_on(&machine()?, args.quick);
    // Some of them crash machines.
    setup::run(&[Need::ImageCompiler, Need::Qemu, Need::ForeignTools], interrupt)?;
    for arch in Arch::ALL {
        image::build(arch)?;
    }
    let tools = host_tools::build(Profile::Release, interrupt)?;
    let path = crate::workspace_root().join(DOCUMENT);
    let read_document = || fs::read_to_string(&path).with_context(|| format!("reading {DOCUMENT}"));

    // By name: libtest's stand-ins for benchmarks do not take criterion's arguments.
    let document = read_document()?;
    let names = if args.tables || args.quick { tables::programs(&document) } else { vec!["*"] };
    let mut arguments = vec!["bench", "--workspace", "--no-fail-fast"];
    arguments.extend(names.iter().flat_map(|name| ["--bench", name]));
    arguments.push("--");
    arguments.extend(args.filter.as_deref());
    arguments.extend(args.criterion.iter().map(String::as_str));
    let mut command = cargo_for_reading(&arguments);
    command.env("RCAPTURE_QEMU", tools.join("rcapture-qemu"));
    if args.quick {
        command.env("RCAPTURE_BENCH_QUICK", "1");
    }
    let mut measured = Tables::default();
    let end = process::run_lines(command, DEADLINE, interrupt, |line| {
        println!("{line}");
        measured.line(line);
    })?;

    // Somebody may have worked on it meanwhile.
    fs::write(&path, measured.put_into(&read_document()?, &measured_on))
        .with_context(|| format!("writing {DOCUMENT}"))?;
    ensure!(matches!(end, End::Exited(status) if status.success()), "`cargo {}` {end}", arguments.join(" "));
    Ok(())
}

/// The line below a table.
fn measured_on(machine: &str, is_quick: bool) -> String {
    let quickly = " Quickly: fewer runs and smaller machines than `cargo xtask bench --tables` takes.";
    format!("Measured on {machine}.{}", if is_quick { quickly } else { "" })
}

/// When and on what is measured, and what else it has to do.
fn machine() -> Result<String> {
    let read = |path| {
        fs::read_to_string(Path::new("/proc").join(path)).with_context(|| format!("reading /proc/{path}"))
    };
    let cpuinfo = read("cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let loadavg = read("loadavg")?;
    let load = loadavg.split(' ').next().unwrap_or_default();
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let model = model.trim_start_matches(['\t', ' ', ':']);
    Ok(format!("{date}: {model}, {cores} cores; load at the start {load}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_that_it_was_measured_quickly() {
        let machine = machine().unwrap();
        let usual = measured_on(&machine, false);
        assert_eq!(usual, format!("Measured on {machine}."));
        let quick = measured_on(&machine, true);
        assert!(quick.starts_with(&usual) && quick.contains("fewer runs"), "{quick}");
        // One line: the next run takes its place.
        assert_eq!(quick.lines().count(), 1);
    }
}
