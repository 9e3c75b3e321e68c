use alloc::vec;

use elf::abi::{PT_LOAD, PT_NOTE};
use proptest::prelude::*;

use super::*;
use crate::headers::push_program_header;

/// Crashed memory that holds one run of bytes.
struct Memory {
    start: u64,
    bytes: Vec<u8>,
}

impl Memory {
    fn read(&self, pa: u64, buf: &mut [u8]) -> bool {
        let bytes = pa
            .checked_sub(self.start)
            .and_then(|offset| usize::try_from(offset).ok())
            .and_then(|offset| self.bytes.get(offset..)?.get(..buf.len()));
        bytes.is_some_and(|bytes| {
            buf.copy_from_slice(bytes);
            true
        })
    }

    fn parse(&self, pa: u64) -> Result<ElfCoreHdr, ElfCoreHdrError> {
        ElfCoreHdr::read(pa, &mut |pa, buf| self.read(pa, buf))
    }
}

const PA: u64 = 0x3300_0000;

fn segment(p_type: u32, p_paddr: u64, p_offset: u64, bytes: u64) -> ProgramHeader {
    ProgramHeader {
        p_type,
        p_offset,
        p_vaddr: p_paddr.wrapping_add(0xc000_0000),
        p_paddr,
        p_filesz: bytes,
        p_memsz: bytes,
        p_flags: 7,
        p_align: 0,
    }
}

/// An elfcorehdr as kexec-tools makes it for a small PC: two CPUs, VMCOREINFO, the backup region, RAM.
fn segments() -> Vec<ProgramHeader> {
    vec![
        segment(PT_NOTE, 0x0004_2000, 0x0004_2000, 356),
        segment(PT_NOTE, 0x0004_3000, 0x0004_3000, 356),
        segment(PT_NOTE, 0x0550_0000, 0x0550_0000, 0x1000),
        segment(PT_LOAD, 0x1000, 0x33f0_0000, 0x9ec00),
        segment(PT_LOAD, 0x10_0000, 0x10_0000, 0x2ff0_0000),
    ]
}

fn memory(class: Class, machine: Machine, segments: &[ProgramHeader]) -> Memory {
    let mut bytes = Vec::new();
    let e_phnum = u16::try_from(segments.len()).unwrap();
    let e_phoff = ehdr_bytes(class) as u64;
    CoreHeader { class, machine, e_flags: 0, e_phoff, e_shoff: 0, e_phnum }.encode(&mut bytes).unwrap();
    for header in segments {
        push_program_header(class, header, &mut bytes).unwrap();
    }
    Memory { start: PA, bytes }
}

#[test]
fn an_elfcorehdr_of_either_class_gives_its_segments() {
    for (class, machine) in [
        (Class::ELF64, Machine::X86_64),
        (Class::ELF64, Machine::Aarch64),
        (Class::ELF64, Machine::Arm),
        (Class::ELF32, Machine::Arm),
    ] {
        let memory = memory(class, machine, &segments());
        let parsed = memory.parse(PA).unwrap();
        assert_eq!((parsed.class, parsed.machine), (class, machine));
        let note = |p_offset, p_filesz| NoteSegment { p_offset, p_filesz };
        assert_eq!(
            parsed.notes,
            vec![note(0x0004_2000, 356), note(0x0004_3000, 356), note(0x0550_0000, 0x1000)]
        );
        assert_eq!(parsed.loads.len(), 2);
        assert_eq!(
            parsed.loads[0],
            LoadSegment {
                p_vaddr: 0xc000_1000,
                p_paddr: 0x1000,
                p_offset: 0x33f0_0000,
                p_filesz: 0x9ec00,
                p_memsz: 0x9ec00,
            }
        );
        assert_eq!(parsed.faults, vec![]);
        assert_eq!(parsed.headers, memory.bytes);
    }
}

#[test]
fn program_headers_far_from_the_elf_header_are_gathered() {
    let mut memory = memory(Class::ELF64, Machine::X86_64, &segments());
    let contiguous = memory.bytes.clone();
    memory.bytes.splice(64..64, [0xaa; 100]);
    memory.bytes[32..40].copy_from_slice(&164_u64.to_le_bytes());
    assert_eq!(memory.parse(PA).unwrap().headers, contiguous);
}

#[test]
fn an_address_without_an_elfcorehdr_is_named() {
    let mut memory = memory(Class::ELF64, Machine::X86_64, &segments());
    assert_eq!(memory.parse(0x1000), Err(ElfCoreHdrError::Unreadable { pa: 0x1000 }));
    assert_eq!(memory.parse(u64::MAX - 10), Err(ElfCoreHdrError::Unreadable { pa: u64::MAX - 10 }));
    memory.bytes[0] = 0;
    let error = HeaderError::BadMagic([0, b'E', b'L', b'F']);
    assert_eq!(memory.parse(PA), Err(ElfCoreHdrError::Invalid { pa: PA, error }));
}

#[test]
fn a_32_bit_header_at_the_very_end_of_memory_is_read() {
    assert!(memory(Class::ELF32, Machine::Arm, &[]).parse(PA).is_ok());
    let mut memory = memory(Class::ELF64, Machine::X86_64, &[]);
    memory.bytes.truncate(52);
    assert_eq!(memory.parse(PA), Err(ElfCoreHdrError::Unreadable { pa: PA + 52 }));
}

