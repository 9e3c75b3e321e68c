//! Page tables of the crashed kernel, walked in its memory.
//!
//! # Flow
//! VMCOREINFO ─▶ [`PageTables`] (root, levels) ─▶ [`PageTables::walk`] one address ─▶ [`Mapping`].
//!
//! The walk is one for all architectures (`radix`). An architecture is a module that tells its tables from VMCOREINFO, and
//! what their entries say. Tables are hostile: a walk reads one entry for each level and no more, so entries that form a
//! ring do no harm.

mod aarch64;
mod arm;
mod long;
mod radix;
mod short;
pub(crate) mod x86_64;

use vmcore::headers::Machine;
use vmcore::vmcoreinfo::VmcoreInfo;

use crate::{PhysAddr, PhysMemory, ReadFault, VirtAddr};

/// A block of virtual memory that is mapped as one: by a page, or by a larger leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its first address, a multiple of [`bytes`](Self::bytes).
    pub va: VirtAddr,
    /// The physical address that maps to.
    pub pa: PhysAddr,
    /// Bytes, a power of two.
    pub bytes: u64,
    /// Whether the kernel may write it: data; what is not, is text or read-only data.
    pub is_writable: bool,
    /// Whether the kernel may execute it.
    pub is_executable: bool,
}

impl Mapping {
    /// The physical address of `va`, and how many bytes from there on are mapped too; `None` if it lies outside.
    #[must_use]
    pub fn place_of(&self, va: VirtAddr) -> Option<(PhysAddr, u64)> {
        let offset = va.0.checked_sub(self.va.0)?;
        let left = self.bytes.checked_sub(offset).filter(|left| *left != 0)?;
        Some((self.pa.checked_add(offset)?, left))
    }
}

/// Why an address leads to no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// No address that the page tables could map.
    #[error("{va} is no address of this kernel's page tables")]
    NotCanonical {
        /// Virtual address.
        va: VirtAddr,
    },
    /// An entry on the way is not present.
    #[error("{va} is not mapped (level {level})")]
    NotMapped {
        /// Virtual address.
        va: VirtAddr,
        /// Level of the entry: 1 for a page's own.
        level: u32,
        /// Bytes around `va`, naturally aligned, that are not mapped because of this entry.
        span: u64,
    },
    /// An entry on the way cannot be read.
    #[error("page table of level {level} for {va}: {fault}")]
    Unreadable {
        /// Virtual address.
        va: VirtAddr,
        /// Level of the entry: 1 for a page's own.
        level: u32,
        /// Bytes around `va`, naturally aligned, that cannot be reached because of this entry.
        span: u64,
        /// Why not.
        fault: ReadFault,
    },
}

impl WalkError {
    /// The address that was looked up.
    #[must_use]
    pub const fn va(&self) -> VirtAddr {
        match self {
            Self::NotCanonical { va } | Self::NotMapped { va, .. } | Self::Unreadable { va, .. } => *va,
        }
    }
}

/// Why the page tables are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageTablesError {
    /// VMCOREINFO lacks this.
    #[error("VMCOREINFO has no {0}")]
    MissingFact(&'static str),
    /// VMCOREINFO gives a root that cannot be.
    #[error("page tables cannot be at physical address {0}")]
    BadRoot(PhysAddr),
    /// Nowhere in memory are tables that map themselves to where they are (arm).
    #[error("no page tables in memory map their own address {root_va}")]
    NotFound {
        /// `SYMBOL(swapper_pg_dir)`.
        root_va: VirtAddr,
    },
}

/// The kernel's own page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageTables(Format);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// 4 or 5 levels of x86_64.
    X86_64(x86_64::PageTables),
    /// aarch64, and arm with LPAE.
    Long(long::PageTables),
    /// arm.
    Short(short::PageTables),
}

impl PageTables {
    /// The page tables that VMCOREINFO tells of; on arm they are looked for in `memory`.
    ///
    /// # Errors
    /// [`PageTablesError`] if it does not, or they are not there.
    pub fn of_kernel(
        memory: &impl PhysMemory,
        machine: Machine,
        info: &VmcoreInfo<'_>,
    ) -> Result<Self, PageTablesError> {
        Ok(Self(match machine {
            Machine::X86_64 => Format::X86_64(x86_64::PageTables::of_kernel(info)?),
            Machine::Aarch64 => Format::Long(aarch64::of_kernel(info)?),
            Machine::Arm if info.config("ARM_LPAE") => Format::Long(arm::long_of_kernel(memory, info)?),
            Machine::Arm => Format::Short(arm::short_of_kernel(memory, info)?),
        }))
    }

    /// Looks `va` up.
    ///
    /// # Errors
    /// [`WalkError`] if it is not mapped, or a table cannot be read.
    pub fn walk(&self, memory: &impl PhysMemory, va: VirtAddr) -> Result<Mapping, WalkError> {
        self.walk_by(memory, va, |_, _| ())
    }

    /// Looks `va` up, and gives `entry_at` the level and the physical address of each entry on the way: a table can be
    /// larger than a page.
    ///
    /// # Errors
    /// [`WalkError`] if it is not mapped, or a table cannot be read.
    pub fn walk_by(
        &self,
        memory: &impl PhysMemory,
        va: VirtAddr,
        entry_at: impl FnMut(u32, PhysAddr),
    ) -> Result<Mapping, WalkError> {
        match &self.0 {
            Format::X86_64(tables) => radix::walk(tables, memory, va, entry_at),
            Format::Long(tables) => radix::walk(tables, memory, va, entry_at),
            Format::Short(tables) => radix::walk(tables, memory, va, entry_at),
        }
    }

    /// The first address of the kernel's own; they reach to the end of the address space. On arm it is 0: the kernel's
    /// tables have nothing of processes.
    #[must_use]
    pub const fn kernel_half(&self) -> VirtAddr {
        match &self.0 {
            Format::X86_64(tables) => tables.kernel_half(),
            Format::Long(tables) => tables.first,
            Format::Short(_) => VirtAddr(0),
        }
    }

    /// Bytes that one table of the lowest level maps.
    #[must_use]
    pub const fn lowest_table_span(&self) -> u64 {
        match &self.0 {
            Format::X86_64(_) => x86_64::LOWEST_TABLE_SPAN,
            Format::Long(tables) => tables.lowest_table_span(),
            Format::Short(_) => short::LOWEST_TABLE_SPAN,
        }
    }
}

/// What an address of the linear map is above the physical address, which wraps around; `None` where VMCOREINFO does not
/// tell, as on x86_64, or there is none of all RAM, as on arm.
#[must_use]
pub fn linear_map_offset(machine: Machine, info: &VmcoreInfo<'_>) -> Option<u64> {
    match machine {
        Machine::Aarch64 => aarch64::linear_map_offset(info),
        Machine::X86_64 | Machine::Arm => None,
    }
}

#[cfg(test)]
mod tests;
