//! Calls of the firmware (SMC calling convention, Arm DEN 0028).

use core::arch::asm;

use rcapture_payload::boot::Conduit;

/// Calls a function that ends the machine, or answers that it does not; x0 to x17 are the firmware's own.
pub(crate) fn call(conduit: Conduit, function: u32) {
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
