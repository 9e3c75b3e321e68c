//! The codec that copies.

use alloc::vec::Vec;

use crate::{CodecId, DecodeError, Encoder, OutputFull, append};

/// Stores bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored;

impl Encoder for Stored {
    fn id(&self) -> CodecId {
        CodecId::None
    }

    fn only_copies(&self) -> bool {
        true
    }

    fn begin(&mut self) {}

    fn room(&self, output_bytes: usize) -> usize {
        output_bytes
    }

    fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), OutputFull> {
        append(out, input)
    }

    fn finish(&mut self, _out: &mut Vec<u8>) -> Result<(), OutputFull> {
        Ok(())
    }
}

pub(crate) fn decode(input: &[u8], raw_bytes: usize) -> Result<Vec<u8>, DecodeError> {
    if input.len() == raw_bytes {
        Ok(input.to_vec())
    } else {
        Err(DecodeError::Length { expected: raw_bytes, got: input.len() })
    }
}
