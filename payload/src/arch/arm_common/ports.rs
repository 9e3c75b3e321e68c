//! I/O ports of a device, which this architecture does not have.

/// There are none.
pub(crate) enum DevicePorts {}

macro_rules! port {
    ($read:ident, $write:ident, $value:ty) => {
        /// Never called.
        pub(crate) const fn $read(&self, _offset: u8) -> $value {
            match *self {}
        }

        /// Never called.
        pub(crate) const fn $write(&self, _offset: u8, _value: $value) {
            match *self {}
        }
    };
}

impl DevicePorts {
    /// `None`.
    ///
    /// # Safety
    /// None is needed.
    pub(crate) const unsafe fn new(_base: u16) -> Option<Self> {
        None
    }

    port!(read_u8, write_u8, u8);
    port!(read_u16, write_u16, u16);
    port!(read_u32, write_u32, u32);
}
