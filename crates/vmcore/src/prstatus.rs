//! NT_PRSTATUS: the registers a CPU saved when the kernel crashed (`struct elf_prstatus`, Linux
//! include/linux/elfcore.h).
//!
//! Its members are the same everywhere, but `long` is not: the process is at 32 and the registers (`elf_gregset_t`) are
//! at 112 with 8 bytes, at 24 and 72 with 4. The registers are words of a `long` each.

use crate::headers::Machine;
use crate::le;

/// `struct user_regs_struct` (arch/x86/include/asm/user_64.h).
const X86_64: &[&str] = &[
    "r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di",
    "orig_ax", "ip", "cs", "flags", "sp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
];

/// `struct user_pt_regs` (arch/arm64/include/uapi/asm/ptrace.h).
const AARCH64: &[&str] = &[
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
    "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30",
    "sp", "pc", "pstate",
];

/// `struct pt_regs` (arch/arm/include/uapi/asm/ptrace.h).
const ARM: &[&str] = &[
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "fp", "ip", "sp", "lr", "pc", "cpsr",
    "orig_r0",
];

/// Registers of the machine that has most of them.
const MAX_REGISTERS: usize = AARCH64.len();

/// The registers of a machine, in the order of the note.
const fn names(machine: Machine) -> &'static [&'static str] {
    match machine {
        Machine::X86_64 => X86_64,
        Machine::Aarch64 => AARCH64,
        Machine::Arm => ARM,
    }
}

/// What an NT_PRSTATUS tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrStatus {
    /// Process that ran on the CPU (`pr_pid`).
    pub pid: i32,
    /// Program counter.
    pub pc: u64,
    /// Stack pointer.
    pub sp: u64,
    /// All registers.
    pub registers: Registers,
}

/// The registers of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    machine: Machine,
    words: [u64; MAX_REGISTERS],
}

impl PrStatus {
    /// Reads the descriptor of an NT_PRSTATUS note of `machine`; `None` if it is cut short.
    #[must_use]
    pub fn parse(machine: Machine, desc: &[u8]) -> Option<Self> {
        let (pid_at, registers_at, pc) = match machine {
            Machine::X86_64 => (32, 112, "ip"),
            Machine::Aarch64 => (32, 112, "pc"),
            Machine::Arm => (24, 72, "pc"),
        };
        let registers = Registers::parse(machine, desc.get(registers_at..)?)?;
        let pid = le::array_at(desc, pid_at).map(i32::from_le_bytes)?;
        Some(Self { pid, pc: registers.get(pc)?, sp: registers.get("sp")?, registers })
    }
}

impl Registers {
    fn parse(machine: Machine, bytes: &[u8]) -> Option<Self> {
        let long_bytes = machine.long_bytes();
        let mut words = [0; MAX_REGISTERS];
        for (index, word) in words.iter_mut().take(names(machine).len()).enumerate() {
            *word = le::long_at(bytes, index * long_bytes, long_bytes)?;
        }
        Some(Self { machine, words })
    }

    /// The register that the kernel calls so (`struct pt_regs` and the like): "ip", "x29", "lr".
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.iter().find(|(found, _)| *found == name).map(|(_, word)| word)
    }

    /// Names and values, in the order of the note.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        names(self.machine).iter().copied().zip(self.words)
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
    fn registers_are_where_each_kernel_puts_them() {
        // The whole descriptor of each: the registers end 8 (4) bytes before it, at pr_fpvalid.
        for (machine, bytes, registers) in [
            (Machine::X86_64, 336, &[("r15", 112), ("bp", 144), ("ip", 240), ("sp", 264), ("gs", 320)][..]),
            (Machine::Aarch64, 392, &[("x0", 112), ("x29", 344), ("sp", 360), ("pc", 368), ("pstate", 376)]),
            (Machine::Arm, 148, &[("r0", 72), ("fp", 116), ("sp", 124), ("lr", 128), ("orig_r0", 140)]),
        ] {
            let status = PrStatus::parse(machine, &numbered(bytes)).unwrap();
            let is_long = machine.long_bytes() == 8;
            for &(name, offset) in registers {
                let word = if is_long { u64_of(offset) } else { offset };
                assert_eq!(status.registers.get(name), Some(word), "{name}");
            }
            let end = bytes - if is_long { 8 } else { 4 };
            let last = registers.last().copied().unwrap();
            assert_eq!(status.registers.iter().last().unwrap().0, last.0);
            assert_eq!(last.1 + machine.long_bytes() as u64, end as u64);
            assert_eq!(status.registers.get("nothing"), None);
        }
    }

    #[test]
    fn pid_pc_and_sp_are_read_for_every_machine() {
        let parse = |machine, bytes| {
            let PrStatus { pid, pc, sp, .. } = PrStatus::parse(machine, &numbered(bytes)).unwrap();
            (pid, pc, sp)
        };
        assert_eq!(parse(Machine::X86_64, 336), (32, u64_of(240), u64_of(264)));
        assert_eq!(parse(Machine::Aarch64, 392), (32, u64_of(368), u64_of(360)));
        assert_eq!(parse(Machine::Arm, 148), (24, 132, 124));
    }

    #[test]
    fn a_descriptor_that_is_cut_short_has_no_registers() {
        for (machine, registers_end) in [(Machine::X86_64, 328), (Machine::Aarch64, 384), (Machine::Arm, 144)]
        {
            for bytes in [0, 20, 120, registers_end - 4] {
                assert_eq!(PrStatus::parse(machine, &numbered(bytes)), None, "{machine:?}: {bytes}");
            }
            assert!(PrStatus::parse(machine, &numbered(registers_end)).is_some());
        }
    }
}
