//! Exceptions: a fault while reading crashed memory is a result, an NMI is nothing, any other is the end.

use core::arch::global_asm;
use core::fmt;
use core::ops::Range;

use memory::ReadFaultKind;
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::registers::control::Cr2;
use x86_64::registers::model_specific::Msr;
use x86_64::structures::DescriptorTablePointer;

use super::segments::{self, DOUBLE_FAULT_STACK, MACHINE_CHECK_STACK, NMI_STACK};
use crate::arch::guarded_copy;
use crate::arch::report::write_place;
use crate::fatal;

global_asm!(include_str!("exceptions.s"));

unsafe extern "C" {
    safe static exception_stubs: u8;
}

/// What `guarded_copy` returns in RAX and RDX.
#[repr(C)]
pub(crate) struct Outcome {
    vector: usize,
    bytes_left: usize,
}

impl Outcome {
    pub(crate) const fn bytes_left(&self) -> usize {
        self.bytes_left
    }

    /// What the exception says, if there was one.
    pub(crate) const fn fault(&self) -> Option<ReadFaultKind> {
        match self.vector {
            0 => None,
            MACHINE_CHECK => Some(ReadFaultKind::MachineCheck),
            _ => Some(ReadFaultKind::Access),
        }
    }
}

const VECTORS: usize = 32;
const STUB_BYTES: usize = 16;
const NMI: usize = 2;
const DOUBLE_FAULT: usize = 8;
const GENERAL_PROTECTION: usize = 13;
const PAGE_FAULT: usize = 14;
const MACHINE_CHECK: usize = 18;

/// SDM volume 3, table 6-1, and AMD APM volume 2, section 8.2.
const NAMES: [&str; VECTORS] = [
    "#DE divide error",
    "#DB debug",
    "NMI",
    "#BP breakpoint",
    "#OF overflow",
    "#BR bound range",
    "#UD invalid opcode",
    "#NM no coprocessor",
    "#DF double fault",
    "coprocessor overrun",
    "#TS invalid TSS",
    "#NP segment not present",
    "#SS stack fault",
    "#GP general protection",
    "#PF page fault",
    "reserved",
    "#MF x87 error",
    "#AC alignment check",
    "#MC machine check",
    "#XM SIMD error",
    "#VE virtualization",
    "#CP control protection",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "#HV hypervisor injection",
    "#VC VMM communication",
    "#SX security",
    "reserved",
];

/// A 64-bit interrupt gate (SDM volume 3, figure 6-8).
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    offset_low: u16,
    selector: u16,
    interrupt_stack: u8,
    kind: u8,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

impl Gate {
    /// Present, ring 0, interrupts stay off.
    const INTERRUPT: u8 = 0x8e;

    #[expect(clippy::cast_possible_truncation, reason = "the address is split over three fields")]
    fn new(handler_va: usize, selector: u16, interrupt_stack: u8) -> Self {
        Self {
            offset_low: handler_va as u16,
            selector,
            interrupt_stack,
            kind: Self::INTERRUPT,
            offset_middle: (handler_va >> 16) as u16,
            offset_high: (handler_va >> 32) as u32,
            reserved: 0,
        }
    }
}

static IDT: Once<[Gate; VECTORS]> = Once::new();

/// Loads handlers for all 32 exceptions.
pub(super) fn load() {
    let idt = IDT.call_once(|| {
        let selector = segments::code_selector();
        let stubs_va = &raw const exception_stubs as usize;
        let mut vector = 0;
        [(); VECTORS].map(|()| {
            let stack = match vector {
                NMI => NMI_STACK,
                DOUBLE_FAULT => DOUBLE_FAULT_STACK,
                MACHINE_CHECK => MACHINE_CHECK_STACK,
                _ => 0,
            };
            let gate = Gate::new(stubs_va + vector * STUB_BYTES, selector, stack);
            vector += 1;
            gate
        })
    });
    #[expect(clippy::cast_possible_truncation, reason = "512 bytes")]
    let limit = (size_of_val(idt) - 1) as u16;
    let pointer = DescriptorTablePointer { limit, base: VirtAddr::new_truncate(idt.as_ptr() as u64) };
    // SAFETY: the table is a static that never changes, its gates lead to the stubs of exceptions.s.
    unsafe { lidt(&pointer) };
}

/// The interrupted state, as exceptions.s pushes it.
#[repr(C)]
struct Frame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rcx: u64,
    rax: usize,
    vector: usize,
    error_code: u64,
    rip: usize,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

