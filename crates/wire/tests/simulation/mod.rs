//! A sender and a receiver with a line between them, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "a test's own machinery, of which each test uses a part"
)]

mod efficiency;
mod host;
mod line;
mod machine;

use std::time::Duration;

use wire::{Block, Sender, SessionEnd, SessionHeader, SessionId, UTSNAME_BYTES};

pub use efficiency::Efficiency;
pub use host::{Host, Left, Schedule};
pub use line::{Channel, Noise, Random};
pub use machine::{Machine, cursor};

pub const MS: Duration = Duration::from_millis(1);

/// The most bytes of a block as compression leaves it, about.
pub const COMPRESSED: u64 = 26_000;

/// What a session is made of.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub baud: u32,
    pub latency: Duration,
    pub noise: Noise,
    pub machine: Machine,
    pub schedule: Schedule,
    /// What becomes of bytes, and when the host is late.
    pub seed: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            baud: 921_600,
            latency: 5 * MS,
            noise: Noise::default(),
            machine: Machine { blocks: 20, max_block_bytes: 20_000, seed: 1 },
            schedule: Schedule::default(),
            seed: 1,
        }
    }
}

/// The whole: machine, sender, line, host.
pub struct Simulation {
    pub machine: Machine,
    pub sender: Sender,
    pub forward: Channel,
    pub back: Channel,
    pub host: Host,
    pub now: Duration,
    next_block: u32,
    /// For each block the times it was made at; a time is how many blocks were made before.
    pub made: Vec<Vec<u32>>,
    time: u32,
    /// When the block that was handed out last was made.
    handed_out: Vec<Option<u32>>,
}

const STEP: Duration = Duration::from_micros(500);

/// From a block to its being durably stored.
const STORE_DELAY: Duration = Duration::from_millis(100);

impl Simulation {
    pub fn new(setup: Setup) -> Self {
        let Setup { baud, latency, noise, machine, schedule, seed } = setup;
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
            forward: Channel::new(baud, latency, noise, seed ^ 0xf0),
            back: Channel::new(baud, latency, noise, seed ^ 0xb0),
            host: Host::new(STORE_DELAY, schedule, seed ^ 0xd0),
            now: Duration::ZERO,
            next_block: 0,
            made: vec![Vec::new(); machine.blocks as usize],
            time: 0,
            handed_out: vec![None; machine.blocks as usize],
        }
    }

    pub fn step(&mut self) {
        self.now += STEP;
        let now = self.now;
        self.forward.tick(STEP);
        self.back.tick(STEP);
        // A sender that is finished boots its machine.
        if !self.sender.is_finished() {
            self.send(now);
        }
        self.forward.read(now, &mut self.host.inbox);
        self.host.turn(now, &mut self.back);
        self.look_at_blocks();
    }

    /// The sender's side: replies in, blocks made, frames out.
    fn send(&mut self, now: Duration) {
        let mut replies = Vec::new();
        self.back.read(now, &mut replies);
        self.sender.receive(&replies, now);
        let mut is_new = false;
        if let Some(to) = self.sender.take_rewind() {
            self.next_block = to.position as u32;
            is_new = true;
        }
        while self.next_block < self.machine.blocks && self.sender.has_room() {
            assert_eq!(self.sender.next_block(), self.next_block);
            let block = self.machine.block(self.next_block, self.time);
            self.sender.push(&block, cursor(self.next_block + 1));
            self.made[self.next_block as usize].push(self.time);
            self.time += 1;
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
            self.forward.write(now, &pending[..count]);
            self.sender.advance(count);
        }
    }

    /// Each block that was handed out says what was in memory at one of the times it was made.
    fn look_at_blocks(&mut self) {
        for (number, encoded) in self.host.handed_out.drain(..) {
            let block = Block::decode(&encoded).unwrap();
            let times = &self.made[number as usize];
            let time = times.iter().rev().copied().find(|&time| self.machine.was(&block, time));
            assert!(time.is_some(), "block {number} is none of those made at {times:?}");
            self.handed_out[number as usize] = time;
        }
    }

    /// Runs until then.
    pub fn run_to(&mut self, then: Duration) {
        while self.now < then {
            self.step();
        }
    }

    /// Runs until the sender is finished, and what is on its way has arrived. Panics if it takes longer than `limit`.
    pub fn run(&mut self, limit: Duration) {
        while !self.sender.is_finished() {
            self.step();
            assert!(self.now < limit, "the session stalls: at {:?} block {}", self.now, self.next_block);
        }
        self.run_to(self.now + 2000 * MS);
    }

    /// Whether the host has all blocks, those of the last run as they were made last: the end's digest covers them.
    pub fn is_complete(&self) -> bool {
        let first_block = self.sender.first_block() as usize;
        let of_last_run = self.handed_out.iter().zip(&self.made).skip(first_block);
        self.host.is_complete() && of_last_run.into_iter().all(|(time, made)| time.as_ref() == made.last())
    }

    pub fn assert_complete(&self) {
        assert!(self.is_complete(), "end {:?}, handed out {:?}", self.host.end, self.handed_out);
    }
}
