//! A sender and who talks to it: a receiver that says whatever it likes, whenever it likes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wire::line::{Chunk, Deframer};
use wire::{
    ANSWERS, Body, Course, Cursor, Fragment, HEADER_BYTES, MAX_ENCODED_BYTES, Reply, Request, Sender,
    SessionEnd, SessionHeader, SessionId, UTSNAME_BYTES, Urgency,
};

/// Whose session it is.
pub(crate) const SESSION: SessionId = SessionId(0x1234);

/// What [`Sender::held_bytes`] promises.
const MAX_HELD_BYTES: usize = 246 << 10;

/// What can be said while time stands still: 64 blocks and 32 answers of 255 fragments, and a few frames around them.
const MAX_FRAMES_AT_ONCE: usize = (64 + 32) * 255 + 10;

/// Bytes of blocks that one input can push: more takes time, and shows nothing new.
const MAX_PUSHED_BYTES: usize = 1 << 20;

/// What an input is made of: the low four bits of a byte say what, and what belongs to it follows. For replies the next
/// three bits cut them into pieces of so many bytes, and the highest one makes them of another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    /// Length (1) and bytes from the line.
    Bytes,
    /// Receiver (1), latest frame (2), history (4), durable (2).
    Ack,
    /// Receiver (1), latest frame before the next one (1), history (4), durable before the block after the next (1).
    NearAck,
    /// Receiver (1), next block (4), pass (1), position (8).
    Resume,
    /// Receiver (1), next block before the one after the next (1); the cursor is the right one.
    NearResume,
    /// Milliseconds (2) pass.
    Wait,
    /// A block: its length (1) and how often it is doubled (1), how far its cursor goes (1).
    Push,
    /// So many (2) bytes go out; 65535: all there are now.
    Take,
    /// A line of text: its length (1).
    Text,
    /// Everything has been pushed.
    End,
    /// Receiver (1), number (4), first frame (5), pages (1), urgency (1).
    Request,
    /// Receiver (1), course (1).
    Course,
    /// What is wanted, if anything is, is answered: length (1) and how often it is doubled (1), whether it is finished (1).
    Answer,
    /// The machine is set up to stay, told to go, or its budget is spent (1).
    Stay,
}

impl Op {
    const ALL: [Self; 14] = [
        Self::Bytes,
        Self::Ack,
        Self::NearAck,
        Self::Resume,
        Self::NearResume,
        Self::Wait,
        Self::Push,
        Self::Take,
        Self::Text,
        Self::End,
        Self::Request,
        Self::Course,
        Self::Answer,
        Self::Stay,
    ];
}

/// A sender, driven by whoever wrote `data`.
pub fn sender(data: &[u8]) {
    Driver::run(data);
}

/// A block that was pushed in this run.
struct Made {
    bytes: usize,
    end: Cursor,
    generation: u32,
    /// Indices of fragments that were said, out of so many; and their bytes.
    said: BTreeSet<u8>,
    count: u8,
    said_bytes: usize,
}

impl Made {
    fn is_sent(&self) -> bool {
        self.said.len() == usize::from(self.count) && self.said_bytes == self.bytes
    }
}

/// The sender, and what is known of it from outside.
pub(crate) struct Driver {
    pub(crate) sender: Sender,
    now: Duration,
    deframer: Deframer,
    /// Bytes of [`Sender::pending`] that were looked at and are not gone.
    looked_at: usize,
    sequence: u16,
    /// Number of the first block of this run, where it begins, and the blocks from there on.
    first: u32,
    start: Cursor,
    made: Vec<Made>,
    /// The first of them that is kept, and the bytes from there on.
    kept: usize,
    kept_bytes: usize,
    pushed_bytes: usize,
    has_end: bool,
    is_end_said: bool,
    /// Requests of the line that were answered: the generation of the last answer to each.
    answered: BTreeMap<u32, u32>,
    /// Their fragments since the last one of the passes.
    answers_in_a_row: usize,
    is_hurrying: bool,
    /// The most that was said: a number of whole blocks, and where the last of them ended.
    furthest: (u32, Cursor),
}

