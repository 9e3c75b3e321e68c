//! PCI configuration space by I/O ports (PCI Local Bus Specification 3.0, 3.2.2.3.2): on every PC, without a table.

use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction};
use x86_64::instructions::port::Port;

/// CONFIG_ADDRESS; CONFIG_DATA is behind it.
const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;

/// The two ports.
pub(crate) struct ConfigPorts;

impl ConfigPorts {
    fn select(function: DeviceFunction, offset: u8) {
        let DeviceFunction { bus, device, function } = function;
        let place = u32::from(bus) << 16 | u32::from(device & 0x1f) << 11 | u32::from(function & 7) << 8;
        // SAFETY: selecting a register has no effect; there is one processor, and nobody else selects.
        unsafe { Port::new(CONFIG_ADDRESS).write(ENABLE | place | u32::from(offset & 0xfc)) };
    }
}

impl ConfigurationAccess for ConfigPorts {
    fn read_word(&self, function: DeviceFunction, offset: u8) -> u32 {
        Self::select(function, offset);
        // SAFETY: reading configuration space has no effect on any device that is to be kept.
        unsafe { Port::new(CONFIG_DATA).read() }
    }

    fn write_word(&mut self, function: DeviceFunction, offset: u8, data: u32) {
        Self::select(function, offset);
        // SAFETY: what is written is virtio-drivers' and ours: commands and BARs of cards that Linux no longer drives.
        unsafe { Port::new(CONFIG_DATA).write(data) };
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Self
    }
}
