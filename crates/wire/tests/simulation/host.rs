//! The receiver's host: a receiver, a disk, and little time for either.

use std::collections::BTreeMap;
use std::time::Duration;

use wire::{Event, Receiver, SessionEnd};

use super::line::{Channel, Random};
use super::machine::cursor;

/// When the host gets round to its line, and what it does then.
#[derive(Clone, Copy, Debug, Default)]
pub struct Schedule {
    /// From one turn to the next.
    pub every: Duration,
    /// It is busy with other things: it comes earlier or later, reads a part of what came, and reading, looking at the
    /// disk and answering happen in any order, or not at all this time.
    pub is_shuffled: bool,
}

/// What a killed receiver leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// What was durably stored.
    Everything,
    /// At most so many blocks of it: the disk had lied, or was another one.
    Blocks(u32),
}

/// Stores blocks, durably a while later, and is killed now and then.
pub struct Host {
    pub receiver: Receiver,
    id: u8,
    /// Bytes that came and are not read yet.
    pub inbox: Vec<u8>,
    schedule: Schedule,
    due: Duration,
    random: Random,
    /// Blocks that count, and since when they are stored.
    stored: BTreeMap<u32, Duration>,
    pub end: Option<(Duration, SessionEnd)>,
    store_delay: Duration,
    durable: u32,
    /// What a receiver that was just started found: so many blocks are stored.
    found: u32,
    in_session: bool,
    /// Blocks handed out since somebody looked.
    pub handed_out: Vec<(u32, Vec<u8>)>,
}

impl Host {
    pub fn new(store_delay: Duration, schedule: Schedule, seed: u64) -> Self {
        Self {
            receiver: Receiver::new(1),
            id: 1,
            inbox: Vec::new(),
            schedule,
            due: Duration::ZERO,
            random: Random(seed),
            stored: BTreeMap::new(),
            end: None,
            store_delay,
            durable: 0,
            found: 0,
            in_session: false,
            handed_out: Vec::new(),
        }
    }

    /// Does what it finds time for.
    pub fn turn(&mut self, now: Duration, back: &mut Channel) {
        if now < self.due {
            return;
        }
        let Schedule { every, is_shuffled } = self.schedule;
        let mut tasks = [Self::read, Self::sync, Self::answer];
        let mut count = tasks.len();
        if is_shuffled {
            let length = every.as_micros() as u64;
            self.due = now + Duration::from_micros(self.random.below(2 * length));
            tasks.swap(0, self.random.below(3) as usize);
            tasks.swap(1, 1 + self.random.below(2) as usize);
            count = 1 + self.random.below(3) as usize;
        } else {
            self.due = now + every;
        }
        for task in &tasks[..count] {
            task(self, now, back);
        }
    }

    fn read(&mut self, now: Duration, _: &mut Channel) {
        let length = self.inbox.len();
        let count =
            if self.schedule.is_shuffled { self.random.below(length as u64 + 1) as usize } else { length };
        let rest = self.inbox.split_off(count);
        let bytes = std::mem::replace(&mut self.inbox, rest);
        let Self { receiver, stored, end, found, in_session, durable, handed_out, .. } = self;
        let mut has_begun = false;
        receiver.push(&bytes, |event| match event {
            Event::Session(..) => {
                (has_begun, *in_session) = (true, true);
                // What is heard before it is told where to go on may be of a time before the sender went back.
                stored.retain(|number, _| *number < *found || *found == 0);
            }
            Event::Restarted { first_block } => {
                let first_block = if *in_session { first_block } else { first_block.max(*found) };
                stored.retain(|number, _| *number < first_block);
                *durable = first_block.min(*durable);
                *end = None;
            }
            Event::Block { number, encoded, .. } => {
                // Before the header has come it waits in memory.
                stored.entry(number).or_insert(now);
                handed_out.push((number, encoded.to_vec()));
            }
            Event::End(_, said) if *in_session => drop(end.get_or_insert((now, said))),
            Event::End(..) => {}
            Event::Text(_) => {}
            Event::Unknown(error) => panic!("{error}"),
        });
        if has_begun && self.found > 0 {
            self.receiver.resume_at(self.found, cursor(self.found));
        }
    }

    fn sync(&mut self, now: Duration, _: &mut Channel) {
        let durable = self.durable(now);
        self.receiver.set_durable(durable);
    }

    fn answer(&mut self, now: Duration, back: &mut Channel) {
        back.write(now, &self.receiver.take_replies());
    }

    /// What it has stored durably: blocks, and then the end.
    fn durable(&mut self, now: Duration) -> u32 {
        if !self.in_session {
            return self.durable;
        }
        let is_durable = |at: Duration| at + self.store_delay <= now;
        while self.stored.get(&self.durable).is_some_and(|&at| is_durable(at)) {
            self.durable += 1;
        }
        let has_end = self.end.is_some_and(|(at, end)| end.blocks == self.durable && is_durable(at));
        self.durable + u32::from(has_end)
    }

    /// Whether nothing that is lost now is missed by the sender.
    pub fn has_stored_everything(&mut self, now: Duration) -> bool {
        let durable = self.durable(now);
        self.end.is_some_and(|(_, end)| durable > end.blocks)
    }

    /// SIGKILL, and a new receiver: it finds what was left.
    pub fn kill(&mut self, now: Duration, left: Left) {
        self.durable(now);
        if let Left::Blocks(count) = left {
            self.durable = self.durable.min(count);
        }
        self.stored.retain(|number, _| *number < self.durable);
        self.end = None;
        self.inbox.clear();
        self.found = self.durable;
        self.in_session = false;
        self.id = self.id % 254 + 1;
        self.receiver = Receiver::new(self.id);
    }

    /// When each block came.
    pub fn arrivals(&self) -> impl Iterator<Item = (u32, Duration)> {
        self.stored.iter().map(|(&number, &at)| (number, at))
    }

    /// Whether it has everything the sender says there is.
    pub fn is_complete(&self) -> bool {
        self.end.is_some_and(|(_, end)| self.stored.keys().copied().eq(0..end.blocks))
    }
}
