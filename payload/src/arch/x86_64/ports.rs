//! I/O ports of a device.

use x86_64::instructions::port::Port;

/// 256 ports of a device, as a BAR may name them, by their offset.
pub(crate) struct DevicePorts {
    base: u16,
}

macro_rules! port {
    ($read:ident, $write:ident, $value:ty) => {
        /// Reads a register.
        pub(crate) fn $read(&self, offset: u8) -> $value {
            // SAFETY: who made `self` has promised that the device is his.
            unsafe { Port::new(self.port(offset)).read() }
        }

        /// Writes a register.
        pub(crate) fn $write(&self, offset: u8, value: $value) {
            // SAFETY: as above; and that it is given no memory but his.
            unsafe { Port::new(self.port(offset)).write(value) }
        }
    };
}

impl DevicePorts {
    /// The ports from `base` on. `None`: there are not so many.
    ///
    /// # Safety
    /// They belong to a device that nobody but the caller drives, and where it can be told to write to memory, the caller tells
    /// it of memory that is its own.
    pub(crate) unsafe fn new(base: u16) -> Option<Self> {
        base.checked_add(u16::from(u8::MAX))?;
        Some(Self { base })
    }

    fn port(&self, offset: u8) -> u16 {
        // `new` has seen that it does not overflow.
        self.base.wrapping_add(u16::from(offset))
    }

    port!(read_u8, write_u8, u8);
    port!(read_u16, write_u16, u16);
    port!(read_u32, write_u32, u32);
}
