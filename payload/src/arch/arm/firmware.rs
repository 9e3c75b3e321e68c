//! Calls of the firmware (SMC calling convention, Arm DEN 0028).

use core::arch::asm;

use rcapture_payload::boot::Conduit;

/// Calls a function that ends the machine, or answers that it does not; r0 to r3 are the firmware's own.
pub(crate) fn call(conduit: Conduit, function: u32) {
    macro_rules! call {
        ($($instruction:literal),*) => {
            // SAFETY: the machine is given up; the firmware takes it from here, or answers that it does not.
            unsafe {
                asm!($($instruction),*, inout("r0") function => _, out("r1") _, out("r2") _, out("r3") _, options(nostack))
            }
        };
    }
    match conduit {
        Conduit::Hvc => call!(".arch_extension virt", "hvc #0"),
        Conduit::Smc => call!(".arch_extension sec", "smc #0"),
    }
}
