//! PCI configuration space, in memory where the device tree says.

use core::fmt;

use rcapture_payload::boot::Ecam;
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction};

use crate::memory::paging;

/// The configuration space of all functions.
#[derive(Clone, Copy)]
pub(crate) struct ConfigSpace<'a> {
    ecam: &'a [Ecam],
}

impl<'a> ConfigSpace<'a> {
    /// `ecam`: as the device tree says.
    pub(crate) const fn new(ecam: &'a [Ecam]) -> Self {
        Self { ecam }
    }

    /// Where a register appears in memory.
    fn register(&self, function: DeviceFunction, offset: u8) -> Option<*mut u32> {
        let DeviceFunction { bus, device, function } = function;
        let page_pa = self.ecam.iter().find_map(|ecam| ecam.function_pa(bus, device, function))?;
        let page = paging::show_device(page_pa.0).ok()?;
        Some(core::ptr::with_exposed_provenance_mut(page + usize::from(offset & 0xfc)))
    }
}

impl fmt::Display for ConfigSpace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.ecam.is_empty() { "nothing" } else { "memory" })
    }
}

impl ConfigurationAccess for ConfigSpace<'_> {
    fn read_word(&self, function: DeviceFunction, offset: u8) -> u32 {
        let Some(register) = self.register(function, offset) else { return u32::MAX };
        // SAFETY: `show_device` has mapped it until it is called again, and that is later; it is aligned, and no Rust object.
        // Reading configuration space has no effect on any device that is to be kept.
        unsafe { register.read_volatile() }
    }

    fn write_word(&mut self, function: DeviceFunction, offset: u8, data: u32) {
        if let Some(register) = self.register(function, offset) {
            // SAFETY: as in `read_word`; what is written is virtio-drivers' and ours: commands and
            // BARs of cards that Linux no longer drives.
            unsafe { register.write_volatile(data) };
        }
    }

    unsafe fn unsafe_clone(&self) -> Self {
        *self
    }
}
