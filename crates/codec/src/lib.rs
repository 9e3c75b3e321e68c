//! Block compression behind one trait.
//!
//! # Terms
//! - **Codec**: a compression method, known on the wire by its [`CodecId`].
//! - **Block**: what is compressed and decompressed by itself; nothing carries over from one to the next.
//!
//! # Flow
//! The sender calls [`Encoder::begin`], then [`Encoder::write`] with pieces of at most a few KiB (so that it can look
//! after its line in between), then [`Encoder::finish`]. The receiver calls [`decode`] with the whole block.
//!
//! Encoders own all their memory from the moment they are made: nothing is allocated while compressing.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::cast_possible_truncation, reason = "test data"))]

extern crate alloc;

mod deflate;
mod filter;
mod none;

use alloc::boxed::Box;
use alloc::vec::Vec;

pub use deflate::Deflate;
pub use filter::{Filter, Filtering};
pub use none::Stored;

/// A codec's number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CodecId {
    /// Bytes as they are.
    None = 0,
    /// Raw deflate (RFC 1951).
    Deflate = 1,
}

impl CodecId {
    /// The codec with this number, if there is one.
    #[must_use]
    pub fn from_wire(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Deflate),
            _ => None,
        }
    }

    /// An encoder for this codec, with everything it will ever need allocated.
    #[must_use]
    pub fn encoder(self) -> Box<dyn Encoder> {
        match self {
            Self::None => Box::new(Stored),
            Self::Deflate => Box::new(Deflate::new()),
        }
    }
}

/// The most bytes an encoder makes of `raw_bytes`, whatever they are.
///
/// Deflate falls back to stored blocks, each with 5 bytes of header (RFC 1951 §3.2.4); miniz_oxide emits one at least
/// every 31 KiB, and 64 bytes leave room for several.
#[must_use]
pub const fn max_encoded_bytes(raw_bytes: usize) -> usize {
    raw_bytes + 64
}

/// Compresses one block at a time.
pub trait Encoder {
    /// What is written into the block's header.
    fn id(&self) -> CodecId;

    /// Starts a new block, whatever became of the one before.
    fn begin(&mut self);

    /// Appends `input` to the block. `out` receives what is ready.
    ///
    /// # Errors
    /// [`OutputFull`] once `out` would grow past its capacity; the block is then lost.
    fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), OutputFull>;

    /// Ends the block.
    ///
    /// # Errors
    /// As [`Encoder::write`].
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), OutputFull>;
}

/// Appends to `out` without ever growing its allocation.
fn append(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), OutputFull> {
    if out.capacity().saturating_sub(out.len()) < bytes.len() {
        return Err(OutputFull);
    }
    out.extend_from_slice(bytes);
    Ok(())
}

/// The output buffer's capacity is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the compressed block does not fit its buffer")]
pub struct OutputFull;

/// Decompresses a whole block of exactly `raw_bytes` bytes.
///
/// # Errors
/// [`DecodeError`] if `input` is damaged or makes another number of bytes. At most `raw_bytes` are ever allocated.
pub fn decode(codec: CodecId, input: &[u8], raw_bytes: usize) -> Result<Vec<u8>, DecodeError> {
    let raw = match codec {
        CodecId::None => none::decode(input, raw_bytes),
        CodecId::Deflate => deflate::decode(input, raw_bytes),
    }?;
    if raw.len() == raw_bytes {
        Ok(raw)
    } else {
        Err(DecodeError::Length { expected: raw_bytes, got: raw.len() })
    }
}

/// Why a block could not be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The compressed data makes no sense.
    #[error("damaged deflate data")]
    Damaged,
    /// It makes more or fewer bytes than its header says.
    #[error("decompressed to {got} bytes instead of {expected}")]
    Length {
        /// By the header.
        expected: usize,
        /// In fact.
        got: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn encode(codec: CodecId, raw: &[u8], piece: usize) -> Vec<u8> {
        let mut encoder = codec.encoder();
        let mut out = Vec::with_capacity(max_encoded_bytes(raw.len()));
        // An abandoned block must not show in the next one.
        encoder.begin();
        let _ = encoder.write(b"abandoned", &mut Vec::with_capacity(64));
        encoder.begin();
        for chunk in raw.chunks(piece) {
            encoder.write(chunk, &mut out).unwrap();
        }
        encoder.finish(&mut out).unwrap();
        out
    }

    #[test]
    fn incompressible_blocks_fit_the_stated_bound() {
        // xorshift: no byte pair worth a match.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let raw: Vec<u8> = (0..66_560)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        for codec in [CodecId::None, CodecId::Deflate] {
            let encoded = encode(codec, &raw, 4096);
            assert!(encoded.len() <= max_encoded_bytes(raw.len()), "{codec:?}: {}", encoded.len());
            assert_eq!(decode(codec, &encoded, raw.len()).unwrap(), raw);
        }
    }

    #[test]
    fn output_never_grows_past_its_capacity() {
        let raw: Vec<u8> = (0..60_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for codec in [CodecId::None, CodecId::Deflate] {
            let mut encoder = codec.encoder();
            let mut out = Vec::with_capacity(1000);
            encoder.begin();
            let full = raw
                .chunks(4096)
                .try_for_each(|c| encoder.write(c, &mut out))
                .and_then(|()| encoder.finish(&mut out));
            assert_eq!(full, Err(OutputFull), "{codec:?}");
            assert_eq!(out.capacity(), 1000);
        }
    }

    #[test]
    fn a_wrong_raw_size_is_an_error_not_a_larger_buffer() {
        let encoded = encode(CodecId::Deflate, &vec![7; 50_000], 4096);
        assert!(decode(CodecId::Deflate, &encoded, 49_999).is_err());
        assert_eq!(
            decode(CodecId::Deflate, &encoded, 50_001),
            Err(DecodeError::Length { expected: 50_001, got: 50_000 })
        );
        assert!(decode(CodecId::None, &[1, 2, 3], 2).is_err());
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes_to_itself(
            raw in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..9000),
            piece in 1usize..4097,
            deflate: bool,
        ) {
            let codec = if deflate { CodecId::Deflate } else { CodecId::None };
            prop_assert_eq!(decode(codec, &encode(codec, &raw, piece), raw.len()).unwrap(), raw);
        }

        #[test]
        fn arbitrary_bytes_never_make_more_than_asked(input in prop::collection::vec(any::<u8>(), 0..2000)) {
            if let Ok(raw) = decode(CodecId::Deflate, &input, 5000) {
                prop_assert_eq!(raw.len(), 5000);
            }
        }
    }
}
