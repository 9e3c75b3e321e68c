//! Leaving, by PSCI (Arm DEN 0022): reset, power off, or stay.

use core::arch::asm;

use rcapture_payload::boot::Conduit;
use spin::Once;

use crate::arch::firmware::call;

/// SYSTEM_OFF and SYSTEM_RESET (5.1), of 32-bit calls.
const SYSTEM_OFF: u32 = 0x8400_0008;
const SYSTEM_RESET: u32 = 0x8400_0009;

/// By which instruction the firmware is called; known from the device tree on.
static CONDUIT: Once<Conduit> = Once::new();

/// What it takes to turn the machine off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SoftOff(pub(crate) Conduit);

/// Says how the firmware is called.
pub(crate) fn set_conduit(conduit: Conduit) {
    CONDUIT.call_once(|| conduit);
}

/// Resets the machine; returns if the firmware cannot.
pub(crate) fn reboot() {
    if let Some(conduit) = CONDUIT.get() {
        call(*conduit, SYSTEM_RESET);
    }
}

/// Turns the machine off; returns if it stays on.
pub(crate) fn power_off(SoftOff(conduit): SoftOff) {
    call(conduit, SYSTEM_OFF);
}

/// Stops here for good; only a reset helps.
pub(crate) fn halt() -> ! {
    loop {
        // SAFETY: it waits; what wakes it up sends it back.
        unsafe { asm!("wfi", options(nomem, nostack, preserves_flags)) };
    }
}
