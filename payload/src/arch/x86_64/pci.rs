//! PCI configuration space: in memory where a table tells of it, else by I/O ports (PCI Local Bus Specification 3.0,
//! 3.2.2.3.2), which are on every PC, without a table.

use core::fmt;

use rcapture_payload::boot::Ecam;
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction};
use x86_64::instructions::port::Port;

use crate::drivers::ecam::Ecams;

/// CONFIG_ADDRESS; CONFIG_DATA is behind it.
const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;

/// The host bridge, which is always there.
const FIRST: DeviceFunction = DeviceFunction { bus: 0, device: 0, function: 0 };

/// The configuration space of all functions.
#[derive(Clone, Copy)]
pub(crate) struct ConfigSpace<'a> {
    /// Other buses are reached by ports.
    ecams: Ecams<'a>,
}

impl<'a> ConfigSpace<'a> {
    /// `ecam`: as the firmware says.
    pub(crate) fn new(ecam: &'a [Ecam]) -> Self {
        let space = Self { ecams: Ecams(ecam) };
        // Where there is nothing, reading gives ones, or zeros under QEMU: then the table is wrong.
        match space.read_word(FIRST, 0) {
            0 | u32::MAX => Self { ecams: Ecams(&[]) },
            _ => space,
        }
    }

    fn select(function: DeviceFunction, offset: u8) {
        let DeviceFunction { bus, device, function } = function;
        let place = u32::from(bus) << 16 | u32::from(device & 0x1f) << 11 | u32::from(function & 7) << 8;
        // SAFETY: selecting a register has no effect; there is one processor, and nobody else selects.
        unsafe { Port::new(CONFIG_ADDRESS).write(ENABLE | place | u32::from(offset & 0xfc)) };
    }
}

impl fmt::Display for ConfigSpace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.ecams.is_empty() { "ports" } else { "memory" })
    }
}

impl ConfigurationAccess for ConfigSpace<'_> {
    fn read_word(&self, function: DeviceFunction, offset: u8) -> u32 {
        if let Some(value) = self.ecams.read(function, offset) {
            return value;
        }
        Self::select(function, offset);
        // SAFETY: reading configuration space has no effect on any device that is to be kept.
        unsafe { Port::new(CONFIG_DATA).read() }
    }

    fn write_word(&mut self, function: DeviceFunction, offset: u8, data: u32) {
        if self.ecams.write(function, offset, data).is_some() {
            return;
        }
        Self::select(function, offset);
        // SAFETY: what is written is virtio-drivers' and ours, as in memory (drivers/ecam.rs).
        unsafe { Port::new(CONFIG_DATA).write(data) };
    }

    unsafe fn unsafe_clone(&self) -> Self {
        *self
    }
}
