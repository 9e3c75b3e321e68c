//! `rcapture-qemu run`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use rcapture_qemu::{Loader, Machine, Outcome, Serial, Suite, Trigger};

use super::Store;

/// Boot a stock kernel, load a capture image, crash
///
/// The guest says on its serial port how far it came: "LAB: init", "LAB: loaded" or "LAB: load failed",
/// "LAB: crashing"; then come the kernel's panic and the capture image.
#[derive(Args)]
#[command(after_help = "Examples:
  rcapture-qemu run --image dist/x86_64/rcapture.bin --until 'rcapture 0.1.0' --record line.raw
  rcapture-qemu run --image dist/x86_64/rcapture.bin --suite trixie --loader kexec-file-load \\
      --cmdline rcapture.dump_level=31 --line-socket /tmp/target
  rcapture-qemu run --until 'Kernel panic'")]
pub(crate) struct Run {
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
    /// Value of crashkernel=
    #[arg(long, value_name = "SIZE", default_value = "4M")]
    crashkernel: String,
    /// RAM in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    memory: u32,
    /// QEMU's CPU model
    #[arg(long, default_value = "max")]
    cpu: String,
    /// Number of CPUs
    #[arg(long, default_value_t = 2)]
    smp: u32,
    /// More of the crashing kernel's command line
    #[arg(long, value_name = "TEXT")]
    append: Vec<String>,
    /// Shell command that crashes the guest [default: echo c > /proc/sysrq-trigger]
    #[arg(long, value_name = "COMMAND")]
    crash: Option<String>,
    /// Seconds between loading and crashing
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    delay: u32,
    /// Connect the serial port to this listening unix socket (see `line`)
    #[arg(long, value_name = "SOCKET")]
    line_socket: Option<PathBuf>,
    /// End, passed, when this text came on the line [default: when the machine ends by itself]
    #[arg(long, value_name = "TEXT")]
    until: Option<String>,
    /// End, failed, after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    deadline: u64,
    /// Write what the machine sent to this file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Extra arguments for QEMU
    #[arg(last = true)]
    qemu: Vec<String>,
    #[command(flatten)]
    store: Store,
}

impl Run {
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let lab = self.store.open()?;
        let kernel = lab.kernel(self.suite)?;
        eprintln!("lab: crashing {} ({})", kernel.release, kernel.version);
        let mut builder = Machine::builder(kernel, lab.userland()?)
            .memory_mib(self.memory)
            .cpu(self.cpu)
            .smp(self.smp)
            .loader(self.loader)
            .crashkernel(self.crashkernel)
            .capture_cmdline(self.cmdline)
            .delay_seconds(self.delay);
        if let Some(image) = self.image {
            builder = builder.capture_image(image);
        }
        if let Some(command) = self.crash {
            builder = builder.trigger(Trigger::Command(command));
        }
        if let Some(socket) = self.line_socket {
            builder = builder.serial(Serial::Connect(socket));
        }
        builder = self.append.into_iter().fold(builder, |builder, text| builder.append(text));
        builder = self.qemu.into_iter().fold(builder, |builder, argument| builder.argument(argument));
        let mut machine = builder.start()?;
        let deadline = Duration::from_secs(self.deadline);
        let ended = match &self.until {
            Some(text) => machine.wait_for_line_text(text, deadline),
            None => machine.wait_for_end(deadline).map(drop),
        };
        if let Some(record) = &self.record {
            std::fs::copy(machine.serial_log(), record)
                .with_context(|| format!("cannot write {}", record.display()))?;
        }
        ended?;
        Ok(Outcome::Passed)
    }
}
