//! A kdump-compressed file as a dump.

use std::path::{Path, PathBuf};

use vmcore::headers::Machine;
use vmcore::kdump::{
    Abi, DumpHeader, Layout, PAGE_DESCRIPTOR_BYTES, PageDescriptor, SubHeader, bitmap_bit, status,
};
use vmcore::notes::{VMCOREINFO_NAME, find_vmcoreinfo, push_note};

use super::own_note::take_own_note;
use super::{Dump, Facts, PageReader, PageState, map_of, segments_of_runs};
use crate::Error;
use crate::file::ReadAt;

/// Bytes of headers read at first: block 0 and the sub header, of the largest page size.
const HEADER_BYTES: usize = 2 * 65536;

/// Frames between two counts of the bits before: finding a page's descriptor counts at most so many bits.
const RANK_FRAMES: u64 = 4096;

/// Descriptors looked at in one read.
const DESCRIPTORS_AT_ONCE: u64 = 512;

/// A kdump-compressed file as a dump.
pub struct KdumpDump<F> {
    path: PathBuf,
    file: F,
    facts: Facts,
    layout: Layout,
    /// The second bitmap: frames that have a descriptor.
    dumped: Vec<u8>,
    /// Bits of `dumped` before every [`RANK_FRAMES`]th frame.
    ranks: Vec<u64>,
}

impl<F: ReadAt + Send + Sync> KdumpDump<F> {
    /// Reads the headers and bitmaps of `file`, which errors call `path`.
    ///
    /// # Errors
    /// [`Error`], if it is no such file, or cannot be read.
    pub fn read(path: &Path, file: F) -> Result<Self, Error> {
        let io = |error| Error::io("read dump", path)(error);
        let damaged = |what: String| Error::Damaged { path: path.to_owned(), what };
        let mut head = vec![0; HEADER_BYTES];
        let got = file.read_up_to(0, &mut head).map_err(io)?;
        head.truncate(got);
        let (abi, header) = DumpHeader::parse(&head).map_err(|error| damaged(error.to_string()))?;
        let block_bytes = usize::try_from(header.block_size).unwrap_or(0);
        let sub = head.get(block_bytes..).unwrap_or_default();
        let sub = SubHeader::parse(abi, header.header_version, sub)
            .ok_or_else(|| damaged("the sub header is cut short".to_owned()))?;
        let layout = Layout::of(&header, &sub).map_err(|error| damaged(error.to_string()))?;
        if sub.split != 0 {
            return Err(damaged(
                "it is one part of a split dump: join them with makedumpfile --reassemble".to_owned(),
            ));
        }
        let machine =
            machine_of(abi, &header).ok_or_else(|| damaged("its architecture is not known".to_owned()))?;
        let file_bytes = file.length().map_err(io)?;
        // A file cannot hold more than it has bytes: only that much is ever allocated.
        let section = |offset: u64, bytes: u64| -> Result<Vec<u8>, Error> {
            let inside = offset.checked_add(bytes).is_some_and(|end| end <= file_bytes);
            let bytes = usize::try_from(bytes).ok().filter(|_| inside);
            let mut out =
                vec![0; bytes.ok_or_else(|| damaged(format!("it ends before offset {offset:#x}")))?];
            file.read_exactly(offset, &mut out).map_err(io)?;
            Ok(out)
        };
        let ram = section(layout.first_bitmap_offset(), layout.bitmap_bytes())?;
        let dumped = section(layout.second_bitmap_offset(), layout.bitmap_bytes())?;
        let mut notes = section(sub.offset_note, sub.size_note)?;
        if find_vmcoreinfo(&notes).is_none() && sub.size_vmcoreinfo != 0 {
            let text = section(sub.offset_vmcoreinfo, sub.size_vmcoreinfo)?;
            push_note(VMCOREINFO_NAME, 0, &text, &mut notes).map_err(|error| damaged(error.to_string()))?;
        }
        let page_shift = layout.block_bytes().trailing_zeros();
        let is_complete = header.status & status::INCOMPLETE == 0;
        let either: Vec<u8> = ram.iter().zip(&dumped).map(|(ram, dumped)| ram | dumped).collect();
        let segments = segments_of_runs(bit_runs(&either, layout.max_mapnr()), page_shift);
        let mut facts = Facts {
            machine,
            page_shift,
            utsname: header.utsname.to_bytes(),
            crash_time: u64::try_from(header.timestamp_sec).unwrap_or(0),
            dump_level: u8::try_from(sub.dump_level).unwrap_or(0),
            map: map_of(&segments),
            segments,
            notes,
            is_complete,
            pulled: 0,
        };
        take_own_note(&mut facts);
        let ranks = ranks(&dumped);
        Ok(Self { path: path.to_owned(), file, facts, layout, dumped, ranks })
    }

