//! Records: what a block says once it is decompressed. docs/wire-format.md, "Record".

use alloc::vec::Vec;

use crate::bytes::Reader;

/// Frame numbers end where the widest physical addresses (52 bits) do, for the smallest pages.
pub(crate) const MAX_PFN: u64 = 1 << 40;

/// One statement about the crashed machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// Tag 1: a whole page.
    Page {
        /// Its frame number.
        pfn: u64,
        /// One page.
        bytes: &'a [u8],
    },
    /// Tag 2: pages filled with one 64-bit word, zero above all.
    Fill {
        /// The first one's frame number.
        pfn: u64,
        /// How many, at least one.
        pages: u32,
        /// The word, as a little-endian number.
        word: u64,
    },
    /// Tag 3: pages that could not be read.
    Hole {
        /// The first one's frame number.
        pfn: u64,
        /// How many, at least one.
        pages: u32,
        /// Why; the numbers of `memory::ReadFaultKind`.
        reason: u8,
    },
    /// Tag 4: part of a page, where a RAM range begins or ends inside it.
    Bytes {
        /// Physical address of the first byte.
        pa: u64,
        /// Less than a page, and within one page.
        bytes: &'a [u8],
    },
    /// Tag 5: part of something that describes the machine.
    Meta {
        /// What.
        kind: MetaKind,
        /// Where `bytes` belong in it.
        offset: u32,
        /// How many bytes it has in all.
        total: u32,
        /// At most [`MAX_META_BYTES`].
        bytes: &'a [u8],
    },
}

/// What a [`Record::Meta`] is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum MetaKind {
    /// ELF header and program headers of the elfcorehdr, as the crashed kernel left them.
    Elfcorehdr = 1,
    /// All ELF notes: NT_PRSTATUS of each CPU that saved its registers, then VMCOREINFO.
    Notes = 2,
    /// The kernel log as text.
    Log = 3,
    /// Pages of RAM by class: eight 64-bit numbers, in the order of `memory::PageClass`.
    Counts = 4,
}

/// The most bytes of one [`Record::Meta`].
pub const MAX_META_BYTES: usize = 4096;

/// The most bytes something described by [`Record::Meta`] may have: notes of 8192 CPUs fit.
pub const MAX_META_TOTAL: u32 = 8 << 20;

impl MetaKind {
    fn from_wire(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Elfcorehdr),
            2 => Some(Self::Notes),
            3 => Some(Self::Log),
            4 => Some(Self::Counts),
            _ => None,
        }
    }
}

impl Record<'_> {
    /// Appends the record to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Page { pfn, bytes } => {
                push_head(1, pfn, out);
                out.extend_from_slice(bytes);
            }
            Self::Fill { pfn, pages, word } => {
                push_head(2, pfn, out);
                out.extend_from_slice(&word.to_le_bytes());
                out.extend_from_slice(&u64::from(pages).to_le_bytes());
            }
            Self::Hole { pfn, pages, reason } => {
                push_head(3, pfn, out);
                out.extend_from_slice(&(u64::from(pages) | u64::from(reason) << 32).to_le_bytes());
            }
            Self::Bytes { pa, bytes } => {
                out.push(4);
                out.extend_from_slice(&pa.to_le_bytes());
                push_length(bytes.len(), out);
                out.extend_from_slice(bytes);
            }
            Self::Meta { kind, offset, total, bytes } => {
                out.push(5);
                out.push(kind as u8);
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(&total.to_le_bytes());
                push_length(bytes.len(), out);
                out.extend_from_slice(bytes);
            }
        }
    }
}

/// The first 8 bytes of a record about pages: pages stay aligned to 8 bytes in their block, which compresses better.
fn push_head(tag: u8, pfn: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&(u64::from(tag) | pfn << 8).to_le_bytes());
}

fn push_length(length: usize, out: &mut Vec<u8>) {
    debug_assert!(length <= usize::from(u16::MAX), "pieces of pages and of notes are shorter than 64 KiB");
    out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
}

