//! A flattened dump, read as the plain file it was made of.

use std::collections::BTreeMap;
use std::io;

use vmcore::flattened::{HEADER_BYTES, RECORD_HEAD_BYTES, RecordHead, check_header};

use crate::file::ReadAt;

/// Records held at most: a hostile file may consist of nothing else.
const MAX_RECORDS: usize = 1 << 24;

/// The plain file inside a flattened one. What no record covers is zero, as in a file written with holes.
pub struct Flattened<F> {
    file: F,
    /// Offset in the plain file → bytes, and where they are in the flattened one. Pieces do not overlap.
    pieces: BTreeMap<u64, Piece>,
    length: u64,
    is_whole: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    bytes: u64,
    at: u64,
}

impl<F: ReadAt> Flattened<F> {
    /// Walks the records of `file`. One that was cut ends before the cut.
    ///
    /// # Errors
    /// Those of `file`, and `InvalidData` if it is not flattened.
    pub fn read(file: F) -> io::Result<Self> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut header = [0; HEADER_BYTES];
        file.read_exactly(0, &mut header)?;
        check_header(&header).map_err(|error| invalid(error.to_string()))?;
        let file_bytes = file.length()?;
        let mut plain = Self { file, pieces: BTreeMap::new(), length: 0, is_whole: false };
        let mut at = HEADER_BYTES as u64;
        let mut head = [0; RECORD_HEAD_BYTES];
        while plain.file.read_up_to(at, &mut head)? == RECORD_HEAD_BYTES {
            let data_at = at + RECORD_HEAD_BYTES as u64;
            match RecordHead::parse(&head).map_err(|error| invalid(error.to_string()))? {
                RecordHead::End => {
                    plain.is_whole = true;
                    break;
                }
                RecordHead::Data { offset, bytes } => {
                    let here = bytes.min(file_bytes.saturating_sub(data_at));
                    if here > 0 {
                        plain.insert(offset, Piece { bytes: here, at: data_at });
                    }
                    if plain.pieces.len() > MAX_RECORDS {
                        return Err(invalid(format!("more than {MAX_RECORDS} flattened records")));
                    }
                    at = data_at.saturating_add(bytes);
                }
            }
        }
        Ok(plain)
    }

    /// Whether the record that ends the stream was there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Adds a piece; where it overlaps with earlier ones it counts, as if it were written over them.
    fn insert(&mut self, offset: u64, piece: Piece) {
        let end = offset.saturating_add(piece.bytes);
        self.length = self.length.max(end);
        let overlapping: Vec<(u64, Piece)> = self
            .pieces
            .range(..end)
            .rev()
            .take_while(|(start, old)| *start + old.bytes > offset)
            .map(|(&start, &old)| (start, old))
            .collect();
        for (start, old) in overlapping {
            self.pieces.remove(&start);
            if start < offset {
                self.pieces.insert(start, Piece { bytes: offset - start, ..old });
            }
            let old_end = start + old.bytes;
            if old_end > end {
                self.pieces.insert(end, Piece { bytes: old_end - end, at: old.at + (end - start) });
            }
        }
        self.pieces.insert(offset, piece);
    }
}

impl<F: ReadAt> ReadAt for Flattened<F> {
    fn read_up_to(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let count = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
        let buf = buf.get_mut(..count).unwrap_or_default();
        buf.fill(0);
        let end = offset.saturating_add(count as u64);
        let before = self.pieces.range(..=offset).next_back().map_or(offset, |(&start, _)| start);
        for (&start, piece) in self.pieces.range(before..end) {
            let (from, to) = (start.max(offset), (start + piece.bytes).min(end));
            if from >= to {
                continue;
            }
            let place = usize::try_from(from - offset).unwrap_or(usize::MAX);
            let bytes = usize::try_from(to - from).unwrap_or(0);
            if let Some(part) = buf.get_mut(place..).and_then(|rest| rest.get_mut(..bytes)) {
                self.file.read_exactly(piece.at + (from - start), part)?;
            }
        }
        Ok(count)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vmcore::flattened::header;

    fn flattened(records: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let mut file = header().to_vec();
        for (offset, data) in records {
            let head = RecordHead::Data { offset: *offset, bytes: data.len() as u64 };
            file.extend(head.encode().unwrap());
            file.extend(data);
        }
        file.extend(RecordHead::End.encode().unwrap());
        file
    }

    proptest! {
        #[test]
        fn what_comes_later_is_written_over_what_came_before(
            records in prop::collection::vec((0u64..200, prop::collection::vec(any::<u8>(), 1..60)), 0..12),
        ) {
            let mut expected = Vec::new();
            for (offset, data) in &records {
                let offset = usize::try_from(*offset).unwrap();
                if expected.len() < offset + data.len() {
                    expected.resize(offset + data.len(), 0);
                }
                expected[offset..offset + data.len()].copy_from_slice(data);
            }
            let plain = Flattened::read(flattened(&records)).unwrap();
            prop_assert!(plain.is_whole());
            for start in [0, 1, 50, 199, 300] {
                let mut got = vec![0xee; 100];
                let count = plain.read_up_to(start, &mut got).unwrap();
                let start = usize::try_from(start).unwrap().min(expected.len());
                let end = (start + 100).min(expected.len());
                prop_assert_eq!(&got[..count], &expected[start..end]);
            }
        }
    }

    #[test]
    fn a_flattened_file_that_was_cut_gives_what_it_has() {
        let mut file = flattened(&[(0, vec![1; 10]), (20, vec![2; 10])]);
        file.truncate(file.len() - 16 - 4);
        let plain = Flattened::read(file).unwrap();
        assert!(!plain.is_whole());
        let mut got = [9; 40];
        assert_eq!(plain.read_up_to(0, &mut got).unwrap(), 26);
        assert_eq!(got[18..26], [0, 0, 2, 2, 2, 2, 2, 2]);
    }
}