    /// Where the descriptor of a dumped page is.
    fn descriptor_offset(&self, pfn: u64) -> u64 {
        let chunk = usize::try_from(pfn / RANK_FRAMES).unwrap_or(usize::MAX);
        let before = self.ranks.get(chunk).copied().unwrap_or(0);
        let chunk_start = pfn - pfn % RANK_FRAMES;
        let start = usize::try_from(chunk_start / 8).unwrap_or(usize::MAX);
        let end = usize::try_from(pfn / 8).unwrap_or(usize::MAX);
        let whole = self.dumped.get(start..end).unwrap_or_default();
        let in_byte = self.dumped.get(end).map_or(0, |byte| byte & ((1_u8 << (pfn % 8)) - 1));
        let rank = before + count_bits(whole) + u64::from(in_byte.count_ones());
        self.layout.descriptors_offset().saturating_add(rank.saturating_mul(PAGE_DESCRIPTOR_BYTES as u64))
    }

    /// Frames from `pfn` on whose bit is as `pfn`'s.
    fn same_bits(&self, pfn: u64) -> u64 {
        if pfn >= self.layout.max_mapnr() {
            return u64::MAX - pfn;
        }
        let bit = bitmap_bit(&self.dumped, pfn);
        let uniform = if bit { 0xff } else { 0 };
        let end = self.layout.max_mapnr();
        let mut at = pfn;
        while at < end && bitmap_bit(&self.dumped, at) == bit {
            let byte = usize::try_from(at / 8).ok().and_then(|index| self.dumped.get(index));
            at += if at.is_multiple_of(8) && byte == Some(&uniform) { 8 } else { 1 };
        }
        at.min(end).saturating_sub(pfn).max(1)
    }

    /// The descriptors of `count` dumped pages from `pfn` on, between which none is left out.
    fn descriptors(&self, pfn: u64, count: u64) -> Result<Vec<PageDescriptor>, Error> {
        let bytes = usize::try_from(count).unwrap_or(0) * PAGE_DESCRIPTOR_BYTES;
        let mut table = vec![0; bytes];
        self.file
            .read_exactly(self.descriptor_offset(pfn), &mut table)
            .map_err(Error::io("read page descriptors", &self.path))?;
        Ok(table.as_chunks::<PAGE_DESCRIPTOR_BYTES>().0.iter().map(PageDescriptor::parse).collect())
    }
}

impl<F: ReadAt + Send + Sync> Dump for KdumpDump<F> {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn state_at(&self, pfn: u64) -> Result<(PageState, u64), Error> {
        let same = self.same_bits(pfn);
        if !bitmap_bit(&self.dumped, pfn) {
            return Ok((PageState::Excluded, same));
        }
        let same = same.min(DESCRIPTORS_AT_ONCE);
        let lost: Vec<bool> = self.descriptors(pfn, same)?.iter().map(PageDescriptor::is_lost).collect();
        let first = lost.first().copied().unwrap_or(true);
        let alike = lost.iter().take_while(|&&lost| lost == first).count() as u64;
        Ok((if first { PageState::Missing } else { PageState::Data }, alike.max(1)))
    }

    fn reader(&self) -> Box<dyn PageReader + '_> {
        Box::new(KdumpReader {
            dump: self,
            descriptors: (0, Vec::new()),
            stored: Vec::new(),
            zlib: libdeflater::Decompressor::new(),
        })
    }
}

