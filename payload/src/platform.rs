//! What a machine is made of, beside memory and a console.

use alloc::vec::Vec;

use capture::config::MmioRegion;
use rcapture_payload::boot::{Ecam, Ethernet};

use crate::arch::power::SoftOff;
use crate::drivers::watchdog::FeedingClock;

/// What was found.
pub(crate) struct Platform {
    /// Time.
    pub(crate) clock: FeedingClock,
    /// How it is turned off, if anything says so.
    pub(crate) soft_off: Option<SoftOff>,
    /// Where PCI's configuration space is in memory.
    pub(crate) ecam: Vec<Ecam>,
    /// virtio devices that no bus tells of.
    pub(crate) virtio_mmio: Vec<MmioRegion>,
    /// Ethernet controllers that the device tree names.
    pub(crate) ethernets: Vec<Ethernet>,
}
