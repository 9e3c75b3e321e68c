//! PCI configuration space where it is in memory (PCI Express 6.0, 7.2.2).

use rcapture_payload::boot::Ecam;
use virtio_drivers::transport::pci::bus::DeviceFunction;

use crate::memory::paging;

/// All that the machine tells of.
#[derive(Clone, Copy)]
pub(crate) struct Ecams<'a>(pub(crate) &'a [Ecam]);

impl Ecams<'_> {
    /// Whether there is none.
    pub(crate) const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Reads the register of a function at `offset`. `None`: it is not in memory.
    pub(crate) fn read(self, function: DeviceFunction, offset: u8) -> Option<u32> {
        let register = self.register(function, offset)?;
        // SAFETY: `show_device` has mapped it until it is called again, and that is later; it is aligned, and no Rust object.
        // Reading configuration space has no effect on any device that is to be kept.
        Some(unsafe { register.read_volatile() })
    }

    /// Writes it. `None`: it is not in memory.
    pub(crate) fn write(self, function: DeviceFunction, offset: u8, value: u32) -> Option<()> {
        let register = self.register(function, offset)?;
        // SAFETY: as in `read`; what is written is virtio-drivers' and ours: commands and BARs of cards that Linux no longer
        // drives.
        unsafe { register.write_volatile(value) };
        Some(())
    }

    fn register(self, function: DeviceFunction, offset: u8) -> Option<*mut u32> {
        let DeviceFunction { bus, device, function } = function;
        let page_pa = self.0.iter().find_map(|ecam| ecam.function_pa(bus, device, function))?;
        let page = paging::show_device(page_pa.0).ok()?;
        Some(core::ptr::with_exposed_provenance_mut(page + usize::from(offset & 0xfc)))
    }
}
