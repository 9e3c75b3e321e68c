//! The headers of an ELF core (gABI chapters 4 and 5), of either class, little endian, as values and as bytes.
//!
//! Parsing is the `elf` crate's; this module adds what a core needs on top of it: the machines we know, `PN_XNUM`, and
//! the way back from values to bytes.

use alloc::vec::Vec;

use elf::abi;
use elf::endian::LittleEndian;
pub use elf::file::Class;
use elf::file::{FileHeader, parse_ident};
use elf::parse::{ParseAt, ParseError};
pub use elf::segment::ProgramHeader;

/// Bytes of the longest ELF header (ELFCLASS64).
pub const MAX_EHDR_BYTES: usize = 64;

/// Bytes of an ELF header.
#[must_use]
pub const fn ehdr_bytes(class: Class) -> usize {
    match class {
        Class::ELF32 => 52,
        Class::ELF64 => 64,
    }
}

/// Bytes of a program header.
#[must_use]
pub const fn phdr_bytes(class: Class) -> usize {
    match class {
        Class::ELF32 => 32,
        Class::ELF64 => 56,
    }
}

/// Bytes of a section header.
#[must_use]
pub const fn shdr_bytes(class: Class) -> usize {
    match class {
        Class::ELF32 => 40,
        Class::ELF64 => 64,
    }
}

/// Offset of `sh_info` in a section header: the number of program headers when `e_phnum` is `PN_XNUM`.
#[must_use]
pub const fn sh_info_offset(class: Class) -> usize {
    match class {
        Class::ELF32 => 28,
        Class::ELF64 => 44,
    }
}

/// The architectures whose crashes are captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Machine {
    /// EM_X86_64.
    X86_64,
    /// EM_ARM; its elfcorehdr is ELFCLASS32, or ELFCLASS64 with RAM above 4 GiB (LPAE).
    Arm,
    /// EM_AARCH64.
    Aarch64,
}

impl Machine {
    /// The machine of an `e_machine`, if it is one we know.
    #[must_use]
    pub const fn from_e_machine(e_machine: u16) -> Option<Self> {
        match e_machine {
            abi::EM_X86_64 => Some(Self::X86_64),
            abi::EM_ARM => Some(Self::Arm),
            abi::EM_AARCH64 => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// Its number in an ELF header.
    #[must_use]
    pub const fn e_machine(self) -> u16 {
        match self {
            Self::X86_64 => abi::EM_X86_64,
            Self::Arm => abi::EM_ARM,
            Self::Aarch64 => abi::EM_AARCH64,
        }
    }

    /// The architecture's name as `uname -m` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm => "armv7l",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Bytes of the kernel's `unsigned long`.
    #[must_use]
    pub const fn long_bytes(self) -> usize {
        match self {
            Self::X86_64 | Self::Aarch64 => 8,
            Self::Arm => 4,
        }
    }
}

/// Why bytes are not the header of a core we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer bytes than the header has.
    #[error("the ELF header is cut short at {0} bytes")]
    Truncated(usize),
    /// No ELF magic.
    #[error("no ELF magic: {0:02x?}")]
    BadMagic([u8; 4]),
    /// A class other than 32 or 64, a byte order other than little endian, or a version other than 1.
    #[error("not a little-endian ELF file of class 32 or 64")]
    UnsupportedIdent,
    /// `e_type` is not ET_CORE.
    #[error("ELF type {0} is not a core")]
    NotCore(u16),
    /// `e_machine` is none of [`Machine`].
    #[error("ELF machine {0} is not supported")]
    UnknownMachine(u16),
    /// `e_phentsize` is not what the class says.
    #[error("ELF program headers of {0} bytes")]
    BadPhentsize(u16),
    /// A value does not fit in a field of the class.
    #[error("{0:#x} does not fit in a 32-bit ELF header")]
    TooWide(u64),
}

/// The ELF header of a core, as far as a core uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreHeader {
    /// ELFCLASS32 or ELFCLASS64.
    pub class: Class,
    /// The crashed machine.
    pub machine: Machine,
    /// Processor-specific flags; makedumpfile marks an incomplete dump with bit 0.
    pub e_flags: u32,
    /// Where the program headers begin.
    pub e_phoff: u64,
    /// Where the section headers begin; 0 for none.
    pub e_shoff: u64,
    /// Number of program headers, or `PN_XNUM` (0xffff): then it is `sh_info` of section header 0.
    pub e_phnum: u16,
}

