//! PCI configuration space: in memory where a table tells of it, else by I/O ports (PCI Local Bus Specification 3.0,
//! 3.2.2.3.2), which are on every PC, without a table.

use core::fmt;

use rcapture_payload::boot::Ecam;
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction};
use x86_64::instructions::port::Port;

use crate::memory::paging;

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
    ecam: &'a [Ecam],
}

impl<'a> ConfigSpace<'a> {
    /// `ecam`: as the firmware says.
    pub(crate) fn new(ecam: &'a [Ecam]) -> Self {
        let space = Self { ecam };
        // Where there is nothing, reading gives ones, or zeros under QEMU: then the table is wrong.
        match space.read_word(FIRST, 0) {
            0 | u32::MAX => Self { ecam: &[] },
            _ => space,
        }
    }

    /// Where a register appears in memory. `None`: the ports lead to it.
    fn in_memory(&self, function: DeviceFunction, offset: u8) -> Option<*mut u32> {
        let DeviceFunction { bus, device, function } = function;
        let page_pa = self.ecam.iter().find_map(|ecam| ecam.function_pa(bus, device, function))?;
        let page = paging::show_device(page_pa.0).ok()?;
        Some(core::ptr::with_exposed_provenance_mut(page + usize::from(offset & 0xfc)))
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
        f.write_str(if self.ecam.is_empty() { "ports" } else { "memory" })
    }
}

impl ConfigurationAccess for ConfigSpace<'_> {
    fn read_word(&self, function: DeviceFunction, offset: u8) -> u32 {
        if let Some(register) = self.in_memory(function, offset) {
            // SAFETY: `show_device` has mapped it until it is called again, and that is later; it is aligned, and no Rust
            // object. Reading configuration space has no effect on any device that is to be kept.
            return unsafe { register.read_volatile() };
        }
        Self::select(function, offset);
        // SAFETY: as above.
        unsafe { Port::new(CONFIG_DATA).read() }
    }

    fn write_word(&mut self, function: DeviceFunction, offset: u8, data: u32) {
        if let Some(register) = self.in_memory(function, offset) {
            // SAFETY: as in `read_word`; what is written is virtio-drivers' and ours: commands and
            // BARs of cards that Linux no longer drives.
            return unsafe { register.write_volatile(data) };
        }
        Self::select(function, offset);
        // SAFETY: as above.
        unsafe { Port::new(CONFIG_DATA).write(data) };
    }

    unsafe fn unsafe_clone(&self) -> Self {
        *self
    }
}
