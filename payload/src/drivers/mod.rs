//! Devices, polled.

pub(crate) mod cards;
pub(crate) mod console;
mod dma;
pub(crate) mod ecam;
pub(crate) mod mmio;
pub(crate) mod uart;
mod virtio;
mod virtio_legacy;
pub(crate) mod watchdog;
