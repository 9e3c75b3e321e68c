//! The ELF header a crashed kernel prepares for its capture kernel: where RAM is and where the crash notes are.
//!
//! It lies in memory at an address that the kernel command line or the device tree tells; how long it is only its own
//! header says. Its program headers (kexec-tools, Linux kernel/crash_core.c) are one PT_NOTE for each possible CPU, one
//! for VMCOREINFO, and PT_LOADs whose `p_offset` is the *physical address to read at*.

use alloc::vec::Vec;

pub use crate::headers::{Class, HeaderError, Machine};
use crate::headers::{CoreHeader, ProgramHeader, ehdr_bytes, phdr_bytes};
pub use crate::table::{MAX_FAULTS, ReadAt};
use crate::table::{Segments, Table, TableError};

/// Program headers looked at: 4096 ranges of RAM, and a PT_NOTE for each of the 8192 CPUs a Linux kernel can have.
pub const MAX_PROGRAM_HEADERS: u16 = 4096 + 8192;

/// Bytes believed of one PT_NOTE. A CPU's buffer is below 1 KiB and VMCOREINFO's a few pages.
pub const MAX_NOTE_BYTES: u64 = 64 * 1024;

/// A PT_LOAD program header of the elfcorehdr, in ELF's own names (gABI, "Program Header").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadSegment {
    /// Kernel virtual address of the range's start in the crashed kernel; may be meaningless (HIGHMEM).
    pub p_vaddr: u64,
    /// Physical address, as the crashed kernel knew it.
    pub p_paddr: u64,
    /// Where the bytes are now: physical address to read at.
    pub p_offset: u64,
    /// Bytes to read.
    pub p_filesz: u64,
    /// Bytes of memory.
    pub p_memsz: u64,
}

impl From<&ProgramHeader> for LoadSegment {
    fn from(header: &ProgramHeader) -> Self {
        Self {
            p_vaddr: header.p_vaddr,
            p_paddr: header.p_paddr,
            p_offset: header.p_offset,
            p_filesz: header.p_filesz,
            p_memsz: header.p_memsz,
        }
    }
}

/// A PT_NOTE program header: a buffer of notes in crashed memory, mostly zero for a CPU that saved nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoteSegment {
    /// Physical address of the buffer.
    pub p_offset: u64,
    /// Its size in bytes, at most [`MAX_NOTE_BYTES`].
    pub p_filesz: u64,
}

/// Why there is no elfcorehdr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfCoreHdrError {
    /// The address cannot be read.
    #[error("elfcorehdr points nowhere: cannot read physical address {pa:#x}")]
    Unreadable {
        /// Physical address.
        pa: u64,
    },
    /// Something else is there.
    #[error("no elfcorehdr at {pa:#x}: {error}")]
    Invalid {
        /// Physical address of the ELF header.
        pa: u64,
        /// What is wrong with it.
        error: HeaderError,
    },
    /// Its program headers would run past the end of the address space.
    #[error("elfcorehdr at {pa:#x}: program headers at offset {e_phoff:#x} are beyond the address space")]
    BadPhoff {
        /// Physical address of the ELF header.
        pa: u64,
        /// What it says about them.
        e_phoff: u64,
    },
    /// No room to keep the program headers.
    #[error("elfcorehdr at {pa:#x}: no memory for its {count} program headers")]
    OutOfMemory {
        /// Physical address of the ELF header.
        pa: u64,
        /// Their number.
        count: u32,
    },
}

impl ElfCoreHdrError {
    const fn of(pa: u64, error: TableError) -> Self {
        match error {
            TableError::Unreadable(pa) => Self::Unreadable { pa },
            TableError::Invalid(error) => Self::Invalid { pa, error },
            TableError::BadPhoff(e_phoff) => Self::BadPhoff { pa, e_phoff },
        }
    }
}

/// A part of a core's headers that is left out; the rest is used without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentFault {
    /// A program header cannot be read.
    #[error("program header {index} at {pa:#x} cannot be read")]
    Unreadable {
        /// Which one, from 0.
        index: u32,
        /// Its physical address (file offset).
        pa: u64,
    },
    /// A PT_NOTE has an absurd address or size; it is dropped, or cut at the most bytes believed.
    #[error("PT_NOTE {index} at {pa:#x} claims {bytes:#x} bytes")]
    Note {
        /// Which program header, from 0.
        index: u32,
        /// Its p_offset.
        pa: u64,
        /// Its p_filesz.
        bytes: u64,
    },
    /// More program headers than are believed; the others are not looked at.
    #[error("{count} program headers: only the first {used} are used")]
    TooMany {
        /// How many there are.
        count: u32,
        /// How many were looked at.
        used: u32,
    },
    /// `e_phnum` is PN_XNUM, and the section header with the true number cannot be read.
    #[error("the number of program headers at {pa:#x} cannot be read")]
    UnknownCount {
        /// Where the number should be.
        pa: u64,
    },
}

/// What an elfcorehdr says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfCoreHdr {
    /// ELFCLASS32 or ELFCLASS64.
    pub class: Class,
    /// The crashed machine.
    pub machine: Machine,
    /// The PT_LOADs as they are: the memory map judges them.
    pub loads: Vec<LoadSegment>,
    /// The PT_NOTEs with a size.
    pub notes: Vec<NoteSegment>,
    /// ELF header and program headers as one run of bytes, for sending along: the program headers follow the ELF
    /// header at once, `e_phnum` is the number of those kept, and there are no sections.
    pub headers: Vec<u8>,
    /// What was left out, [`MAX_FAULTS`] at most.
    pub faults: Vec<SegmentFault>,
}

impl ElfCoreHdr {
    /// Reads the elfcorehdr at physical address `pa`.
    ///
    /// # Errors
    /// [`ElfCoreHdrError`] if there is none. A bad program header is not an error but one of [`Self::faults`].
    pub fn read(pa: u64, read: &mut ReadAt<'_>) -> Result<Self, ElfCoreHdrError> {
        let mut faults = Vec::new();
        let table = Table::locate(pa, MAX_PROGRAM_HEADERS.into(), read, &mut faults)
            .map_err(|error| ElfCoreHdrError::of(pa, error))?;
        let Table { header, count, .. } = table;
        let no_memory = |_| ElfCoreHdrError::OutOfMemory { pa, count };

        let ehdr_bytes = ehdr_bytes(header.class);
        let table_bytes =
            usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(phdr_bytes(header.class));
        let mut headers = Vec::new();
        headers.try_reserve_exact(ehdr_bytes.saturating_add(table_bytes)).map_err(no_memory)?;
        let e_phnum = u16::try_from(count).unwrap_or(MAX_PROGRAM_HEADERS);
        CoreHeader { e_phoff: ehdr_bytes as u64, e_shoff: 0, e_phnum, ..header }
            .encode(&mut headers)
            .map_err(|error| ElfCoreHdrError::Invalid { pa, error })?;

        let mut segments = Segments::default();
        let mut entry = [0; phdr_bytes(Class::ELF64)];
        for index in 0..count {
            let entry = table.entry(index, &mut entry, read, &mut faults);
            headers.extend_from_slice(entry);
            segments.add(header.class, index, entry, MAX_NOTE_BYTES, &mut faults).map_err(no_memory)?;
        }
        let Segments { loads, notes } = segments;
        Ok(Self { class: header.class, machine: header.machine, loads, notes, headers, faults })
    }
}

#[cfg(test)]
mod tests;
