//! A desk with a host on it: a serial line to a machine that is being dumped, its receiver, and somebody who wants pages.
//! Time is virtual: it passes with each look at the line, and with what an encoder is said to take.
#![allow(dead_code, reason = "each test uses a part")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use capture::{Clock, Crash, Link, Options, send};
use codec::{CodecId, Encoder, OutputFull};
use memory::{PhysAddr, PhysMemory};
use wire::line::{Chunk, Deframer};
use wire::{
    ANSWERS, Block, Body, Course, Cursor, Event, Receiver, Record, Records, Reply, Request, SessionEnd,
    SessionId, Urgency,
};

use crate::board::Memory;

/// A look at the line takes so long.
const LOOK: Duration = Duration::from_micros(50);
/// The host looks so often.
const TURN: Duration = Duration::from_millis(5);
const FIFO_BYTES: usize = 16;

/// Virtual time.
#[derive(Clone, Default)]
pub(crate) struct Time(Rc<Cell<Duration>>);

impl Time {
    fn pass(&self, time: Duration) {
        self.0.set(self.0.get() + time);
    }
}

impl Clock for Time {
    fn now(&self) -> Duration {
        self.0.get()
    }
}

/// An encoder that takes so many bytes in a second. As dense LZMA does, it looks at the last 4 KiB only when more come, or
/// nothing does: then all at once, and nobody looks at the line meanwhile.
pub(crate) struct Slow {
    encoder: Box<dyn Encoder>,
    time: Time,
    bytes_per_second: u32,
    held_back: usize,
}

const MAX_HELD_BACK: usize = 4096;

impl Slow {
    pub(crate) fn new(encoder: Box<dyn Encoder>, time: Time, bytes_per_second: u32) -> Self {
        Self { encoder, time, bytes_per_second, held_back: 0 }
    }

    fn work(&self, bytes: usize) {
        self.time.pass(Duration::from_secs(1) * bytes as u32 / self.bytes_per_second);
    }
}

impl Encoder for Slow {
    fn id(&self) -> CodecId {
        self.encoder.id()
    }

    fn begin(&mut self) {
        self.held_back = 0;
        self.encoder.begin();
    }

    fn room(&self, output_bytes: usize) -> usize {
        self.encoder.room(output_bytes)
    }

    fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), OutputFull> {
        self.held_back += input.len();
        let now = self.held_back.saturating_sub(MAX_HELD_BACK);
        self.held_back -= now;
        self.work(now);
        self.encoder.write(input, out)
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), OutputFull> {
        let held_back = std::mem::take(&mut self.held_back);
        self.work(held_back);
        self.encoder.finish(out)
    }
}

/// What became of a page that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Page(Vec<u8>),
    Hole(u8),
}

impl Answer {
    /// What memory holds.
    pub(crate) fn of(memory: &Memory, pfn: u64) -> Self {
        let mut page = vec![0; 4096];
        memory.read(PhysAddr(pfn << 12), &mut page).unwrap();
        Self::Page(page)
    }
}

/// A byte is damaged so often, on average, either way.
#[derive(Clone, Copy, Default)]
pub(crate) struct Noise {
    pub(crate) seed: u64,
    /// 0: never.
    pub(crate) every: u64,
}