impl Frame {
    fn is_in_guarded_copy(&self) -> bool {
        let Range { start, end } = guarded_copy::instructions();
        // A machine check may be reported at the instruction after the one that met it.
        self.rip >= start && (self.rip < end || self.vector == MACHINE_CHECK && self.rip == end)
    }

    fn resume_guarded_copy(&mut self) {
        self.rax = self.vector;
        self.rip = guarded_copy::instructions().end;
    }
}

/// Called by exceptions.s with the saved registers; what it changes in them is taken back on return.
#[unsafe(no_mangle)]
extern "C" fn handle_exception(frame: &mut Frame) {
    match frame.vector {
        NMI => {}
        PAGE_FAULT | GENERAL_PROTECTION if frame.is_in_guarded_copy() => frame.resume_guarded_copy(),
        MACHINE_CHECK => {
            let check = MachineCheck::take();
            // The guarded copy is abandoned, not returned to: it can do without RIPV.
            if check.is_contained && frame.is_in_guarded_copy() {
                frame.resume_guarded_copy();
            } else if check.is_contained && check.can_return {
                guarded_copy::put_in_doubt();
            } else {
                fatal::report(format_args!("{frame}"));
            }
        }
        _ => fatal::report(format_args!("{frame}")),
    }
}

const IA32_MCG_CAP: u32 = 0x179;
const IA32_MCG_STATUS: u32 = 0x17a;
const IA32_MC0_STATUS: u32 = 0x401;
/// From one bank's registers to the next's.
const BANK_STEP: u32 = 4;
const MCG_STATUS_RIPV: u64 = 1;
const STATUS_VALID: u64 = 1 << 63;
/// PCC: the processor's own state is corrupt, nothing that follows can be trusted.
const STATUS_CONTEXT_CORRUPT: u64 = 1 << 57;
/// AR (Intel) or TCC (AMD): the interrupted program would meet the same again.
const STATUS_ACTION_REQUIRED: u64 = 1 << 55;

/// What the machine-check registers said.
struct MachineCheck {
    /// No bank says that the processor's own state is corrupt.
    is_contained: bool,
    /// The interrupted program can be gone on with.
    can_return: bool,
}

impl MachineCheck {
    /// Reads and clears the banks (SDM volume 3, section 15.10): another machine check while they are full would shut
    /// the machine down.
    fn take() -> Self {
        // SAFETY: a machine check has come, so that the machine-check registers exist, as many banks as MCG_CAP says;
        // clearing them loses nothing anyone else wants.
        unsafe {
            let mut mcg_status = Msr::new(IA32_MCG_STATUS);
            let mut can_return = mcg_status.read() & MCG_STATUS_RIPV != 0;
            let mut is_contained = true;
            let banks = Msr::new(IA32_MCG_CAP).read() & 0xff;
            for bank in 0..u32::try_from(banks).unwrap_or(0) {
                let mut bank_status = Msr::new(IA32_MC0_STATUS + bank * BANK_STEP);
                let status = bank_status.read();
                if status & STATUS_VALID != 0 {
                    is_contained &= status & STATUS_CONTEXT_CORRUPT == 0;
                    can_return &= status & STATUS_ACTION_REQUIRED == 0;
                    bank_status.write(0);
                }
            }
            mcg_status.write(0);
            Self { is_contained, can_return }
        }
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.get(self.vector).unwrap_or(&"unknown");
        writeln!(
            f,
            "exception {} ({name}), error code {:#x}, CR2 {:#018x}",
            self.vector,
            self.error_code,
            Cr2::read_raw()
        )?;
        write_place(f, "RIP", self.rip)?;
        writeln!(
            f,
            "  RAX {:016x} RBX {:016x} RCX {:016x} RDX {:016x}",
            self.rax, self.rbx, self.rcx, self.rdx
        )?;
        writeln!(
            f,
            "  RSI {:016x} RDI {:016x} RBP {:016x} RSP {:016x}",
            self.rsi, self.rdi, self.rbp, self.rsp
        )?;
        writeln!(
            f,
            "  R8  {:016x} R9  {:016x} R10 {:016x} R11 {:016x}",
            self.r8, self.r9, self.r10, self.r11
        )?;
        writeln!(
            f,
            "  R12 {:016x} R13 {:016x} R14 {:016x} R15 {:016x}",
            self.r12, self.r13, self.r14, self.r15
        )?;
        write!(f, "  RFLAGS {:#x} CS {:#x} SS {:#x}", self.rflags, self.cs, self.ss)
    }
}
