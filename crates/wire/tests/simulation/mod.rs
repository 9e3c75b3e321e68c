//! A sender and a receiver with a line between them, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    dead_code,
    unreachable_pub,
    reason = "a test's own machinery, of which each test uses a part"
)]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use wire::{Cursor, Event, Receiver, Sender, SessionEnd, SessionHeader, SessionId, UTSNAME_BYTES};

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, good enough to place errors.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// How many bytes pass before the next event of this probability per byte.
    fn gap(&mut self, probability: f64) -> u64 {
        if probability <= 0.0 {
            return u64::MAX;
        }
        let uniform = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        ((1.0 - uniform).ln() / (1.0 - probability).ln()) as u64
    }
}

/// What a line does to bytes. Probabilities are per byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noise {
    /// A bit of the ten is wrong; in a start or stop bit it takes the byte with it.
    pub flip: f64,
    pub drop: f64,
    pub insert: f64,
}

impl Noise {
    pub fn bit_errors(per_bit: f64) -> Self {
        Self { flip: per_bit * 10.0, ..Self::default() }
    }
}

/// One direction of a line.
pub struct Channel {
    bytes_per_second: f64,
    latency: Duration,
    noise: Noise,
    random: Random,
    until_flip: u64,
    until_drop: u64,
    until_insert: u64,
    credit: f64,
    on_the_way: VecDeque<(Duration, Vec<u8>)>,
    pub is_cut: bool,
    pub carried: u64,
}

impl Channel {
    pub fn new(baud: u32, latency: Duration, noise: Noise, seed: u64) -> Self {
        let mut random = Random(seed);
        Self {
            bytes_per_second: f64::from(baud) / 10.0,
            latency,
            noise,
            until_flip: random.gap(noise.flip),
            until_drop: random.gap(noise.drop),
            until_insert: random.gap(noise.insert),
            random,
            credit: 0.0,
            on_the_way: VecDeque::new(),
            is_cut: false,
            carried: 0,
        }
    }

    fn tick(&mut self, step: Duration) {
        // A UART has a FIFO, not a bank account.
        self.credit = (self.credit + self.bytes_per_second * step.as_secs_f64())
            .min(16.0 + self.bytes_per_second * step.as_secs_f64());
    }

    fn room(&self) -> usize {
        self.credit as usize
    }

    fn write(&mut self, now: Duration, bytes: &[u8]) {
        self.credit -= bytes.len() as f64;
        self.carried += bytes.len() as u64;
        if self.is_cut || bytes.is_empty() {
            return;
        }
        let mut arriving = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while !rest.is_empty() {
            // Nothing happens to most bytes.
            let calm = self.until_flip.min(self.until_drop).min(self.until_insert).min(rest.len() as u64);
            let (now, later) = rest.split_at(calm as usize);
            arriving.extend_from_slice(now);
            for left in [&mut self.until_flip, &mut self.until_drop, &mut self.until_insert] {
                *left -= calm;
            }
            rest = later;
            let Some((&byte, later)) = rest.split_first() else { break };
            if self.until_insert == 0 {
                self.until_insert = self.random.gap(self.noise.insert);
                arriving.push(self.random.next() as u8);
                continue;
            }
            rest = later;
            if self.until_drop == 0 {
                self.until_drop = self.random.gap(self.noise.drop);
                continue;
            }
            self.until_flip = self.random.gap(self.noise.flip);
            if let bit @ 0..8 = self.random.below(10) {
                arriving.push(byte ^ 1 << bit);
            }
        }
        self.on_the_way.push_back((now + self.latency, arriving));
    }

    fn read(&mut self, now: Duration) -> Vec<u8> {
        let mut arrived = Vec::new();
        while self.on_the_way.front().is_some_and(|(at, _)| *at <= now) {
            arrived.extend(self.on_the_way.pop_front().unwrap().1);
        }
        arrived
    }
}