/// A receiver and what it is for.
pub(crate) struct Host {
    pub(crate) receiver: Receiver,
    pub(crate) id: u8,
    pub(crate) in_session: bool,
    /// Pages to ask for: the first frame, how many, how urgent; from this time on, so many at the same time.
    pub(crate) wants: VecDeque<(u64, u8, Urgency)>,
    pub(crate) wants_from: Duration,
    pub(crate) at_once: usize,
    pub(crate) waiting: BTreeMap<u32, (u64, u8, Urgency)>,
    pub(crate) answers: BTreeMap<u64, Answer>,
    pub(crate) answer_bytes: usize,
    pub(crate) answered_at: Option<Duration>,
    pub(crate) next_request: u32,
    /// What is to be said, and when.
    pub(crate) courses: VecDeque<(Duration, Course)>,
    pub(crate) course: Course,
    /// When the receiver is killed, and started again.
    pub(crate) kills: VecDeque<Duration>,
    /// When it is plugged in.
    pub(crate) comes_at: Duration,
    /// When it goes away for good.
    pub(crate) goes_at: Option<Duration>,
    /// It never says anything but `raw`.
    pub(crate) is_deaf: bool,
    pub(crate) raw: Vec<u8>,
    /// The blocks of the passes.
    pub(crate) blocks: BTreeMap<u32, Block>,
    pub(crate) arrivals: Vec<Duration>,
    pub(crate) end: Option<SessionEnd>,
    pub(crate) ended_at: Option<Duration>,
    /// What the console showed.
    pub(crate) text: Vec<u8>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            receiver: Receiver::new(1),
            id: 1,
            in_session: false,
            wants: VecDeque::new(),
            wants_from: Duration::ZERO,
            at_once: 1,
            waiting: BTreeMap::new(),
            answers: BTreeMap::new(),
            answer_bytes: 0,
            answered_at: None,
            next_request: 0,
            courses: VecDeque::new(),
            course: Course::GoOn,
            kills: VecDeque::new(),
            comes_at: Duration::ZERO,
            goes_at: None,
            is_deaf: false,
            raw: Vec::new(),
            blocks: BTreeMap::new(),
            arrivals: Vec::new(),
            end: None,
            ended_at: None,
            text: Vec::new(),
        }
    }
}

/// A request that nobody asked for.
pub(crate) fn raw_request(session: SessionId, number: u32) -> Vec<u8> {
    let request = Request { number, urgency: Urgency::Now, first_pfn: number.into(), pages: 1 };
    let mut line = Vec::new();
    Reply::Request { receiver: number as u8 | 1, request }.encode(session, &mut line);
    line
}

/// Pages of a dump, and holes, by their frames.
pub(crate) type Dump = (BTreeMap<u64, Vec<u8>>, BTreeMap<u64, u8>);

impl Host {
    fn prefix(&self) -> u32 {
        (0..).take_while(|number| self.blocks.contains_key(number)).count() as u32
    }

    /// Takes what came, and says what there is to say.
    fn turn(&mut self, now: Duration, bytes: &[u8]) -> Vec<u8> {
        if now < self.comes_at || self.goes_at.is_some_and(|at| now >= at) {
            return Vec::new();
        }
        if self.kills.front().is_some_and(|at| now >= *at) {
            self.kills.pop_front();
            self.id += 1;
            self.receiver = Receiver::new(self.id);
            self.in_session = false;
            self.wants.extend(std::mem::take(&mut self.waiting).into_values());
            let prefix = self.prefix();
            self.blocks.retain(|number, _| *number < prefix);
        }
        let mut receiver = std::mem::replace(&mut self.receiver, Receiver::new(1));
        let mut has_begun = false;
        receiver.push(bytes, |event| match event {
            Event::Session(..) => has_begun = true,
            Event::Restarted { first_block } if self.in_session => {
                self.blocks.retain(|number, _| *number < first_block);
                self.end = None;
            }
            Event::Block { stream: ANSWERS, number, encoded, .. } => self.answered(now, number, encoded),
            Event::Block { number, encoded, .. } => {
                self.arrivals.push(now);
                drop(self.blocks.insert(number, Block::decode(encoded).unwrap()));
            }
            Event::End(_, end) => {
                self.end = Some(end);
                self.ended_at.get_or_insert(now);
            }
            Event::Text(text) => self.text.extend_from_slice(text),
            Event::Restarted { .. } | Event::Unknown(_) => {}
        });
        if has_begun {
            self.in_session = true;
            let prefix = self.prefix();
            let cursor = prefix.checked_sub(1).map_or(Cursor::START, |last| self.blocks[&last].header.end);
            receiver.resume_at(prefix, cursor);
            receiver.set_first_request(self.next_request);
        }
        while self.courses.front().is_some_and(|(at, _)| now >= *at) {
            self.course = self.courses.pop_front().unwrap().1;
        }
        receiver.set_course(self.course);
        while now >= self.wants_from && self.waiting.len() < self.at_once {
            let Some(&(pfn, pages, urgency)) = self.wants.front() else { break };
            let Some(number) = receiver.request(pfn, pages, urgency) else { break };
            self.wants.pop_front();
            self.next_request = number + 1;
            self.waiting.insert(number, (pfn, pages, urgency));
        }
        let is_stored = self.end.is_some_and(|end| end.blocks == self.prefix());
        receiver.set_durable(self.prefix() + u32::from(is_stored));
        receiver.service(now);
        let replies = receiver.take_replies();
        self.receiver = receiver;
        if self.is_deaf { std::mem::take(&mut self.raw) } else { replies }
    }

