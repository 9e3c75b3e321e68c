//! The passes of stream 0: the order in which a crashed machine is sent.

/// One walk over the machine. From the most telling to the rest: a dump that is cut short is a usable one.
///
/// The early passes, up to [`Pass::Stacks`], follow what the kernel's own structures say and may repeat a page that a
/// later pass would send. Each page of RAM then belongs to one of the late ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Pass {
    /// elfcorehdr and notes. The position counts their bytes.
    Meta = 1,
    /// The kernel log, as text. The position counts its bytes.
    Log = 2,
    /// For each CPU the stack under its registers. The position is a CPU's number among the notes.
    CpuStacks = 3,
    /// What there is: pages by class. The position is 0.
    Count = 4,
    /// The kernel's writable data: .data, .bss, but for tables for its unwinder. The position is a page frame.
    Data = 5,
    /// Read-only data of the kernel that it wrote when it booted, and its name. The position is a page frame.
    Constants = 6,
    /// Memory around each CPU's crash notes: its per-CPU data. The position is a CPU's number among the notes.
    PerCpu = 7,
    /// The kernel's page tables. The position is a virtual page number.
    PageTables = 8,
    /// Slab pages of tasks, and of what one needs to list them. The position is a page frame.
    Tasks = 9,
    /// What vmalloc maps as stacks of tasks. The position is a virtual page number.
    Stacks = 10,
    /// All other slab pages. The position is a page frame, as in all late passes.
    Slab = 11,
    /// Other pages of the kernel.
    Kernel = 12,
    /// The rest of the kernel image, text and read-only data above all, and the memmap: a vmlinux has most of it.
    Image = 13,
    /// Whatever else the dump level keeps, and holes for what must not be read.
    Rest = 14,
    /// [`Pass::Meta`], [`Pass::Log`] and [`Pass::CpuStacks`] once more, if nobody answers.
    Again = 15,
}

impl Pass {
    /// All passes, in their order.
    pub const ALL: [Self; 15] = [
        Self::Meta,
        Self::Log,
        Self::CpuStacks,
        Self::Count,
        Self::Data,
        Self::Constants,
        Self::PerCpu,
        Self::PageTables,
        Self::Tasks,
        Self::Stacks,
        Self::Slab,
        Self::Kernel,
        Self::Image,
        Self::Rest,
        Self::Again,
    ];

    /// The pass of this number; `None` if there is none.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|pass| pass.number() == number)
    }

    /// Its number, as cursors have it.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// What it sends, for a person.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "notes",
            Self::Log => "kernel log",
            Self::CpuStacks => "stacks of the CPUs",
            Self::Count => "totals",
            Self::Data => "kernel data",
            Self::Constants => "kernel constants",
            Self::PerCpu => "per-CPU data",
            Self::PageTables => "page tables",
            Self::Tasks => "tasks",
            Self::Stacks => "stacks",
            Self::Slab => "slab",
            Self::Kernel => "kernel pages",
            Self::Image => "text and memmap",
            Self::Rest => "the rest",
            Self::Again => "notes again",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_numbered_in_their_order_from_one() {
        let numbers = Pass::ALL.map(Pass::number);
        assert!(numbers.into_iter().eq(1..=15));
        assert!(
            numbers.into_iter().all(|number| Pass::from_number(number).map(Pass::number) == Some(number))
        );
        assert_eq!(Pass::from_number(0), None);
        assert_eq!(Pass::from_number(16), None);
    }
}
