//! The PCI registers of virtio devices from before version 1 (virtio 1.2, 4.1.4.10): eight I/O ports and what is behind them.

use virtio_drivers::transport::pci::bus::{BarInfo, ConfigurationAccess as _, DeviceFunction, PciRoot};
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PAGE_SIZE, PhysAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::arch::pci::ConfigSpace;
use crate::arch::ports::DevicePorts;

const DEVICE_FEATURES: u8 = 0;
const DRIVER_FEATURES: u8 = 4;
const QUEUE_ADDRESS: u8 = 8;
const QUEUE_SIZE: u8 = 12;
const QUEUE_SELECT: u8 = 14;
const QUEUE_NOTIFY: u8 = 16;
const DEVICE_STATUS: u8 = 18;
const ISR_STATUS: u8 = 19;
/// Of the device's own registers, without MSI-X.
const CONFIG: u8 = 20;

/// The capability MSI-X, and in its first word the bit that turns it on (PCI 3.0, 6.8.2).
const MSI_X: u8 = 0x11;
const MSI_X_ENABLE: u32 = 1 << 31;

/// Such a device, by its ports.
pub(crate) struct LegacyPci {
    ports: DevicePorts,
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
        // SAFETY: they are the device's first BAR; Linux no longer drives it, and it gets queues of our heap only.
        let ports = unsafe { DevicePorts::new(u16::try_from(address).ok()?) }?;
        Some(Self { ports })
    }
}

impl Transport for LegacyPci {
    fn device_type(&self) -> DeviceType {
        DeviceType::Network
    }

    fn read_device_features(&mut self) -> u64 {
        u64::from(self.ports.read_u32(DEVICE_FEATURES))
    }

    fn write_driver_features(&mut self, features: u64) {
        // It offers those of the low word only, and a driver takes of what is offered.
        self.ports.write_u32(DRIVER_FEATURES, u32::try_from(features).unwrap_or(0));
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.ports.write_u16(QUEUE_SELECT, queue);
        u32::from(self.ports.read_u16(QUEUE_SIZE))
    }

    fn notify(&mut self, queue: u16) {
        self.ports.write_u16(QUEUE_NOTIFY, queue);
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_truncate(u32::from(self.ports.read_u8(DEVICE_STATUS)))
    }

    fn set_status(&mut self, status: DeviceStatus) {
        // It has no FEATURES_OK, bit 3, and ignores it.
        let [low, ..] = status.bits().to_le_bytes();
        self.ports.write_u8(DEVICE_STATUS, low);
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
        self.ports.write_u16(QUEUE_SELECT, queue);
        let page = u32::try_from(descriptors / PAGE_SIZE as PhysAddr).unwrap_or(0);
        self.ports.write_u32(QUEUE_ADDRESS, page);
    }

    fn queue_unset(&mut self, queue: u16) {
        self.ports.write_u16(QUEUE_SELECT, queue);
        self.ports.write_u32(QUEUE_ADDRESS, 0);
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.ports.write_u16(QUEUE_SELECT, queue);
        self.ports.read_u32(QUEUE_ADDRESS) != 0
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::from_bits_truncate(u32::from(self.ports.read_u8(ISR_STATUS)))
    }

    fn read_config_generation(&self) -> u32 {
        0
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, Error> {
        let mut value = T::new_zeroed();
        for (byte, at) in value.as_mut_bytes().iter_mut().zip(offset..) {
            *byte = self.ports.read_u8(config_offset(at)?);
        }
        Ok(value)
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, offset: usize, value: T) -> Result<(), Error> {
        for (byte, at) in value.as_bytes().iter().zip(offset..) {
            self.ports.write_u8(config_offset(at)?, *byte);
        }
        Ok(())
    }
}

/// Where a byte of the device's own registers is.
fn config_offset(offset: usize) -> Result<u8, Error> {
    let offset = u8::try_from(offset).ok().and_then(|offset| CONFIG.checked_add(offset));
    offset.ok_or(Error::ConfigSpaceTooSmall)
}

impl Drop for LegacyPci {
    fn drop(&mut self) {
        // Whoever gets its memory next must not get the device's frames with it.
        self.set_status(DeviceStatus::empty());
    }
}