    fn answered(&mut self, now: Duration, number: u32, encoded: &[u8]) {
        let block = Block::decode(encoded).unwrap();
        let Some((first_pfn, pages, _)) = self.waiting.remove(&number) else { return };
        let place = |position| Cursor { pass: 0, position };
        let end = first_pfn + u64::from(pages);
        assert_eq!((block.header.start, block.header.end), (place(first_pfn), place(end)));
        self.answer_bytes += encoded.len();
        self.answered_at = Some(now);
        let mut told = Vec::new();
        for record in Records::new(&block.raw, 12) {
            let (pfn, answer) = match record.unwrap().record {
                Record::Page { pfn, bytes } => (pfn, Answer::Page(bytes.to_vec())),
                Record::Fill { pfn, pages: 1, word } => (pfn, Answer::Page(word.to_le_bytes().repeat(512))),
                Record::Hole { pfn, pages: 1, reason } => (pfn, Answer::Hole(reason)),
                other => panic!("{other:?}"),
            };
            told.push(pfn);
            self.answers.insert(pfn, answer);
        }
        assert!(told.into_iter().eq(first_pfn..end));
    }

    /// What the passes sent.
    pub(crate) fn dump(&self) -> Dump {
        let (mut pages, mut holes) = Dump::default();
        for block in self.blocks.values() {
            for record in Records::new(&block.raw, 12) {
                match record.unwrap().record {
                    Record::Page { pfn, bytes } => drop(pages.insert(pfn, bytes.to_vec())),
                    Record::Fill { pfn, pages: count, word } => {
                        for pfn in pfn..pfn + u64::from(count) {
                            pages.insert(pfn, word.to_le_bytes().repeat(512));
                        }
                    }
                    Record::Hole { pfn, pages, reason } => {
                        holes.extend((pfn..pfn + u64::from(pages)).map(|pfn| (pfn, reason)));
                    }
                    Record::Bytes { .. } | Record::Meta { .. } => {}
                }
            }
        }
        (pages, holes)
    }

    /// What came is what the end says there is.
    pub(crate) fn assert_adds_up(&self) {
        let end = self.end.unwrap();
        assert!(self.blocks.keys().copied().eq(0..end.blocks), "blocks are missing");
        let mut totals = SessionEnd::default();
        for (_, block) in self.blocks.range(end.first_block..) {
            for record in Records::new(&block.raw, 12) {
                let located = record.unwrap();
                totals.count(&located.record, located.encoded);
            }
        }
        let SessionEnd { blocks, first_block, is_cut, .. } = end;
        assert_eq!(SessionEnd { blocks, first_block, is_cut, ..totals }, end);
    }

    pub(crate) fn assert_complete(&self) {
        self.assert_adds_up();
        assert_eq!(self.end.map(|end| end.is_cut), Some(false));
    }
}

/// The line and the host.
pub(crate) struct Desk {
    pub(crate) time: Time,
    pub(crate) host: Host,
    pub(crate) noise: Noise,
    /// Whoever writes waits for the transmitter, and is never refused.
    pub(crate) makes_wait: bool,
    /// From then on the link takes nothing, and brings nothing.
    pub(crate) dies_at: Option<Duration>,
    byte_time: Duration,
    /// When the transmitter is done with what it has.
    transmitted_at: Duration,
    to_host: VecDeque<(Duration, u8)>,
    turned_at: Duration,
    to_machine: VecDeque<(Duration, u8)>,
    received: VecDeque<u8>,
    /// Bytes that no look at the line was in time for.
    pub(crate) overruns: usize,
    pub(crate) written: u64,
    deframer: Deframer,
    /// Frames of the passes since all that was said had been heard, if something is wanted.
    frames_since: Option<usize>,
    /// How many that were, for each answer.
    pub(crate) frames_before_answers: Vec<usize>,
}

