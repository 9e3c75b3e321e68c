//! What the device tree says.

use core::convert::Infallible;
use core::fmt;
use core::ops::Range;

use capture::config::{Config, ElfCoreHdr, SerialLink, SerialRegisters};
use memory::PhysAddr;
use rcapture_payload::boot::{DeviceTree, Uart, Watchdog};

use crate::arch::clock::{self, Clock};
use crate::arch::power::{self, SoftOff};
use crate::drivers::watchdog::FeedingClock;
use crate::memory::window::Physical;
use crate::platform::Platform;

/// Where kexec says where the elfcorehdr is.
pub(crate) const ELFCOREHDR_IS: &str = " in the device tree's chosen node";

/// What the loader says.
pub(crate) struct Boot {
    tree: DeviceTree,
}

impl Boot {
    /// Reads what the loader left at `handover_pa`: the device tree.
    pub(crate) fn read(handover_pa: u64) -> Self {
        let tree = DeviceTree::read(&Physical, PhysAddr(handover_pa));
        if let Some(conduit) = tree.psci {
            power::set_conduit(conduit);
        }
        clock::find(&tree);
        Self { tree }
    }

    /// The command line.
    pub(crate) fn cmdline(&self) -> &[u8] {
        &self.tree.cmdline
    }

    /// Where text goes if the command line does not say.
    pub(crate) fn console(&self) -> SerialLink {
        self.tree.console()
    }

    /// Where the elfcorehdr is.
    pub(crate) const fn elfcorehdr(&self) -> Option<ElfCoreHdr> {
        self.tree.elfcorehdr
    }

    /// What is known to be RAM.
    pub(crate) fn ram(&self) -> &[Range<u64>] {
        &self.tree.memory
    }

    /// Watchdogs.
    pub(crate) fn watchdogs(&self) -> &[Watchdog] {
        &self.tree.watchdogs
    }

    /// What is wrong with the tree.
    pub(crate) fn fault(&self) -> Option<impl fmt::Display> {
        self.tree.fault
    }

    /// The UART that the command line means.
    pub(crate) fn uart(&self, registers: SerialRegisters) -> Option<Uart> {
        self.tree.uart(registers)
    }

    /// Nothing is left to be taken over: there is no reading without page tables of our own.
    #[expect(clippy::unused_self, reason = "others have")]
    pub(crate) const fn take_over(&self) -> Result<(), Infallible> {
        Ok(())
    }

    /// The rest.
    pub(crate) fn platform(&self, _config: &Config) -> Platform {
        Platform {
            clock: FeedingClock(Clock::start()),
            soft_off: self.tree.psci.map(SoftOff),
            ecam: self.tree.ecam.clone(),
            virtio_mmio: self.tree.virtio_mmio.clone(),
            ethernets: self.tree.ethernets.clone(),
        }
    }
}