impl CoreHeader {
    /// Parses the first bytes of a core: [`MAX_EHDR_BYTES`] are enough for either class.
    ///
    /// # Errors
    /// [`HeaderError`], if these bytes are not the header of a core of a machine we know.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let truncated = HeaderError::Truncated(bytes.len());
        let (ident, tail) = bytes.split_at_checked(abi::EI_NIDENT).ok_or(truncated)?;
        let ident = parse_ident::<LittleEndian>(ident).map_err(|error| match error {
            ParseError::BadMagic(magic) => HeaderError::BadMagic(magic),
            _ => HeaderError::UnsupportedIdent,
        })?;
        let header = FileHeader::parse_tail(ident, tail).map_err(|_| truncated)?;
        if header.e_type != abi::ET_CORE {
            return Err(HeaderError::NotCore(header.e_type));
        }
        if usize::from(header.e_phentsize) != phdr_bytes(header.class) {
            return Err(HeaderError::BadPhentsize(header.e_phentsize));
        }
        Ok(Self {
            class: header.class,
            machine: Machine::from_e_machine(header.e_machine)
                .ok_or(HeaderError::UnknownMachine(header.e_machine))?,
            e_flags: header.e_flags,
            e_phoff: header.e_phoff,
            e_shoff: header.e_shoff,
            e_phnum: header.e_phnum,
        })
    }

    /// Appends the header's bytes.
    ///
    /// # Errors
    /// [`HeaderError::TooWide`] if an offset does not fit in the class.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), HeaderError> {
        let (ei_class, e_shentsize) = match self.class {
            Class::ELF32 => (abi::ELFCLASS32, 40_u16),
            Class::ELF64 => (abi::ELFCLASS64, 64),
        };
        let has_sections = self.e_shoff != 0;
        out.extend_from_slice(&abi::ELFMAGIC);
        out.extend_from_slice(&[ei_class, abi::ELFDATA2LSB, abi::EV_CURRENT]);
        out.extend_from_slice(&[0; 9]);
        out.extend_from_slice(&abi::ET_CORE.to_le_bytes());
        out.extend_from_slice(&self.machine.e_machine().to_le_bytes());
        out.extend_from_slice(&u32::from(abi::EV_CURRENT).to_le_bytes());
        for word in [0, self.e_phoff, self.e_shoff] {
            push_word(self.class, word, out)?;
        }
        out.extend_from_slice(&self.e_flags.to_le_bytes());
        let (e_ehsize, e_phentsize) = match self.class {
            Class::ELF32 => (52_u16, 32_u16),
            Class::ELF64 => (64, 56),
        };
        let (e_shentsize, e_shnum) = if has_sections { (e_shentsize, 1) } else { (0, 0_u16) };
        for half in [e_ehsize, e_phentsize, self.e_phnum, e_shentsize, e_shnum, 0] {
            out.extend_from_slice(&half.to_le_bytes());
        }
        Ok(())
    }
}

/// Parses one program header; `None` if there are too few bytes.
#[must_use]
pub fn parse_program_header(class: Class, bytes: &[u8]) -> Option<ProgramHeader> {
    ProgramHeader::parse_at(LittleEndian, class, &mut 0, bytes).ok()
}

/// Appends one program header's bytes.
///
/// # Errors
/// [`HeaderError::TooWide`] if a value does not fit in the class.
pub fn push_program_header(
    class: Class,
    header: &ProgramHeader,
    out: &mut Vec<u8>,
) -> Result<(), HeaderError> {
    out.extend_from_slice(&header.p_type.to_le_bytes());
    if class == Class::ELF64 {
        out.extend_from_slice(&header.p_flags.to_le_bytes());
    }
    for word in [header.p_offset, header.p_vaddr, header.p_paddr, header.p_filesz, header.p_memsz] {
        push_word(class, word, out)?;
    }
    if class == Class::ELF32 {
        out.extend_from_slice(&header.p_flags.to_le_bytes());
    }
    push_word(class, header.p_align, out)
}

