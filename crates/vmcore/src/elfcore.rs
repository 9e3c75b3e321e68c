//! The headers of an ELF vmcore: built for a file to be written, and read from one.
//!
//! `ELF header │ PT_NOTE │ PT_LOAD … │ section header 0, if PN_XNUM │ notes │ zeros to a page │ data of the PT_LOADs`
//!
//! One PT_NOTE holds the notes of all CPUs, then VMCOREINFO's. `p_offset` is a file offset here. A page that is left out
//! lies in no PT_LOAD; a page of zeros at the end of one can be spared by p_filesz < p_memsz.

use alloc::vec::Vec;
use core::borrow::Borrow;

use elf::abi::{PF_R, PF_W, PF_X, PN_XNUM, PT_LOAD, PT_NOTE};

use crate::elfcorehdr::{LoadSegment, NoteSegment, ReadAt, SegmentFault};
use crate::headers::{Class, CoreHeader, HeaderError, Machine, ProgramHeader};
use crate::headers::{ehdr_bytes, phdr_bytes, push_program_header};
use crate::headers::{sh_info_offset, shdr_bytes};
use crate::table::{Segments, Table, TableError};

/// Program headers read from a file at most: a dump cut in pieces has one for each.
pub const MAX_PROGRAM_HEADERS: u32 = 1 << 20;
/// Bytes believed of a PT_NOTE: the notes of 8192 CPUs are 3 MB.
pub const MAX_NOTE_BYTES: u64 = 64 << 20;
/// `e_flags` of a dump that lacks pages it should have, as makedumpfile marks it.
pub const INCOMPLETE: u32 = 1;

/// Where data begins is a multiple of this.
const DATA_ALIGN: u64 = 4096;

/// Why a file is not an ELF vmcore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfCoreError {
    /// The file ends within its ELF header.
    #[error("the ELF header is cut short at offset {0:#x}")]
    Truncated(u64),
    /// The header is none of a vmcore.
    #[error(transparent)]
    Invalid(#[from] HeaderError),
    /// The program headers would run past 64 bits.
    #[error("program headers at offset {0:#x}")]
    BadPhoff(u64),
    /// No room to keep the program headers.
    #[error("no memory for {0} program headers")]
    OutOfMemory(u32),
}

/// What the headers of an ELF vmcore say. Nothing in it has been compared with the file's length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfCore {
    /// ELFCLASS32 or ELFCLASS64.
    pub class: Class,
    /// The crashed machine.
    pub machine: Machine,
    /// [`INCOMPLETE`], or 0.
    pub e_flags: u32,
    /// The PT_LOADs; `p_offset` is where their bytes are in the file.
    pub loads: Vec<LoadSegment>,
    /// The PT_NOTEs.
    pub notes: Vec<NoteSegment>,
    /// What was left out.
    pub faults: Vec<SegmentFault>,
}

impl ElfCore {
    /// Reads the headers of a file, which `read` reads at an offset.
    ///
    /// # Errors
    /// [`ElfCoreError`] if it is no vmcore. A bad program header is not an error but one of [`Self::faults`].
    pub fn read(read: &mut ReadAt<'_>) -> Result<Self, ElfCoreError> {
        let mut faults = Vec::new();
        let table =
            Table::locate(0, MAX_PROGRAM_HEADERS, read, &mut faults).map_err(|error| match error {
                TableError::Unreadable(offset) => ElfCoreError::Truncated(offset),
                TableError::Invalid(error) => ElfCoreError::Invalid(error),
                TableError::BadPhoff(e_phoff) => ElfCoreError::BadPhoff(e_phoff),
            })?;
        let Table { header, count, .. } = table;
        let no_memory = |_| ElfCoreError::OutOfMemory(count);
        let mut segments = Segments::default();
        let mut entry = [0; phdr_bytes(Class::ELF64)];
        for index in 0..count {
            let known_faults = faults.len();
            let entry = table.entry(index, &mut entry, read, &mut faults);
            if faults.len() > known_faults {
                break; // The file ends here: so do all the others.
            }
            segments.add(header.class, index, entry, MAX_NOTE_BYTES, &mut faults).map_err(no_memory)?;
        }
        let CoreHeader { class, machine, e_flags, .. } = header;
        let Segments { loads, notes } = segments;
        Ok(Self { class, machine, e_flags, loads, notes, faults })
    }
}

/// What the headers of a vmcore are made of.
#[derive(Clone, Copy, Debug)]
pub struct NewElfCore<'a, L> {
    /// ELFCLASS32 or ELFCLASS64.
    pub class: Class,
    /// The crashed machine.
    pub machine: Machine,
    /// [`INCOMPLETE`], or 0.
    pub e_flags: u32,
    /// All notes, in the order of CPUs.
    pub notes: &'a [u8],
    /// The PT_LOADs; their `p_offset` is not before [`data_offset`].
    pub loads: L,
}

