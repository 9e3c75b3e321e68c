//! The machine's memory as QEMU sees it, to compare a dump with page for page.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use goblin::container::{Ctx, Endian};
use goblin::elf::Elf;
use goblin::elf::header::header64;
use goblin::elf::program_header::{PT_LOAD, ProgramHeader};

use crate::outcome::{Error, IoContext, Result};

/// Size of a page frame.
pub const PAGE_SIZE: usize = 4096;

/// Physical memory in the ELF file QEMU's `dump-guest-memory` wrote.
///
/// Read from the file on demand, so that a machine of many gigabytes needs no memory here.
#[derive(Debug)]
pub struct Truth {
    path: PathBuf,
    file: File,
    /// In the order of their addresses.
    segments: Vec<Segment>,
}

#[derive(Debug)]
struct Segment {
    physical: Range<u64>,
    offset: u64,
}

impl Truth {
    /// Opens a file written by [`Machine::dump_truth`](crate::Machine::dump_truth).
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is not a little-endian ELF file with memory in it.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).on("open", path)?;
        let malformed = |reason: String| Error::malformed(path, reason);
        // The larger of the two kinds of header; program headers follow even the smaller.
        let mut header = [0; header64::SIZEOF_EHDR];
        file.read_exact_at(&mut header, 0).on("read", path)?;
        let header = Elf::parse_header(&header).map_err(|error| malformed(error.to_string()))?;
        let count = usize::from(header.e_phnum);
        let mut table = vec![0; count * usize::from(header.e_phentsize)];
        file.read_exact_at(&mut table, header.e_phoff).on("read the program headers of", path)?;
        let container = header.container().map_err(|error| malformed(error.to_string()))?;
        let context = Ctx::new(container, Endian::Little);
        let headers = ProgramHeader::parse(&table, 0, count, context);
        let mut segments = headers
            .map_err(|error| malformed(error.to_string()))?
            .iter()
            .filter(|header| header.p_type == PT_LOAD && header.p_filesz > 0)
            .map(|header| {
                let end = header.p_paddr.checked_add(header.p_filesz);
                let physical =
                    header.p_paddr..end.ok_or_else(|| malformed("a segment without end".into()))?;
                Ok(Segment { physical, offset: header.p_offset })
            })
            .collect::<Result<Vec<Segment>>>()?;
        segments.sort_by_key(|segment| segment.physical.start);
        if segments.is_empty() {
            return Err(malformed("no memory in it".into()));
        }
        Ok(Self { path: path.to_owned(), file, segments })
    }

    /// The ranges of physical addresses the machine has, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.segments.iter().map(|segment| segment.physical.clone())
    }

    /// Whether all of `length` bytes from `address` on are memory of the machine.
    pub fn contains(&self, address: u64, length: u64) -> bool {
        self.segment(address, length).is_some()
    }

    /// Reads physical memory from `address` on.
    ///
    /// # Errors
    /// [`Error::Malformed`] if there is no memory at some of these addresses.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        let segment = self.segment(address, bytes.len() as u64).ok_or_else(|| {
            Error::malformed(&self.path, format!("no memory at {address:#x}+{:#x}", bytes.len()))
        })?;
        let offset = segment.offset + (address - segment.physical.start);
        self.file.read_exact_at(bytes, offset).on("read", &self.path)
    }

    /// The page with frame number `pfn` (of 4 KiB).
    ///
    /// # Errors
    /// [`Error::Malformed`] if the machine has no such page.
    pub fn page(&self, pfn: u64) -> Result<[u8; PAGE_SIZE]> {
        let mut page = [0; PAGE_SIZE];
        self.read(pfn.saturating_mul(PAGE_SIZE as u64), &mut page)?;
        Ok(page)
    }

    /// The frame numbers of all whole pages, in order.
    pub fn pfns(&self) -> impl Iterator<Item = u64> {
        let size = PAGE_SIZE as u64;
        self.segments
            .iter()
            .flat_map(move |segment| segment.physical.start.div_ceil(size)..segment.physical.end / size)
    }

    fn segment(&self, address: u64, length: u64) -> Option<&Segment> {
        let end = address.checked_add(length)?;
        self.segments.iter().find(|segment| segment.physical.start <= address && end <= segment.physical.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// An ELF file with these segments: physical address, bytes.
    fn elf(segments: &[(u64, Vec<u8>)]) -> tempfile::NamedTempFile {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(16, 0);
        for field in [4u16, 62] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(1u32.to_le_bytes());
        for field in [0u64, 64, 0] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(0u32.to_le_bytes());
        for field in [64u16, 56, u16::try_from(segments.len()).unwrap(), 0, 0, 0] {
            bytes.extend(field.to_le_bytes());
        }
        let mut offset = 64 + 56 * segments.len() as u64;
        for (address, content) in segments {
            bytes.extend(1u32.to_le_bytes());
            bytes.extend(7u32.to_le_bytes());
            let size = content.len() as u64;
            for field in [offset, 0, *address, size, size, 0] {
                bytes.extend(field.to_le_bytes());
            }
            offset += size;
        }
        segments.iter().for_each(|(_, content)| bytes.extend(content));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        file
    }

    #[test]
    fn pages_are_found_by_their_physical_address() {
        let file = elf(&[(0x10_0000, vec![2; 2 * PAGE_SIZE]), (0, vec![1; PAGE_SIZE])]);
        let truth = Truth::open(file.path()).unwrap();
        assert_eq!(truth.pfns().collect::<Vec<_>>(), [0, 0x100, 0x101]);
        assert_eq!(truth.page(0).unwrap(), [1; PAGE_SIZE]);
        assert_eq!(truth.page(0x101).unwrap(), [2; PAGE_SIZE]);
        assert!(truth.page(1).is_err());
        assert!(!truth.contains(0x10_1000, 2 * PAGE_SIZE as u64));
    }

    /// A 32-bit ELF file with one page, full of `byte`, at this physical address.
    fn elf32(address: u32, byte: u8) -> tempfile::NamedTempFile {
        let mut bytes = b"\x7fELF\x01\x01\x01".to_vec();
        bytes.resize(16, 0);
        bytes.extend([4u16, 40].map(u16::to_le_bytes).as_flattened());
        bytes.extend([1u32, 0, 52, 0, 0].map(u32::to_le_bytes).as_flattened());
        bytes.extend([52u16, 32, 1, 0, 0, 0].map(u16::to_le_bytes).as_flattened());
        let size = u32::try_from(PAGE_SIZE).unwrap();
        bytes.extend([1u32, 84, 0, address, size, size, 7, 0].map(u32::to_le_bytes).as_flattened());
        bytes.resize(bytes.len() + PAGE_SIZE, byte);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        file
    }

    #[test]
    fn a_machine_of_32_bits_has_memory_above_2_gib() {
        let file = elf32(0x8000_1000, 3);
        let truth = Truth::open(file.path()).unwrap();
        assert_eq!(truth.pfns().collect::<Vec<_>>(), [0x8_0001]);
        assert_eq!(truth.page(0x8_0001).unwrap(), [3; PAGE_SIZE]);
    }

    #[test]
    fn a_file_that_is_no_dump_is_refused() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[0; 4096]).unwrap();
        assert!(matches!(Truth::open(file.path()), Err(Error::Malformed { .. })));
        let truncated = elf(&[]);
        assert!(matches!(Truth::open(truncated.path()), Err(Error::Malformed { .. })));
    }
}
