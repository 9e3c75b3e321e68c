//! A page of a session: what it is made of, and the blocks that its bytes are in.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use ::memory::{MemoryMap, Pfn};
use wire::Block;

use super::assembly::{Assembly, BlockPlace};
use crate::file::ReadAt;
use crate::index::{Part, Place};

/// Decoded blocks that are kept: passes that interleave, and the early ones' scattered pages.
const CACHED_BLOCKS: usize = 16;

/// What a page is made of.
pub(crate) enum Made {
    /// All of it is in a block.
    Whole(Piece),
    /// Parts of it are RAM, and have come; the rest is zero.
    Parts(Vec<Piece>),
    /// Each 64-bit word is this one.
    Filled(u64),
    /// It could not be read.
    Hole,
    /// It has not come.
    Nothing,
}

/// Bytes of a page that are in a block.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    /// Which block, in the order of arrival.
    pub(crate) block: u32,
    place: BlockPlace,
    /// Where they begin in the decoded block.
    offset: u32,
    /// Where they belong in the page, and how many they are; `None`: they are the whole page.
    part: Option<(usize, usize)>,
}

impl Piece {
    /// Copies the bytes out of the decoded block to where they belong in `page`; `false` if it does not have them.
    pub(crate) fn copy(&self, raw: &[u8], page: &mut [u8]) -> bool {
        let (start, bytes) = self.part.unwrap_or((0, page.len()));
        let to = page.get_mut(start..).and_then(|rest| rest.get_mut(..bytes));
        let from = raw.get(self.offset as usize..).and_then(|rest| rest.get(..bytes));
        match (to, from) {
            (Some(to), Some(from)) => {
                to.copy_from_slice(from);
                true
            }
            _ => false,
        }
    }

    /// Reads the block out of its journal.
    ///
    /// # Errors
    /// Those of the file, and `InvalidData` if it cannot be decoded.
    pub(crate) fn decode(&self, journal: &(impl ReadAt + ?Sized)) -> io::Result<Vec<u8>> {
        let mut encoded = vec![0; self.place.bytes as usize];
        journal.read_exactly(self.place.offset, &mut encoded)?;
        let invalid = |error: wire::BlockError| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
        Ok(Block::decode(&encoded).map_err(invalid)?.raw)
    }
}

impl Assembly {
    /// What page `pfn` is made of.
    ///
    /// # Errors
    /// Those of the index's files.
    pub(crate) fn page(&self, pfn: u64) -> io::Result<Made> {
        let place = self.index.run_at(pfn)?.0;
        match place {
            Some(Place::Block { block, offset }) => {
                let piece = self.place(block)?.map(|place| Piece { block, place, offset, part: None });
                return Ok(piece.map_or(Made::Nothing, Made::Whole));
            }
            Some(Place::Fill(word)) => return Ok(Made::Filled(word)),
            Some(Place::Hole(_)) | None => {}
        }
        let mut pieces = Vec::new();
        if let Some(pa) = Pfn(pfn).start(u32::from(self.header().page_shift)) {
            for (at, Part { block, offset, bytes }) in self.index.parts_of_page(pa.0) {
                let start = usize::try_from(at - pa.0).unwrap_or(usize::MAX);
                let part = Some((start, bytes as usize));
                pieces.extend(self.place(block)?.map(|place| Piece { block, place, offset, part }));
            }
        }
        Ok(match place {
            _ if !pieces.is_empty() => Made::Parts(pieces),
            Some(_) => Made::Hole,
            None => Made::Nothing,
        })
    }

