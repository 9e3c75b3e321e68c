//! A linked, position-independent ELF file as the bytes that lie in memory.

use alloc::vec;
use alloc::vec::Vec;

use elf::ElfBytes;
use elf::abi;
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::parse::ParseError;
use elf::section::SectionHeader;

/// The machine an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// EM_X86_64, 64-bit little endian.
    X86_64,
    /// EM_AARCH64, 64-bit little endian.
    Aarch64,
    /// EM_ARM, 32-bit little endian.
    Arm,
}

impl Machine {
    fn class(self) -> Class {
        match self {
            Self::X86_64 | Self::Aarch64 => Class::ELF64,
            Self::Arm => Class::ELF32,
        }
    }

    fn e_machine(self) -> u16 {
        match self {
            Self::X86_64 => abi::EM_X86_64,
            Self::Aarch64 => abi::EM_AARCH64,
            Self::Arm => abi::EM_ARM,
        }
    }
}

/// An image linked at address 0, ready to be put behind a boot header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatImage {
    /// The bytes from address 0 to the end of initialised data.
    pub bytes: Vec<u8>,
    /// What the image needs in memory from address 0 on, in bytes: `bytes`, then what starts as zero.
    pub memory_bytes: u64,
    /// e_entry: where the image is entered, from its first byte.
    pub entry: u64,
}

/// Why an ELF file cannot become a flat image.
#[derive(Debug, thiserror::Error)]
pub enum FlattenError {
    /// Not an ELF file, or one that is cut short.
    #[error("not a whole ELF file: {0}")]
    Elf(#[from] ParseError),
    /// Another architecture, or not a position-independent executable.
    #[error("ELF type {e_type}, machine {e_machine}: wanted a static PIE (type 3) for machine {wanted}")]
    WrongKind {
        /// e_type.
        e_type: u16,
        /// e_machine.
        e_machine: u16,
        /// The e_machine asked for.
        wanted: u16,
    },
    /// No PT_LOAD, or none that begins at address 0.
    #[error("no PT_LOAD at address 0: link the image there")]
    NotAtZero,
    /// A PT_LOAD that is larger in the file than in memory, or that runs past `limit_bytes`.
    #[error(
        "PT_LOAD at {p_vaddr:#x} ({p_filesz:#x} of {p_memsz:#x} bytes in the file) does not fit {limit_bytes:#x} bytes"
    )]
    Segment {
        /// p_vaddr.
        p_vaddr: u64,
        /// p_filesz.
        p_filesz: u64,
        /// p_memsz.
        p_memsz: u64,
        /// The limit that was given.
        limit_bytes: u64,
    },
    /// No section of this name, or one without bytes.
    #[error("no section {0}: is the linker script the right one?")]
    NoSection(&'static str),
    /// e_entry lies outside the file's bytes.
    #[error("entry point {0:#x} lies outside the image")]
    Entry(u64),
    /// A relocation the image cannot apply to itself at start.
    #[error(
        "relocation of type {r_type} at {r_offset:#x}: only those of .relr.dyn are applied at start, link with --pack-dyn-relocs=relr"
    )]
    Relocation {
        /// Type, in the machine's numbering.
        r_type: u32,
        /// Address it applies to.
        r_offset: u64,
    },
}

/// Flattens the PT_LOAD segments of `file`, which must be linked at address 0 and need at most `limit_bytes` of memory.
///
/// # Errors
/// If `file` is not such a static PIE; see [`FlattenError`].
pub fn flatten(file: &[u8], machine: Machine, limit_bytes: u64) -> Result<FlatImage, FlattenError> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file)?;
    let header = &elf.ehdr;
    if header.class != machine.class()
        || header.e_type != abi::ET_DYN
        || header.e_machine != machine.e_machine()
    {
        return Err(FlattenError::WrongKind {
            e_type: header.e_type,
            e_machine: header.e_machine,
            wanted: machine.e_machine(),
        });
    }

    let mut bytes: Vec<u8> = Vec::new();
    let mut memory_bytes = 0;
    let mut lowest = u64::MAX;
    for segment in elf.segments().into_iter().flatten().filter(|segment| segment.p_type == abi::PT_LOAD) {
        let too_large = || FlattenError::Segment {
            p_vaddr: segment.p_vaddr,
            p_filesz: segment.p_filesz,
            p_memsz: segment.p_memsz,
            limit_bytes,
        };
        let end = segment.p_vaddr.checked_add(segment.p_memsz).ok_or_else(too_large)?;
        if segment.p_filesz > segment.p_memsz || end > limit_bytes {
            return Err(too_large());
        }
        lowest = lowest.min(segment.p_vaddr);
        memory_bytes = memory_bytes.max(end);

        let data = elf.segment_data(&segment)?;
        if data.is_empty() {
            continue;
        }
        let start = usize::try_from(segment.p_vaddr).map_err(|_| too_large())?;
        let data_end = start.checked_add(data.len()).ok_or_else(too_large)?;
        if bytes.len() < data_end {
            bytes.resize(data_end, 0);
        }
        bytes.get_mut(start..data_end).ok_or_else(too_large)?.copy_from_slice(data);
    }
    if lowest != 0 {
        return Err(FlattenError::NotAtZero);
    }
    if header.e_entry >= bytes.len() as u64 {
        return Err(FlattenError::Entry(header.e_entry));
    }
    check_relocations(&elf)?;
    Ok(FlatImage { bytes, memory_bytes, entry: header.e_entry })
}

