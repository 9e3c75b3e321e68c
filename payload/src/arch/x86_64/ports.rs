//! I/O ports of devices that were found, for drivers.

use x86_64::instructions::port::Port;

macro_rules! port {
    ($read:ident, $write:ident, $value:ty) => {
        /// Reads a register of a device.
        pub(crate) fn $read(port: u16) -> $value {
            // SAFETY: a driver asks, for a port of its own device, which nobody else drives any more.
            unsafe { Port::new(port).read() }
        }

        /// Writes a register of a device.
        pub(crate) fn $write(port: u16, value: $value) {
            // SAFETY: as above; where a device may write to memory, its driver has given it that memory.
            unsafe { Port::new(port).write(value) }
        }
    };
}

port!(read_u8, write_u8, u8);
port!(read_u16, write_u16, u16);
port!(read_u32, write_u32, u32);
