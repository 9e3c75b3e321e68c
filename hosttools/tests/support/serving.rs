//! A crashed machine of [`Memory`] that answers requests, honestly or not, over a socket that whoever listens connects to.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use codec::{CodecId, Filter};
use rcapture::index::Summary;
use wire::{
    ANSWERS, BlockHeader, Body, Course, Cursor, Fragment, Frame, MAX_META_BYTES, MetaKind, Record, Run,
    Service, SessionEnd, SessionHeader, SessionId, UTSNAME_BYTES, generation, line,
};

use super::{FAULTY_PFN, Memory, PAGE, RAM, VMCOREINFO, elfcorehdr, notes};

const SESSION: SessionId = SessionId(0x1234);
const FRAGMENT_BYTES: usize = 1000;

/// What a test has to say while the machine runs, and what the machine has seen.
#[derive(Default)]
pub struct Control {
    /// Bytes a second.
    pub rate: AtomicU64,
    /// Nothing gets through, in either direction.
    pub is_cut: AtomicBool,
    /// Answers tell of other pages, and there are answers to nothing.
    pub lies: AtomicBool,
    /// What is wanted from this page on is not answered.
    pub ignores: AtomicU64,
    /// The passes are not begun before this is unset.
    pub waits: AtomicBool,
    /// It forgets its course, as one does that hears nobody for long.
    pub forgets: AtomicBool,
    /// The last course that was heard.
    pub course: AtomicU8,
    /// Requests that were heard: first page, pages, urgency.
    pub requests: Mutex<Vec<(u64, u8, u8)>>,
    /// Blocks of the passes that were sent.
    pub sent: AtomicU64,
}

/// The machine.
pub struct Serving {
    pub control: Arc<Control>,
    machine: JoinHandle<()>,
}

/// How a machine is set up.
#[derive(Clone, Copy)]
pub struct Setup {
    pub rate: u64,
    /// It knows of requests.
    pub serves: bool,
    /// The passes begin only when a test says so.
    pub waits: bool,
    /// Which pages the passes send.
    pub keeps: fn(u64) -> bool,
}

pub const ALL: Setup = Setup { rate: 4_000_000, serves: true, waits: false, keeps: |_| true };

/// Odd pages only.
pub const HALF: Setup = Setup { keeps: |pfn| pfn % 2 == 1, ..ALL };

impl Serving {
    pub fn crash(socket: &Path, setup: Setup) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let control = Arc::new(Control::default());
        control.rate.store(setup.rate, Ordering::Relaxed);
        control.waits.store(setup.waits, Ordering::Relaxed);
        let machine = thread::spawn({
            let control = Arc::clone(&control);
            move || {
                let (host, _) = listener.accept().unwrap();
                host.set_nonblocking(true).unwrap();
                Machine::new(Memory::new(), host, control, setup).run();
            }
        });
        Self { control, machine }
    }

    pub fn course(&self) -> u8 {
        self.control.course.load(Ordering::Relaxed)
    }

    pub fn is_gone(&self) -> bool {
        self.machine.is_finished()
    }

    /// Waits until it goes.
    pub fn finish(self) {
        self.machine.join().unwrap();
    }
}

struct Machine {
    memory: Memory,
    host: UnixStream,
    control: Arc<Control>,
    setup: Setup,
    blocks: Vec<Vec<u8>>,
    end: SessionEnd,
    started: Instant,
    carried: u64,
    sequence: u16,
    receiver: u8,
    next_block: usize,
    course: Course,
    is_held: bool,
    is_stored: bool,
    said_end: bool,
    /// Request number → what is wanted. Those of the first kind are answered first.
    requests: [VecDeque<(u32, u64, u8)>; 2],
    known: BTreeMap<u32, ()>,
    heard: Vec<u8>,
    header_at: Option<Instant>,
    spoke_at: Instant,
}