/// The bytes of the section `name` of the ELF file `file`, which need not be a part of the image.
///
/// # Errors
/// If `file` is not a whole ELF file, or has no such section, or an empty one.
pub fn section<'a>(file: &'a [u8], name: &'static str) -> Result<&'a [u8], FlattenError> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file)?;
    let section = elf.section_header_by_name(name)?.ok_or(FlattenError::NoSection(name))?;
    match elf.section_data(&section)? {
        ([], _) | (_, Some(_)) => Err(FlattenError::NoSection(name)),
        (bytes, None) => Ok(bytes),
    }
}

/// The image's start-up code applies what is in `.relr.dyn` (SHT_RELR); any other relocation would be left wrong in silence.
fn check_relocations(elf: &ElfBytes<'_, LittleEndian>) -> Result<(), FlattenError> {
    // Without SHF_ALLOC the section is a leftover of the linker (--emit-relocs), not for the running image.
    let is_allocated = |section: &SectionHeader| section.sh_flags & u64::from(abi::SHF_ALLOC) != 0;
    for section in elf.section_headers().into_iter().flatten().filter(is_allocated) {
        let first = match section.sh_type {
            abi::SHT_RELA => elf.section_data_as_relas(&section)?.next().map(|it| (it.r_type, it.r_offset)),
            abi::SHT_REL => elf.section_data_as_rels(&section)?.next().map(|it| (it.r_type, it.r_offset)),
            _ => None,
        };
        if let Some((r_type, r_offset)) = first {
            return Err(FlattenError::Relocation { r_type, r_offset });
        }
    }
    Ok(())
}

impl FlatImage {
    /// An image made by hand: `bytes`, entered at `entry`, `memory_bytes` in memory.
    #[must_use]
    pub fn new(bytes: Vec<u8>, memory_bytes: u64, entry: u64) -> Self {
        Self { bytes, memory_bytes, entry }
    }

