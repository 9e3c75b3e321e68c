//! Raw deflate by miniz_oxide.

use alloc::vec::Vec;

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::decompress_to_vec_with_limit;

use crate::{CodecId, DecodeError, Encoder, OutputFull, append};

/// Level 1 has the best bytes per second of a slow CPU; the slow line's codec will be another one.
const LEVEL: i32 = 1;

/// Raw deflate, level 1. Holds some 320 KiB.
pub struct Deflate(CompressorOxide);

impl Deflate {
    /// An encoder with all its memory.
    #[must_use]
    pub fn new() -> Self {
        // Negative window bits: no zlib header and no checksum, the block has its own.
        let flags = create_comp_flags_from_zip_params(LEVEL, -15, 0);
        Self(CompressorOxide::new(flags))
    }

    fn run(&mut self, input: &[u8], flush: TDEFLFlush, out: &mut Vec<u8>) -> Result<(), OutputFull> {
        let (status, _consumed) =
            compress_to_output(&mut self.0, input, flush, |bytes| append(out, bytes).is_ok());
        match status {
            TDEFLStatus::Okay | TDEFLStatus::Done => Ok(()),
            TDEFLStatus::BadParam | TDEFLStatus::PutBufFailed => Err(OutputFull),
        }
    }
}

impl Default for Deflate {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder for Deflate {
    fn id(&self) -> CodecId {
        CodecId::Deflate
    }

    fn begin(&mut self) {
        self.0.reset();
    }

    fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), OutputFull> {
        self.run(input, TDEFLFlush::None, out)
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), OutputFull> {
        self.run(&[], TDEFLFlush::Finish, out)
    }
}

pub(crate) fn decode(input: &[u8], raw_bytes: usize) -> Result<Vec<u8>, DecodeError> {
    decompress_to_vec_with_limit(input, raw_bytes).map_err(|_| DecodeError::Damaged)
}