impl Machine {
    fn new(memory: Memory, host: UnixStream, control: Arc<Control>, setup: Setup) -> Self {
        let (blocks, end) = blocks(&memory, setup.keeps);
        Self {
            memory,
            host,
            control,
            setup,
            blocks,
            end,
            started: Instant::now(),
            carried: 0,
            sequence: 0,
            receiver: 0,
            next_block: 0,
            course: Course::GoOn,
            is_held: false,
            is_stored: false,
            said_end: false,
            requests: Default::default(),
            known: BTreeMap::new(),
            heard: Vec::new(),
            header_at: None,
            spoke_at: Instant::now(),
        }
    }

    fn run(&mut self) {
        let give_up = Instant::now() + Duration::from_secs(120);
        while Instant::now() < give_up {
            if !self.hear() {
                return;
            }
            if self.control.is_cut.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            if self.control.forgets.swap(false, Ordering::Relaxed) {
                (self.course, self.is_held, self.header_at) = (Course::GoOn, false, None);
            }
            let stays = self.stays();
            if self.header_at.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
                self.header();
            } else if let Some((number, first, pages)) =
                self.requests[0].pop_front().or_else(|| self.requests[1].pop_front())
            {
                self.answer(number, first, pages);
            } else if self.is_stored && !stays {
                self.header();
                return;
            } else if self.may_go_on() {
                let block = self.blocks[self.next_block].clone();
                self.block(0, u32::try_from(self.next_block).unwrap(), &block);
                self.next_block += 1;
                self.control.sent.fetch_add(1, Ordering::Relaxed);
            } else if self.spoke_at.elapsed() >= Duration::from_millis(200) {
                if self.is_at_end() && !self.is_stored {
                    self.said_end = true;
                    let end = self.end_now();
                    self.frame(Body::End(&end.encode()));
                } else {
                    self.frame(Body::KeepAlive);
                }
            } else {
                thread::sleep(Duration::from_millis(1));
            }
        }
        panic!("nobody has let the machine go");
    }

    fn stays(&self) -> bool {
        matches!(self.course, Course::Hold | Course::Stay)
    }

    fn may_go_on(&self) -> bool {
        let waits = self.control.waits.load(Ordering::Relaxed) && self.next_block > 0;
        !self.is_held && !waits && self.next_block < self.blocks.len()
    }

    fn is_at_end(&self) -> bool {
        match self.course {
            Course::Hold => false,
            Course::Release if self.is_held => true,
            _ => self.next_block == self.blocks.len(),
        }
    }

    /// The end as things are: cut, if the passes were held.
    fn end_now(&self) -> SessionEnd {
        if self.next_block == self.blocks.len() {
            return self.end;
        }
        let mut end = totals(&self.blocks[..self.next_block]);
        end.is_cut = true;
        end
    }

    /// Takes what the host says; `false`: it is gone.
    fn hear(&mut self) -> bool {
        let mut buf = [0; 4096];
        match self.host.read(&mut buf) {
            Ok(0) => return false,
            Ok(count) if !self.control.is_cut.load(Ordering::Relaxed) => {
                self.heard.extend_from_slice(&buf[..count]);
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        while let Some(zero) = self.heard.iter().position(|&byte| byte == 0) {
            let coded: Vec<u8> = self.heard.drain(..=zero).collect();
            let mut bytes = [0; 64];
            if let Ok(report) = cobs::decode(&coded[..zero], &mut bytes) {
                self.reply(&bytes[..report.frame_size()]);
            }
        }
        true
    }

    fn reply(&mut self, bytes: &[u8]) {
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        let Some(&kind) = bytes.first() else { return };
        match kind {
            0xa1 => {
                let durable = word(&bytes[8..10]);
                self.is_stored |= self.said_end && durable == u64::from(self.end_now().blocks) + 1;
            }
            0xa2 if bytes[1] != self.receiver => {
                // Its only receiver, over a line that loses nothing: it has what was sent.
                self.receiver = bytes[1];
                self.header_at = None;
            }
            0xa3 if self.setup.serves => {
                let (number, first) = (u32::try_from(word(&bytes[2..6])).unwrap(), word(&bytes[6..11]));
                let (pages, urgency) = (bytes[11], usize::from(bytes[12]));
                // One that was for later is for now.
                self.requests[1].retain(|(soon, ..)| urgency == 1 || *soon != number);
                let is_waiting = self.requests[1].iter().any(|(soon, ..)| *soon == number);
                if self.known.insert(number, ()).is_none() || (urgency == 0 && !is_waiting) {
                    if !self.requests[0].iter().any(|(now, ..)| *now == number) {
                        self.requests[urgency].push_back((number, first, pages));
                    }
                    self.control.requests.lock().unwrap().push((first, pages, bytes[12]));
                }
            }
            0xa4 if self.setup.serves => {
                self.course = match bytes[2] {
                    0 => Course::GoOn,
                    1 => Course::Hold,
                    2 => Course::Release,
                    _ => Course::Stay,
                };
                self.is_held = match self.course {
                    Course::Hold => true,
                    Course::Release => self.is_held,
                    _ => false,
                };
                self.control.course.store(bytes[2], Ordering::Relaxed);
                self.header_at = None;
            }
            _ => {}
        }
    }

    fn header(&mut self) {
        self.header_at = Some(Instant::now());
        let header = SessionHeader {
            e_machine: 62,
            page_shift: 12,
            dump_level: 0,
            crash_time: 1_700_000_000,
            ram_pages: 800,
            utsname: [0; UTSNAME_BYTES],
        };
        let run = Run { number: 0, receiver: self.receiver, first_block: 0 };
        let service = Service { course: self.course, stays: self.stays() }.encode();
        let service: &[u8] = if self.setup.serves { &[service] } else { &[] };
        self.frame(Body::Session(&[&run.encode()[..], &header.encode(), service].concat()));
    }

    fn answer(&mut self, number: u32, first: u64, pages: u8) {
        if first == self.control.ignores.load(Ordering::Relaxed) {
            return;
        }
        let pages = u64::from(pages);
        if self.control.lies.load(Ordering::Relaxed) {
            // To nothing that was asked, of other pages, of far too many, and no block at all.
            let (raw, far) = (self.records(first + 1, 1), self.records(1, 40));
            self.block(ANSWERS, number + 1000, &answer(first, first + pages, &raw));
            self.block(ANSWERS, number, &answer(first + 1, first + 2, &raw));
            self.block(ANSWERS, number, &answer(first, first + pages, &far));
            self.block(ANSWERS, number, &answer(0, u64::MAX, &far));
            self.block(ANSWERS, number, b"rubbish");
            self.block(7, number, &answer(first, first + pages, &raw));
            return;
        }
        let raw = self.records(first, pages);
        self.block(ANSWERS, number, &answer(first, first + pages, &raw));
    }

    fn records(&self, first: u64, pages: u64) -> Vec<u8> {
        let mut raw = Vec::new();
        (first..first + pages).for_each(|pfn| push_page(&self.memory, pfn, &mut raw));
        raw
    }

    fn block(&mut self, stream: u8, number: u32, encoded: &[u8]) {
        let generation = generation(encoded);
        let pieces: Vec<&[u8]> = encoded.chunks(FRAGMENT_BYTES).collect();
        let count = u8::try_from(pieces.len()).unwrap();
        for (index, bytes) in (0..).zip(pieces) {
            let fragment = Fragment { stream, block: number, generation, index, count, bytes };
            self.frame(Body::Fragment(fragment));
        }
    }

    fn frame(&mut self, body: Body<'_>) {
        let mut frame = Vec::new();
        Frame { session: SESSION, sequence: self.sequence, body }.encode(&mut frame);
        self.sequence = self.sequence.wrapping_add(1);
        let mut out = vec![0];
        line::encode(&frame, &mut out);
        self.spoke_at = Instant::now();
        let mut bytes = out.as_slice();
        while !bytes.is_empty() && !self.control.is_cut.load(Ordering::Relaxed) {
            let milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap();
            let allowed = milliseconds * self.control.rate.load(Ordering::Relaxed) / 1000;
            if allowed <= self.carried {
                thread::sleep(Duration::from_micros(200));
                continue;
            }
            match self.host.write(bytes) {
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.carried += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_micros(200));
                }
                // Its end is heard of when it is listened to.
                Err(_) => return,
            }
        }
    }
}