/// The records of a decompressed block, each with its own bytes (for the digest).
///
/// Ends after the first error: where a record is wrong, the next one's start is unknown.
#[derive(Clone)]
pub struct Records<'a> {
    block: &'a [u8],
    at: usize,
    page_shift: u32,
    failed: bool,
}

/// A record and where it lies in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located<'a> {
    /// The record.
    pub record: Record<'a>,
    /// Offset of its tag in the decompressed block.
    pub offset: usize,
    /// All its bytes, from the tag on.
    pub encoded: &'a [u8],
}

impl<'a> Records<'a> {
    /// Reads the records of `block`, whose pages have `1 << page_shift` bytes.
    #[must_use]
    pub fn new(block: &'a [u8], page_shift: u32) -> Self {
        Self { block, at: 0, page_shift, failed: false }
    }

    fn decode(&self, reader: &mut Reader<'a>) -> Option<Record<'a>> {
        let page_bytes = 1usize.checked_shl(self.page_shift)?;
        let record = match reader.u8()? {
            1 => Record::Page { pfn: pfn(reader)?, bytes: reader.take(page_bytes)? },
            2 => {
                let (pfn, word, pages) = (pfn(reader)?, reader.u64()?, reader.u64()?);
                Record::Fill { pfn, pages: u32::try_from(pages).ok()?, word }
            }
            3 => {
                let (pfn, pages, reason) = (pfn(reader)?, reader.u32()?, reader.u32()?);
                Record::Hole { pfn, pages, reason: u8::try_from(reason).ok()? }
            }
            4 => {
                let pa = reader.u64()?;
                let length = usize::from(reader.u16()?);
                Record::Bytes { pa, bytes: reader.take(length)? }
            }
            5 => {
                let kind = MetaKind::from_wire(reader.u8()?)?;
                let (offset, total) = (reader.u32()?, reader.u32()?);
                let length = usize::from(reader.u16()?);
                Record::Meta { kind, offset, total, bytes: reader.take(length)? }
            }
            _ => return None,
        };
        record.is_sound(page_bytes).then_some(record)
    }
}

/// The frame number behind a tag: 7 bytes.
fn pfn(reader: &mut Reader<'_>) -> Option<u64> {
    let [a, b, c, d, e, f, g] = reader.array()?;
    Some(u64::from_le_bytes([a, b, c, d, e, f, g, 0])).filter(|&pfn| pfn < MAX_PFN)
}

impl Record<'_> {
    /// Whether the numbers stay within the bounds that the format states.
    fn is_sound(&self, page_bytes: usize) -> bool {
        match *self {
            Self::Page { .. } => true,
            Self::Fill { pfn, pages, .. } | Self::Hole { pfn, pages, .. } => {
                pages > 0 && pfn + u64::from(pages) <= MAX_PFN
            }
            Self::Bytes { pa, bytes } => {
                let in_page = usize::try_from(pa % page_bytes as u64).unwrap_or(page_bytes);
                !bytes.is_empty()
                    && bytes.len() < page_bytes
                    && in_page + bytes.len() <= page_bytes
                    && pa / (page_bytes as u64) < MAX_PFN
            }
            Self::Meta { offset, total, bytes, .. } => {
                let end = u64::from(offset) + bytes.len() as u64;
                bytes.len() <= MAX_META_BYTES && total <= MAX_META_TOTAL && end <= u64::from(total)
            }
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Located<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.block.get(self.at..).filter(|rest| !rest.is_empty() && !self.failed)?;
        let mut reader = Reader::new(rest);
        let offset = self.at;
        let Some(record) = self.decode(&mut reader) else {
            self.failed = true;
            return Some(Err(RecordError { offset }));
        };
        let length = rest.len() - reader.rest().len();
        self.at += length;
        Some(Ok(Located { record, offset, encoded: rest.get(..length).unwrap_or_default() }))
    }
}

/// A record that breaks the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed record at offset {offset} of its block")]
pub struct RecordError {
    /// Where in the decompressed block.
    pub offset: usize,
}

/// What a record adds to the digest of a session: the digest is the wrapping sum over all its records.
#[must_use]
pub fn digest(encoded_record: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(encoded_record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn encoded(record: &Record<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        record.encode(&mut out);
        out
    }

    /// The worked examples of docs/wire-format.md.
    #[test]
    fn records_have_these_bytes() {
        assert_eq!(
            encoded(&Record::Fill { pfn: 0x1234, pages: 3, word: 0xcc }),
            [2, 0x34, 0x12, 0, 0, 0, 0, 0, 0xcc, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            encoded(&Record::Hole { pfn: 1, pages: 2, reason: 3 }),
            [3, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]
        );
        assert_eq!(
            encoded(&Record::Bytes { pa: 0x9f_c00, bytes: b"ab" }),
            [4, 0, 0xfc, 9, 0, 0, 0, 0, 0, 2, 0, b'a', b'b']
        );
        assert_eq!(
            encoded(&Record::Meta { kind: MetaKind::Notes, offset: 16, total: 20, bytes: b"xyz" }),
            [5, 2, 16, 0, 0, 0, 20, 0, 0, 0, 3, 0, b'x', b'y', b'z']
        );
        let page = [0x5a; 4096];
        let bytes = encoded(&Record::Page { pfn: 1, bytes: &page });
        assert_eq!((&bytes[..8], bytes.len()), (&[1, 1, 0, 0, 0, 0, 0, 0][..], 8 + 4096));
    }

    #[test]
    fn a_malformed_record_ends_its_block_but_not_those_before_it() {
        let mut block = encoded(&Record::Fill { pfn: 1, pages: 1, word: 0 });
        let good = block.len();
        block.extend_from_slice(&[99, 1, 2, 3]);
        let records: Vec<_> = Records::new(&block, 12).collect();
        assert_eq!(records.len(), 2);
        assert!(records[0].is_ok());
        assert_eq!(records[1], Err(RecordError { offset: good }));
    }

    #[test]
    fn numbers_outside_the_format_are_refused() {
        for bad in [
            Record::Fill { pfn: 1, pages: 0, word: 0 },
            Record::Fill { pfn: MAX_PFN - 1, pages: 2, word: 0 },
            Record::Hole { pfn: MAX_PFN, pages: 1, reason: 1 },
            Record::Bytes { pa: 4095, bytes: b"ab" },
            Record::Bytes { pa: 0, bytes: b"" },
            Record::Bytes { pa: u64::MAX - 1, bytes: b"a" },
            Record::Bytes { pa: 0, bytes: &vec![0; 4096] },
            Record::Meta { kind: MetaKind::Notes, offset: 2, total: 2, bytes: b"a" },
            Record::Meta { kind: MetaKind::Notes, offset: 0, total: MAX_META_TOTAL + 1, bytes: b"a" },
        ] {
            assert!(Records::new(&encoded(&bad), 12).next().unwrap().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes_to_itself(pfn in 0u64..1 << 36, pages in 1u32..1000, word: u64, reason: u8) {
            let page = vec![reason; 4096];
            let records = [
                Record::Page { pfn, bytes: &page },
                Record::Fill { pfn, pages, word },
                Record::Hole { pfn, pages, reason },
                Record::Bytes { pa: pfn << 12 | 0x800, bytes: &page[..100] },
                Record::Meta { kind: MetaKind::Elfcorehdr, offset: 5, total: 4101, bytes: &page },
            ];
            let mut block = Vec::new();
            for record in &records {
                record.encode(&mut block);
            }
            let decoded: Vec<_> = Records::new(&block, 12).map(|r| r.unwrap().record).collect();
            prop_assert_eq!(decoded, records);
        }

        #[test]
        fn arbitrary_blocks_end(block in prop::collection::vec(any::<u8>(), 0..5000), page_shift in 0u32..70) {
            prop_assert!(Records::new(&block, page_shift).count() <= block.len() + 1);
        }
    }
}