impl Desk {
    pub(crate) fn new(baud: u32, host: Host) -> Self {
        Self {
            time: Time::default(),
            host,
            noise: Noise::default(),
            makes_wait: false,
            dies_at: None,
            byte_time: Duration::from_secs(10) / baud,
            transmitted_at: Duration::ZERO,
            to_host: VecDeque::new(),
            turned_at: Duration::ZERO,
            to_machine: VecDeque::new(),
            received: VecDeque::new(),
            overruns: 0,
            written: 0,
            deframer: Deframer::new(),
            frames_since: None,
            frames_before_answers: Vec::new(),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.time.now()
    }

    /// Dumps the machine, until the sender is done.
    pub(crate) fn run(&mut self, machine: &Memory, options: Options) -> SessionEnd {
        let crash = Crash::read(machine.elfcorehdr_pa, machine).unwrap();
        let time = self.time.clone();
        send(&crash, machine, self, &time, options).unwrap()
    }

    fn is_dead(&self) -> bool {
        self.dies_at.is_some_and(|at| self.now() >= at)
    }

    fn damaged(&mut self, byte: u8) -> u8 {
        let Noise { seed, every } = &mut self.noise;
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if *every > 0 && (*seed >> 33) % *every == 0 { byte ^ 0x10 } else { byte }
    }

    fn turn(&mut self) {
        let now = self.now();
        if now < self.turned_at + TURN {
            return;
        }
        self.turned_at = now;
        let mut bytes = Vec::new();
        while let Some((_, byte)) = self.to_host.pop_front_if(|(at, _)| *at <= now) {
            bytes.push(self.damaged(byte));
        }
        let mut at = self.to_machine.back().map_or(now, |(at, _)| now.max(*at));
        for byte in self.host.turn(now, &bytes) {
            at += self.byte_time;
            let byte = self.damaged(byte);
            self.to_machine.push_back((at, byte));
        }
    }

    /// Counts the frames that go out between a request and its answer.
    fn count_frames(&mut self, bytes: &[u8]) {
        let (since, counts) = (RefCell::new(&mut self.frames_since), &mut self.frames_before_answers);
        self.deframer.push(bytes, |chunk| {
            let Chunk::Frame(frame) = chunk else { return };
            let Body::Fragment(fragment) = frame.body else { return };
            let mut since = since.borrow_mut();
            match (&mut **since, fragment.stream) {
                (Some(count), 0) => *count += 1,
                (Some(count), _) => {
                    counts.push(*count);
                    **since = None;
                }
                (None, _) => {}
            }
        });
    }
}

impl Link for Desk {
    fn write(&mut self, bytes: &[u8]) -> usize {
        if self.makes_wait {
            self.time.pass(self.transmitted_at.saturating_sub(self.now()));
        }
        let now = self.now();
        // Room is seen only once the FIFO is empty.
        if self.transmitted_at > now || self.is_dead() {
            return 0;
        }
        let count = bytes.len().min(FIFO_BYTES);
        self.written += count as u64;
        self.count_frames(&bytes[..count]);
        for &byte in &bytes[..count] {
            self.transmitted_at = self.transmitted_at.max(now) + self.byte_time;
            self.to_host.push_back((self.transmitted_at, byte));
        }
        count
    }

    fn read(&mut self, buf: &mut [u8]) -> usize {
        self.time.pass(LOOK);
        if self.is_dead() {
            return 0;
        }
        self.turn();
        let now = self.now();
        while let Some((_, byte)) = self.to_machine.pop_front_if(|(at, _)| *at <= now) {
            if self.received.len() == FIFO_BYTES {
                self.overruns += 1;
            } else {
                self.received.push_back(byte);
            }
        }
        let count = buf.len().min(self.received.len());
        for (to, from) in buf.iter_mut().zip(self.received.drain(..count)) {
            *to = from;
        }
        if count > 0 && self.to_machine.is_empty() && !self.host.waiting.is_empty() {
            self.frames_since.get_or_insert(0);
        }
        count
    }
}
