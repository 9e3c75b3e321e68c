//! Blocks: records compressed together, decompressible alone. docs/wire-format.md, "Block".

use alloc::vec::Vec;

use codec::{CodecId, DecodeError, Filter};

use crate::bytes::Reader;
use crate::frame::MAX_FRAGMENT_BYTES;

/// The most bytes of records in one block: what compresses well is compressed better in long blocks.
pub const MAX_RAW_BYTES: usize = 256 * 1024;

/// Bytes of an encoded block before its compressed data.
pub const HEADER_BYTES: usize = 24;

/// The most bytes of an encoded block: a page of 64 KiB that does not compress fits. On a line of 115200 that is seven
/// seconds, and no more is lost at once.
pub const MAX_ENCODED_BYTES: usize = HEADER_BYTES + codec::max_encoded_bytes(codec::BLOCK_BYTES);

const _: () = assert!(MAX_ENCODED_BYTES.div_ceil(MAX_FRAGMENT_BYTES) <= u8::MAX as usize);

/// A place in the order of sending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// Which pass over the machine, counting from 1.
    pub pass: u8,
    /// How far in it: in a pass over memory the next page's frame number.
    pub position: u64,
}

/// What stands before a block's compressed data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Where its first record begins.
    pub start: Cursor,
    /// Where its last record ends: what follows is asked for by this cursor.
    pub end: Cursor,
    /// How the data is compressed.
    pub codec: CodecId,
    /// What was done to it before.
    pub filter: Filter,
    /// Bytes of records once decompressed; at most [`MAX_RAW_BYTES`].
    pub raw_bytes: u32,
}

impl Cursor {
    /// The begin of everything.
    pub const START: Self = Self { pass: 1, position: 0 };
}

impl BlockHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let fields = [
            &[self.start.pass, self.end.pass, self.codec as u8, self.filter.to_wire()][..],
            &self.raw_bytes.to_le_bytes(),
            &self.start.position.to_le_bytes(),
            &self.end.position.to_le_bytes(),
        ];
        for (to, from) in out.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        out
    }

    /// The header of an encoded block, if it has one.
    pub(crate) fn of(encoded: &[u8]) -> Option<Self> {
        Self::decode(Reader::new(encoded)).ok().map(|(header, _)| header)
    }

    fn decode(mut reader: Reader<'_>) -> Result<(Self, &[u8]), BlockError> {
        let truncated = BlockError::Truncated;
        let (start_pass, end_pass) = (reader.u8().ok_or(truncated)?, reader.u8().ok_or(truncated)?);
        let codec = reader.u8().ok_or(truncated)?;
        let codec = CodecId::from_wire(codec).ok_or(BlockError::Codec(codec))?;
        let filter = reader.u8().ok_or(truncated)?;
        let filter = Filter::from_wire(filter).ok_or(BlockError::Filter(filter))?;
        let raw_bytes = reader.u32().ok_or(truncated)?;
        if raw_bytes as usize > MAX_RAW_BYTES {
            return Err(BlockError::TooLarge(raw_bytes));
        }
        let start = Cursor { pass: start_pass, position: reader.u64().ok_or(truncated)? };
        let end = Cursor { pass: end_pass, position: reader.u64().ok_or(truncated)? };
        Ok((Self { start, end, codec, filter, raw_bytes }, reader.rest()))
    }
}

/// A block's header and its records, decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The header.
    pub header: BlockHeader,
    /// Records, one after the other; read them with [`crate::Records`].
    pub raw: Vec<u8>,
}

impl Block {
    /// Decompresses an encoded block.
    ///
    /// # Errors
    /// [`BlockError`] if it is not what the format says. At most [`MAX_RAW_BYTES`] are allocated.
    pub fn decode(encoded: &[u8]) -> Result<Self, BlockError> {
        let (header, data) = BlockHeader::decode(Reader::new(encoded))?;
        let mut raw = codec::decode(header.codec, data, header.raw_bytes as usize)?;
        header.filter.undo(&mut raw);
        Ok(Self { header, raw })
    }
}

/// The CRC-32 of a whole encoded block, which every fragment of it carries.
#[must_use]
pub fn generation(encoded: &[u8]) -> u32 {
    crc32fast::hash(encoded)
}

/// Why an encoded block cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Shorter than its header.
    #[error("block shorter than its header")]
    Truncated,
    /// A codec this program does not have.
    #[error("block compressed with unknown codec {0}")]
    Codec(u8),
    /// A filter this program does not have.
    #[error("block filtered with unknown filter {0}")]
    Filter(u8),
    /// It says it is larger than blocks are.
    #[error("block of {0} bytes, more than {MAX_RAW_BYTES}")]
    TooLarge(u32),
    /// The compressed data is wrong.
    #[error("block does not decompress: {0}")]
    Decode(#[from] DecodeError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> BlockHeader {
        BlockHeader {
            start: Cursor { pass: 1, position: 5 },
            end: Cursor { pass: 2, position: 0x1_0000 },
            codec: CodecId::None,
            filter: Filter::Delta(64),
            raw_bytes: 3,
        }
    }

    /// The worked example of docs/wire-format.md.
    #[test]
    fn a_header_has_these_bytes() {
        #[rustfmt::skip]
        assert_eq!(header().encode(), [
            1, 2,                    // start and end pass
            0, 64,                   // codec, filter
            3, 0, 0, 0,              // raw bytes
            5, 0, 0, 0, 0, 0, 0, 0,  // start position
            0, 0, 1, 0, 0, 0, 0, 0,  // end position
        ]);
    }

    #[test]
    fn hostile_headers_are_errors() {
        let with = |at: usize, value: u8| {
            let mut bytes = header().encode().to_vec();
            bytes[at] = value;
            bytes.extend_from_slice(b"abc");
            Block::decode(&bytes)
        };
        assert_eq!(with(2, 77), Err(BlockError::Codec(77)));
        assert_eq!(with(3, 4), Err(BlockError::Filter(4)));
        assert_eq!(with(7, 0xff), Err(BlockError::TooLarge(0xff00_0003)));
        assert!(matches!(with(4, 9), Err(BlockError::Decode(_))));
        assert_eq!(Block::decode(&header().encode()[..20]), Err(BlockError::Truncated));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_make_more_than_a_block(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            if let Ok(block) = Block::decode(&bytes) {
                prop_assert!(block.raw.len() <= MAX_RAW_BYTES);
            }
        }
    }
}
