//! `rcapture-qemu line`.

use clap::Args;
use rcapture_qemu::line::{LineOptions, simulate};
use rcapture_qemu::{Error, Outcome};

/// Simulate a serial line between two endpoints
///
/// Reads at the line's rate whatever happens, and never pushes back on the target. What the host does not
/// take is lost, as on a wire; at full speed it is buffered, up to --buffer.
///
/// ENDPOINT is unix-listen:PATH, unix:PATH, tcp-listen:HOST:PORT, tcp:HOST:PORT, fifo:PATH (makes the
/// named pipes PATH.in and PATH.out, as QEMU's pipe chardev wants them), pty:PATH (makes a terminal and
/// links PATH to it), the /path of a serial port, or null. Those that connect try until
/// somebody is there, and again after a hang-up.
#[derive(Args)]
#[command(after_help = "Examples:
  rcapture-qemu line --target unix-listen:/tmp/target --host pty:/tmp/ttyLAB --baud 115200
  rcapture-qemu line --target unix-listen:/tmp/target --host tcp-listen:localhost:7707 \\
      --baud 921600 --bit-errors 1e-5 --seed 7 --cut 20..35 --record /tmp/line.raw
  rcapture-qemu line --target unix-listen:/tmp/target --host null --record /tmp/line.raw")]
pub(crate) struct Line {
    #[command(flatten)]
    options: LineOptions,
    /// Take the commands cut, mend, full-speed, report and quit on stdin; leave at its end
    #[arg(long)]
    control: bool,
}

impl Line {
    pub(crate) fn run(&self) -> anyhow::Result<Outcome> {
        let report = simulate(&self.options, self.control)?;
        let report = serde_json::to_string(&report).map_err(|error| {
            anyhow::Error::from(Error::Io { action: "write", path: "stdout".into(), source: error.into() })
        })?;
        println!("{report}");
        Ok(Outcome::Passed)
    }
}