/// Blocks of a machine whose memory changes while it is sent: what block `number` holds depends on the run it was made
/// in, and every byte of it says which.
pub struct Machine {
    pub blocks: u32,
    pub max_block_bytes: u64,
    pub seed: u64,
}

impl Machine {
    pub fn block(&self, number: u32, run: u8) -> Vec<u8> {
        let mut random = Random(self.seed ^ u64::from(number) << 8 ^ u64::from(run));
        let length = 1 + random.below(self.max_block_bytes) as usize;
        let mut block = Vec::with_capacity(length + 8);
        while block.len() < length {
            block.extend_from_slice(&random.next().to_le_bytes());
        }
        block.truncate(length);
        block
    }

    pub fn bytes(&self) -> u64 {
        (0..self.blocks).map(|number| self.block(number, 0).len() as u64).sum()
    }
}

/// The receiver's host: stores blocks, durably a while later, and is killed now and then.
pub struct Host {
    receiver: Receiver,
    id: u8,
    /// Blocks on disk, and since when.
    stored: BTreeMap<u32, (Duration, Vec<u8>)>,
    pub end: Option<(Duration, SessionEnd)>,
    store_delay: Duration,
    pub text: Vec<u8>,
}

impl Host {
    pub fn new(store_delay: Duration) -> Self {
        Self {
            receiver: Receiver::new(1),
            id: 1,
            stored: BTreeMap::new(),
            end: None,
            store_delay,
            text: Vec::new(),
        }
    }

    /// What it has stored durably: blocks, and then the end.
    fn durable(&self, now: Duration) -> u32 {
        let blocks = (0..)
            .find(|number| self.stored.get(number).is_none_or(|(at, _)| *at + self.store_delay > now))
            .unwrap();
        blocks
            + u32::from(
                self.end.is_some_and(|(at, end)| end.blocks == blocks && at + self.store_delay <= now),
            )
    }

    /// Whether nothing that is lost now is missed by the sender.
    pub fn has_stored_everything(&self, now: Duration) -> bool {
        self.end.is_some_and(|(_, end)| self.durable(now) > end.blocks)
    }

    /// SIGKILL, and a new receiver: it knows what was durable.
    pub fn kill(&mut self, now: Duration, with_its_disk: bool) {
        let durable = if with_its_disk { 0 } else { self.durable(now) };
        self.stored.retain(|number, _| *number < durable);
        self.end = None;
        let durable = self.stored.len() as u32;
        self.id = self.id % 254 + 1;
        self.receiver = Receiver::new(self.id);
        self.receiver.resume_at(durable, cursor(durable));
    }

    fn take(&mut self, now: Duration, bytes: &[u8]) {
        let Self { receiver, stored, end, text, .. } = self;
        receiver.push(bytes, |event| match event {
            Event::Session(..) => {}
            Event::Restarted { first_block } => {
                stored.retain(|number, _| *number < first_block);
                *end = None;
            }
            Event::Block { number, encoded, .. } => drop(stored.insert(number, (now, encoded.to_vec()))),
            Event::End(_, said) => drop(end.get_or_insert((now, said))),
            Event::Text(shown) => text.extend_from_slice(shown),
            Event::Unknown(error) => panic!("{error}"),
        });
        let durable = self.durable(now);
        self.receiver.set_durable(durable);
    }

    /// Whether it has everything the sender says there is.
    pub fn is_complete(&self) -> bool {
        self.end.is_some_and(|(_, end)| (0..end.blocks).all(|number| self.stored.contains_key(&number)))
    }

    pub fn blocks(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.stored.iter().map(|(number, (_, bytes))| (*number, bytes.as_slice()))
    }
}

pub fn cursor(block: u32) -> Cursor {
    if block == 0 { Cursor::START } else { Cursor { pass: 2, position: u64::from(block) } }
}

