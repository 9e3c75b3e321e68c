//! NT_PRSTATUS: the registers a CPU saved when the kernel crashed (`struct elf_prstatus`, Linux
//! include/linux/elfcore.h; its registers are `struct user_regs_struct` of the architecture).

use zerocopy::little_endian::{I32, U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::headers::Machine;
use crate::le;

/// `struct elf_prstatus` of x86_64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the kernel's own field names, which mean nothing here beyond their place")]
pub struct PrStatusX86_64 {
    pub si_signo: I32,
    pub si_code: I32,
    pub si_errno: I32,
    pub pr_cursig: U16,
    padding0: [u8; 2],
    pub pr_sigpend: U64,
    pub pr_sighold: U64,
    /// Process that ran on this CPU.
    pub pr_pid: I32,
    pub pr_ppid: I32,
    pub pr_pgrp: I32,
    pub pr_sid: I32,
    pub pr_utime: [U64; 2],
    pub pr_stime: [U64; 2],
    pub pr_cutime: [U64; 2],
    pub pr_cstime: [U64; 2],
    /// Registers.
    pub pr_reg: RegistersX86_64,
    pub pr_fpvalid: I32,
    padding1: [u8; 4],
}

const _: () = assert!(size_of::<PrStatusX86_64>() == 336);

/// `struct user_regs_struct` of x86_64 (arch/x86/include/asm/user_64.h), the kernel's names.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
#[expect(missing_docs, reason = "registers")]
pub struct RegistersX86_64 {
    pub r15: U64,
    pub r14: U64,
    pub r13: U64,
    pub r12: U64,
    pub bp: U64,
    pub bx: U64,
    pub r11: U64,
    pub r10: U64,
    pub r9: U64,
    pub r8: U64,
    pub ax: U64,
    pub cx: U64,
    pub dx: U64,
    pub si: U64,
    pub di: U64,
    pub orig_ax: U64,
    pub ip: U64,
    pub cs: U64,
    pub flags: U64,
    pub sp: U64,
    pub ss: U64,
    pub fs_base: U64,
    pub gs_base: U64,
    pub ds: U64,
    pub es: U64,
    pub fs: U64,
    pub gs: U64,
}

impl PrStatusX86_64 {
    /// The descriptor of an NT_PRSTATUS note; `None` if it is cut short.
    #[must_use]
    pub fn parse(desc: &[u8]) -> Option<Self> {
        Self::read_from_prefix(desc).ok().map(|(status, _)| status)
    }
}

/// What every architecture's NT_PRSTATUS tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrStatus {
    /// Process that ran on the CPU (`pr_pid`).
    pub pid: i32,
    /// Program counter.
    pub pc: u64,
    /// Stack pointer.
    pub sp: u64,
}

impl PrStatus {
    /// Reads the descriptor of an NT_PRSTATUS note of `machine`; `None` if it is cut short.
    ///
    /// The registers begin after the four times: at 112 with 64-bit longs, at 72 with 32-bit ones. arm64's are
    /// `struct user_pt_regs` (x0–x30, sp, pc, pstate), arm's `struct pt_regs` (r0–r15, cpsr, orig_r0).
    #[must_use]
    pub fn parse(machine: Machine, desc: &[u8]) -> Option<Self> {
        let i32_at = |offset| le::array_at(desc, offset).map(i32::from_le_bytes);
        match machine {
            Machine::X86_64 => {
                let status = PrStatusX86_64::parse(desc)?;
                let registers = status.pr_reg;
                Some(Self { pid: status.pr_pid.get(), pc: registers.ip.get(), sp: registers.sp.get() })
            }
            Machine::Aarch64 => Some(Self {
                pid: i32_at(32)?,
                sp: le::u64_at(desc, 112 + 31 * 8)?,
                pc: le::u64_at(desc, 112 + 32 * 8)?,
            }),
            Machine::Arm => Some(Self {
                pid: i32_at(24)?,
                sp: le::u32_at(desc, 72 + 13 * 4)?.into(),
                pc: le::u32_at(desc, 72 + 15 * 4)?.into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A descriptor whose word at each offset is its offset.
    fn numbered(bytes: usize) -> alloc::vec::Vec<u8> {
        (0..bytes / 4).flat_map(|word| u32::try_from(word * 4).unwrap().to_le_bytes()).collect()
    }

    fn u64_of(offset: u64) -> u64 {
        offset | (offset + 4) << 32
    }

    #[test]
    fn registers_of_x86_64_are_where_the_kernel_puts_them() {
        let status = PrStatusX86_64::parse(&numbered(336)).unwrap();
        assert_eq!(status.pr_pid.get(), 32);
        assert_eq!(status.pr_reg.r15.get(), u64_of(112));
        assert_eq!(status.pr_reg.ip.get(), u64_of(112 + 16 * 8));
        assert_eq!(status.pr_reg.sp.get(), u64_of(112 + 19 * 8));
        assert_eq!(status.pr_reg.gs.get(), u64_of(112 + 26 * 8));
        assert_eq!(status.pr_fpvalid.get(), 328);
    }

    #[test]
    fn pid_pc_and_sp_are_read_for_every_machine() {
        let parse = |machine, bytes| PrStatus::parse(machine, &numbered(bytes)).unwrap();
        assert_eq!(parse(Machine::X86_64, 336), PrStatus { pid: 32, pc: u64_of(240), sp: u64_of(264) });
        assert_eq!(parse(Machine::Aarch64, 392), PrStatus { pid: 32, pc: u64_of(368), sp: u64_of(360) });
        assert_eq!(parse(Machine::Arm, 148), PrStatus { pid: 24, pc: 132, sp: 124 });
    }

    #[test]
    fn a_descriptor_that_is_cut_short_has_no_registers() {
        for machine in [Machine::X86_64, Machine::Aarch64, Machine::Arm] {
            assert_eq!(PrStatus::parse(machine, &numbered(120)), None);
        }
        assert_eq!(PrStatusX86_64::parse(&numbered(332)), None);
    }
}