    /// Whether all RAM of page `pfn`, as `map` has it, came in parts; `None` if no part came.
    pub(crate) fn has_parts(&self, pfn: u64, map: &MemoryMap) -> Option<bool> {
        let page_shift = u32::from(self.header().page_shift);
        let pa = Pfn(pfn).start(page_shift)?;
        self.index.parts_of_page(pa.0).next()?;
        let page_end = pa.checked_add(1_u64.checked_shl(page_shift)?)?;
        let mut ram = map.pages_from(Pfn(pfn), page_shift).take_while(|part| part.pfn.0 == pfn);
        Some(ram.all(|part| {
            let (start, end) = (pa.0 + part.offset, pa.0 + part.offset + part.bytes);
            // A sender cuts what is too long for one record: pieces that join are as good.
            let reached = self.index.parts_of_page(pa.0).fold(start, |reached, (at, came)| {
                let joins = at <= reached;
                if joins { reached.max(at.saturating_add(u64::from(came.bytes))) } else { reached }
            });
            end <= page_end.0 && reached >= end
        }))
    }
}

/// The blocks that were used last, decoded.
#[derive(Default)]
pub(crate) struct DecodedBlocks {
    /// Most recently used last.
    cache: VecDeque<(u32, Arc<Vec<u8>>)>,
}

impl DecodedBlocks {
    /// Block `number`, in the order of arrival, if it is kept.
    pub(crate) fn get(&mut self, number: u32) -> Option<Arc<Vec<u8>>> {
        let place = self.cache.iter().position(|(cached, _)| *cached == number)?;
        let entry = self.cache.remove(place)?;
        let raw = Arc::clone(&entry.1);
        self.cache.push_back(entry);
        Some(raw)
    }

    /// Keeps it; the one that was not used for longest goes.
    pub(crate) fn keep(&mut self, number: u32, raw: Vec<u8>) -> Arc<Vec<u8>> {
        if self.cache.len() >= CACHED_BLOCKS {
            self.cache.pop_front();
        }
        let raw = Arc::new(raw);
        self.cache.push_back((number, Arc::clone(&raw)));
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Summary;
    use codec::{CodecId, Filter};
    use vmcore::elfcorehdr::LoadSegment;
    use wire::{BlockHeader, Cursor, Record, SessionHeader, SessionId};

    /// Adds a block with these bytes.
    fn add(assembly: &mut Assembly, number: u32, pa: u64, bytes: usize) {
        let mut raw = Vec::new();
        Record::Bytes { pa, bytes: &vec![1; bytes] }.encode(&mut raw);
        let header = BlockHeader {
            start: Cursor { pass: 0, position: 1 },
            end: Cursor { pass: 0, position: 2 },
            codec: CodecId::None,
            filter: Filter::None,
            raw_bytes: u32::try_from(raw.len()).unwrap(),
        };
        let encoded = [&header.encode()[..], &raw].concat();
        let summary = Summary::of(assembly.next_block(), &encoded, 16).unwrap();
        assembly.add((1, number), 0, 0, encoded.len(), Some(summary)).unwrap();
    }

    #[test]
    fn of_a_page_of_64_kib_a_part_in_several_records_has_come_once_they_join() {
        let header = SessionHeader {
            e_machine: 183,
            page_shift: 16,
            dump_level: 0,
            crash_time: 1,
            ram_pages: 1,
            utsname: [0; wire::UTSNAME_BYTES],
        };
        let mut assembly = Assembly::new(SessionId(1), header, &std::env::temp_dir());
        let (start, bytes) = (0x1_c800, 0x3800);
        let (map, faults) = MemoryMap::from_segments(&[LoadSegment {
            p_vaddr: 0,
            p_offset: start,
            p_paddr: start,
            p_filesz: bytes,
            p_memsz: bytes,
        }]);
        assert!(faults.is_empty());
        assert_eq!(assembly.has_parts(1, &map), None);
        for (number, (pa, bytes, has_all)) in (0..).zip([
            (0x1_c800, 0x1000, false),
            (0x1_e800, 0x1000, false),
            (0x1_f800, 0x800, false),
            (0x1_d800, 0x1000, true),
        ]) {
            add(&mut assembly, number, pa, bytes);
            assert_eq!(assembly.has_parts(1, &map), Some(has_all), "{pa:#x}");
        }
        assert!(matches!(assembly.page(1), Ok(Made::Parts(pieces)) if pieces.len() == 4));
    }
}
