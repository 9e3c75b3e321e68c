//! Answers to requests: any page of RAM, whatever the dump level, ahead of the passes.

use alloc::vec;
use alloc::vec::Vec;
use core::mem::replace;
use core::time::Duration;

use codec::Filter;
use memory::{PagePart, Pfn, PhysAddr, PhysMemory, ReadFaultKind};
use wire::{BlockHeader, Cursor, MAX_REQUESTS, Record, Request};

use crate::block::piece_bytes;
use crate::dump::SendError;
use crate::output::Output;
use crate::pump::Interrupt;
use crate::runs::fill_word;
use crate::{Clock, Link};

/// Memory is read so many bytes at a time: a small page. Large ones are read twice, and take no more memory.
const READ_BYTES: usize = 4096;

/// A sender that stays after its end, and was not told for how long, waits so long for somebody who answers.
pub const NOBODY_FOR: Duration = Duration::from_secs(10 * 60);

/// To stay after the end, and to answer, until the receiver lets the machine go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serve {
    /// For no longer than this, whoever answers. `None`: as long as somebody does, and then for [`NOBODY_FOR`].
    pub limit: Option<Duration>,
}

/// What an answer is made in.
pub(crate) struct Scratch {
    /// What was read last.
    piece: Vec<u8>,
    /// A record, or what of one stands before the page.
    record: Vec<u8>,
    /// Bytes of records that the answer may still have.
    room: usize,
}

impl Scratch {
    /// With all the memory it will ever take.
    pub(crate) fn new() -> Self {
        Self { piece: vec![0; READ_BYTES], record: Vec::with_capacity(READ_BYTES + 64), room: 0 }
    }
}

/// What becomes of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    GoesOn,
    /// Nobody wants it any more, or it cannot be made now.
    Lost,
}

