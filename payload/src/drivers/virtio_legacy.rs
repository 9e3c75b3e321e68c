//! The PCI registers of virtio devices from before version 1 (virtio 1.2, 4.1.4.10): eight I/O ports and what is behind them.

use virtio_drivers::transport::pci::bus::{BarInfo, ConfigurationAccess as _, DeviceFunction, PciRoot};
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PAGE_SIZE, PhysAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::arch::pci::ConfigSpace;
use crate::arch::ports::{read_u8, read_u16, read_u32, write_u8, write_u16, write_u32};

const DEVICE_FEATURES: u16 = 0;
const DRIVER_FEATURES: u16 = 4;
const QUEUE_ADDRESS: u16 = 8;
const QUEUE_SIZE: u16 = 12;
const QUEUE_SELECT: u16 = 14;
const QUEUE_NOTIFY: u16 = 16;
const DEVICE_STATUS: u16 = 18;
const ISR_STATUS: u16 = 19;
/// Of the device's own registers, without MSI-X.
const CONFIG: u16 = 20;

/// The capability MSI-X, and in its first word the bit that turns it on (PCI 3.0, 6.8.2).
const MSI_X: u8 = 0x11;
const MSI_X_ENABLE: u32 = 1 << 31;

/// Such a device, by its first port.
pub(crate) struct LegacyPci {
    base: u16,
}

impl LegacyPci {
    /// `None`: it has no ports.
    pub(crate) fn new(mut config_space: ConfigSpace<'_>, function: DeviceFunction) -> Option<Self> {
        let mut root = PciRoot::new(config_space);
        let Some(BarInfo::IO { address, .. }) = root.bar_info(function, 0).ok()? else { return None };
        // With MSI-X its own registers would be four bytes further on.
        if let Some(msi_x) = root.capabilities(function).find(|capability| capability.id == MSI_X) {
            let control = config_space.read_word(function, msi_x.offset);
            config_space.write_word(function, msi_x.offset, control & !MSI_X_ENABLE);
        }
        let base = u16::try_from(address).ok()?;
        base.checked_add(256)?;
        Some(Self { base })
    }
}

impl Transport for LegacyPci {
    fn device_type(&self) -> DeviceType {
        DeviceType::Network
    }

    fn read_device_features(&mut self) -> u64 {
        u64::from(read_u32(self.base + DEVICE_FEATURES))
    }

    fn write_driver_features(&mut self, features: u64) {
        // It offers those of the low word only, and a driver takes of what is offered.
        write_u32(self.base + DRIVER_FEATURES, u32::try_from(features).unwrap_or(0));
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        write_u16(self.base + QUEUE_SELECT, queue);
        u32::from(read_u16(self.base + QUEUE_SIZE))
    }

    fn notify(&mut self, queue: u16) {
        write_u16(self.base + QUEUE_NOTIFY, queue);
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_truncate(u32::from(read_u8(self.base + DEVICE_STATUS)))
    }

    fn set_status(&mut self, status: DeviceStatus) {
        // It has no FEATURES_OK, bit 3, and ignores it.
        let [low, ..] = status.bits().to_le_bytes();
        write_u8(self.base + DEVICE_STATUS, low);
    }

    fn set_guest_page_size(&mut self, _bytes: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        true
    }

    fn queue_set(
        &mut self,
        queue: u16,
        _size: u32,
        descriptors: PhysAddr,
        _driver: PhysAddr,
        _device: PhysAddr,
    ) {
        write_u16(self.base + QUEUE_SELECT, queue);
        let page = u32::try_from(descriptors / PAGE_SIZE as PhysAddr).unwrap_or(0);
        write_u32(self.base + QUEUE_ADDRESS, page);
    }

    fn queue_unset(&mut self, queue: u16) {
        write_u16(self.base + QUEUE_SELECT, queue);
        write_u32(self.base + QUEUE_ADDRESS, 0);
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        write_u16(self.base + QUEUE_SELECT, queue);
        read_u32(self.base + QUEUE_ADDRESS) != 0
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::from_bits_truncate(u32::from(read_u8(self.base + ISR_STATUS)))
    }

    fn read_config_generation(&self) -> u32 {
        0
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, Error> {
        let mut value = T::new_zeroed();
        for (byte, at) in value.as_mut_bytes().iter_mut().zip(offset..) {
            *byte = read_u8(self.config_port(at)?);
        }
        Ok(value)
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, offset: usize, value: T) -> Result<(), Error> {
        for (byte, at) in value.as_bytes().iter().zip(offset..) {
            write_u8(self.config_port(at)?, *byte);
        }
        Ok(())
    }
}

impl LegacyPci {
    fn config_port(&self, offset: usize) -> Result<u16, Error> {
        // `new` has seen that they all are below 65536.
        match u16::try_from(offset) {
            Ok(offset) if offset < 256 - CONFIG => Ok(self.base + CONFIG + offset),
            _ => Err(Error::ConfigSpaceTooSmall),
        }
    }
}

impl Drop for LegacyPci {
    fn drop(&mut self) {
        // Whoever gets its memory next must not get the device's frames with it.
        self.set_status(DeviceStatus::empty());
    }
}