#[test]
fn an_unreadable_program_header_costs_only_itself() {
    let mut memory = memory(Class::ELF64, Machine::X86_64, &segments());
    let whole = memory.bytes.clone();
    memory.bytes.truncate(64 + 4 * 56);
    let parsed = memory.parse(PA).unwrap();
    assert_eq!((parsed.loads.len(), parsed.notes.len()), (1, 3));
    assert_eq!(parsed.faults, vec![SegmentFault::Unreadable { index: 4, pa: PA + 64 + 4 * 56 }]);
    assert_eq!(parsed.headers[..64 + 4 * 56], whole[..64 + 4 * 56]);
    assert_eq!(parsed.headers[64 + 4 * 56..], [0; 56]);
}

#[test]
fn absurd_notes_are_cut_or_dropped() {
    let headers = [
        segment(PT_NOTE, 0, u64::MAX - 3, 100),
        segment(PT_NOTE, 0, 0x1000, 1 << 40),
        segment(PT_NOTE, 0, 0x2000, 0),
    ];
    let parsed = memory(Class::ELF64, Machine::Aarch64, &headers).parse(PA).unwrap();
    assert_eq!(parsed.notes, vec![NoteSegment { p_offset: 0x1000, p_filesz: MAX_NOTE_BYTES }]);
    assert_eq!(
        parsed.faults,
        vec![
            SegmentFault::Note { index: 0, pa: u64::MAX - 3, bytes: 100 },
            SegmentFault::Note { index: 1, pa: 0x1000, bytes: 1 << 40 },
        ]
    );
}

#[test]
fn a_table_beyond_the_address_space_is_refused() {
    let mut memory = memory(Class::ELF64, Machine::X86_64, &segments());
    memory.bytes[32..40].copy_from_slice(&(u64::MAX - PA).to_le_bytes());
    let e_phoff = u64::MAX - PA;
    assert_eq!(memory.parse(PA), Err(ElfCoreHdrError::BadPhoff { pa: PA, e_phoff }));
}

#[test]
fn more_program_headers_than_a_kernel_makes_are_not_looked_at() {
    let count = MAX_PROGRAM_HEADERS + 1;
    let headers = vec![segment(PT_LOAD, 0x1000, 0x1000, 0x1000); count.into()];
    let parsed = memory(Class::ELF64, Machine::X86_64, &headers).parse(PA).unwrap();
    assert_eq!(parsed.loads.len(), usize::from(MAX_PROGRAM_HEADERS));
    assert_eq!(
        parsed.faults,
        vec![SegmentFault::TooMany { count: count.into(), used: MAX_PROGRAM_HEADERS.into() }]
    );
    let kept = CoreHeader::parse(&parsed.headers).unwrap();
    assert_eq!(kept.e_phnum, MAX_PROGRAM_HEADERS);
    assert_eq!(parsed.headers.len(), 64 + 56 * usize::from(MAX_PROGRAM_HEADERS));
}

#[test]
fn pn_xnum_takes_the_count_from_the_section_header() {
    let mut memory = memory(Class::ELF64, Machine::X86_64, &segments());
    memory.bytes[56..58].copy_from_slice(&[0xff, 0xff]);
    let e_shoff = memory.bytes.len() as u64;
    memory.bytes[40..48].copy_from_slice(&e_shoff.to_le_bytes());
    let mut section = [0; 64];
    section[44] = 5;
    memory.bytes.extend(section);
    let parsed = memory.parse(PA).unwrap();
    assert_eq!((parsed.loads.len(), parsed.notes.len(), parsed.faults.len()), (2, 3, 0));
    assert_eq!(CoreHeader::parse(&parsed.headers).unwrap().e_phnum, 5);

    memory.bytes.truncate(64 + 5 * 56);
    let parsed = memory.parse(PA).unwrap();
    assert_eq!(parsed.faults[0], SegmentFault::UnknownCount { pa: PA + e_shoff + 44 });
    assert_eq!((parsed.loads.len(), parsed.notes.len()), (2, 3));
}

proptest! {
    #[test]
    fn any_bytes_are_a_header_or_an_error(
        mut bytes in prop::collection::vec(any::<u8>(), 0..400),
        class in 0_u8..4,
        machine in prop::sample::select(vec![62_u8, 40, 183, 0]),
    ) {
        // Enough of a header that the rest is looked at.
        for (byte, good) in bytes.iter_mut().zip([0x7f, b'E', b'L', b'F', class, 1, 1]) {
            *byte = good;
        }
        for (offset, byte) in [(16, 4), (17, 0), (18, machine), (19, 0), (54, 56), (55, 0), (57, 0)] {
            if let Some(place) = bytes.get_mut(offset) {
                *place = byte;
            }
        }
        let length = bytes.len();
        let memory = Memory { start: PA, bytes };
        if let Ok(parsed) = memory.parse(PA) {
            prop_assert!(parsed.loads.len() + parsed.notes.len() <= length / 32);
            prop_assert!(parsed.notes.iter().all(|note| note.p_filesz <= MAX_NOTE_BYTES));
            prop_assert!(CoreHeader::parse(&parsed.headers).is_ok());
        }
    }
}

#[test]
fn a_table_of_nothing_but_faults_is_reported_in_bounds() {
    let mut memory = memory(Class::ELF64, Machine::X86_64, &[]);
    memory.bytes[56..58].copy_from_slice(&5000_u16.to_le_bytes());
    let parsed = memory.parse(PA).unwrap();
    assert_eq!((parsed.faults.len(), parsed.loads.len()), (MAX_FAULTS, 0));
    assert_eq!(parsed.headers.len(), 64 + 5000 * 56);
}