/// A block without compression.
fn encoded(start: Cursor, end: Cursor, raw: &[u8]) -> Vec<u8> {
    let raw_bytes = u32::try_from(raw.len()).unwrap();
    let header = BlockHeader { start, end, codec: CodecId::None, filter: Filter::None, raw_bytes };
    [&header.encode()[..], raw].concat()
}

fn answer(first: u64, end: u64, raw: &[u8]) -> Vec<u8> {
    let place = |position| Cursor { pass: 0, position };
    encoded(place(first), place(end), raw)
}

fn push_page(memory: &Memory, pfn: u64, raw: &mut Vec<u8>) {
    let start = pfn << 12;
    let ram = RAM.into_iter().find(|&(from, to)| start + 0xfff >= from && start < to);
    let Some((from, to)) = ram else {
        return Record::Hole { pfn, pages: 1, reason: 1 }.encode(raw);
    };
    if pfn == FAULTY_PFN {
        return Record::Hole { pfn, pages: 1, reason: 3 }.encode(raw);
    }
    let (from, to) = (from.max(start), to.min(start + PAGE as u64));
    let bytes = &memory.bytes[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()];
    if bytes.len() < PAGE {
        return Record::Bytes { pa: from, bytes }.encode(raw);
    }
    let words = bytes.as_chunks::<8>().0;
    if words.iter().all(|word| *word == words[0]) {
        Record::Fill { pfn, pages: 1, word: u64::from_le_bytes(words[0]) }.encode(raw);
    } else {
        Record::Page { pfn, bytes }.encode(raw);
    }
}

