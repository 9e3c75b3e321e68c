//! What the device tree says of a machine: what kexec put there, memory, and the devices that are used.
//!
//! # Terms
//! - **cells**: numbers in a property are words, so many to an address or a size as the parent node says.
//! - **ranges**: where the addresses of a bus's devices are for its parent. A bus without is no memory.
//! - **alias**: a short name for a node's path; `serialN` and `ethernetN` are what Linux numbers devices by.

mod nodes;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::ops::Range;

use capture::config::{ElfCoreHdr, MmioRegion, SerialLink, SerialRegisters, TTY_S0, Tty};
use memory::{PhysAddr, PhysMemory};

use super::fdt::{Fdt, FdtError};
use super::{Ecam, Uart};
use crate::devices::{fec, watchdog};
use nodes::Walk;

/// Ranges of memory, and devices of a kind, that are kept.
pub const MAX_KEPT: usize = 64;

/// By which instruction PSCI is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// `hvc #0`.
    Hvc,
    /// `smc #0`.
    Smc,
}

/// A device tree's content, as far as it is of use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceTree {
    /// `/chosen/bootargs`: the command line.
    pub cmdline: Vec<u8>,
    /// `/chosen/linux,elfcorehdr`.
    pub elfcorehdr: Option<ElfCoreHdr>,
    /// `/memory`: physical addresses of RAM, as they are written. Firmware with EFI says it elsewhere.
    pub memory: Vec<Range<u64>>,
    /// `/psci`.
    pub psci: Option<Conduit>,
    /// UARTs, in the tree's order.
    pub uarts: Vec<NamedUart>,
    /// Which of them `/chosen/stdout-path` means, and its bits per second.
    pub stdout: Option<(usize, Option<u32>)>,
    /// virtio devices that no bus tells of.
    pub virtio_mmio: Vec<MmioRegion>,
    /// A timer for processors without one.
    pub timer: Option<Imx6Timer>,
    /// Watchdogs that are not disabled.
    pub watchdogs: Vec<Watchdog>,
    /// Ethernet controllers: those with an alias first, in the order of these.
    pub ethernets: Vec<Ethernet>,
    /// Where PCI's configuration space is.
    pub ecam: Vec<Ecam>,
    /// Why there is no more.
    pub fault: Option<FdtError>,
}

/// A UART under Linux' name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedUart {
    /// By the driver that Linux has for it, and the number of its alias, else the first that is free.
    pub tty: Tty,
    /// The UART.
    pub uart: Uart,
}

/// A watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// Of this kind.
    pub kind: watchdog::Kind,
    /// Physical address of its registers.
    pub pa: u64,
    /// Whether its clock runs for sure: it has none that could be turned off.
    pub has_clock: bool,
}

/// The Ethernet controller of an i.MX6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Physical address of its registers.
    pub pa: u64,
    /// Of an i.MX6's clock controller, which starts its clock.
    pub clocks_pa: Option<u64>,
    /// The hardware address that the firmware gave it.
    pub mac: Option<[u8; 6]>,
    /// How its transceiver is connected.
    pub interface: fec::Interface,
}

/// The general-purpose timer of an i.MX6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imx6Timer {
    /// Physical address of its registers.
    pub pa: u64,
    /// Of the clock controller's.
    pub clocks_pa: u64,
    /// It divides the crystal by itself.
    pub divides: bool,
}

impl DeviceTree {
    /// Reads the tree at `pa`; of a damaged one what comes before the damage.
    #[must_use]
    pub fn read(memory: &impl PhysMemory, pa: PhysAddr) -> Self {
        match Fdt::read(memory, pa) {
            Ok(fdt) => Self::of(&fdt),
            Err(fault) => Self { fault: Some(fault), ..Self::default() },
        }
    }

    fn of(fdt: &Fdt) -> Self {
        let mut walk = Walk::default();
        for event in fdt.events() {
            match event {
                Ok(event) => walk.step(event),
                Err(fault) => walk.tree.fault = Some(fault),
            }
        }
        walk.finish()
    }

    /// The UART that a command line means.
    #[must_use]
    pub fn uart(&self, registers: SerialRegisters) -> Option<Uart> {
        match registers {
            SerialRegisters::Tty(tty) => {
                self.uarts.iter().find(|named| named.tty == tty).map(|named| named.uart)
            }
            given => Uart::in_memory(given, None),
        }
    }

    /// Where text goes if the command line does not say: to stdout-path, else to the first UART.
    #[must_use]
    pub fn console(&self) -> SerialLink {
        let (index, baud) = self.stdout.unwrap_or_default();
        let uart = self.uarts.get(index).or(self.uarts.first());
        let registers = uart.map_or(TTY_S0.registers, |named| SerialRegisters::Tty(named.tty));
        SerialLink { registers, baud }
    }
}
