//! A line, and what it does to bytes.

use std::collections::VecDeque;
use std::time::Duration;

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
    arrived: Vec<Vec<u8>>,
    pub is_cut: bool,
    pub carried: u64,
}

impl Channel {
    pub fn new(baud: u32, latency: Duration, noise: Noise, seed: u64) -> Self {
        let mut random = Random(seed);
        Self {
            bytes_per_second: Self::bytes_per_second(baud),
            latency,
            noise,
            until_flip: random.gap(noise.flip),
            until_drop: random.gap(noise.drop),
            until_insert: random.gap(noise.insert),
            random,
            credit: 0.0,
            on_the_way: VecDeque::new(),
            arrived: Vec::new(),
            is_cut: false,
            carried: 0,
        }
    }

    /// A start bit, eight of data, a stop bit.
    pub fn bytes_per_second(baud: u32) -> f64 {
        f64::from(baud) / 10.0
    }

    pub fn tick(&mut self, step: Duration) {
        // A UART has a FIFO, not a bank account.
        self.credit = (self.credit + self.bytes_per_second * step.as_secs_f64())
            .min(16.0 + self.bytes_per_second * step.as_secs_f64());
    }

    pub fn room(&self) -> usize {
        self.credit as usize
    }

    pub fn write(&mut self, now: Duration, bytes: &[u8]) {
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

    /// What has arrived by now.
    pub fn read(&mut self, now: Duration, into: &mut Vec<u8>) {
        while self.on_the_way.front().is_some_and(|(at, _)| *at <= now) {
            let (_, bytes) = self.on_the_way.pop_front().unwrap();
            into.extend_from_slice(&bytes);
            self.arrived.push(bytes);
        }
    }

    /// A piece of what has arrived.
    pub fn earlier(&self, random: &mut Random) -> impl Iterator<Item = u8> {
        let first = random.below(self.arrived.len() as u64) as usize;
        self.arrived[first..].iter().take(200).flatten().copied()
    }
}