/// Reads pages, and keeps the descriptors it read last.
struct KdumpReader<'a, F> {
    dump: &'a KdumpDump<F>,
    /// First frame and its and its neighbours' descriptors.
    descriptors: (u64, Vec<PageDescriptor>),
    stored: Vec<u8>,
    zlib: libdeflater::Decompressor,
}

impl<F: ReadAt + Send + Sync> KdumpReader<'_, F> {
    fn descriptor(&mut self, pfn: u64) -> Result<PageDescriptor, Error> {
        let (first, known) = &self.descriptors;
        let cached = pfn.checked_sub(*first).and_then(|index| known.get(usize::try_from(index).ok()?));
        if let Some(descriptor) = cached {
            return Ok(*descriptor);
        }
        if !bitmap_bit(&self.dump.dumped, pfn) {
            return Err(Error::Page { pfn, what: "not in the dump".to_owned() });
        }
        let count = self.dump.same_bits(pfn).min(DESCRIPTORS_AT_ONCE);
        let descriptors = self.dump.descriptors(pfn, count)?;
        let first = descriptors.first().copied().unwrap_or(PageDescriptor::LOST);
        self.descriptors = (pfn, descriptors);
        Ok(first)
    }
}

impl<F: ReadAt + Send + Sync> PageReader for KdumpReader<'_, F> {
    fn read(&mut self, pfn: u64, page: &mut [u8]) -> Result<(), Error> {
        let descriptor = self.descriptor(pfn)?;
        let bad = |what: &str| Error::Page { pfn, what: what.to_owned() };
        let block_bytes = u32::try_from(page.len()).unwrap_or(0);
        if descriptor.is_lost() {
            return Err(bad("missing in an incomplete dump"));
        }
        if !descriptor.is_plausible(block_bytes) {
            return Err(bad("its descriptor is damaged"));
        }
        self.stored.resize(descriptor.size as usize, 0);
        let read = self.dump.file.read_exactly(descriptor.offset, &mut self.stored);
        read.map_err(Error::io("read page", &self.dump.path))?;
        match descriptor.flags & (status::ZLIB | status::LZO | status::SNAPPY | status::ZSTD) {
            0 => page.copy_from_slice(&self.stored),
            status::ZLIB => {
                if self.zlib.zlib_decompress(&self.stored, page) != Ok(page.len()) {
                    return Err(bad("its zlib data is damaged"));
                }
            }
            status::ZSTD => {
                let bytes = zstd::bulk::decompress_to_buffer(&self.stored, page);
                if bytes.ok() != Some(page.len()) {
                    return Err(bad("its zstd data is damaged"));
                }
            }
            status::LZO => {
                return Err(bad(
                    "compressed with LZO, which this version does not read: convert the dump with makedumpfile -c",
                ));
            }
            _ => {
                return Err(bad(
                    "compressed with snappy, which this version does not read: convert the dump with makedumpfile -c",
                ));
            }
        }
        Ok(())
    }
}

fn machine_of(abi: Abi, header: &DumpHeader) -> Option<Machine> {
    match (abi, header.utsname.machine()) {
        (Abi::Lp64, b"x86_64") => Some(Machine::X86_64),
        (Abi::Lp64, _) => Some(Machine::Aarch64),
        (Abi::Arm, _) => Some(Machine::Arm),
        (Abi::I386, _) => None,
    }
}

fn count_bits(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(byte.count_ones())).sum()
}

fn ranks(bitmap: &[u8]) -> Vec<u64> {
    let chunk_bytes = usize::try_from(RANK_FRAMES / 8).unwrap_or(512);
    let mut before = 0;
    bitmap
        .chunks(chunk_bytes)
        .map(|chunk| {
            let rank = before;
            before += count_bits(chunk);
            rank
        })
        .collect()
}

/// Runs of set bits below `end`.
fn bit_runs(bitmap: &[u8], end: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < end && !bitmap_bit(bitmap, at) {
            let byte = usize::try_from(at / 8).ok().and_then(|index| bitmap.get(index));
            at += if at.is_multiple_of(8) && byte == Some(&0) { 8 } else { 1 };
        }
        let first = at;
        while at < end && bitmap_bit(bitmap, at) {
            at += 1;
        }
        (at > first).then_some((first, at - first))
    })
}
