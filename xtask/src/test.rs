//! `cargo xtask test`: every test there is, and what became of each.

mod libtest;
mod summary;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rcapture_qemu::{Arch, Flavour, Lab, Suite};

use crate::cargo::cargo_for_reading;
use crate::host_tools::{self, Profile};
use crate::image;
use crate::interrupt::Interrupt;
use crate::process::{self, End};
use crate::setup::{self, Need};
use crate::steps::{Elapsed, step};
use libtest::{Reader, Verdict};
use summary::{Ignored, Outcome, Summary};

/// Compiling the workspace from nothing is most of it on the host; in the lab it is booting machines without KVM.
const DEADLINE: Duration = Duration::from_secs(55 * 60);
/// Every combination of machines.
const FULL_DEADLINE: Duration = Duration::from_secs(4 * 60 * 60);
/// As many machines at a time as a small CI runner has processors; of some it would not have the memory for more.
const MACHINES: &str = "--test-threads=2";
/// What their tests are called when none of them can run.
const LAB_TESTS: &str = "tests in the lab";
/// Tells those tests whether to take the long way: `1` or `0`.
const FULL: &str = "RCAPTURE_TEST_FULL";

/// Which tests to run.
#[derive(clap::Args, Debug, Default)]
#[command(after_help = "Examples:
  cargo xtask test --no-qemu         what needs no machine: some minutes
  cargo xtask test
  cargo xtask test --full            hours")]
pub(crate) struct Args {
    /// Also what takes longer: every kind of machine, the whole matrix, every dump level, crash(8) on every kernel, every trial of the line
    #[arg(long, conflicts_with = "no_qemu")]
    full: bool,
    /// Only the tests that need no machine; the others are counted as skipped
    #[arg(long)]
    no_qemu: bool,
}

/// Runs the tests and prints the summary. The exit code is 0 if everything that was asked for ran and passed.
///
/// # Errors
/// If not even the tests that need nothing can be run.
pub(crate) fn run(args: &Args, interrupt: &Interrupt) -> Result<ExitCode> {
    let start = Instant::now();
    let mut run = Run { summary: Summary::default(), log: Log::create()?, interrupt };
    let ready = if args.no_qemu {
        run.summary.add(LAB_TESTS, Outcome::NotRun, "--no-qemu");
        false
    } else {
        run.prepare(args)
    };
    run.cargo_test(Batch {
        name: "tests on the host",
        // Also of tests that pass: they may say that they had nothing to run on.
        command: cargo_test(&["--workspace"], &["--show-output"]),
        deadline: DEADLINE,
        // Without a lab they are listed, as not run.
        ignored: if ready { Ignored::AreRunLater } else { Ignored::AreListed },
        shown: Shown::Failures,
    })?;
    run.cargo_test(Batch {
        name: "the fuzzers' corpus",
        // A workspace of its own; without libFuzzer it builds with any compiler.
        command: cargo_test(&["--manifest-path", "fuzz/Cargo.toml", "--no-default-features"], &[]),
        deadline: DEADLINE,
        ignored: Ignored::AreListed,
        shown: Shown::Failures,
    })?;
    if ready {
        let mut command = cargo_test(
            &["--workspace", "--lib", "--bins", "--tests"],
            &["--ignored", MACHINES, "--show-output"],
        );
        command.env(FULL, if args.full { "1" } else { "0" });
        run.cargo_test(Batch {
            name: "tests in the lab, two machines at a time",
            command,
            deadline: if args.full { FULL_DEADLINE } else { DEADLINE },
            ignored: Ignored::AreListed,
            shown: Shown::Everything,
        })?;
    }
    eprintln!("\n==> summary ({}; all output: {})", Elapsed(start.elapsed()), run.log.path.display());
    println!("{}", run.summary);
    Ok(run.summary.exit_code())
}

/// One `cargo test`.
struct Batch {
    name: &'static str,
    command: Command,
    deadline: Duration,
    ignored: Ignored,
    shown: Shown,
}

/// Which verdicts are shown when they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Hundreds of tests take no time and pass.
    Failures,
    /// A test that crashes a machine is worth a line.
    Everything,
}

/// `cargo test` for `packages` with libtest's `arguments`.
fn cargo_test(packages: &[&str], arguments: &[&str]) -> Command {
    cargo_for_reading(&[&["test", "--no-fail-fast"], packages, &["--"], arguments].concat())
}

struct Run<'a> {
    summary: Summary,
    log: Log,
    interrupt: &'a Interrupt,
}

