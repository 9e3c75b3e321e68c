//! PCI configuration space, in memory where the device tree says.

use core::fmt;

use rcapture_payload::boot::Ecam;
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction};

use crate::drivers::ecam::Ecams;

/// The configuration space of all functions.
#[derive(Clone, Copy)]
pub(crate) struct ConfigSpace<'a> {
    ecams: Ecams<'a>,
}

impl<'a> ConfigSpace<'a> {
    /// `ecam`: as the device tree says.
    pub(crate) const fn new(ecam: &'a [Ecam]) -> Self {
        Self { ecams: Ecams(ecam) }
    }
}

impl fmt::Display for ConfigSpace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.ecams.is_empty() { "nothing" } else { "memory" })
    }
}

impl ConfigurationAccess for ConfigSpace<'_> {
    fn read_word(&self, function: DeviceFunction, offset: u8) -> u32 {
        self.ecams.read(function, offset).unwrap_or(u32::MAX)
    }

    fn write_word(&mut self, function: DeviceFunction, offset: u8, data: u32) {
        // What is nowhere takes nothing.
        let _ = self.ecams.write(function, offset, data);
    }

    unsafe fn unsafe_clone(&self) -> Self {
        *self
    }
}