/// Where data may begin, behind the headers of so many PT_LOADs and so many bytes of notes.
#[must_use]
pub fn data_offset(class: Class, loads: usize, notes_bytes: usize) -> u64 {
    let end = notes_offset(class, loads).saturating_add(notes_bytes) as u64;
    end.checked_next_multiple_of(DATA_ALIGN).unwrap_or(u64::MAX)
}

/// Program headers: the PT_LOADs and the PT_NOTE.
fn header_count(loads: usize) -> usize {
    loads.saturating_add(1)
}

/// The count as `e_phnum` can say it.
fn e_phnum(loads: usize) -> u16 {
    u16::try_from(header_count(loads)).unwrap_or(PN_XNUM)
}

fn section_offset(class: Class, loads: usize) -> usize {
    ehdr_bytes(class).saturating_add(header_count(loads).saturating_mul(phdr_bytes(class)))
}

fn notes_offset(class: Class, loads: usize) -> usize {
    let sections = if e_phnum(loads) == PN_XNUM { shdr_bytes(class) } else { 0 };
    section_offset(class, loads).saturating_add(sections)
}

impl<L: IntoIterator<Item: Borrow<LoadSegment>> + Clone> NewElfCore<'_, L> {
    /// The file's bytes up to [`data_offset`].
    ///
    /// # Errors
    /// [`HeaderError::TooWide`] if a value does not fit in ELFCLASS32.
    pub fn encode(self) -> Result<Vec<u8>, HeaderError> {
        let Self { class, machine, e_flags, notes, loads } = self;
        let load_count = loads.clone().into_iter().count();
        let e_phnum = e_phnum(load_count);
        let section_offset = section_offset(class, load_count);
        let e_shoff = if e_phnum == PN_XNUM { section_offset as u64 } else { 0 };
        let data_offset = data_offset(class, load_count, notes.len());
        let data_offset = usize::try_from(data_offset).map_err(|_| HeaderError::TooWide(data_offset))?;
        let mut out = Vec::with_capacity(data_offset);
        CoreHeader { class, machine, e_flags, e_phoff: ehdr_bytes(class) as u64, e_shoff, e_phnum }
            .encode(&mut out)?;
        let note = ProgramHeader {
            p_type: PT_NOTE,
            p_flags: 0,
            p_offset: notes_offset(class, load_count) as u64,
            p_vaddr: 0,
            p_paddr: 0,
            p_filesz: notes.len() as u64,
            p_memsz: notes.len() as u64,
            p_align: 0,
        };
        push_program_header(class, &note, &mut out)?;
        for load in loads {
            push_program_header(class, &load_header(load.borrow()), &mut out)?;
        }
        if e_phnum == PN_XNUM {
            let count = header_count(load_count);
            let sh_info = u32::try_from(count).map_err(|_| HeaderError::TooWide(count as u64))?;
            let mut section = [0; shdr_bytes(Class::ELF64)];
            for (place, byte) in section.iter_mut().skip(sh_info_offset(class)).zip(sh_info.to_le_bytes()) {
                *place = byte;
            }
            out.extend_from_slice(section.get(..shdr_bytes(class)).unwrap_or_default());
        }
        out.extend_from_slice(notes);
        out.resize(data_offset, 0);
        Ok(out)
    }
}

