//! Leaving, by PSCI (Arm DEN 0022): reset, power off, or stay.

use core::arch::asm;

use rcapture_payload::boot::Conduit;
use spin::Once;

/// SYSTEM_OFF and SYSTEM_RESET (5.1), of 32-bit calls.
const SYSTEM_OFF: u32 = 0x8400_0008;
const SYSTEM_RESET: u32 = 0x8400_0009;

/// By which instruction the firmware is called; known from the device tree on.
static CONDUIT: Once<Conduit> = Once::new();

/// What it takes to turn the machine off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SoftOff(pub(crate) Conduit);

/// Says how the firmware is called.
pub(super) fn set_conduit(conduit: Conduit) {
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
        aarch64_cpu::asm::wfi();
    }
}

/// Calls the firmware (SMC calling convention, Arm DEN 0028: x0 to x17 are its own).
fn call(conduit: Conduit, function: u32) {
    // SAFETY: the machine is given up; the firmware takes it from here, or answers that it does not.
    unsafe {
        match conduit {
            Conduit::Hvc => {
                asm!("hvc #0", inout("x0") u64::from(function) => _, clobber_abi("C"), options(nostack))
            }
            Conduit::Smc => {
                asm!("smc #0", inout("x0") u64::from(function) => _, clobber_abi("C"), options(nostack))
            }
        }
    }
}
