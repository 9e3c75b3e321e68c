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
//! Encoders have all their memory from the moment they are made, and can do with it: what is not there then is done without.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::cast_possible_truncation, reason = "test data"))]

extern crate alloc;

mod deflate;
mod filter;
mod lz4;
mod lzma;
mod none;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

pub use deflate::Deflate;
pub use filter::{Filter, Filtering, PIECE_BYTES};
pub use lz4::Lz4;
pub use lzma::{Effort, Lzma};
pub use none::Stored;

/// A codec's number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CodecId {
    /// Bytes as they are.
    None = 0,
    /// Raw deflate (RFC 1951).
    Deflate = 1,
    /// LZMA with lc 3, lp 0, pb 2, without header and end marker.
    Lzma = 2,
    /// LZ4 block.
    Lz4 = 3,
}

impl CodecId {
    /// The codec with this number, if there is one.
    #[must_use]
    pub fn from_wire(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Deflate),
            2 => Some(Self::Lzma),
            3 => Some(Self::Lz4),
            _ => None,
        }
    }
}

impl fmt::Display for CodecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Deflate => "deflate",
            Self::Lzma => "LZMA",
            Self::Lz4 => "LZ4",
        })
    }
}

/// A way to compress: a codec and, where there is a choice, how hard it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    None,
    /// LZ4.
    Lz4,
    /// Deflate.
    Deflate,
    /// LZMA.
    Lzma(Effort),
}

impl Method {
    /// All of them, the ones that make less behind.
    pub const ALL: [Self; 5] =
        [Self::None, Self::Lz4, Self::Deflate, Self::Lzma(Effort::Fast), Self::Lzma(Effort::Dense)];

    /// Its codec.
    #[must_use]
    pub const fn codec(self) -> CodecId {
        match self {
            Self::None => CodecId::None,
            Self::Lz4 => CodecId::Lz4,
            Self::Deflate => CodecId::Deflate,
            Self::Lzma(_) => CodecId::Lzma,
        }
    }

    /// An encoder with all its memory; if there is not so much, of the next method that there is enough for: what takes
    /// less, down to nothing.
    // Encoders are made on the stack, up to 80 KiB of it (145 on 32-bit Arm): not on the caller's, who keeps it until he returns.
    #[inline(never)]
    #[must_use]
    pub fn encoder(self) -> Box<dyn Encoder> {
        fn boxed<E: Encoder + 'static>(encoder: Option<E>) -> Option<Box<dyn Encoder>> {
            encoder.map(|encoder| Box::new(encoder) as Box<dyn Encoder>)
        }
        let (encoder, less) = match self {
            Self::None => (boxed(Some(Stored)), Self::None),
            Self::Lz4 => (boxed(Lz4::new()), Self::None),
            Self::Deflate => (boxed(Deflate::new()), Self::Lz4),
            Self::Lzma(Effort::Fast) => (boxed(Lzma::new(Effort::Fast)), Self::Deflate),
            Self::Lzma(Effort::Dense) => (boxed(Lzma::new(Effort::Dense)), Self::Lzma(Effort::Fast)),
        };
        encoder.unwrap_or_else(|| less.encoder())
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::Lzma(Effort::Dense) {
            f.write_str("dense ")?;
        }
        self.codec().fmt(f)
    }
}

/// What every encoder takes as one block: the largest page (64 KiB) and what describes it.
pub const BLOCK_BYTES: usize = 65 * 1024;

/// The most bytes an encoder makes of `raw_bytes`, whatever they are.
///
/// LZMA is the worst, as it has no way to store bytes as they are: a byte is nine decisions, a match of three some
/// twenty-six, and a decision that always comes as expected least costs 5 % more than a bit. (Deflate adds 5 bytes to
/// 31 KiB, LZ4 one to 255.)
#[must_use]
pub const fn max_encoded_bytes(raw_bytes: usize) -> usize {
    raw_bytes + raw_bytes / 4 + 64
}

/// How many bytes surely fit `encoded_bytes` once they are encoded.
const fn raw_bytes_for(encoded_bytes: usize) -> usize {
    encoded_bytes.saturating_sub(64) / 5 * 4
}

/// Compresses one block at a time.
pub trait Encoder {
    /// How the block that was begun last is compressed, as its header has to say.
    fn id(&self) -> CodecId;

    /// Whether [`Encoder::write`] only copies: it then takes some KiB in no time, and a [`Filter`] would cost more than it
    /// gains.
    fn only_copies(&self) -> bool {
        false
    }

    /// Starts a new block, whatever became of the one before.
    fn begin(&mut self);

    /// How many bytes the block still takes, so that it surely fits an output that has room for `output_bytes` more. A new
    /// block takes [`BLOCK_BYTES`] if there is room for [`max_encoded_bytes`] of them.
    fn room(&self, output_bytes: usize) -> usize;

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
        CodecId::Lzma => lzma::decode(input, raw_bytes),
        CodecId::Lz4 => lz4::decode(input, raw_bytes),
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
    #[error("damaged data (codec {0})")]
    Damaged(CodecId),
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