impl<M: PhysMemory, L: Link, C: Clock> Output<'_, M, L, C> {
    /// Looks after the line, and answers what is wanted. The open block of the passes ends where it is, so that the encoder is
    /// free: a few bytes are better lost than seconds.
    pub(crate) fn attend(&mut self) -> Result<(), Interrupt> {
        // Who calls has other things to look after, whatever else is wanted meanwhile.
        for _ in 0..MAX_REQUESTS {
            self.pump.poll()?;
            self.look_for_end()?;
            let Some(request) = self.pump.sender.wanted() else { break };
            self.builder.close()?;
            self.answer(&request)?;
        }
        Ok(())
    }

    /// Everything has been sent: stays until the sender is done.
    pub(crate) fn see_off(&mut self, serve: Option<Serve>) -> Result<(), Interrupt> {
        let ended_at = self.pump.now();
        let mut heard_at = ended_at;
        let mut has_told = false;
        while !self.pump.sender.is_finished() {
            let is_delivered = self.pump.sender.is_end_over();
            if is_delivered {
                self.pump.forgo_answers();
                if self.pump.sender.is_staying() && !replace(&mut has_told, true) {
                    self.pump
                        .sender
                        .text("rcapture: the dump is over; staying for whoever wants to read more");
                }
            }
            let is_dead = match self.attend() {
                Err(Interrupt::Failed(SendError::Link(_))) if is_delivered => true,
                other => {
                    other?;
                    false
                }
            };
            let now = self.pump.now();
            if self.pump.sender.is_answered() && !is_dead {
                heard_at = now;
            }
            let is_over = match serve {
                Some(Serve { limit: Some(limit) }) => now.saturating_sub(ended_at) >= limit,
                Some(Serve { limit: None }) => now.saturating_sub(heard_at) >= NOBODY_FOR,
                None => is_dead,
            };
            if is_over && is_dead {
                return Ok(());
            }
            if is_over && serve.is_some() {
                self.pump.sender.leave();
            }
        }
        Ok(())
    }

    fn answer(&mut self, request: &Request) -> Result<(), Interrupt> {
        self.pump.sender.begin_answer(request);
        self.builder.encoder().begin();
        let page_shift = u8::try_from(self.page_shift).unwrap_or(u8::MAX);
        let max_bytes = request.max_answer_bytes(page_shift);
        self.scratch.room = max_bytes;
        for pfn in request.pfns() {
            if self.answer_page(Pfn(pfn))? == Fate::Lost {
                self.pump.sender.abandon_answer();
                return Ok(());
            }
        }
        let encoder = self.builder.encoder();
        let Some(out) = self.pump.sender.answer() else { return Ok(()) };
        encoder.finish(out)?;
        let frames = request.pfns();
        let place = |position| Cursor { pass: 0, position };
        let header = BlockHeader {
            start: place(frames.start),
            end: place(frames.end),
            codec: encoder.id(),
            filter: Filter::None,
            raw_bytes: u32::try_from(max_bytes - self.scratch.room).unwrap_or(u32::MAX),
        };
        self.pump.sender.finish_answer(&header.encode());
        // The first frame of it goes out at once.
        self.pump.poll()
    }

    fn answer_page(&mut self, pfn: Pfn) -> Result<Fate, Interrupt> {
        let mut parts = self.ram.parts(pfn).peekable();
        if parts.peek().is_none() {
            return self.answer_hole(pfn, ReadFaultKind::NotRam);
        }
        if let Some(why) = self.ram.forbidden(pfn) {
            return self.answer_hole(pfn, why);
        }
        for part in parts {
            if self.answer_part(&part)? == Fate::Lost {
                return Ok(Fate::Lost);
            }
        }
        Ok(Fate::GoesOn)
    }

    fn answer_part(&mut self, part: &PagePart) -> Result<Fate, Interrupt> {
        let pfn = part.pfn.0;
        let start = part.pfn.start(self.page_shift).and_then(|start| start.checked_add(part.offset));
        // The memory map holds no address that this could fail for.
        let Some(start) = start else { return Ok(Fate::GoesOn) };
        let pieces = pieces(start, part.bytes);
        // First whether it can be read, and whether it is one word all over.
        let mut fill = None;
        for (index, (pa, length)) in pieces.clone().enumerate() {
            if let Err(why) = self.read(pa, length) {
                return self.answer_hole(part.pfn, why);
            }
            let word = self.scratch.piece.get(..length).and_then(fill_word);
            fill = word.filter(|_| index == 0 || word == fill);
            self.pump.poll()?;
        }
        let is_whole = part.bytes == 1 << self.page_shift;
        if let Some(word) = fill.filter(|_| is_whole) {
            return self.record(&Record::Fill { pfn, pages: 1, word });
        }
        self.scratch.record.clear();
        if is_whole {
            Record::Page { pfn, bytes: &[] }.encode(&mut self.scratch.record);
        }
        for (pa, length) in pieces {
            // What could be read a moment ago.
            if part.bytes > READ_BYTES as u64 && self.read(pa, length).is_err() {
                return Ok(Fate::Lost);
            }
            let Scratch { piece, record, .. } = &mut self.scratch;
            let bytes = piece.get(..length).unwrap_or_default();
            if is_whole {
                record.extend_from_slice(bytes);
            } else {
                Record::Bytes { pa: pa.0, bytes }.encode(record);
            }
            if self.write_record()? == Fate::Lost {
                return Ok(Fate::Lost);
            }
        }
        Ok(Fate::GoesOn)
    }

    fn answer_hole(&mut self, pfn: Pfn, why: ReadFaultKind) -> Result<Fate, Interrupt> {
        self.record(&Record::Hole { pfn: pfn.0, pages: 1, reason: why as u8 })
    }

    fn read(&mut self, pa: PhysAddr, length: usize) -> Result<(), ReadFaultKind> {
        let Some(piece) = self.scratch.piece.get_mut(..length) else { return Ok(()) };
        self.ram.memory.read(pa, piece).map_err(|fault| fault.kind)
    }

    fn record(&mut self, record: &Record<'_>) -> Result<Fate, Interrupt> {
        self.scratch.record.clear();
        record.encode(&mut self.scratch.record);
        self.write_record()
    }

    /// Compresses the record, or the part of it that there is, into the answer, and looks after the line in between.
    fn write_record(&mut self) -> Result<Fate, Interrupt> {
        let Self { scratch: Scratch { record, room, .. }, builder, pump, .. } = self;
        // An elfcorehdr may have a page in many parts: there is room for a few.
        let Some(left) = room.checked_sub(record.len()) else { return Ok(Fate::Lost) };
        *room = left;
        let encoder = builder.encoder();
        for piece in record.chunks(piece_bytes(encoder)) {
            let Some(out) = pump.sender.answer() else { return Ok(Fate::Lost) };
            encoder.write(piece, out)?;
            pump.poll()?;
        }
        record.clear();
        Ok(Fate::GoesOn)
    }
}

/// A range of memory in pieces that can be read at once: where each begins, and its bytes.
fn pieces(start: PhysAddr, bytes: u64) -> impl Iterator<Item = (PhysAddr, usize)> + Clone {
    (0..bytes).step_by(READ_BYTES).filter_map(move |offset| {
        let length = usize::try_from(bytes - offset).unwrap_or(READ_BYTES).min(READ_BYTES);
        Some((start.checked_add(offset)?, length))
    })
}
