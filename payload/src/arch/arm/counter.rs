//! A counter to tell time by: the generic timer's where the processor has one (ID_PFR1; the rate is the firmware's), else the
//! cycle counter, whose rate nobody knows.

use core::arch::asm;

use rcapture_payload::boot::DeviceTree;

use super::registers::{read, synchronize};

/// Whether the processor has the generic timer (DDI 0406, B4.1.94).
fn has_generic_timer() -> bool {
    read!("0", "c0, c1, 1") >> 16 & 0xf != 0
}

/// Nothing is to be looked for.
pub(crate) fn find(_tree: &DeviceTree) {}

/// The counter.
pub(crate) fn ticks() -> u64 {
    // It may be read early otherwise.
    synchronize();
    let (low, high): (u32, u32);
    // SAFETY: CNTVCT is only read.
    unsafe {
        asm!("mrrc p15, 1, {}, {}, c14", out(reg) low, out(reg) high, options(nostack, nomem, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Ticks per second, if anybody knows them.
pub(crate) fn hertz() -> Option<u64> {
    // CNTFRQ.
    has_generic_timer().then(|| u64::from(read!("0", "c14, c0, 0"))).filter(|hertz| *hertz > 0)
}
