//! `rcapture-qemu ether`.

use std::path::PathBuf;

use clap::Args;
use rcapture_qemu::ether::{EtherOptions, simulate};
use rcapture_qemu::{Error, Outcome};

/// Simulate an Ethernet between a network card and QEMU's user network
///
/// Takes frames from the sockets DIRECTORY/target and DIRECTORY/host, and gives them to DIRECTORY/host.qemu and
/// DIRECTORY/target.qemu, which QEMU makes (its netdev dgram, from version 7.2).
#[derive(Args)]
#[command(after_help = "Example:
  rcapture-qemu ether --directory /tmp/e --loss 0.01 --seed 7 &
  qemu-system-x86_64 ... -device virtio-net-pci,netdev=card \\
      -netdev dgram,id=card,local.type=unix,local.path=/tmp/e/target.qemu,remote.type=unix,remote.path=/tmp/e/target \\
      -netdev dgram,id=far,local.type=unix,local.path=/tmp/e/host.qemu,remote.type=unix,remote.path=/tmp/e/host \\
      -netdev user,id=user -netdev hubport,id=port0,hubid=0,netdev=far -netdev hubport,id=port1,hubid=0,netdev=user")]
pub(crate) struct Ether {
    /// Directory of its sockets
    #[arg(long, value_name = "DIRECTORY")]
    directory: PathBuf,
    #[command(flatten)]
    options: EtherOptions,
    /// Take the commands cut, mend, report and quit on stdin; leave at its end
    #[arg(long)]
    control: bool,
}

impl Ether {
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let report = simulate(&self.directory, &self.options, self.control)?;
        let report = serde_json::to_string(&report).map_err(|error| {
            anyhow::Error::from(Error::Io { action: "write", path: "stdout".into(), source: error.into() })
        })?;
        println!("{report}");
        Ok(Outcome::Passed)
    }
}
