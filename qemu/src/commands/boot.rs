//! `rcapture-qemu boot`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use rcapture_qemu::line::Endpoint;
use rcapture_qemu::run::Scenario;
use rcapture_qemu::{Line, LineOptions, Loader, Machine, Outcome, Suite, Trigger};

use super::{Store, wrong_usage};

/// Boot a stock kernel, load a capture image, crash; who receives is up to you (`run` does it all)
///
/// The guest says on its serial port how far it came: "LAB: init", "LAB: loaded" or "LAB: load failed",
/// "LAB: crashing"; then come the kernel's panic and the capture image.
#[derive(Args)]
#[command(after_help = "Examples:
  rcapture-qemu boot --image dist/x86_64/rcapture.bin --until 'rcapture 0.1.0' --record line.raw
  rcapture-qemu boot --image dist/x86_64/rcapture.bin --suite trixie --loader kexec-file-load \\
      --cmdline rcapture.dump_level=31 --host unix-listen:/tmp/line --baud 115200 --bit-errors 1e-5
  rcapture-qemu boot --arch aarch64 --image dist/aarch64/rcapture.bin --board virt,virtualization=on
  rcapture-qemu boot --arch arm --board sabrelite --console-apart --image dist/arm/rcapture.bin \\
      --cmdline rcapture.link=serial:ttymxc0,115200n8 --until 'rcapture 0.1.0'
  rcapture-qemu boot --until 'Kernel panic'")]
pub(crate) struct Boot {
    /// Suite of the kernel that crashes
    #[arg(long, default_value = "bookworm")]
    suite: Suite,
    /// Capture image to load [default: none; the machine just panics]
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// The capture image's command line
    #[arg(long, value_name = "TEXT", default_value = "")]
    cmdline: String,
    /// System call that loads it
    #[arg(long, value_enum, default_value = "kexec-load")]
    loader: Loader,
    /// Value of crashkernel= [default: 4M, on 32-bit Arm's virt 5M]
    #[arg(long, value_name = "SIZE")]
    crashkernel: Option<String>,
    /// RAM in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    memory: u32,
    /// QEMU's CPU model [default: max, on Arm cortex-a57, on 32-bit Arm cortex-a15]
    #[arg(long)]
    cpu: Option<String>,
    /// QEMU's machine and its properties [default: q35, on Arm virt]
    #[arg(long)]
    board: Option<String>,
    /// Give the console a port of its own, and the line another one: ttyS1, of sabrelite ttymxc0
    #[arg(long)]
    console_apart: bool,
    /// Number of CPUs
    #[arg(long, default_value_t = 2)]
    smp: u32,
    /// More of the crashing kernel's command line
    #[arg(long, value_name = "TEXT")]
    append: Vec<String>,
    /// MiB of RAM that a balloon takes from the guest
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    balloon: u32,
    /// File for the guest's report of its pages right before the crash (gzip: text, then /proc/kpageflags)
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Shell command that crashes the guest [default: echo c > /proc/sysrq-trigger]
    #[arg(long, value_name = "COMMAND")]
    crash: Option<String>,
    /// Seconds between loading and crashing
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    delay: u32,
    /// End, passed, when this text came on the line [default: when the machine ends by itself]
    #[arg(long, value_name = "TEXT")]
    until: Option<String>,
    /// End, failed, after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    deadline: u64,
    /// Extra arguments for QEMU
    #[arg(last = true)]
    qemu: Vec<String>,
    #[command(flatten)]
    store: Store,
    #[command(flatten, next_help_heading = "Line, whose target is this machine (see `line --help`)")]
    line: LineOptions,
}

impl Boot {
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        if self.line.target.is_some() {
            wrong_usage(&anyhow!("--target: the target's end of the line is this machine"));
        }
        let lab = self.store.open()?;
        let kernel = lab.kernel(self.suite)?;
        eprintln!("lab: crashing {} ({})", kernel.release, kernel.version);
        let scenario = Scenario {
            machine: self.board,
            cpu: self.cpu,
            memory: self.memory,
            smp: self.smp,
            crashkernel: self.crashkernel,
            append: self.append,
            console_apart: self.console_apart,
            qemu: self.qemu,
            loader: self.loader,
            ..Scenario::default()
        };
        let arch = kernel.arch;
        let mut builder = scenario
            .machine(Machine::builder(kernel, lab.userland()?), arch, None)
            .capture_cmdline(self.cmdline)
            .populate(true)
            .balloon_mib(self.balloon)
            .delay_seconds(self.delay);
        if let Some(image) = self.image {
            builder = builder.capture_image(image);
        }
        if let Some(report) = self.report {
            builder = builder.report(report);
        }
        if let Some(command) = self.crash {
            builder = builder.trigger(Trigger::Command(command));
        }
        let line = Line::spawn(LineOptions {
            host: Some(self.line.host.clone().unwrap_or(Endpoint::Null)),
            ..self.line.clone()
        })?;
        let mut machine = builder.line(&line).start()?;
        let deadline = Duration::from_secs(self.deadline);
        match &self.until {
            Some(text) => machine.wait_for_line_text(text, deadline)?,
            None => machine.wait_for_end(deadline).map(drop)?,
        }
        drop(machine);
        let report = line.finish(deadline)?;
        eprintln!(
            "lab: {} bytes came from the machine, {} reached the host",
            report.to_host.sent, report.to_host.delivered
        );
        Ok(Outcome::Passed)
    }
}
