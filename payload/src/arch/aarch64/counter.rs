//! The generic timer's counter, whose rate the firmware left (Arm ARM D12.1).

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTVCT_EL0, Readable};
use rcapture_payload::boot::DeviceTree;

use crate::arch::clock::Rate;

/// Where the firmware left no rate: what most boards have had.
const GUESSED_HERTZ: u64 = 24_000_000;

/// Nothing is to be looked for: it is the processor's own.
pub(crate) const fn find(_tree: &DeviceTree) {}

/// The counter.
pub(crate) fn ticks() -> u64 {
    // It may be read early otherwise.
    barrier::isb(barrier::SY);
    CNTVCT_EL0.get()
}

/// Its rate.
pub(crate) fn rate() -> Rate {
    // 32 bits (D19.12.2).
    match CNTFRQ_EL0.get() & 0xffff_ffff {
        0 => Rate { hertz: GUESSED_HERTZ, is_guess: true },
        hertz => Rate { hertz, is_guess: false },
    }
}
