//! Raw deflate by miniz_oxide.

use alloc::vec::Vec;

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::decompress_to_vec_with_limit;

use crate::{BLOCK_BYTES, CodecId, DecodeError, Encoder, OutputFull, append};

/// Level 1 has the best bytes per second of a slow CPU; for slow lines there is LZMA.
const LEVEL: i32 = 1;

/// What miniz_oxide allocates (its dictionary, codes, Huffman tables and output), measured, and rounded up.
const ENCODER_BYTES: usize = 400 * 1024;

/// Raw deflate, level 1.
pub struct Deflate {
    compressor: CompressorOxide,
    raw_bytes: usize,
}

impl Deflate {
    /// An encoder with all its memory, some 320 KiB. `None`: there is not so much.
    #[must_use]
    pub fn new() -> Option<Self> {
        // It would not say that there is no memory. What was there a moment ago still is.
        Vec::<u8>::new().try_reserve_exact(ENCODER_BYTES).ok()?;
        // Negative window bits: no zlib header and no checksum, the block has its own.
        let flags = create_comp_flags_from_zip_params(LEVEL, -15, 0);
        Some(Self { compressor: CompressorOxide::new(flags), raw_bytes: 0 })
    }

    fn run(&mut self, input: &[u8], flush: TDEFLFlush, out: &mut Vec<u8>) -> Result<(), OutputFull> {
        let (status, _consumed) =
            compress_to_output(&mut self.compressor, input, flush, |bytes| append(out, bytes).is_ok());
        match status {
            TDEFLStatus::Okay | TDEFLStatus::Done => Ok(()),
            TDEFLStatus::BadParam | TDEFLStatus::PutBufFailed => Err(OutputFull),
        }
    }
}

impl Encoder for Deflate {
    fn id(&self) -> CodecId {
        CodecId::Deflate
    }

    fn begin(&mut self) {
        self.compressor.reset();
        self.raw_bytes = 0;
    }

    fn room(&self, _output_bytes: usize) -> usize {
        // What it has not written yet, nobody knows.
        BLOCK_BYTES.saturating_sub(self.raw_bytes)
    }

    fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), OutputFull> {
        self.raw_bytes += input.len();
        self.run(input, TDEFLFlush::None, out)
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), OutputFull> {
        self.run(&[], TDEFLFlush::Finish, out)
    }
}

pub(crate) fn decode(input: &[u8], raw_bytes: usize) -> Result<Vec<u8>, DecodeError> {
    decompress_to_vec_with_limit(input, raw_bytes).map_err(|_| DecodeError::Damaged(CodecId::Deflate))
}
