//! Exceptions: a fault while reading crashed memory is a result, an error of memory puts the copy under way in doubt, any
//! other is the end.

use core::arch::{asm, global_asm};
use core::fmt;

use memory::ReadFaultKind;

use crate::arch::arm_common::exceptions::write_registers;
use crate::arch::guarded_copy;
use crate::arch::report::write_place;
use crate::fatal;

global_asm!(include_str!("exceptions.s"));

/// What `guarded_copy` returns in x0 and x1.
#[repr(C)]
pub(crate) struct Outcome {
    syndrome: usize,
    bytes_left: usize,
}

impl Outcome {
    pub(crate) const fn bytes_left(&self) -> usize {
        self.bytes_left
    }

    /// What the data abort says, if there was one.
    pub(crate) fn fault(&self) -> Option<ReadFaultKind> {
        let status = self.syndrome & 0x3f;
        let is_external =
            status == EXTERNAL || EXTERNAL_ON_WALK.contains(&status) || PARITY.contains(&status);
        let kind = if is_external { ReadFaultKind::MachineCheck } else { ReadFaultKind::Access };
        (self.syndrome != 0).then_some(kind)
    }
}

/// Rows of the vector table: synchronous exceptions, and SErrors, of what runs on SP_EL0.
const SYNCHRONOUS: u64 = 0;
const SERROR: u64 = 3;

/// Exception classes, ESR_EL1.EC (D19.2.40).
const DATA_ABORT: usize = 0x25;
/// Its fault status code, DFSC: synchronous external abort, of a walk's level from 0x13 on; parity or ECC error.
const EXTERNAL: usize = 0x10;
const EXTERNAL_ON_WALK: core::ops::RangeInclusive<usize> = 0x13..=0x17;
const PARITY: core::ops::RangeInclusive<usize> = 0x18..=0x1f;
/// Of an SError with a DFSC of 0x11, AET: nothing that follows can be trusted.
const ASYNCHRONOUS: usize = 0x11;
const UNCONTAINABLE: usize = 0;

/// Lets SErrors come: one that the crashed kernel left comes at once.
pub(crate) fn unmask_errors() {
    // SAFETY: the vectors are loaded.
    unsafe { asm!("msr daifclr, #4", options(nostack, nomem)) };
}

/// The interrupted state, as exceptions.s saves it.
#[repr(C)]
struct Frame {
    x: [usize; 31],
    sp: u64,
    elr: usize,
    spsr: u64,
    esr: usize,
    far: u64,
    /// Row of the vector table.
    vector: u64,
    unused: u64,
}

const _: () = assert!(size_of::<Frame>() == 304);

impl Frame {
    fn class(&self) -> usize {
        self.esr >> 26 & 0x3f
    }

    fn resume_guarded_copy(&mut self) {
        let [_, _, _, syndrome, ..] = &mut self.x;
        *syndrome = self.esr;
        self.elr = guarded_copy::instructions().end;
    }

    /// Of an SError: whether the processor can go on.
    fn is_contained(&self) -> bool {
        self.esr & 0x3f != ASYNCHRONOUS || self.esr >> 10 & 0b111 != UNCONTAINABLE
    }
}

/// Called by exceptions.s with the saved registers; what it changes in them is taken back on return.
#[unsafe(no_mangle)]
extern "C" fn handle_exception(frame: &mut Frame) {
    match frame.vector {
        SYNCHRONOUS if frame.class() == DATA_ABORT && guarded_copy::instructions().contains(&frame.elr) => {
            frame.resume_guarded_copy();
        }
        SERROR if frame.is_contained() => guarded_copy::put_in_doubt(),
        _ => fatal::report(format_args!("{frame}")),
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "exception {} of class {:#x}, ESR {:#x}, FAR {:#018x}",
            self.vector,
            self.class(),
            self.esr,
            self.far
        )?;
        write_place(f, "PC", self.elr)?;
        write_registers(f, 'x', &self.x)?;
        write!(f, "  SP {:016x} SPSR {:#x}", self.sp, self.spsr)
    }
}