impl Run<'_> {
    /// Sees to what the tests in the lab need. What is missing is counted, and keeps no other test from running.
    fn prepare(&mut self, args: &Args) -> bool {
        match self.lab(args.full) {
            Ok(()) => true,
            Err(error) => {
                eprintln!("error: {error:#}");
                self.summary.add(LAB_TESTS, outcome_of(&error), format!("{error:#}"));
                false
            }
        }
    }

    fn lab(&self, is_full: bool) -> Result<()> {
        step("what the machine must have", || {
            setup::run(
                &[
                    Need::ImageCompiler,
                    Need::Qemu,
                    Need::ForeignTools,
                    Need::PythonVenv,
                    Need::TargetShells,
                    Need::PackagingTools,
                ],
                self.interrupt,
            )
        })?;
        for arch in Arch::ALL {
            step(&format!("capture image for {}", arch.name()), || image::build(arch))?;
        }
        step("host tools", || host_tools::build(Profile::Dev, self.interrupt))?;
        step("kernels and tools of the lab", || fetch(is_full))
    }

    /// Runs `cargo test` and counts what it says.
    fn cargo_test(&mut self, batch: Batch) -> Result<()> {
        let Batch { name, command, deadline, ignored, shown } = batch;
        let (reader, end) = step(name, || self.read_tests(command, deadline, shown))?;
        let mut explained = false;
        for suite in reader.finish() {
            for (test, output) in suite.failures() {
                eprintln!("\n---- {}  {test}\n{}", suite.name, output.join("\n"));
            }
            self.summary.add_suite(&suite, ignored);
            explained |= suite.went_wrong();
        }
        match end {
            End::Exited(status) if status.success() || explained => {}
            End::Interrupted => bail!("interrupted"),
            // It does not compile, or was ended by us.
            End::Exited(_) | End::Overdue(_) => {
                self.summary.add(name, Outcome::Failed, format!("cargo test {end}"));
            }
        }
        Ok(())
    }

    fn read_tests(&mut self, command: Command, deadline: Duration, shown: Shown) -> Result<(Reader, End)> {
        let mut reader = Reader::default();
        let since = Instant::now();
        let end = process::run_lines(command, deadline, self.interrupt, |line| {
            self.log.line(line);
            let concluded = reader.line(line).map(|(test, verdict)| (test.to_owned(), verdict.clone()));
            if let Some((test, verdict)) = concluded {
                if shown == Shown::Everything || verdict == Verdict::Failed {
                    let (outcome, after) = (Outcome::from(&verdict), Elapsed(since.elapsed()));
                    eprintln!("    {outcome}  {test}  ({}; after {after})", reader.suite());
                }
            } else if !reader.in_output() && is_telling(line, reader.suite().is_empty()) {
                eprintln!("{line}");
            }
        })?;
        Ok((reader, end))
    }
}

/// The suites whose kernels' debug information is needed in every run, some 300 MB each.
const WITH_DEBUG_INFORMATION: [Suite; 1] = [Suite::Bookworm];

/// The suites whose kernels crash on Arm.
const ARM_SUITES: [Suite; 3] = [Suite::Bookworm, Suite::Trixie, Suite::Sid];

/// Those of whose other kernels one crashes.
const OTHER_SUITES: [Suite; 1] = [Suite::Bookworm];

/// Machines whose kernels crash.
const KERNELS: [(Arch, Flavour, &[Suite]); 5] = [
    (Arch::X86_64, Flavour::Usual, &Suite::ALL),
    (Arch::X86_64, Flavour::Rt, &OTHER_SUITES),
    (Arch::Aarch64, Flavour::Usual, &ARM_SUITES),
    (Arch::Arm, Flavour::Usual, &ARM_SUITES),
    (Arch::Arm, Flavour::Lpae, &OTHER_SUITES),
];

/// Brings everything into the lab's cache, so that no test waits for the network.
fn fetch(is_full: bool) -> Result<()> {
    let lab = Lab::open()?;
    for (arch, flavour, suites) in KERNELS {
        let lab = lab.clone().for_arch(arch).with_flavour(flavour);
        for suite in suites {
            let kernel = lab.kernel(*suite)?;
            let is_needed = flavour == Flavour::Usual && WITH_DEBUG_INFORMATION.contains(suite);
            if is_full || is_needed {
                lab.vmlinux(&kernel)?;
            }
            // In other ways than by sysrq Linux 6.1 crashes.
            if *suite == Suite::Bookworm && flavour == Flavour::Usual {
                lab.crash_module(&kernel)?;
            }
        }
        lab.userland()?;
        lab.makedumpfile()?;
        // It takes minutes where it is emulated.
        if is_full || arch == Arch::X86_64 {
            lab.crash()?;
        }
    }
    // Without it a few tests are left out, and one fails; all others can run.
    if let Err(error) = lab.drgn() {
        eprintln!("warning: {error}");
    }
    Ok(())
}

/// Which kind of end an error of the preparations is.
fn outcome_of(error: &anyhow::Error) -> Outcome {
    if error.is::<setup::Missing>() {
        return Outcome::ToolMissing;
    }
    match error.downcast_ref::<rcapture_qemu::Error>().map(rcapture_qemu::Error::outcome) {
        Some(rcapture_qemu::Outcome::ToolMissing) => Outcome::ToolMissing,
        Some(rcapture_qemu::Outcome::MachineLost) => Outcome::MachineLost,
        _ => Outcome::Failed,
    }
}

/// Whether to show a line that concludes no test. Before the first suite that is what the compiler has to say; later
/// only what cargo says of a suite that died: tests and what they run write to the same place.
fn is_telling(line: &str, is_compiling: bool) -> bool {
    let line = line.trim_start();
    let is_of_cargo =
        ["error: ", "process didn't exit successfully: "].iter().any(|start| line.starts_with(start));
    let is_progress = ["Blocking ", "Compiling ", "Finished "].iter().any(|start| line.starts_with(start));
    is_of_cargo || is_compiling && !line.is_empty() && !is_progress
}

/// The file with all output of the last run.
struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    fn create() -> Result<Self> {
        let directory = crate::workspace_root().join("target/xtask");
        fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
        let path = directory.join("test.log");
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self { path, file })
    }

    fn line(&mut self, line: &str) {
        // A full disk shows elsewhere; the tests' verdicts do not depend on their log.
        let _ = writeln!(self.file, "{line}");
    }
}
