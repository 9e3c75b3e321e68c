//! The generic timer's counter, whose rate the firmware left (Arm ARM D12.1).

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTVCT_EL0, Readable};
use rcapture_payload::boot::DeviceTree;

use crate::arch::clock::Rate;

/// Nothing is to be looked for: it is the processor's own.
pub(crate) const fn find(_tree: &DeviceTree) {}

/// The counter.
pub(crate) fn ticks() -> u64 {
    // It may be read early otherwise.
    barrier::isb(barrier::SY);
    CNTVCT_EL0.get()
}

/// Its rate.
#[expect(clippy::cast_possible_truncation, reason = "the register has 32 bits (D19.12.2)")]
pub(crate) fn rate() -> Rate {
    Rate::of_generic_timer(CNTFRQ_EL0.get() as u32)
}