impl Driver {
    pub(crate) fn run(data: &[u8]) -> Self {
        let header = SessionHeader {
            e_machine: 62,
            page_shift: 12,
            dump_level: 0,
            crash_time: 0,
            ram_pages: 1,
            utsname: [0; UTSNAME_BYTES],
        };
        let mut driver = Self {
            sender: Sender::new(SESSION, header),
            now: Duration::ZERO,
            deframer: Deframer::new(),
            looked_at: 0,
            sequence: 0,
            first: 0,
            start: Cursor::START,
            made: Vec::new(),
            kept: 0,
            kept_bytes: 0,
            pushed_bytes: 0,
            has_end: false,
            is_end_said: false,
            answered: BTreeMap::new(),
            answers_in_a_row: 0,
            is_hurrying: false,
            furthest: (0, Cursor::START),
        };
        let mut input = Input(data);
        while driver.step(&mut input).is_some() {
            driver.look();
        }
        driver
    }

    fn step(&mut self, input: &mut Input<'_>) -> Option<()> {
        let byte = input.u8()?;
        let how = Pieces { bytes: usize::from(byte >> 4 & 7), is_foreign: byte >> 7 == 1 };
        match *Op::ALL.get(usize::from(byte & 0xf))? {
            Op::Bytes => {
                let length = input.u8()?;
                self.hear(input.take(usize::from(length))?, how);
            }
            Op::Ack => self.reply(how, {
                let (receiver, latest) = (input.u8()?, input.u16()?);
                Reply::Ack { receiver, latest, history: input.u32()?, durable: input.u16()? }
            }),
            Op::NearAck => self.reply(how, {
                let (receiver, latest) = (input.u8()?, self.sequence.wrapping_sub(input.u8()?.into()));
                let history = input.u32()?;
                let durable = (self.next() + 2).wrapping_sub(input.u8()?.into()) as u16;
                Reply::Ack { receiver, latest, history, durable }
            }),
            Op::Resume => self.reply(how, {
                let (receiver, next_block) = (input.u8()?, input.u32()?);
                let cursor = Cursor { pass: input.u8()?, position: input.u64()? };
                Reply::Resume { receiver, next_block, cursor }
            }),
            Op::NearResume => self.reply(how, {
                let (receiver, back) = (input.u8()?, input.u8()?);
                let next_block = (self.next() + 1).saturating_sub(back.into());
                Reply::Resume { receiver, next_block, cursor: self.end_before(next_block) }
            }),
            Op::Wait => self.now += Duration::from_millis(input.u16()?.into()),
            Op::Push => {
                let bytes = usize::from(input.u8()?) << (input.u8()? % 9);
                self.push(bytes, input.u8()?.into());
            }
            Op::Take => self.take(input.u16()?),
            Op::Text => self.sender.text(&"x".repeat(input.u8()?.into())),
            Op::End => self.end(),
            Op::Request => self.reply(how, {
                let (receiver, number) = (input.u8()?, input.u32()?);
                let [a, b, c, d, e] = input.array()?;
                let first_pfn = u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]);
                let pages = input.u8()?;
                let urgency = if input.u8()? & 1 == 0 { Urgency::Now } else { Urgency::Soon };
                Reply::Request { receiver, request: Request { number, urgency, first_pfn, pages } }
            }),
            Op::Course => self.reply(how, {
                let receiver = input.u8()?;
                let courses = [Course::GoOn, Course::Hold, Course::Release, Course::Stay];
                Reply::Course { receiver, course: courses[usize::from(input.u8()? & 3)] }
            }),
            Op::Answer => {
                let bytes = usize::from(input.u8()?) << (input.u8()? % 9);
                self.answer(bytes, input.u8()? & 1 == 0);
            }
            Op::Stay => match input.u8()? % 3 {
                0 => self.sender.stay_after_end(),
                1 => self.sender.leave(),
                _ => {
                    self.sender.hurry();
                    self.is_hurrying = true;
                }
            },
        }
        Some(())
    }

    /// Number of the next block.
    fn next(&self) -> u32 {
        self.first + self.made.len() as u32
    }

    /// Where the block before this one ends.
    fn end_before(&self, number: u32) -> Cursor {
        let before = number.checked_sub(self.first + 1).and_then(|index| self.made.get(index as usize));
        before.map_or(self.start, |made| made.end)
    }

    fn push(&mut self, bytes: usize, further: u64) {
        let bytes = bytes.max(1);
        if self.has_end || self.pushed_bytes + bytes > MAX_PUSHED_BYTES || !self.sender.has_room() {
            return;
        }
        self.look();
        let encoded: Vec<u8> = (0..bytes).map(|at| (at * 7 + self.made.len()) as u8).collect();
        let start = self.end_before(self.next());
        let end = Cursor { pass: start.pass, position: start.position.saturating_add(further) };
        assert_eq!(self.sender.next_block(), self.next());
        self.sender.push(&encoded, end);
        let generation = wire::generation(&encoded);
        self.made.push(Made { bytes, end, generation, said: BTreeSet::new(), count: 0, said_bytes: 0 });
        self.kept_bytes += bytes;
        self.pushed_bytes += bytes;
    }

    /// Answers what is wanted with so many bytes.
    fn answer(&mut self, bytes: usize, is_whole: bool) {
        let Some(request) = self.sender.wanted() else { return };
        assert!(request.is_sound(12), "{request:?}");
        self.sender.begin_answer(&request);
        assert_eq!(self.sender.wanted(), None, "one after the other");
        let bytes = bytes.min(request.max_answer_bytes(12));
        let out = self.sender.answer().expect("it was just begun");
        assert!(out.capacity() - out.len() >= bytes, "there is no room for it");
        let mut encoded = vec![request.number as u8; HEADER_BYTES + bytes];
        encoded[..HEADER_BYTES].fill(0x11);
        out.extend_from_slice(&encoded[HEADER_BYTES..]);
        if is_whole {
            self.sender.finish_answer(&[0x11; HEADER_BYTES]);
            self.answered.insert(request.number, wire::generation(&encoded));
        } else {
            self.sender.abandon_answer();
        }
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.has_end, true) {
            self.sender.end(&SessionEnd { blocks: self.next(), ..SessionEnd::default() });
        }
    }

    fn reply(&mut self, how: Pieces, reply: Reply) {
        let session = SessionId(SESSION.0 ^ u16::from(how.is_foreign));
        let mut line = Vec::new();
        reply.encode(session, &mut line);
        self.hear(&line, how);
    }

    fn hear(&mut self, bytes: &[u8], how: Pieces) {
        for piece in bytes.chunks(if how.bytes == 0 { usize::MAX } else { how.bytes }) {
            self.sender.receive(piece, self.now);
        }
        let Some(start) = self.sender.take_rewind() else { return };
        self.first = self.sender.next_block();
        assert_eq!(self.first, self.sender.first_block());
        let (blocks, cursor) = self.furthest;
        assert!(self.first <= blocks && start <= cursor, "it goes on behind what it ever said");
        self.start = start;
        self.made.clear();
        (self.kept, self.kept_bytes) = (0, 0);
        (self.has_end, self.is_end_said) = (false, false);
    }

    /// Takes bytes off the sender.
    fn take(&mut self, count: u16) {
        let mut left = if count == u16::MAX { usize::MAX } else { count.into() };
        for _ in 0..MAX_FRAMES_AT_ONCE {
            let was_finished = self.sender.is_finished();
            let is_wanted = self.sender.wanted().is_some();
            let (said_of_passes, answers_in_a_row) = (self.said_of_passes(), self.answers_in_a_row);
            let pending = self.sender.pending(self.now);
            assert!(!was_finished || pending.is_empty(), "something follows");
            let length = pending.len();
            if self.looked_at == 0 {
                let pending = pending.to_vec();
                self.say(&pending);
                let is_turn = self.is_hurrying || answers_in_a_row >= 15;
                let is_first = said_of_passes == self.said_of_passes();
                assert!(!is_wanted || is_turn || is_first, "what is wanted comes first");
            } else {
                assert_eq!(length, self.looked_at);
            }
            let gone = length.min(left);
            self.sender.advance(gone);
            self.looked_at = length - gone;
            left -= gone;
            if gone == 0 {
                return;
            }
        }
        panic!("it talks without an end");
    }

    /// Fragments of the passes that were said.
    fn said_of_passes(&self) -> usize {
        self.made.iter().map(|made| made.said.len()).sum()
    }

    /// Looks at what goes out.
    fn say(&mut self, bytes: &[u8]) {
        let mut deframer = std::mem::take(&mut self.deframer);
        deframer.push(bytes, |chunk| {
            let frame = match chunk {
                Chunk::Frame(frame) => frame,
                Chunk::Text(_) => return,
                Chunk::Unknown(_) | Chunk::Rubbish(_) => panic!("{chunk:?}"),
            };
            assert_eq!((frame.session, frame.sequence), (SESSION, self.sequence));
            self.sequence = self.sequence.wrapping_add(1);
            match frame.body {
                Body::Fragment(fragment) => self.fragment(&fragment),
                Body::End(_) => {
                    assert!(self.has_end, "nobody said so");
                    self.is_end_said = true;
                }
                Body::Session(_) | Body::KeepAlive => {}
            }
        });
        self.deframer = deframer;
    }

    fn fragment(&mut self, fragment: &Fragment<'_>) {
        if fragment.stream == ANSWERS {
            assert_eq!(self.answered.get(&fragment.block), Some(&fragment.generation), "of no answer");
            self.answers_in_a_row += 1;
            return;
        }
        self.answers_in_a_row = 0;
        let index = fragment.block.checked_sub(self.first).expect("a block of this run") as usize;
        let made = self.made.get_mut(index).expect("a block that was made");
        assert!(index >= self.kept, "of a block that is gone");
        assert_eq!(fragment.generation, made.generation);
        assert!(made.count == 0 || made.count == fragment.count);
        made.count = fragment.count;
        if made.said.insert(fragment.index) {
            made.said_bytes += fragment.bytes.len();
        }
        if made.is_sent() {
            let (blocks, cursor) = self.furthest;
            self.furthest = (blocks.max(fragment.block + 1), cursor.max(made.end));
        }
    }

    /// It holds no more than it may, gave up only what it had said, and is not done before it said all.
    fn look(&mut self) {
        let held = self.sender.held_bytes();
        assert!(held <= MAX_HELD_BYTES, "{held} bytes are held");
        let of_answers = self.sender.answer_bytes();
        assert!(of_answers <= MAX_ENCODED_BYTES, "{of_answers} bytes of answers are held");
        while self.kept_bytes > held {
            let made = &self.made[self.kept];
            assert!(made.is_sent(), "block {} is gone unsaid", self.first as usize + self.kept);
            self.kept_bytes -= made.bytes;
            self.kept += 1;
        }
        assert_eq!(self.kept_bytes, held);
        if self.sender.is_finished() {
            assert!(self.is_end_said && self.made.iter().all(Made::is_sent), "done before all was said");
        }
    }
}

/// How bytes come over the line.
#[derive(Clone, Copy)]
struct Pieces {
    /// 0: all at once.
    bytes: usize,
    /// Of another session.
    is_foreign: bool,
}

/// What is left of an input.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}
