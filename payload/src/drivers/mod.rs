//! Devices, polled.

pub(crate) mod cards;
pub(crate) mod console;
pub(crate) mod uart;
mod virtio;
mod virtio_legacy;
