//! Records into blocks: collects, compresses, counts.

use alloc::boxed::Box;
use alloc::vec::Vec;

use codec::{Encoder, OutputFull};
use wire::{BlockHeader, Cursor, HEADER_BYTES, MAX_RAW_BYTES, Record, SessionEnd};

/// What the encoder gets at once; the line is looked after in between.
pub(crate) const PIECE_BYTES: usize = 4096;

/// Makes one block at a time.
pub(crate) struct BlockBuilder {
    encoder: Box<dyn Encoder>,
    /// Totals over all records so far.
    pub(crate) totals: SessionEnd,
    open: Option<Open>,
    /// The record being added, as bytes.
    record: Vec<u8>,
}

struct Open {
    encoded: Vec<u8>,
    start: Cursor,
    end: Cursor,
    raw_bytes: usize,
}

impl BlockBuilder {
    pub(crate) fn new(encoder: Box<dyn Encoder>, page_bytes: usize) -> Self {
        let record = Vec::with_capacity(page_bytes + 64);
        Self { encoder, totals: SessionEnd::default(), open: None, record }
    }

    /// Takes the next record; [`BlockBuilder::fits`] then says whether the open block has room for it.
    pub(crate) fn stage(&mut self, record: &Record<'_>) {
        self.record.clear();
        record.encode(&mut self.record);
        self.totals.count(record, &self.record);
    }

    pub(crate) fn fits(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.raw_bytes + self.record.len() <= MAX_RAW_BYTES)
    }

    /// Begins a block in `buffer`, at `start`.
    pub(crate) fn open(&mut self, mut buffer: Vec<u8>, start: Cursor) {
        buffer.clear();
        buffer.extend_from_slice(&[0; HEADER_BYTES]);
        self.encoder.begin();
        self.open = Some(Open { encoded: buffer, start, end: start, raw_bytes: 0 });
    }

    /// Compresses the staged record into the open block, calling `between` between its pieces.
    pub(crate) fn add<E: From<OutputFull>>(
        &mut self,
        end: Cursor,
        mut between: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(open) = &mut self.open else { return Ok(()) };
        for piece in self.record.chunks(PIECE_BYTES) {
            self.encoder.write(piece, &mut open.encoded)?;
            between()?;
        }
        open.raw_bytes += self.record.len();
        open.end = end;
        Ok(())
    }

    /// Ends the open block, if there is one: encoded and ready to be sent.
    pub(crate) fn close(&mut self) -> Result<Option<Vec<u8>>, OutputFull> {
        let Some(Open { mut encoded, start, end, raw_bytes }) = self.open.take() else { return Ok(None) };
        self.encoder.finish(&mut encoded)?;
        let raw_bytes = u32::try_from(raw_bytes).map_err(|_| OutputFull)?;
        let header = BlockHeader { start, end, codec: self.encoder.id(), raw_bytes }.encode();
        if let Some(place) = encoded.first_chunk_mut() {
            *place = header;
        }
        Ok(Some(encoded))
    }
}
