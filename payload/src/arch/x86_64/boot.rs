//! What the boot loader and the firmware of a PC say.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use capture::config::{Config, ElfCoreHdr, SerialLink, SerialRegisters, TTY_S0};
use memory::{PhysAddr, PhysMemory, ReadFault, ReadFaultKind};
use rcapture_payload::boot::boot_params::{self, BootParams};
use rcapture_payload::boot::{Uart, Watchdog, acpi};
use rcapture_payload::devices::uart::ns16550::PC_HERTZ;

use super::clock::Clock;
use super::encryption;
use super::power::SoftOff;
use crate::arch::guarded_copy::copy_from;
use crate::drivers::watchdog::FeedingClock;
use crate::memory::paging::{self, CannotMap};
use crate::memory::window::Physical;
use crate::platform::Platform;

/// Where kexec says where the elfcorehdr is.
pub(crate) const ELFCOREHDR_IS: &str = "= on the command line";

/// Physical memory through the loader's own page tables, which map all RAM one to one: until [`Boot::take_over`].
struct LoaderMapping;

impl PhysMemory for LoaderMapping {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        let nowhere = ReadFault { pa, kind: ReadFaultKind::NotRam };
        let va = usize::try_from(pa.0).map_err(|_| nowhere)?;
        va.checked_add(buf.len()).ok_or(nowhere)?;
        copy_from(va, buf).map_err(|(kind, copied)| ReadFault { pa: PhysAddr(pa.0 + copied as u64), kind })
    }
}

/// Why this machine's memory is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoMemory {
    /// Own page tables would not know the encryption bit: the loader's stay.
    #[error("{0}: its memory is encrypted and cannot be read by a capture kernel")]
    Encrypted(&'static str),
    /// The image's page tables cannot be made.
    #[error(transparent)]
    Unmappable(#[from] CannotMap),
}

/// What the loader says.
pub(crate) struct Boot {
    params: BootParams,
}

impl Boot {
    /// Reads what the loader left at `handover_pa`: boot_params.
    pub(crate) fn read(handover_pa: u64) -> Self {
        Self { params: boot_params::read(&LoaderMapping, PhysAddr(handover_pa)).unwrap_or_default() }
    }

    /// The command line.
    pub(crate) fn cmdline(&self) -> &[u8] {
        &self.params.cmdline
    }

    /// Where text goes if the command line does not say: to ttyS0.
    #[expect(clippy::unused_self, reason = "others ask their firmware")]
    pub(crate) fn console(&self) -> SerialLink {
        TTY_S0
    }

    /// Where the elfcorehdr is: kexec says it on the command line.
    #[expect(clippy::unused_self, reason = "others have it here")]
    pub(crate) fn elfcorehdr(&self) -> Option<ElfCoreHdr> {
        None
    }

    /// What is known to be RAM: nothing, by which to check the elfcorehdr.
    #[expect(clippy::unused_self, reason = "others know")]
    pub(crate) fn ram(&self) -> &[Range<u64>] {
        &[]
    }

    /// Watchdogs: none that is known.
    #[expect(clippy::unused_self, reason = "others ask their firmware")]
    pub(crate) fn watchdogs(&self) -> &[Watchdog] {
        &[]
    }

    /// What is wrong with what the loader left.
    #[expect(clippy::unused_self, reason = "others have more to read")]
    pub(crate) fn fault(&self) -> Option<impl fmt::Display> {
        None::<&str>
    }

    /// The UART that the command line means.
    #[expect(clippy::unused_self, reason = "others ask their firmware")]
    pub(crate) fn uart(&self, registers: SerialRegisters) -> Option<Uart> {
        match registers {
            SerialRegisters::Tty(tty) => tty.legacy_port().map(Uart::Ports),
            SerialRegisters::Port(port) => Some(Uart::Ports(port)),
            given => Uart::in_memory(given, Some(PC_HERTZ)),
        }
    }

    /// Leaves the loader's page tables for the image's own.
    ///
    /// # Errors
    /// If memory could not be read with them.
    #[expect(clippy::unused_self, reason = "nothing is read through the loader's afterwards")]
    pub(crate) fn take_over(&self) -> Result<(), NoMemory> {
        if let Some(reason) = encryption::guest_encryption() {
            return Err(NoMemory::Encrypted(reason));
        }
        Ok(paging::take_over()?)
    }

    /// Asks the firmware for the rest.
    pub(crate) fn platform(&self, config: &Config) -> Platform {
        let rsdp = config.acpi_rsdp.map(PhysAddr).or(self.params.acpi_rsdp);
        let acpi = acpi::read(&Physical, rsdp);
        Platform {
            clock: FeedingClock(Clock::calibrate(acpi.pm_timer)),
            soft_off: soft_off(&acpi),
            ecam: acpi.ecam,
            virtio_mmio: Vec::new(),
            ethernets: Vec::new(),
        }
    }
}

fn soft_off(acpi: &acpi::Acpi) -> Option<SoftOff> {
    let [type_a, type_b] = acpi.s5?;
    Some(SoftOff { pm1a: (acpi.pm1a_control?, type_a), pm1b: acpi.pm1b_control.map(|port| (port, type_b)) })
}
