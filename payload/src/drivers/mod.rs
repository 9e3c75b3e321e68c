//! Devices, polled.

pub(crate) mod console;
pub(crate) mod uart;