    /// Fills a block from `raw` as far as the encoder takes it. Gives how it is compressed, and its raw and encoded bytes.
    fn encode(method: Method, raw: &[u8], piece: usize) -> (CodecId, usize, Vec<u8>) {
        let mut encoder = method.encoder();
        let mut out = Vec::with_capacity(max_encoded_bytes(BLOCK_BYTES));
        // An abandoned block must not show in the next one.
        encoder.begin();
        let _ = encoder.write(b"abandoned", &mut Vec::with_capacity(64));
        encoder.begin();
        let mut taken = 0;
        for piece in raw.chunks(piece) {
            if encoder.room(out.capacity() - out.len()) < piece.len() {
                break;
            }
            encoder.write(piece, &mut out).unwrap();
            taken += piece.len();
        }
        encoder.finish(&mut out).unwrap();
        (encoder.id(), taken, out)
    }

    /// xorshift: no byte pair worth a match.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..bytes).map(next).collect()
    }

    #[test]
    fn every_method_takes_the_largest_page_even_if_it_does_not_compress() {
        let raw = noise(BLOCK_BYTES);
        for method in Method::ALL {
            let (codec, taken, encoded) = encode(method, &raw, 96);
            assert_eq!(taken, raw.len(), "{method:?}");
            assert_eq!(decode(codec, &encoded, taken).unwrap(), raw, "{method:?}");
        }
    }

    #[test]
    fn a_block_of_lzma_is_long_where_it_compresses() {
        let raw: Vec<u8> = (0..65_536_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for effort in [Effort::Fast, Effort::Dense] {
            let (codec, taken, encoded) = encode(Method::Lzma(effort), &raw, 96);
            assert_eq!((codec, taken), (CodecId::Lzma, raw.len()));
            assert_eq!(decode(codec, &encoded, taken).unwrap(), raw);
        }
    }

    /// What the best of its matches costs most: three bytes from afar, in no order, and a byte in between.
    #[test]
    fn what_lzma_makes_longer_stays_within_the_stated_bound() {
        let far = noise(30_000);
        let mut raw = far.clone();
        for (at, byte) in
            noise(20_000).chunks_exact(4).map(|n| (usize::from(n[0]) << 7 | usize::from(n[1] >> 1), n[2]))
        {
            raw.extend_from_slice(far.get(at % 29_000..at % 29_000 + 3).unwrap());
            raw.push(byte);
        }
        for effort in [Effort::Fast, Effort::Dense] {
            let (codec, taken, encoded) = encode(Method::Lzma(effort), &raw, 96);
            assert_eq!(taken, raw.len());
            assert!(encoded.len() <= max_encoded_bytes(taken), "{} of {taken}", encoded.len());
            assert_eq!(decode(codec, &encoded, taken).unwrap(), raw);
        }
    }

    #[test]
    fn output_never_grows_past_its_capacity() {
        let raw = noise(60_000);
        for method in Method::ALL {
            let mut encoder = method.encoder();
            let mut out = Vec::with_capacity(1000);
            encoder.begin();
            let full = raw
                .chunks(4096)
                .try_for_each(|c| encoder.write(c, &mut out))
                .and_then(|()| encoder.finish(&mut out));
            assert_eq!(full, Err(OutputFull), "{method:?}");
            assert_eq!(out.capacity(), 1000);
            // And it is of use again.
            out.clear();
            encoder.begin();
            encoder.write(b"next", &mut out).and_then(|()| encoder.finish(&mut out)).unwrap();
            assert_eq!(decode(encoder.id(), &out, 4).unwrap(), b"next", "{method:?}");
        }
    }

    #[test]
    fn a_wrong_raw_size_is_an_error_not_a_larger_buffer() {
        let raw = vec![7; 50_000];
        for method in Method::ALL {
            let (codec, taken, encoded) = encode(method, &raw, 4096);
            assert_eq!(taken, raw.len());
            assert!(decode(codec, &encoded, 49_999).is_err(), "{method:?}");
            assert!(decode(codec, &encoded, 50_001).is_err(), "{method:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes_to_itself(
            raw in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..9000),
            piece in 1usize..4097,
            method in prop::sample::select(&Method::ALL),
        ) {
            let (codec, taken, encoded) = encode(method, &raw, piece);
            prop_assert_eq!(taken, raw.len());
            prop_assert_eq!(decode(codec, &encoded, taken).unwrap(), raw);
        }

        #[test]
        fn arbitrary_bytes_never_make_more_than_asked(
            input in prop::collection::vec(any::<u8>(), 0..2000),
            number in 0u8..4,
        ) {
            if let Ok(raw) = decode(CodecId::from_wire(number).unwrap(), &input, 5000) {
                prop_assert_eq!(raw.len(), 5000);
            }
        }
    }
}
