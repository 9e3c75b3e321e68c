//! Registers of coprocessor 15, the system control coprocessor (Arm ARM DDI 0406, B3.17), and barriers.

/// Reads one, which is without effect: its `opc1`, and its `CRn, CRm, opc2`.
macro_rules! read {
    ($opc1:literal, $rest:literal) => {{
        let value: u32;
        // SAFETY: an identification or control register that every processor of this kind has; it is only read.
        unsafe {
            core::arch::asm!(
                concat!("mrc p15, ", $opc1, ", {}, ", $rest),
                out(reg) value,
                options(nostack, nomem, preserves_flags)
            );
        }
        value
    }};
}

/// Writes one. What that does is for the caller to justify, in an `unsafe` block.
macro_rules! write {
    ($opc1:literal, $rest:literal, $value:expr) => {
        core::arch::asm!(
            concat!("mcr p15, ", $opc1, ", {}, ", $rest),
            in(reg) $value,
            options(nostack, preserves_flags)
        )
    };
}

pub(super) use {read, write};

/// All accesses before it are done, and seen, before anything behind it; and instructions behind it know what they changed.
pub(super) fn synchronize() {
    // SAFETY: barriers.
    unsafe { core::arch::asm!("dsb", "isb", options(nostack, preserves_flags)) };
}