    /// `bytes` padded with zeros to a multiple of `unit` (not zero).
    #[must_use]
    pub(crate) fn padded(&self, unit: usize) -> Vec<u8> {
        let mut padded = vec![0; self.bytes.len().next_multiple_of(unit)];
        for (to, from) in padded.iter_mut().zip(&self.bytes) {
            *to = *from;
        }
        padded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 0x10_0000;

    /// An ELF64 static PIE of `segments` (p_vaddr, data, p_memsz), entered at 0x10.
    fn elf_of(e_machine: u16, segments: &[(u64, &[u8], u64)]) -> Vec<u8> {
        let mut file = Vec::from(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        file.extend(3u16.to_le_bytes()); // e_type ET_DYN
        file.extend(e_machine.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(0x10u64.to_le_bytes()); // e_entry
        file.extend(64u64.to_le_bytes()); // e_phoff
        file.extend(0u64.to_le_bytes()); // e_shoff
        file.extend(0u32.to_le_bytes());
        file.extend(64u16.to_le_bytes()); // e_ehsize
        file.extend(56u16.to_le_bytes()); // e_phentsize
        file.extend(u16::try_from(segments.len()).unwrap().to_le_bytes());
        file.extend([0; 6]);
        let mut offset = 64 + 56 * segments.len() as u64;
        for (p_vaddr, data, p_memsz) in segments {
            file.extend(1u32.to_le_bytes()); // PT_LOAD
            file.extend(7u32.to_le_bytes());
            for field in [offset, *p_vaddr, *p_vaddr, data.len() as u64, *p_memsz, 0x1000] {
                file.extend(field.to_le_bytes());
            }
            offset += data.len() as u64;
        }
        for (_, data, _) in segments {
            file.extend(*data);
        }
        file
    }

    #[test]
    fn segments_land_at_their_addresses_and_bss_only_counts() {
        let file = elf_of(62, &[(0, &[1; 0x20], 0x20), (0x40, &[2; 8], 0x1000)]);
        let flat = flatten(&file, Machine::X86_64, LIMIT).unwrap();
        assert_eq!(flat.bytes.len(), 0x48);
        assert_eq!(flat.bytes[..0x20], [1; 0x20]);
        assert_eq!(flat.bytes[0x20..0x40], [0; 0x20]);
        assert_eq!(flat.bytes[0x40..], [2; 8]);
        assert_eq!((flat.memory_bytes, flat.entry), (0x1040, 0x10));
    }

    /// Addresses that the image adds its own to (gABI).
    const SHT_RELR: u32 = 19;

    /// The same of ELF32, of arm, with a section of one R_ARM_ABS32.
    fn elf32_of(data: &[u8], p_memsz: u32, sh_type: u32, sh_flags: u32) -> Vec<u8> {
        let mut file = Vec::from(*b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0");
        let push = |file: &mut Vec<u8>, words: &[u32]| {
            words.iter().for_each(|word| file.extend(word.to_le_bytes()));
        };
        file.extend([3, 0, 40, 0]); // ET_DYN, EM_ARM
        let data_at = 52 + 32;
        let relocations_at = data_at + u32::try_from(data.len()).unwrap();
        push(&mut file, &[1, 0x10, 52, relocations_at + 8, 0]);
        file.extend([52, 0, 32, 0, 1, 0, 40, 0, 2, 0, 0, 0]);
        push(&mut file, &[1, data_at, 0, 0, u32::try_from(data.len()).unwrap(), p_memsz, 7, 4]);
        file.extend(data);
        push(&mut file, &[8, 2]);
        push(&mut file, &[0; 10]);
        push(&mut file, &[0, sh_type, sh_flags, 0, relocations_at, 8, 0, 0, 4, 8]);
        file
    }

    #[test]
    fn an_image_of_arm_has_words_of_32_bits() {
        let file = elf32_of(&[7; 0x20], 0x1000, SHT_RELR, 2);
        let flat = flatten(&file, Machine::Arm, LIMIT).unwrap();
        assert_eq!((&flat.bytes[..], flat.memory_bytes, flat.entry), (&[7; 0x20][..], 0x1000, 0x10));
        assert!(matches!(flatten(&file, Machine::Aarch64, LIMIT), Err(FlattenError::WrongKind { .. })));
    }

    #[test]
    fn a_relocation_that_the_image_does_not_apply_is_refused() {
        // R_ARM_ABS32, in a section that is loaded and in one that is not.
        let absolute = flatten(&elf32_of(&[7; 0x20], 0x1000, abi::SHT_REL, 2), Machine::Arm, LIMIT);
        assert!(matches!(absolute, Err(FlattenError::Relocation { r_type: 2, r_offset: 8 })));
        assert!(flatten(&elf32_of(&[7; 0x20], 0x1000, abi::SHT_REL, 0), Machine::Arm, LIMIT).is_ok());
    }

    #[test]
    fn a_foreign_machine_is_refused() {
        let file = elf_of(183, &[(0, &[1; 0x20], 0x20)]);
        assert!(matches!(
            flatten(&file, Machine::X86_64, LIMIT),
            Err(FlattenError::WrongKind { e_machine: 183, .. })
        ));
        assert!(flatten(&file, Machine::Aarch64, LIMIT).is_ok());
    }

    #[test]
    fn an_image_not_linked_at_zero_is_refused() {
        let file = elf_of(62, &[(0x1000, &[1; 0x20], 0x20)]);
        assert!(matches!(flatten(&file, Machine::X86_64, LIMIT), Err(FlattenError::NotAtZero)));
    }

    #[test]
    fn impossible_segments_are_refused_without_allocating_them() {
        for (p_vaddr, p_memsz) in [(0, 4), (u64::MAX - 4, 0x20), (0, u64::MAX), (LIMIT, 0x20)] {
            let file = elf_of(62, &[(0, &[1; 0x20], 0x20), (p_vaddr, &[1; 0x20], p_memsz)]);
            assert!(matches!(flatten(&file, Machine::X86_64, LIMIT), Err(FlattenError::Segment { .. })));
        }
    }

    #[test]
    fn an_entry_outside_the_file_is_refused() {
        let file = elf_of(62, &[(0, &[1; 8], 0x1000)]);
        assert!(matches!(flatten(&file, Machine::X86_64, LIMIT), Err(FlattenError::Entry(0x10))));
    }

    #[test]
    fn every_truncation_gives_an_error() {
        let file = elf_of(62, &[(0, &[1; 0x20], 0x20), (0x40, &[2; 8], 0x1000)]);
        for length in 0..file.len() {
            assert!(flatten(&file[..length], Machine::X86_64, LIMIT).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn no_damaged_byte_makes_it_panic() {
        let file = elf_of(62, &[(0, &[1; 0x20], 0x20), (0x40, &[2; 8], 0x1000)]);
        for position in 0..file.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = file.clone();
                damaged[position] = value;
                if let Ok(flat) = flatten(&damaged, Machine::X86_64, LIMIT) {
                    assert!(flat.memory_bytes <= LIMIT);
                }
            }
        }
    }
}
