//! Exceptions: an abort while reading crashed memory is a result, an error of memory puts the copy under way in doubt, any
//! other is the end.

use core::arch::{asm, global_asm};
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use memory::ReadFaultKind;

use crate::{fatal, memory::layout};

global_asm!(include_str!("exceptions.s"), options(raw));

unsafe extern "C" {
    safe static guarded_copy_access: u8;
    safe static guarded_copy_resume: u8;
    /// The syndrome is the low half of what it returns, and the bytes that it did not copy are the high one.
    fn guarded_copy(to: *mut u8, from: *const u8, bytes: usize) -> u64;
}

/// Enough for the report, which formats straight into the UART.
const STACK_BYTES: usize = 16 * 1024;

global_asm!(
    ".section .bss.exception_stack, \"aw\", %nobits",
    ".balign 16",
    ".skip {bytes}",
    ".globl exception_stack_top",
    "exception_stack_top:",
    ".text",
    bytes = const STACK_BYTES,
);

/// Vectors by their number.
const DATA_ABORT: u32 = 4;
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

/// An asynchronous abort came between two instructions that had nothing to do with it: the copy under way is in doubt.
static ERROR_SEEN: AtomicBool = AtomicBool::new(false);

/// Lets asynchronous aborts come: one that the crashed kernel left comes at once.
pub(super) fn unmask_errors() {
    // SAFETY: the vectors are loaded.
    unsafe { asm!("cpsie a", options(nostack, nomem, preserves_flags)) };
}

/// Copies `buf.len()` bytes from `from_va`, which may fault.
///
/// # Errors
/// How it faulted, and how many bytes were copied before.
pub(crate) fn copy_from(from_va: usize, buf: &mut [u8]) -> Result<(), (ReadFaultKind, usize)> {
    ERROR_SEEN.store(false, Ordering::Relaxed);
    let from = core::ptr::with_exposed_provenance(from_va);
    // SAFETY: the destination is a live `&mut [u8]` of that length. The source is only read, by instructions whose
    // aborts come back as a syndrome; that it is no Rust object is the caller's page tables' doing (memory/window.rs).
    let copy = unsafe { guarded_copy(buf.as_mut_ptr(), from, buf.len()) };
    let syndrome = Status((copy & u64::from(u32::MAX)) as u32);
    let copied = buf.len().saturating_sub(usize::try_from(copy >> 32).unwrap_or(0));
    match syndrome {
        Status(0) if ERROR_SEEN.load(Ordering::Relaxed) => Err((ReadFaultKind::MachineCheck, 0)),
        Status(0) => Ok(()),
        status if status.is_external() => Err((ReadFaultKind::MachineCheck, copied)),
        _ => Err((ReadFaultKind::Access, copied)),
    }
}

/// The interrupted state, as exceptions.s saves it.
#[repr(C)]
struct Frame {
    /// r0 to r12, SP and LR, of System mode.
    r: [u32; 15],
    pc: u32,
    cpsr: u32,
    data_status: Status,
    data_address: u32,
    instruction_status: Status,
    instruction_address: u32,
    /// Number of the vector.
    vector: u32,
}

const _: () = assert!(size_of::<Frame>() == 88);

/// DFSR or IFSR.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Status(u32);

impl Status {
    /// LPAE: it says it in the format that goes with long descriptors.
    const LONG: u32 = 1 << 9;

    /// The fault status, of which the two formats have different ones (tables B3-23 and B3-24).
    const fn code(self) -> u32 {
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
    fn is_in_guarded_copy(&self) -> bool {
        let access = &raw const guarded_copy_access as u32;
        let resume = &raw const guarded_copy_resume as u32;
        (access..resume).contains(&self.pc)
    }

    fn resume_guarded_copy(&mut self) {
        let [_, _, _, syndrome, ..] = &mut self.r;
        *syndrome = self.data_status.0;
        self.pc = &raw const guarded_copy_resume as u32;
    }
}

/// Called by exceptions.s with the saved registers; what it changes in them is taken back on return.
#[unsafe(no_mangle)]
extern "C" fn handle_exception(frame: &mut Frame) {
    match frame.vector {
        DATA_ABORT if frame.data_status.is_asynchronous() => ERROR_SEEN.store(true, Ordering::Relaxed),
        DATA_ABORT if frame.is_in_guarded_copy() => frame.resume_guarded_copy(),
        _ => fatal::report(format_args!("{frame}")),
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = layout::image();
        let name =
            usize::try_from(self.vector).ok().and_then(|vector| NAMES.get(vector)).unwrap_or(&"exception");
        writeln!(
            f,
            "{name}: DFSR {:#x}, DFAR {:#010x}, IFSR {:#x}, IFAR {:#010x}",
            self.data_status.0, self.data_address, self.instruction_status.0, self.instruction_address
        )?;
        let pc = usize::try_from(self.pc).unwrap_or(0);
        if image.contains(&pc) {
            writeln!(f, "  PC image+{:#x} (image at {:#x})", pc - image.start, image.start)?;
        } else {
            writeln!(f, "  PC {pc:#010x}, outside the image at {:#x}", image.start)?;
        }
        for (first, row) in self.r.chunks(4).enumerate() {
            for (value, number) in row.iter().zip(first * 4..) {
                write!(f, "  r{number:<2} {value:08x}")?;
            }
            writeln!(f)?;
        }
        write!(f, "  CPSR {:#x}", self.cpsr)
    }
}