/// All that the passes send, eight pages a block.
fn blocks(memory: &Memory, keeps: fn(u64) -> bool) -> (Vec<Vec<u8>>, SessionEnd) {
    let mut raw = Vec::new();
    for (kind, bytes) in [(MetaKind::Elfcorehdr, elfcorehdr()), (MetaKind::Notes, notes(VMCOREINFO).concat())]
    {
        for (index, piece) in bytes.chunks(MAX_META_BYTES).enumerate() {
            let offset = u32::try_from(index * MAX_META_BYTES).unwrap();
            let total = u32::try_from(bytes.len()).unwrap();
            Record::Meta { kind, offset, total, bytes: piece }.encode(&mut raw);
        }
    }
    let meta = Cursor { pass: 1, position: raw.len() as u64 };
    let mut blocks = vec![encoded(Cursor::START, meta, &raw)];
    let mut at = Cursor { pass: 14, position: 0 };
    for (start, end) in RAM {
        let frames: Vec<u64> = (start >> 12..end.div_ceil(PAGE as u64)).filter(|&pfn| keeps(pfn)).collect();
        for pages in frames.chunks(8) {
            let mut raw = Vec::new();
            pages.iter().for_each(|&pfn| push_page(memory, pfn, &mut raw));
            let behind = Cursor { pass: 14, position: pages.last().unwrap() + 1 };
            blocks.push(encoded(at, behind, &raw));
            at = behind;
        }
    }
    let end = totals(&blocks);
    (blocks, end)
}

fn totals(blocks: &[Vec<u8>]) -> SessionEnd {
    let mut end = SessionEnd { blocks: u32::try_from(blocks.len()).unwrap(), ..SessionEnd::default() };
    for block in blocks {
        let of_block = Summary::of(0, block, 12).unwrap().totals;
        end.pages += of_block.pages;
        end.filled_pages += of_block.filled_pages;
        end.hole_pages += of_block.hole_pages;
        end.fragments += of_block.fragments;
        end.digest = end.digest.wrapping_add(of_block.digest);
    }
    end
}
