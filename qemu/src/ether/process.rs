//! The Ethernet's process, seen from the one who started it.

use std::env;

use tempfile::TempDir;

use super::options::EtherOptions;
use super::simulator::{Report, sockets};
use crate::control::SimulatorProcess;
use crate::outcome::{IoContext, Result};

/// A running Ethernet. Dropping it ends its process.
///
/// ```no_run
/// use rcapture_qemu::{Ether, EtherOptions, Lab, Machine, Suite};
/// let lab = Lab::open()?;
/// let ether = Ether::spawn(&EtherOptions { loss: 0.01, seed: 1, ..EtherOptions::default() })?;
/// let machine = Machine::builder(lab.kernel(Suite::Bookworm)?, lab.userland()?);
/// let machine = ether.arguments("virtio-net-pci").into_iter().fold(machine, |machine, it| machine.argument(it)).start()?;
/// # Ok::<(), rcapture_qemu::Error>(())
/// ```
#[derive(Debug)]
pub struct Ether {
    simulator: SimulatorProcess,
    directory: TempDir,
}

impl Ether {
    /// Starts an Ethernet, and returns when both its ends can be sent to.
    ///
    /// # Errors
    /// [`Error::ToolMissing`](crate::Error::ToolMissing) if the program `rcapture-qemu` is neither named by
    /// `$RCAPTURE_QEMU` nor beside the running program.
    pub fn spawn(options: &EtherOptions) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("rcapture-ether-").tempdir();
        let directory = directory.on("make a directory in", env::temp_dir())?;
        let mut arguments = options.arguments();
        arguments.push(format!("--directory={}", directory.path().display()));
        Ok(Self { simulator: SimulatorProcess::spawn("ether", arguments)?, directory })
    }

    /// QEMU's arguments for a card `device` (`virtio-net-pci`, with more properties if need be) on this Ethernet, with the
    /// user network at its other end. A snapshot goes on with those of another Ethernet.
    #[must_use]
    pub fn arguments(&self, device: &str) -> Vec<String> {
        let end = |id: &str, name: &str| {
            let (own, qemu) = sockets(self.directory.path(), name);
            let (own, qemu) = (own.display(), qemu.display());
            format!("dgram,id={id},local.type=unix,local.path={qemu},remote.type=unix,remote.path={own}")
        };
        let netdevs = [
            end("ether-target", "target"),
            end("ether-host", "host"),
            "user,id=ether-user".to_owned(),
            "hubport,id=ether-port0,hubid=0,netdev=ether-host".to_owned(),
            "hubport,id=ether-port1,hubid=0,netdev=ether-user".to_owned(),
        ];
        let mut arguments: Vec<String> =
            netdevs.into_iter().flat_map(|netdev| ["-netdev".to_owned(), netdev]).collect();
        arguments.extend(["-device".to_owned(), format!("{device},netdev=ether-target")]);
        arguments
    }

    /// Cuts the Ethernet: from now on what is sent, in both directions, is lost.
    ///
    /// # Errors
    /// If its process does not answer.
    pub fn cut(&mut self) -> Result<Report> {
        self.simulator.tell("cut")
    }

    /// Mends it after [`cut`](Self::cut).
    ///
    /// # Errors
    /// If its process does not answer.
    pub fn mend(&mut self) -> Result<Report> {
        self.simulator.tell("mend")
    }

    /// What became of the frames so far.
    ///
    /// # Errors
    /// If its process does not answer.
    pub fn report(&mut self) -> Result<Report> {
        self.simulator.tell("report")
    }
}
