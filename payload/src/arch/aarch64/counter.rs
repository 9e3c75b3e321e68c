//! The generic timer's counter, whose rate the firmware left (Arm ARM D12.1).

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTVCT_EL0, Readable};
use rcapture_payload::boot::DeviceTree;

/// Nothing is to be looked for: it is the processor's own.
pub(crate) const fn find(_tree: &DeviceTree) {}

/// The counter.
pub(crate) fn ticks() -> u64 {
    // It may be read early otherwise.
    barrier::isb(barrier::SY);
    CNTVCT_EL0.get()
}

/// Ticks per second, if the firmware said.
pub(crate) fn hertz() -> Option<u64> {
    // 32 bits (D19.12.2).
    Some(CNTFRQ_EL0.get() & 0xffff_ffff).filter(|hertz| *hertz > 0)
}