/// The program header of a PT_LOAD. Its alignment is 0, none, as the kernel writes it: p_vaddr is what it is.
const fn load_header(load: &LoadSegment) -> ProgramHeader {
    ProgramHeader {
        p_type: PT_LOAD,
        p_flags: PF_R | PF_W | PF_X,
        p_offset: load.p_offset,
        p_vaddr: load.p_vaddr,
        p_paddr: load.p_paddr,
        p_filesz: load.p_filesz,
        p_memsz: load.p_memsz,
        p_align: 0,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use elf::ElfBytes;
    use elf::endian::LittleEndian;
    use proptest::prelude::*;

    use super::*;

    fn load(number: u64) -> LoadSegment {
        LoadSegment {
            p_vaddr: 0xc000_0000 + (number << 12),
            p_paddr: number << 12,
            p_offset: 0x1000 + (number << 12),
            p_filesz: 0x800,
            p_memsz: 0x1000,
        }
    }

    fn read(bytes: &[u8]) -> Result<ElfCore, ElfCoreError> {
        ElfCore::read(&mut |offset, buf| {
            let found = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)?.get(..buf.len()));
            found.is_some_and(|found| {
                buf.copy_from_slice(found);
                true
            })
        })
    }

    #[test]
    fn a_small_vmcore_begins_with_these_bytes() {
        let core = NewElfCore {
            class: Class::ELF64,
            machine: Machine::Aarch64,
            e_flags: INCOMPLETE,
            notes: b"notes",
            loads: &[load(1)],
        };
        let bytes = core.encode().unwrap();
        assert_eq!(bytes.len(), 4096);
        let mut expected = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        expected.extend(b"\x04\0\xb7\0\x01\0\0\0\0\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        expected.extend(b"\x01\0\0\0\x40\0\x38\0\x02\0\0\0\0\0\0\0");
        expected.extend(b"\x04\0\0\0\0\0\0\0\xb0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        expected.extend(b"\x05\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        expected.extend(b"\x01\0\0\0\x07\0\0\0\0\x20\0\0\0\0\0\0\0\x10\0\xc0\0\0\0\0\0\x10\0\0\0\0\0\0");
        expected.extend(b"\0\x08\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        expected.extend(b"notes\0");
        assert_eq!(bytes[..expected.len()], expected);
    }

    #[test]
    fn what_is_built_is_read_back_and_by_another_parser() {
        for (class, machine) in [(Class::ELF64, Machine::X86_64), (Class::ELF32, Machine::Arm)] {
            let loads: Vec<_> = (0..10).map(load).collect();
            let bytes =
                NewElfCore { class, machine, e_flags: 0, notes: &[1; 77], loads: &loads }.encode().unwrap();
            assert_eq!(bytes.len() as u64, data_offset(class, 10, 77));
            let core = read(&bytes).unwrap();
            assert_eq!((core.class, core.machine, core.e_flags), (class, machine, 0));
            assert_eq!((&core.loads, core.faults.len()), (&loads, 0));
            let [note] = core.notes[..] else { panic!("{:?}", core.notes) };
            let start = usize::try_from(note.p_offset).unwrap();
            assert_eq!((note.p_filesz, &bytes[start..start + 77]), (77, &[1; 77][..]));

            let other = ElfBytes::<LittleEndian>::minimal_parse(&bytes).unwrap();
            assert_eq!(other.segments().unwrap().len(), 11);
        }
    }

    #[test]
    fn from_65535_program_headers_on_the_count_is_in_section_header_0() {
        for (loads, e_phnum) in [(0xfffd, 0xfffe), (0xfffe, PN_XNUM), (0x1_0000, PN_XNUM)] {
            let loads: Vec<_> = (0..loads).map(load).collect();
            let bytes = NewElfCore {
                class: Class::ELF64,
                machine: Machine::X86_64,
                e_flags: 0,
                notes: b"n",
                loads: &loads,
            }
            .encode()
            .unwrap();
            assert_eq!(CoreHeader::parse(&bytes).unwrap().e_phnum, e_phnum);
            assert_eq!(read(&bytes).unwrap().loads, loads);
            let other = ElfBytes::<LittleEndian>::minimal_parse(&bytes).unwrap();
            assert_eq!(other.segments().unwrap().len(), loads.len() + 1);
        }
    }

    #[test]
    fn a_file_that_ends_within_its_program_headers_gives_those_it_has() {
        let loads: Vec<_> = (0..10).map(load).collect();
        let core = NewElfCore {
            class: Class::ELF64,
            machine: Machine::X86_64,
            e_flags: 0,
            notes: b"",
            loads: &loads,
        };
        let bytes = core.encode().unwrap();
        let cut = read(&bytes[..64 + 4 * 56]).unwrap();
        assert_eq!(cut.loads, loads[..3]);
        assert_eq!(cut.faults, vec![SegmentFault::Unreadable { index: 4, pa: 64 + 4 * 56 }]);
        assert_eq!(read(&bytes[..40]), Err(ElfCoreError::Truncated(0)));
        assert_eq!(read(&bytes[..60]), Err(ElfCoreError::Truncated(52)));
    }

    #[test]
    fn an_address_above_4_gib_does_not_fit_in_32_bits() {
        let core = NewElfCore {
            class: Class::ELF32,
            machine: Machine::Arm,
            e_flags: 0,
            notes: b"",
            loads: &[load(1 << 20)],
        };
        assert_eq!(core.encode(), Err(HeaderError::TooWide(0x1_0000_1000)));
    }

    proptest! {
        #[test]
        fn a_damaged_vmcore_is_read_without_harm(
            damage in prop::collection::vec((0_usize..700, any::<u8>()), 0..20), length in 0_usize..4096,
        ) {
            let loads: Vec<_> = (0..10).map(load).collect();
            let mut bytes = NewElfCore {
                class: Class::ELF64, machine: Machine::X86_64, e_flags: 0, notes: b"", loads: &loads,
            }.encode().unwrap();
            for (offset, byte) in damage {
                bytes[offset] = byte;
            }
            bytes.truncate(length);
            if let Ok(core) = read(&bytes) {
                prop_assert!(core.loads.len() + core.notes.len() <= length / 32);
            }
        }
    }
}