/// Appends an address or size of the class.
fn push_word(class: Class, word: u64, out: &mut Vec<u8>) -> Result<(), HeaderError> {
    match class {
        Class::ELF32 => {
            let word = u32::try_from(word).map_err(|_| HeaderError::TooWide(word))?;
            out.extend_from_slice(&word.to_le_bytes());
        }
        Class::ELF64 => out.extend_from_slice(&word.to_le_bytes()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: CoreHeader = CoreHeader {
        class: Class::ELF64,
        machine: Machine::X86_64,
        e_flags: 0,
        e_phoff: 64,
        e_shoff: 0,
        e_phnum: 5,
    };

    fn encoded(header: CoreHeader) -> Vec<u8> {
        let mut bytes = Vec::new();
        header.encode(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_64_bit_header_is_these_bytes() {
        let mut expected = alloc::vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([4, 0, 62, 0, 1, 0, 0, 0]);
        expected.extend([0; 8]);
        expected.extend([64, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([0; 8]);
        expected.extend([0, 0, 0, 0, 64, 0, 56, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encoded(HEADER), expected);
    }

    #[test]
    fn a_header_of_either_class_parses_back() {
        let arm = CoreHeader {
            class: Class::ELF32,
            machine: Machine::Arm,
            e_phoff: 52,
            e_shoff: 0x1000,
            e_flags: 1,
            ..HEADER
        };
        let aarch64 = CoreHeader { machine: Machine::Aarch64, ..HEADER };
        for header in [HEADER, arm, aarch64] {
            let bytes = encoded(header);
            assert_eq!(bytes.len(), ehdr_bytes(header.class));
            assert_eq!(CoreHeader::parse(&bytes), Ok(header));
        }
    }

    #[test]
    fn a_program_header_of_either_class_parses_back() {
        let header = ProgramHeader {
            p_type: abi::PT_LOAD,
            p_flags: 7,
            p_offset: 0x1000,
            p_vaddr: 0xc000_0000,
            p_paddr: 0x1000_0000,
            p_filesz: 0x2000,
            p_memsz: 0x3000,
            p_align: 4,
        };
        for class in [Class::ELF32, Class::ELF64] {
            let mut bytes = Vec::new();
            push_program_header(class, &header, &mut bytes).unwrap();
            assert_eq!(bytes.len(), phdr_bytes(class));
            assert_eq!(parse_program_header(class, &bytes), Some(header));
            assert_eq!(parse_program_header(class, &bytes[1..]), None);
        }
        let wide = ProgramHeader { p_paddr: 1 << 32, ..header };
        assert_eq!(
            push_program_header(Class::ELF32, &wide, &mut Vec::new()),
            Err(HeaderError::TooWide(1 << 32))
        );
    }

    #[test]
    fn what_is_wrong_with_a_header_is_named() {
        let good = encoded(HEADER);
        let with = |offset: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[offset] = byte;
            CoreHeader::parse(&bytes)
        };
        assert_eq!(with(0, 0), Err(HeaderError::BadMagic([0, b'E', b'L', b'F'])));
        assert_eq!(with(4, 3), Err(HeaderError::UnsupportedIdent));
        assert_eq!(with(5, 2), Err(HeaderError::UnsupportedIdent));
        assert_eq!(with(16, 2), Err(HeaderError::NotCore(2)));
        assert_eq!(with(18, 8), Err(HeaderError::UnknownMachine(8)));
        assert_eq!(with(54, 32), Err(HeaderError::BadPhentsize(32)));
        for length in 0..good.len() {
            assert_eq!(CoreHeader::parse(&good[..length]), Err(HeaderError::Truncated(length)));
        }
    }
}
