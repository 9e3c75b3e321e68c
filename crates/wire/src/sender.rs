//! The sending side of a session, without any I/O: what goes on the line next.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::block::{self, MAX_ENCODED_BYTES};
use crate::frame::{Body, Fragment, Frame, MAX_FRAGMENT_BYTES, SessionId};
use crate::line;
use crate::session::{SessionEnd, SessionHeader};

/// Blocks that are being sent or wait for it. Two keep the line busy while the next one is compressed.
const WINDOW_BLOCKS: usize = 2;

/// A receiver that was plugged in late learns within this time what it listens to.
const HEADER_EVERY: Duration = Duration::from_secs(10);

/// The end is said so often: nobody confirms it on a one-way line.
const END_REPEATS: u8 = 3;

/// Text that may wait for its turn; more is dropped, the dump comes first.
const MAX_TEXT_BYTES: usize = 1024;

/// The sender of one session, one-way: what is on the line counts as sent.
pub struct Sender {
    session: SessionId,
    header: Vec<u8>,
    header_due: Duration,
    text: Vec<u8>,
    queue: VecDeque<Outgoing>,
    spare: Vec<Vec<u8>>,
    next_block: u32,
    end: Option<(Vec<u8>, u8)>,
    /// The frame or text on its way, as line bytes, and how many of them are gone.
    line: Vec<u8>,
    written: usize,
    frame: Vec<u8>,
}

/// A block on its way.
struct Outgoing {
    number: u32,
    generation: u32,
    encoded: Vec<u8>,
    next_fragment: u8,
}

impl Sender {
    /// A sender with all its memory. The session header is the first thing it sends.
    #[must_use]
    pub fn new(session: SessionId, header: &SessionHeader) -> Self {
        Self {
            session,
            header: header.encode(),
            header_due: Duration::ZERO,
            text: Vec::with_capacity(MAX_TEXT_BYTES),
            queue: VecDeque::with_capacity(WINDOW_BLOCKS),
            // One more than the window: the block being made.
            spare: (0..=WINDOW_BLOCKS).map(|_| Vec::with_capacity(MAX_ENCODED_BYTES)).collect(),
            next_block: 0,
            end: None,
            line: Vec::with_capacity(line::MAX_CODED_BYTES + 2),
            written: 0,
            frame: Vec::with_capacity(crate::frame::MAX_FRAME_BYTES),
        }
    }

    /// An empty buffer for the next block: one of its own while [`Sender::has_room`], a new one otherwise.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(MAX_ENCODED_BYTES))
    }

    /// Whether another block can be taken now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.queue.len() < WINDOW_BLOCKS
    }

    /// Queues an encoded block as the next one of stream 0. `encoded` is a buffer from [`Sender::buffer`].
    pub fn push(&mut self, encoded: Vec<u8>) {
        let generation = block::generation(&encoded);
        self.queue.push_back(Outgoing { number: self.next_block, generation, encoded, next_fragment: 0 });
        self.next_block += 1;
    }

    /// Blocks pushed so far.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.next_block
    }

    /// Queues a line of text for whoever watches the console; it goes out between two frames.
    pub fn text(&mut self, text: &str) {
        let needed = text.len() + 2;
        if self.text.len() + needed <= MAX_TEXT_BYTES {
            self.text.extend_from_slice(text.as_bytes());
            self.text.extend_from_slice(b"\r\n");
        }
    }

    /// Everything has been pushed; once it is sent, the session ends.
    pub fn end(&mut self, end: &SessionEnd) {
        self.end = Some((end.encode(), END_REPEATS));
    }

    /// Whether all blocks have left; only repetitions of the header may follow.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.written == self.line.len() && self.text.is_empty()
    }

    /// Whether the end has been sent: there is nothing more to come.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.is_idle() && matches!(self.end, Some((_, 0)))
    }

    /// The bytes to write next; none if there is nothing to send now.
    pub fn pending(&mut self, now: Duration) -> &[u8] {
        if self.written == self.line.len() {
            self.line.clear();
            self.written = 0;
            self.fill_line(now);
        }
        self.line.get(self.written..).unwrap_or_default()
    }

    /// `count` bytes of [`Sender::pending`] have been written.
    pub fn advance(&mut self, count: usize) {
        self.written = self.written.saturating_add(count).min(self.line.len());
    }

    fn fill_line(&mut self, now: Duration) {
        if now >= self.header_due {
            self.header_due = now + HEADER_EVERY;
            put(self.session, Body::Session(&self.header), &mut self.frame, &mut self.line);
        } else if !self.text.is_empty() {
            self.line.extend_from_slice(&self.text);
            self.text.clear();
        } else if let Some(block) = self.queue.front_mut() {
            put(self.session, Body::Fragment(block.fragment()), &mut self.frame, &mut self.line);
            block.next_fragment += 1;
            if block.next_fragment == block.fragments()
                && let Some(mut sent) = self.queue.pop_front()
            {
                sent.encoded.clear();
                self.spare.push(sent.encoded);
            }
        } else if let Some((end, left @ 1..)) = &mut self.end {
            *left -= 1;
            put(self.session, Body::End(end), &mut self.frame, &mut self.line);
        }
    }
}

impl Outgoing {
    fn fragments(&self) -> u8 {
        u8::try_from(self.encoded.len().div_ceil(MAX_FRAGMENT_BYTES)).unwrap_or(u8::MAX)
    }

    fn fragment(&self) -> Fragment<'_> {
        let count = self.fragments();
        // Pieces of equal size: a short last one would carry as much framing as the others.
        let size = self.encoded.len().div_ceil(usize::from(count.max(1))).max(1);
        Fragment {
            stream: 0,
            block: self.number,
            generation: self.generation,
            index: self.next_fragment,
            count,
            bytes: self.encoded.chunks(size).nth(usize::from(self.next_fragment)).unwrap_or_default(),
        }
    }
}

fn put(session: SessionId, body: Body<'_>, frame: &mut Vec<u8>, line: &mut Vec<u8>) {
    frame.clear();
    Frame { session, body }.encode(frame);
    line::encode(frame, line);
}
