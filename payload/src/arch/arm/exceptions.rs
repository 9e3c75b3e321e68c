//! Exceptions: an abort while reading crashed memory is a result, an error of memory puts the copy under way in doubt, any
//! other is the end.

use core::arch::{asm, global_asm};
use core::fmt;

use memory::ReadFaultKind;

use crate::arch::arm_common::exceptions::write_registers;
use crate::arch::guarded_copy;
use crate::arch::report::write_place;
use crate::fatal;

global_asm!(include_str!("exceptions.s"), options(raw));

/// What `guarded_copy` returns: the syndrome is the low half, and the bytes that it did not copy are the high one.
#[repr(transparent)]
pub(crate) struct Outcome(u64);

impl Outcome {
    pub(crate) fn bytes_left(&self) -> usize {
        usize::try_from(self.0 >> 32).unwrap_or(0)
    }

    /// What the data abort says, if there was one.
    pub(crate) fn fault(&self) -> Option<ReadFaultKind> {
        match Status((self.0 & u64::from(u32::MAX)) as usize) {
            Status(0) => None,
            status if status.is_external() => Some(ReadFaultKind::MachineCheck),
            _ => Some(ReadFaultKind::Access),
        }
    }
}

/// Vectors by their number.
const DATA_ABORT: usize = 4;
const NAMES: [&str; 8] = [
    "reset",
    "undefined instruction",
    "supervisor call",
    "prefetch abort",
    "data abort",
    "HYP trap",
    "IRQ",
    "FIQ",
];

/// Lets asynchronous aborts come: one that the crashed kernel left comes at once.
pub(crate) fn unmask_errors() {
    // SAFETY: the vectors are loaded.
    unsafe { asm!("cpsie a", options(nostack, nomem, preserves_flags)) };
}

/// The interrupted state, as exceptions.s saves it.
#[repr(C)]
struct Frame {
    /// r0 to r12, SP and LR, of System mode.
    r: [usize; 15],
    pc: usize,
    cpsr: u32,
    data_status: Status,
    data_address: u32,
    instruction_status: Status,
    instruction_address: u32,
    /// Number of the vector.
    vector: usize,
}

const _: () = assert!(size_of::<Frame>() == 88);

/// DFSR or IFSR.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Status(usize);

impl Status {
    /// LPAE: it says it in the format that goes with long descriptors.
    const LONG: usize = 1 << 9;

    /// The fault status, of which the two formats have different ones (tables B3-23 and B3-24).
    const fn code(self) -> usize {
        if self.0 & Self::LONG != 0 { self.0 & 0x3f } else { self.0 >> 6 & 0x10 | self.0 & 0xf }
    }

    /// An external abort or an error of parity, right where it was caused: of an access, or of a walk of the tables.
    const fn is_external(self) -> bool {
        if self.0 & Self::LONG != 0 {
            matches!(self.code(), 0x10 | 0x15..=0x18 | 0x1d..=0x1f)
        } else {
            matches!(self.code(), 0x08 | 0x0c | 0x0e | 0x19 | 0x1c | 0x1e)
        }
    }

    /// One that comes some time later.
    const fn is_asynchronous(self) -> bool {
        if self.0 & Self::LONG != 0 {
            matches!(self.code(), 0x11 | 0x19)
        } else {
            matches!(self.code(), 0x16 | 0x18)
        }
    }
}

impl Frame {
    fn resume_guarded_copy(&mut self) {
        let [_, _, _, syndrome, ..] = &mut self.r;
        *syndrome = self.data_status.0;
        self.pc = guarded_copy::instructions().end;
    }
}

/// Called by exceptions.s with the saved registers; what it changes in them is taken back on return.
#[unsafe(no_mangle)]
extern "C" fn handle_exception(frame: &mut Frame) {
    match frame.vector {
        DATA_ABORT if frame.data_status.is_asynchronous() => guarded_copy::put_in_doubt(),
        DATA_ABORT if guarded_copy::instructions().contains(&frame.pc) => frame.resume_guarded_copy(),
        _ => fatal::report(format_args!("{frame}")),
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.get(self.vector).unwrap_or(&"exception");
        writeln!(
            f,
            "{name}: DFSR {:#x}, DFAR {:#010x}, IFSR {:#x}, IFAR {:#010x}",
            self.data_status.0, self.data_address, self.instruction_status.0, self.instruction_address
        )?;
        write_place(f, "PC", self.pc)?;
        write_registers(f, 'r', &self.r)?;
        write!(f, "  CPSR {:#x}", self.cpsr)
    }
}
