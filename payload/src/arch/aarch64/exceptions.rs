//! Exceptions: a fault while reading crashed memory is a result, an error of memory puts the copy under way in doubt, any
//! other is the end.

use core::arch::{asm, global_asm};
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use memory::ReadFaultKind;

use crate::{fatal, memory::layout};

global_asm!(include_str!("exceptions.s"));

unsafe extern "C" {
    safe static guarded_copy_access: u8;
    safe static guarded_copy_resume: u8;
    fn guarded_copy(to: *mut u8, from: *const u8, bytes: usize) -> GuardedCopy;
}

/// What `guarded_copy` returns in x0 and x1.
#[repr(C)]
struct GuardedCopy {
    syndrome: u64,
    bytes_left: u64,
}

/// Enough for the report, which formats straight into the UART.
const STACK_BYTES: usize = 16 * 1024;

global_asm!(
    ".section .bss.exception_stack, \"aw\", @nobits",
    ".balign 16",
    ".skip {bytes}",
    ".globl exception_stack_top",
    "exception_stack_top:",
    ".text",
    bytes = const STACK_BYTES,
);

/// Rows of the vector table: synchronous exceptions, and SErrors, of what runs on SP_EL0.
const SYNCHRONOUS: u64 = 0;
const SERROR: u64 = 3;

/// Exception classes, ESR_EL1.EC (D19.2.40).
const DATA_ABORT: u64 = 0x25;
/// Its fault status code, DFSC: synchronous external abort, of a walk's level from 0x13 on; parity or ECC error.
const EXTERNAL: u64 = 0x10;
const EXTERNAL_ON_WALK: core::ops::RangeInclusive<u64> = 0x13..=0x17;
const PARITY: core::ops::RangeInclusive<u64> = 0x18..=0x1f;
/// Of an SError with a DFSC of 0x11, AET: nothing that follows can be trusted.
const ASYNCHRONOUS: u64 = 0x11;
const UNCONTAINABLE: u64 = 0;

/// An SError came between two instructions that had nothing to do with it: the copy under way is in doubt.
static ERROR_SEEN: AtomicBool = AtomicBool::new(false);

/// Lets SErrors come: one that the crashed kernel left comes at once.
pub(super) fn unmask_errors() {
    // SAFETY: the vectors are loaded.
    unsafe { asm!("msr daifclr, #4", options(nostack, nomem)) };
}

/// Copies `buf.len()` bytes from `from_va`, which may fault.
///
/// # Errors
/// How it faulted, and how many bytes were copied before.
pub(crate) fn copy_from(from_va: usize, buf: &mut [u8]) -> Result<(), (ReadFaultKind, usize)> {
    ERROR_SEEN.store(false, Ordering::Relaxed);
    let from = core::ptr::with_exposed_provenance(from_va);
    // SAFETY: the destination is a live `&mut [u8]` of that length. The source is only read, by instructions whose
    // faults come back as a syndrome; that it is no Rust object is the caller's page tables' doing (memory/window.rs).
    let copy = unsafe { guarded_copy(buf.as_mut_ptr(), from, buf.len()) };
    let copied = buf.len().saturating_sub(usize::try_from(copy.bytes_left).unwrap_or(0));
    match copy.syndrome {
        0 if ERROR_SEEN.load(Ordering::Relaxed) => Err((ReadFaultKind::MachineCheck, 0)),
        0 => Ok(()),
        syndrome => Err((kind_of(syndrome), copied)),
    }
}

/// What a data abort says.
fn kind_of(syndrome: u64) -> ReadFaultKind {
    let status = syndrome & 0x3f;
    if status == EXTERNAL || EXTERNAL_ON_WALK.contains(&status) || PARITY.contains(&status) {
        ReadFaultKind::MachineCheck
    } else {
        ReadFaultKind::Access
    }
}

/// The interrupted state, as exceptions.s saves it.
#[repr(C)]
struct Frame {
    x: [u64; 31],
    sp: u64,
    elr: u64,
    spsr: u64,
    esr: u64,
    far: u64,
    /// Row of the vector table.
    vector: u64,
    unused: u64,
}

const _: () = assert!(size_of::<Frame>() == 304);

impl Frame {
    fn class(&self) -> u64 {
        self.esr >> 26 & 0x3f
    }

    fn is_in_guarded_copy(&self) -> bool {
        let access = &raw const guarded_copy_access as u64;
        let resume = &raw const guarded_copy_resume as u64;
        (access..resume).contains(&self.elr)
    }

    fn resume_guarded_copy(&mut self) {
        let [_, _, _, syndrome, ..] = &mut self.x;
        *syndrome = self.esr;
        self.elr = &raw const guarded_copy_resume as u64;
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
        SYNCHRONOUS if frame.class() == DATA_ABORT && frame.is_in_guarded_copy() => {
            frame.resume_guarded_copy();
        }
        SERROR if frame.is_contained() => ERROR_SEEN.store(true, Ordering::Relaxed),
        _ => fatal::report(format_args!("{frame}")),
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = layout::image();
        let base = image.start as u64;
        writeln!(
            f,
            "exception {} of class {:#x}, ESR {:#x}, FAR {:#018x}",
            self.vector,
            self.class(),
            self.esr,
            self.far
        )?;
        if image.contains(&usize::try_from(self.elr).unwrap_or(0)) {
            writeln!(f, "  PC image+{:#x} (image at {base:#x})", self.elr - base)?;
        } else {
            writeln!(f, "  PC {:#018x}, outside the image at {base:#x}", self.elr)?;
        }
        for (first, row) in self.x.chunks(4).enumerate() {
            for (value, number) in row.iter().zip(first * 4..) {
                write!(f, "  x{number:<2} {value:016x}")?;
            }
            writeln!(f)?;
        }
        write!(f, "  SP {:016x} SPSR {:#x}", self.sp, self.spsr)
    }
}
