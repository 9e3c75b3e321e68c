//! LZMA by lzma-rust2, without the headers of its files: the smallest blocks of all, for slow lines.

use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use lzma_rust2::{EncodeMode, LzmaOptions, LzmaReader, LzmaWriter, MfType, Read, Write};

use crate::{CodecId, DecodeError, Encoder, OutputFull, append, max_encoded_bytes, raw_bytes_for};

/// How far back a match may reach for whoever decodes. A block may be longer: its beginning is then out of reach, but not
/// what was learned from it.
const DICTIONARY_BYTES: u32 = 96 * 1024;

/// The longest match of LZMA.
const MAX_MATCH_BYTES: usize = 273;

/// How hard to look for what is the same. Whoever decodes need not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// lzma-rust2's fast mode: looks at most one place ahead, so that no piece of input takes much longer than another.
    /// 1.3 MiB.
    Fast,
    /// lzma-rust2's normal mode: 5 % smaller blocks, a third of the speed, 1.7 MiB. It collects up to 4096 bytes before it
    /// decides: one piece in 200 takes longer than 0.5 ms, up to some 3 ms, and so does the end of a block. A line on
    /// which 16 bytes, what a UART has room for, come no faster than that does not suffer.
    Dense,
}

impl Effort {
    fn options(self) -> LzmaOptions {
        let (mode, dict_size, nice_len) = match self {
            Self::Fast => (EncodeMode::Fast, 64 * 1024, LzmaOptions::NICE_LEN_MAX),
            Self::Dense => (EncodeMode::Normal, DICTIONARY_BYTES, 128),
        };
        LzmaOptions {
            dict_size,
            lc: LzmaOptions::LC_DEFAULT,
            lp: LzmaOptions::LP_DEFAULT,
            pb: LzmaOptions::PB_DEFAULT,
            mode,
            nice_len,
            mf: MfType::Hc4,
            // A quarter of nice_len, and 4.
            depth_limit: 0,
            preset_dict: None,
        }
    }

    /// The most input that has left no trace in the output yet (lzma-rust2, `EXTRA_SIZE_AFTER` of its modes, and a match).
    const fn held_back_bytes(self) -> usize {
        match self {
            Self::Fast => 2 * MAX_MATCH_BYTES,
            Self::Dense => 4096 + MAX_MATCH_BYTES,
        }
    }
}

/// LZMA with hash chains.
///
/// lzma-rust2 takes input in pieces only with an encoder for each block. So that nobody takes its memory from one block to
/// the next, there is a reservation in between; should it fail after all, a block is stored as it is.
pub struct Lzma {
    effort: Effort,
    /// `None`: there is no block, or it is stored.
    writer: Option<LzmaWriter<Sink>>,
    /// Of the block that was begun last.
    codec: CodecId,
    reservation: Vec<u8>,
}

impl Lzma {
    /// An encoder with all its memory. `None`: there is not so much.
    #[must_use]
    pub fn new(effort: Effort) -> Option<Self> {
        let mut lzma = Self { effort, writer: None, codec: CodecId::Lzma, reservation: Vec::new() };
        lzma.reserve();
        lzma.is_reserved().then_some(lzma)
    }

    fn reserve(&mut self) {
        // It says KiB, a little more than it takes.
        let encoder_bytes = self.effort.options().get_memory_usage() as usize * 1024;
        // Without it the next block is stored.
        let _ = self.reservation.try_reserve_exact(encoder_bytes);
    }

    fn is_reserved(&self) -> bool {
        self.reservation.capacity() > 0
    }
}

impl Encoder for Lzma {
    fn id(&self) -> CodecId {
        self.codec
    }

    fn begin(&mut self) {
        // An abandoned block.
        drop(self.writer.take());
        self.reserve();
        if self.is_reserved() {
            self.reservation = Vec::new();
            self.writer = LzmaWriter::new_no_header(Sink::default(), &self.effort.options(), false).ok();
        }
        self.codec = if self.writer.is_some() { CodecId::Lzma } else { CodecId::None };
    }

    fn room(&self, output_bytes: usize) -> usize {
        let held_back_bytes = max_encoded_bytes(self.effort.held_back_bytes());
        match self.writer {
            Some(_) => raw_bytes_for(output_bytes.saturating_sub(held_back_bytes)),
            None => output_bytes,
        }
    }

    fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), OutputFull> {
        let Some(writer) = &mut self.writer else { return append(out, input) };
        // The writer has its sink for good, and the block its bytes: they are lent.
        mem::swap(out, &mut writer.inner_mut().bytes);
        let written = writer.write_all(input);
        mem::swap(out, &mut writer.inner_mut().bytes);
        written.map_err(|_| OutputFull)?;
        writer.inner().check()
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), OutputFull> {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        mem::swap(out, &mut writer.inner_mut().bytes);
        let mut sink = writer.finish().map_err(|_| OutputFull)?;
        mem::swap(out, &mut sink.bytes);
        self.reserve();
        sink.check()
    }
}

/// Takes the writer's bytes, as far as there is room. That there is none is no error of its own: the writer would keep the
/// block's buffer with it.
#[derive(Default)]
struct Sink {
    bytes: Vec<u8>,
    is_full: bool,
}

impl Sink {
    fn check(&self) -> Result<(), OutputFull> {
        if self.is_full { Err(OutputFull) } else { Ok(()) }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> lzma_rust2::Result<usize> {
        self.is_full |= append(&mut self.bytes, bytes).is_err();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> lzma_rust2::Result<()> {
        Ok(())
    }
}

pub(crate) fn decode(input: &[u8], raw_bytes: usize) -> Result<Vec<u8>, DecodeError> {
    let damaged = |_| DecodeError::Damaged(CodecId::Lzma);
    let mut reader = LzmaReader::new_with_props(
        input,
        raw_bytes as u64,
        Effort::Dense.options().get_props(),
        DICTIONARY_BYTES,
        None,
    )
    .map_err(damaged)?;
    let mut raw = vec![0; raw_bytes];
    reader.read_exact(&mut raw).map_err(damaged)?;
    Ok(raw)
}