/// The whole: machine, sender, line, host.
pub struct Simulation {
    pub machine: Machine,
    pub sender: Sender,
    pub forward: Channel,
    pub back: Channel,
    pub host: Host,
    pub now: Duration,
    /// The host looks at its line only so often.
    pub host_every: Duration,
    host_due: Duration,
    next_block: u32,
    run: u8,
    /// For each block the runs it was made in.
    pub made: BTreeMap<u32, Vec<u8>>,
    inbox: Vec<u8>,
}

const STEP: Duration = Duration::from_micros(500);

impl Simulation {
    pub fn new(machine: Machine, forward: Channel, back: Channel, host: Host) -> Self {
        let header = SessionHeader {
            e_machine: 62,
            page_shift: 12,
            dump_level: 0,
            crash_time: 1,
            ram_pages: 1,
            utsname: [0; UTSNAME_BYTES],
        };
        Self {
            machine,
            sender: Sender::new(SessionId(0x1234), header),
            forward,
            back,
            host,
            now: Duration::ZERO,
            host_every: Duration::ZERO,
            host_due: Duration::ZERO,
            next_block: 0,
            run: 0,
            made: BTreeMap::new(),
            inbox: Vec::new(),
        }
    }

    pub fn step(&mut self) {
        self.now += STEP;
        let now = self.now;
        self.forward.tick(STEP);
        self.back.tick(STEP);

        let replies = self.back.read(now);
        self.sender.receive(&replies, now);
        let mut is_new = false;
        if let Some(to) = self.sender.take_rewind() {
            self.next_block = to.position as u32;
            self.run = self.run.wrapping_add(1);
            is_new = true;
        }
        while self.next_block < self.machine.blocks && self.sender.has_room() {
            let block = self.machine.block(self.next_block, self.run);
            assert_eq!(self.sender.next_block(), self.next_block);
            self.sender.push(&block, cursor(self.next_block + 1));
            self.made.entry(self.next_block).or_default().push(self.run);
            self.next_block += 1;
            is_new = true;
        }
        if is_new && self.next_block == self.machine.blocks {
            self.sender.end(&SessionEnd {
                blocks: self.machine.blocks,
                first_block: self.sender.first_block(),
                ..SessionEnd::default()
            });
        }
        loop {
            let room = self.forward.room();
            let pending = self.sender.pending(now);
            let count = pending.len().min(room);
            if count == 0 {
                break;
            }
            let bytes = pending[..count].to_vec();
            self.forward.write(now, &bytes);
            self.sender.advance(count);
        }

        let arrived = self.forward.read(now);
        self.inbox.extend(arrived);
        if now >= self.host_due {
            self.host_due = now + self.host_every;
            self.host.take(now, &std::mem::take(&mut self.inbox));
        }
        let replies = self.host.receiver.take_replies();
        self.back.write(now, &replies);
    }

    /// Runs until the sender is finished; the virtual time it took. Panics if that is more than `limit`.
    pub fn run(&mut self, limit: Duration) -> Duration {
        while !self.sender.is_finished() {
            self.step();
            assert!(self.now < limit, "the session stalls: at {:?} block {}", self.now, self.next_block);
        }
        // What is still on its way arrives.
        let settled = self.now + Duration::from_secs(2);
        while self.now < settled {
            self.step();
        }
        self.now
    }

    /// Every block that the host holds is one that the machine made, whole and of one generation.
    pub fn assert_nothing_is_wrong(&self) {
        for (number, bytes) in self.host.blocks() {
            let runs = &self.made[&number];
            assert!(
                runs.iter().any(|&run| self.machine.block(number, run) == bytes),
                "block {number} is none of its generations {runs:?}"
            );
        }
    }

    pub fn assert_complete(&self) {
        self.assert_nothing_is_wrong();
        assert!(self.host.is_complete(), "end {:?}", self.host.end);
        assert_eq!(self.host.blocks().count(), self.machine.blocks as usize);
    }
}
