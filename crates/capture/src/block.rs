//! Records into blocks: collects, compresses, counts.

use alloc::boxed::Box;
use alloc::vec::Vec;

use codec::{Encoder, Filter, Filtering, OutputFull, PIECE_BYTES};
use wire::{BlockHeader, Cursor, HEADER_BYTES, MAX_ENCODED_BYTES, MAX_RAW_BYTES, Record, SessionEnd};

/// What is only copied at a time: a page.
const MAX_COPIED_BYTES: usize = 4096;

/// Makes one block at a time.
pub(crate) struct BlockBuilder {
    encoder: Box<dyn Encoder>,
    filtering: Filtering,
    /// Totals over all records so far.
    pub(crate) totals: SessionEnd,
    open: Option<Open>,
    /// Where blocks are made, one after the other.
    buffer: Vec<u8>,
    /// The record being added, as bytes.
    record: Vec<u8>,
}

struct Open {
    start: Cursor,
    end: Cursor,
    raw_bytes: usize,
}

/// A block that is ready to be sent.
pub(crate) struct Encoded<'a> {
    pub(crate) end: Cursor,
    pub(crate) bytes: &'a [u8],
}

impl BlockBuilder {
    pub(crate) fn new(encoder: Box<dyn Encoder>, page_bytes: usize) -> Self {
        Self {
            encoder,
            filtering: Filtering::default(),
            totals: SessionEnd::default(),
            open: None,
            buffer: Vec::with_capacity(MAX_ENCODED_BYTES),
            record: Vec::with_capacity(page_bytes + 64),
        }
    }

    /// Drops the open block and begins to count anew.
    pub(crate) fn restart(&mut self) {
        self.open = None;
        self.totals = SessionEnd::default();
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Takes the next record; [`BlockBuilder::fits`] then says whether the open block has room for it.
    pub(crate) fn stage(&mut self, record: &Record<'_>) {
        self.record.clear();
        record.encode(&mut self.record);
        self.totals.count(record, &self.record);
    }

    pub(crate) fn fits(&self) -> bool {
        self.open.as_ref().is_some_and(|open| {
            let encoded_room = self.encoder.room(self.buffer.capacity() - self.buffer.len());
            let raw_room = MAX_RAW_BYTES.saturating_sub(open.raw_bytes);
            self.record.len() + self.filtering.held_back_bytes() <= encoded_room.min(raw_room)
        })
    }

    /// Begins a block at `start`. `filter` is what suits the pages that will be in it.
    pub(crate) fn open(&mut self, start: Cursor, filter: Filter) {
        self.buffer.clear();
        self.buffer.extend_from_slice(&[0; HEADER_BYTES]);
        self.filtering = Filtering::new(if self.encoder.only_copies() { Filter::None } else { filter });
        self.encoder.begin();
        self.open = Some(Open { start, end: start, raw_bytes: 0 });
    }

    /// Compresses the staged record into the open block, calling `between` between its pieces.
    pub(crate) fn add<E: From<OutputFull>>(
        &mut self,
        end: Cursor,
        mut between: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let piece_bytes = if self.encoder.only_copies() { MAX_COPIED_BYTES } else { PIECE_BYTES };
        for piece in self.record.chunks_mut(piece_bytes) {
            self.encoder.write(self.filtering.push(piece), &mut self.buffer)?;
            between()?;
        }
        open.raw_bytes += self.record.len();
        open.end = end;
        Ok(())
    }

    /// Ends the open block, if there is one.
    pub(crate) fn close(&mut self) -> Result<Option<Encoded<'_>>, OutputFull> {
        let Some(Open { start, end, raw_bytes }) = self.open.take() else { return Ok(None) };
        self.encoder.write(self.filtering.finish(), &mut self.buffer)?;
        self.encoder.finish(&mut self.buffer)?;
        let raw_bytes = u32::try_from(raw_bytes).map_err(|_| OutputFull)?;
        let (codec, filter) = (self.encoder.id(), self.filtering.filter());
        let header = BlockHeader { start, end, codec, filter, raw_bytes }.encode();
        if let Some(place) = self.buffer.first_chunk_mut() {
            *place = header;
        }
        Ok(Some(Encoded { end, bytes: &self.buffer }))
    }
}
