//! The program header table of a core, entry by entry, from memory or a file behind a closure.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

use elf::abi::{PN_XNUM, PT_LOAD, PT_NOTE};

use crate::elfcorehdr::{LoadSegment, NoteSegment, SegmentFault};
use crate::headers::{Class, CoreHeader, HeaderError, MAX_EHDR_BYTES, ProgramHeader};
use crate::headers::{ehdr_bytes, parse_program_header, phdr_bytes, sh_info_offset};

/// Reads `buf.len()` bytes at an address or offset; `false` if that fails.
pub type ReadAt<'a> = dyn FnMut(u64, &mut [u8]) -> bool + 'a;

/// Faults reported of one core; further ones are like them.
pub const MAX_FAULTS: usize = 64;

/// Why there is no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableError {
    /// Nothing can be read there.
    Unreadable(u64),
    /// The ELF header is none that we know.
    Invalid(HeaderError),
    /// The table would run past the end of 64 bits: e_phoff.
    BadPhoff(u64),
}

/// Where the program headers are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    /// The ELF header as it is.
    pub(crate) header: CoreHeader,
    /// Program headers to look at.
    pub(crate) count: u32,
    start: u64,
}

impl Table {
    /// Reads the ELF header at `base`, for at most `max_count` program headers.
    pub(crate) fn locate(
        base: u64,
        max_count: u32,
        read: &mut ReadAt<'_>,
        faults: &mut Vec<SegmentFault>,
    ) -> Result<Self, TableError> {
        let header = read_header(base, read)?;
        let claimed = claimed_count(base, &header, read).unwrap_or_else(|at| {
            report(faults, SegmentFault::UnknownCount { pa: at });
            u32::from(PN_XNUM)
        });
        let count = claimed.min(max_count);
        if count < claimed {
            report(faults, SegmentFault::TooMany { count: claimed, used: count });
        }
        let bad_phoff = TableError::BadPhoff(header.e_phoff);
        let start = base.checked_add(header.e_phoff).ok_or(bad_phoff)?;
        start.checked_add(u64::from(count) * phdr_bytes(header.class) as u64).ok_or(bad_phoff)?;
        Ok(Self { header, count, start })
    }

    /// The bytes of program header `index`, in `buf`: of type PT_NULL if they cannot be read.
    pub(crate) fn entry<'b>(
        &self,
        index: u32,
        buf: &'b mut [u8; phdr_bytes(Class::ELF64)],
        read: &mut ReadAt<'_>,
        faults: &mut Vec<SegmentFault>,
    ) -> &'b [u8] {
        let entry_bytes = phdr_bytes(self.header.class);
        let at = self.start.saturating_add(u64::from(index) * entry_bytes as u64);
        let entry = buf.get_mut(..entry_bytes).unwrap_or_default();
        if !read(at, entry) {
            report(faults, SegmentFault::Unreadable { index, pa: at });
            entry.fill(0);
        }
        entry
    }
}

/// What the program headers of a core name, each kind in its order.
#[derive(Default)]
pub(crate) struct Segments {
    pub(crate) loads: Vec<LoadSegment>,
    /// Those with a size.
    pub(crate) notes: Vec<NoteSegment>,
}

impl Segments {
    /// Takes program header `index`, which is `entry`; of a PT_NOTE at most `max_note_bytes` are believed.
    pub(crate) fn add(
        &mut self,
        class: Class,
        index: u32,
        entry: &[u8],
        max_note_bytes: u64,
        faults: &mut Vec<SegmentFault>,
    ) -> Result<(), TryReserveError> {
        let Some(segment) = parse_program_header(class, entry) else { return Ok(()) };
        match segment.p_type {
            PT_LOAD => {
                self.loads.try_reserve(1)?;
                self.loads.push(LoadSegment::from(&segment));
            }
            PT_NOTE => {
                self.notes.try_reserve(1)?;
                self.notes.extend(note_segment(index, &segment, max_note_bytes, faults));
            }
            _ => {}
        }
        Ok(())
    }
}

/// What a PT_NOTE gives: nothing if it is empty or wraps around; at most `max_bytes`.
fn note_segment(
    index: u32,
    segment: &ProgramHeader,
    max_bytes: u64,
    faults: &mut Vec<SegmentFault>,
) -> Option<NoteSegment> {
    let (pa, bytes) = (segment.p_offset, segment.p_filesz);
    let fits = pa.checked_add(bytes).is_some();
    if !fits || bytes > max_bytes {
        report(faults, SegmentFault::Note { index, pa, bytes });
    }
    (fits && bytes != 0).then_some(NoteSegment { p_offset: pa, p_filesz: bytes.min(max_bytes) })
}

/// Adds a fault to those already found. A table of nothing but faults must not fill the memory with them.
fn report(faults: &mut Vec<SegmentFault>, fault: SegmentFault) {
    if faults.len() < MAX_FAULTS {
        faults.push(fault);
    }
}

/// Reads the ELF header itself. The first 52 bytes tell whether there are 12 more.
fn read_header(base: u64, read: &mut ReadAt<'_>) -> Result<CoreHeader, TableError> {
    let mut bytes = [0; MAX_EHDR_BYTES];
    let short = ehdr_bytes(Class::ELF32);
    let (head, tail) = bytes.split_at_mut_checked(short).unwrap_or_default();
    if !read(base, head) {
        return Err(TableError::Unreadable(base));
    }
    // An ELFCLASS32 header may end where readable bytes do: what lies behind it does not matter.
    let tail_at = base.checked_add(short as u64).ok_or(TableError::Unreadable(base))?;
    let length = if read(tail_at, tail) { MAX_EHDR_BYTES } else { short };
    CoreHeader::parse(bytes.get(..length).unwrap_or_default()).map_err(|error| match error {
        HeaderError::Truncated(_) => TableError::Unreadable(tail_at),
        error => TableError::Invalid(error),
    })
}

/// The number of program headers that the ELF header claims, or where it cannot be read.
fn claimed_count(base: u64, header: &CoreHeader, read: &mut ReadAt<'_>) -> Result<u32, u64> {
    if header.e_phnum != PN_XNUM {
        return Ok(u32::from(header.e_phnum));
    }
    let info_at = base
        .checked_add(header.e_shoff)
        .and_then(|at| at.checked_add(sh_info_offset(header.class) as u64))
        .ok_or(base)?;
    let mut sh_info = [0; 4];
    if header.e_shoff == 0 || !read(info_at, &mut sh_info) {
        return Err(info_at);
    }
    Ok(u32::from_le_bytes(sh_info))
}
