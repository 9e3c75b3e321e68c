//! What 32-bit and 64-bit Arm have in common: a device tree that tells of the machine, firmware that turns it off, PCI in memory,
//! no I/O ports.

pub(crate) mod boot;
pub(crate) mod clock;
pub(crate) mod exceptions;
pub(crate) mod pci;
pub(crate) mod ports;
pub(crate) mod power;
