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
    /// Totals over all records so far, and with the staged one.
    totals: SessionEnd,
    staged_totals: SessionEnd,
    state: State,
    /// Where blocks are made, one after the other.
    buffer: Vec<u8>,
    /// The record being added, as bytes.
    record: Vec<u8>,
}

enum State {
    Empty,
    Open(Open),
    /// The buffer holds a whole block, up to this cursor.
    Closed(Cursor),
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
            staged_totals: SessionEnd::default(),
            state: State::Empty,
            buffer: Vec::with_capacity(MAX_ENCODED_BYTES),
            record: Vec::with_capacity(page_bytes + 64),
        }
    }

    /// Drops the block that was not taken, and begins to count anew.
    pub(crate) fn restart(&mut self) {
        self.state = State::Empty;
        self.totals = SessionEnd::default();
    }

    /// What all records so far add up to.
    pub(crate) const fn totals(&self) -> SessionEnd {
        self.totals
    }

    /// The encoder, between two blocks.
    pub(crate) fn encoder(&mut self) -> &mut dyn Encoder {
        debug_assert!(!matches!(self.state, State::Open(_)), "a block is in it");
        &mut *self.encoder
    }

    /// Takes the next record; [`BlockBuilder::fits`] then says whether the open block has room for it.
    pub(crate) fn stage(&mut self, record: &Record<'_>) {
        self.record.clear();
        record.encode(&mut self.record);
        self.staged_totals = self.totals;
        self.staged_totals.count(record, &self.record);
    }

    pub(crate) fn fits(&self) -> bool {
        let State::Open(open) = &self.state else { return false };
        let encoded_room = self.encoder.room(self.buffer.capacity() - self.buffer.len());
        let raw_room = MAX_RAW_BYTES.saturating_sub(open.raw_bytes);
        self.record.len() + self.filtering.held_back_bytes() <= encoded_room.min(raw_room)
    }

    /// Begins a block at `start`. `filter` is what suits the pages that will be in it.
    pub(crate) fn open(&mut self, start: Cursor, filter: Filter) {
        self.buffer.clear();
        self.buffer.extend_from_slice(&[0; HEADER_BYTES]);
        self.filtering = Filtering::new(if self.encoder.only_copies() { Filter::None } else { filter });
        self.encoder.begin();
        self.state = State::Open(Open { start, end: start, raw_bytes: 0 });
    }

    /// Compresses the staged record into the open block, calling `between` between its pieces.
    pub(crate) fn add<E: From<OutputFull>>(
        &mut self,
        end: Cursor,
        mut between: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        let State::Open(open) = &mut self.state else { return Ok(()) };
        let piece_bytes = piece_bytes(&*self.encoder);
        for piece in self.record.chunks_mut(piece_bytes) {
            self.encoder.write(self.filtering.push(piece), &mut self.buffer)?;
            between()?;
        }
        open.raw_bytes += self.record.len();
        open.end = end;
        self.totals = self.staged_totals;
        Ok(())
    }

    /// Ends the open block, if there is one; it stays in the buffer until it is taken.
    pub(crate) fn close(&mut self) -> Result<(), OutputFull> {
        let State::Open(Open { start, end, raw_bytes }) = self.state else { return Ok(()) };
        self.state = State::Empty;
        self.encoder.write(self.filtering.finish(), &mut self.buffer)?;
        self.encoder.finish(&mut self.buffer)?;
        let raw_bytes = u32::try_from(raw_bytes).map_err(|_| OutputFull)?;
        let (codec, filter) = (self.encoder.id(), self.filtering.filter());
        let header = BlockHeader { start, end, codec, filter, raw_bytes }.encode();
        if let Some(place) = self.buffer.first_chunk_mut() {
            *place = header;
        }
        self.state = State::Closed(end);
        Ok(())
    }

    pub(crate) const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// The closed block, which leaves room for the next one.
    pub(crate) fn take(&mut self) -> Option<Encoded<'_>> {
        let State::Closed(end) = self.state else { return None };
        self.state = State::Empty;
        Some(Encoded { end, bytes: &self.buffer })
    }
}

/// Bytes that an encoder gets at a time: the line is looked after in between.
pub(crate) fn piece_bytes(encoder: &dyn Encoder) -> usize {
    if encoder.only_copies() { MAX_COPIED_BYTES } else { PIECE_BYTES }
}
