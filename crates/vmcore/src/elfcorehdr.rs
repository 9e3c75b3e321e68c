//! The ELF header a crashed kernel prepares for its capture kernel: where RAM is and where the crash notes are.
//!
//! It lies in memory at an address that the kernel command line or the device tree tells; how long it is only its own
//! header says. Its program headers (kexec-tools, Linux kernel/crash_core.c) are one PT_NOTE for each possible CPU, one
//! for VMCOREINFO, and PT_LOADs whose `p_offset` is the *physical address to read at*.

use alloc::vec::Vec;

use elf::abi::{PN_XNUM, PT_LOAD, PT_NOTE};

pub use crate::headers::{Class, HeaderError, Machine};
use crate::headers::{CoreHeader, MAX_EHDR_BYTES, ProgramHeader};
use crate::headers::{ehdr_bytes, parse_program_header, phdr_bytes, sh_info_offset};

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
        count: u16,
    },
}

/// A part of the elfcorehdr that is left out; the rest is used without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentFault {
    /// A program header cannot be read.
    #[error("program header {index} at {pa:#x} cannot be read")]
    Unreadable {
        /// Which one, from 0.
        index: u16,
        /// Its physical address.
        pa: u64,
    },
    /// A PT_NOTE has an absurd address or size; it is dropped, or cut at [`MAX_NOTE_BYTES`].
    #[error("PT_NOTE {index} at {pa:#x} claims {bytes:#x} bytes")]
    Note {
        /// Which program header, from 0.
        index: u16,
        /// Its p_offset.
        pa: u64,
        /// Its p_filesz.
        bytes: u64,
    },
    /// More program headers than [`MAX_PROGRAM_HEADERS`]; the others are not looked at.
    #[error("{count} program headers: only the first {MAX_PROGRAM_HEADERS} are used")]
    TooMany {
        /// How many there are.
        count: u32,
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
    /// What was left out.
    pub faults: Vec<SegmentFault>,
}

/// Reads `buf.len()` bytes of physical memory at an address; `false` if that fails.
pub type ReadPhys<'a> = dyn FnMut(u64, &mut [u8]) -> bool + 'a;

impl ElfCoreHdr {
    /// Reads the elfcorehdr at physical address `pa`.
    ///
    /// # Errors
    /// [`ElfCoreHdrError`] if there is none. A bad program header is not an error but one of [`Self::faults`].
    pub fn read(pa: u64, read: &mut ReadPhys<'_>) -> Result<Self, ElfCoreHdrError> {
        let header = read_header(pa, read)?;
        let mut faults = Vec::new();
        let claimed = count_program_headers(pa, &header, read, &mut faults);
        let count = u16::try_from(claimed).unwrap_or(u16::MAX).min(MAX_PROGRAM_HEADERS);
        if claimed > u32::from(count) {
            faults.push(SegmentFault::TooMany { count: claimed });
        }
        let entry_bytes = phdr_bytes(header.class);
        let bad_phoff = ElfCoreHdrError::BadPhoff { pa, e_phoff: header.e_phoff };
        let table_pa = pa.checked_add(header.e_phoff).ok_or(bad_phoff)?;
        table_pa.checked_add(u64::from(count) * entry_bytes as u64).ok_or(bad_phoff)?;

        let no_memory = |_| ElfCoreHdrError::OutOfMemory { pa, count };
        let mut headers = Vec::new();
        headers
            .try_reserve_exact(ehdr_bytes(header.class) + usize::from(count) * entry_bytes)
            .map_err(no_memory)?;
        let kept =
            CoreHeader { e_phoff: ehdr_bytes(header.class) as u64, e_shoff: 0, e_phnum: count, ..header };
        kept.encode(&mut headers).map_err(|error| ElfCoreHdrError::Invalid { pa, error })?;

        let mut loads = Vec::new();
        let mut notes = Vec::new();
        for index in 0..count {
            let entry_pa = table_pa.saturating_add(u64::from(index) * entry_bytes as u64);
            let mut entry = [0; phdr_bytes(Class::ELF64)];
            let Some(entry) = entry.get_mut(..entry_bytes) else { break };
            if !read(entry_pa, entry) {
                faults.push(SegmentFault::Unreadable { index, pa: entry_pa });
                entry.fill(0); // PT_NULL
            }
            headers.extend_from_slice(entry);
            let Some(segment) = parse_program_header(header.class, entry) else { continue };
            match segment.p_type {
                PT_LOAD => {
                    loads.try_reserve(1).map_err(no_memory)?;
                    loads.push(LoadSegment::from(&segment));
                }
                PT_NOTE => {
                    notes.try_reserve(1).map_err(no_memory)?;
                    notes.extend(note_segment(index, &segment, &mut faults));
                }
                _ => {}
            }
        }
        Ok(Self { class: header.class, machine: header.machine, loads, notes, headers, faults })
    }
}

/// Reads the ELF header itself. The first 52 bytes tell whether there are 12 more.
fn read_header(pa: u64, read: &mut ReadPhys<'_>) -> Result<CoreHeader, ElfCoreHdrError> {
    let mut bytes = [0; MAX_EHDR_BYTES];
    let short = ehdr_bytes(Class::ELF32);
    let (head, tail) = bytes.split_at_mut_checked(short).unwrap_or_default();
    let unreadable = ElfCoreHdrError::Unreadable { pa };
    if !read(pa, head) {
        return Err(unreadable);
    }
    // An ELFCLASS32 header may end where readable memory does: what lies behind it does not matter.
    let tail_pa = pa.checked_add(short as u64).ok_or(unreadable)?;
    let length = if read(tail_pa, tail) { MAX_EHDR_BYTES } else { short };
    CoreHeader::parse(bytes.get(..length).unwrap_or_default()).map_err(|error| match error {
        HeaderError::Truncated(_) => ElfCoreHdrError::Unreadable { pa: tail_pa },
        error => ElfCoreHdrError::Invalid { pa, error },
    })
}

/// The number of program headers the elfcorehdr claims.
fn count_program_headers(
    pa: u64,
    header: &CoreHeader,
    read: &mut ReadPhys<'_>,
    faults: &mut Vec<SegmentFault>,
) -> u32 {
    if header.e_phnum != PN_XNUM {
        return u32::from(header.e_phnum);
    }
    let info_pa =
        pa.checked_add(header.e_shoff).and_then(|pa| pa.checked_add(sh_info_offset(header.class) as u64));
    let mut sh_info = [0; 4];
    if let Some(info_pa) = info_pa
        && header.e_shoff != 0
        && read(info_pa, &mut sh_info)
    {
        return u32::from_le_bytes(sh_info);
    }
    faults.push(SegmentFault::UnknownCount { pa: info_pa.unwrap_or(pa) });
    u32::from(PN_XNUM)
}

/// What a PT_NOTE gives: nothing if it is empty or wraps around.
fn note_segment(index: u16, segment: &ProgramHeader, faults: &mut Vec<SegmentFault>) -> Option<NoteSegment> {
    let (pa, bytes) = (segment.p_offset, segment.p_filesz);
    let fits = pa.checked_add(bytes).is_some();
    if !fits || bytes > MAX_NOTE_BYTES {
        faults.push(SegmentFault::Note { index, pa, bytes });
    }
    (fits && bytes != 0).then_some(NoteSegment { p_offset: pa, p_filesz: bytes.min(MAX_NOTE_BYTES) })
}

#[cfg(test)]
mod tests;
