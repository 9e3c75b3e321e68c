//! One direction of a line, without I/O: bytes and the time go in, bytes come out.
//!
//! Time is virtual, a [`Duration`] since the line began, and never goes backwards.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::uart::{BITS_PER_BYTE, Receiver};
use crate::noise::{Chance, Events};

/// A line that nobody sent on for so long is at rest, and does not save up the time for later.
const REST: Duration = Duration::from_millis(20);
/// The most that is taken from a sender at once at full speed.
const FULL_SPEED_ROOM: usize = 1 << 18;

/// What a direction does to the bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quality {
    /// Bits per second, ten to a byte; `None`: full speed.
    pub(crate) baud: Option<u32>,
    pub(crate) latency: Duration,
    /// Probability that a bit is wrong, for each of a byte's ten.
    pub(crate) bit_errors: f64,
    /// Probability that a byte vanishes.
    pub(crate) drop: f64,
    /// Probability that a random byte follows a byte.
    pub(crate) insert: f64,
    /// When nothing gets through.
    pub(crate) cuts: Vec<Range<Duration>>,
    /// Never anything gets through.
    pub(crate) severed: bool,
    /// Bytes that wait for a slow receiver before the next ones are lost.
    pub(crate) buffer: usize,
}

/// What happened to the bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Bytes the sender sent.
    pub sent: u64,
    /// Bytes the receiver took.
    pub delivered: u64,
    /// Bits that were flipped.
    pub flipped_bits: u64,
    /// Bytes without a stop bit, as the receiver saw it.
    pub framing_errors: u64,
    /// Bytes that vanished (`--drop`).
    pub dropped: u64,
    /// Bytes that appeared (`--insert`).
    pub inserted: u64,
    /// Bytes sent while the line was cut, or in the direction that is not there.
    pub cut: u64,
    /// Bytes lost because the receiver was absent or slow.
    pub overrun: u64,
}

/// One direction of the line.
#[derive(Debug)]
pub(crate) struct Channel {
    quality: Quality,
    drops: Events,
    inserts: Events,
    receiver: Receiver,
    /// When the line has sent all it was given.
    free_at: Duration,
    in_flight: VecDeque<(Duration, Vec<u8>)>,
    arrived: VecDeque<u8>,
    cut_by_hand: bool,
    counters: Counters,
}

impl Channel {
    /// `purpose` keeps the directions of a line with one seed apart.
    pub(crate) fn new(quality: Quality, seed: u64, purpose: u64) -> Self {
        let events = |probability, which| Events::new(probability, Chance::new(seed, purpose * 8 + which));
        Self {
            drops: events(quality.drop, 1),
            inserts: events(quality.insert, 2),
            receiver: Receiver::new(events(quality.bit_errors, 3)),
            quality,
            free_at: Duration::ZERO,
            in_flight: VecDeque::new(),
            arrived: VecDeque::new(),
            cut_by_hand: false,
            counters: Counters::default(),
        }
    }

    /// How many bytes the line takes from its sender now: what it had time to send.
    pub(crate) fn room(&self, now: Duration) -> usize {
        let Some(baud) = self.quality.baud else { return FULL_SPEED_ROOM };
        let time = now.saturating_sub(self.free_at.max(now.saturating_sub(REST)));
        let bytes = time.as_nanos() * u128::from(baud) / (u128::from(BITS_PER_BYTE) * 1_000_000_000);
        // Even the slowest line takes the byte it was waiting for.
        let resting = usize::from(now.saturating_sub(self.free_at) >= REST);
        usize::try_from(bytes).unwrap_or(FULL_SPEED_ROOM).clamp(resting, FULL_SPEED_ROOM)
    }

    /// When there is room for about a millisecond's worth of bytes, at least for one.
    pub(crate) fn room_at(&self) -> Duration {
        match self.quality.baud {
            None => Duration::ZERO,
            Some(_) => self.free_at + self.time_of(1).max(Duration::from_millis(1)),
        }
    }

    fn time_of(&self, bytes: u64) -> Duration {
        match self.quality.baud {
            None => Duration::ZERO,
            Some(baud) => {
                let nanos = u128::from(bytes * BITS_PER_BYTE) * 1_000_000_000 / u128::from(baud.max(1));
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        }
    }

    /// Takes bytes from the sender: at most as many as there is [`room`](Self::room) for.
    pub(crate) fn send(&mut self, now: Duration, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut received = Vec::with_capacity(bytes.len());
        if now.saturating_sub(self.free_at) >= REST {
            self.receiver.pause(&mut received);
        }
        self.free_at = self.free_at.max(now.saturating_sub(REST)) + self.time_of(bytes.len() as u64);
        self.counters.sent += bytes.len() as u64;
        if self.is_cut(now) {
            self.counters.cut += bytes.len() as u64;
            self.receiver.reset();
        } else if self.quality.drop > 0.0 || self.quality.insert > 0.0 {
            let bytes = self.mangle(bytes);
            self.receiver.send(&bytes, &mut received);
        } else {
            self.receiver.send(bytes, &mut received);
        }
        if !received.is_empty() {
            self.in_flight.push_back((now + self.quality.latency, received));
        }
    }

    fn is_cut(&self, now: Duration) -> bool {
        self.cut_by_hand || self.quality.severed || self.quality.cuts.iter().any(|cut| cut.contains(&now))
    }

    fn mangle(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut sent = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if self.drops.happens() {
                self.counters.dropped += 1;
            } else {
                sent.push(byte);
            }
            if self.inserts.happens() {
                self.counters.inserted += 1;
                sent.push(self.inserts.byte());
            }
        }
        sent
    }

    /// What has arrived by now, for the receiver to take with [`take`](Self::take).
    pub(crate) fn arrived(&mut self, now: Duration) -> &[u8] {
        if now.saturating_sub(self.free_at) >= REST && !self.is_cut(now) {
            let mut last = Vec::new();
            self.receiver.pause(&mut last);
            if !last.is_empty() {
                self.in_flight.push_back((now, last));
            }
        }
        while let Some((_, bytes)) = self.in_flight.pop_front_if(|(due, _)| *due <= now) {
            let room = self.quality.buffer.saturating_sub(self.arrived.len());
            let (kept, lost) = bytes.split_at(room.min(bytes.len()));
            self.arrived.extend(kept);
            self.counters.overrun += lost.len() as u64;
        }
        self.arrived.as_slices().0
    }

    /// The receiver took so many bytes.
    pub(crate) fn take(&mut self, count: usize) {
        let count = count.min(self.arrived.len());
        self.arrived.drain(..count);
        self.counters.delivered += count as u64;
    }

    /// There is no receiver: what has arrived by now is lost, unless the line runs at full speed, where
    /// it waits for one that may come.
    pub(crate) fn nobody_listens(&mut self, now: Duration, may_come: bool) {
        self.arrived(now);
        if self.quality.baud.is_some() || !may_come {
            self.counters.overrun += self.arrived.len() as u64;
            self.arrived.clear();
        }
    }

    /// Whether there is something to take.
    pub(crate) fn has_arrived(&self, now: Duration) -> bool {
        !self.arrived.is_empty() || self.next_arrival().is_some_and(|due| due <= now)
    }

    /// When the next bytes arrive.
    pub(crate) fn next_arrival(&self) -> Option<Duration> {
        self.in_flight.front().map(|(due, _)| *due)
    }

    /// Whether everything that was sent has been taken or lost.
    pub(crate) fn is_empty(&self) -> bool {
        self.in_flight.is_empty() && self.arrived.is_empty()
    }

    /// Cuts the line, or mends it.
    pub(crate) const fn set_cut(&mut self, cut: bool) {
        self.cut_by_hand = cut;
    }

    /// The line has no rate from now on.
    pub(crate) const fn set_full_speed(&mut self) {
        self.quality.baud = None;
    }

    pub(crate) const fn counters(&self) -> Counters {
        let mut counters = self.counters;
        counters.flipped_bits = self.receiver.flipped();
        counters.framing_errors = self.receiver.framing_errors();
        counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: Quality = Quality {
        baud: None,
        latency: Duration::ZERO,
        bit_errors: 0.0,
        drop: 0.0,
        insert: 0.0,
        cuts: Vec::new(),
        severed: false,
        buffer: 1 << 30,
    };

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Runs a sender that always has more, for so long, with a receiver that takes all.
    fn saturate(channel: &mut Channel, time: Duration, step: Duration) -> Vec<u8> {
        let (mut now, mut received, mut next) = (Duration::ZERO, Vec::new(), 0u8);
        while now < time {
            let bytes: Vec<u8> = (0..channel.room(now))
                .map(|_| {
                    next = next.wrapping_add(1);
                    next
                })
                .collect();
            channel.send(now, &bytes);
            loop {
                let arrived = channel.arrived(now);
                received.extend_from_slice(arrived);
                let count = arrived.len();
                if count == 0 {
                    break;
                }
                channel.take(count);
            }
            now += step;
        }
        received
    }

    #[test]
    fn a_line_carries_a_tenth_of_its_bits_as_bytes() {
        for (baud, step) in
            [(115_200, milliseconds(1)), (9600, milliseconds(7)), (3_000_000, milliseconds(2))]
        {
            let mut channel = Channel::new(Quality { baud: Some(baud), ..CLEAN }, 1, 0);
            let received = saturate(&mut channel, Duration::from_secs(10), step).len() as u64;
            let expected = u64::from(baud);
            assert!(received.abs_diff(expected) <= expected / 200 + 2, "{received} at {baud}");
        }
    }

    #[test]
    fn a_rest_is_not_saved_up() {
        let mut channel = Channel::new(Quality { baud: Some(115_200), ..CLEAN }, 1, 0);
        assert_eq!(channel.room(Duration::from_secs(3600)), 230);
        channel.send(Duration::from_secs(3600), &[0; 230]);
        assert_eq!(channel.room(Duration::from_secs(3600)), 0);
    }

    #[test]
    fn bytes_arrive_after_the_latency_and_not_before() {
        let mut channel = Channel::new(Quality { latency: milliseconds(50), ..CLEAN }, 1, 0);
        channel.send(milliseconds(10), b"abc");
        assert_eq!(channel.next_arrival(), Some(milliseconds(60)));
        assert_eq!(channel.arrived(milliseconds(59)), b"");
        assert_eq!(channel.arrived(milliseconds(60)), b"abc");
    }

    #[test]
    fn a_cut_costs_what_was_sent_during_it() {
        let cuts = vec![milliseconds(10)..milliseconds(20)];
        let mut channel = Channel::new(Quality { cuts, ..CLEAN }, 1, 0);
        for (time, bytes) in [(9, b"a"), (10, b"b"), (19, b"c"), (20, b"d")] {
            channel.send(milliseconds(time), bytes);
        }
        assert_eq!(channel.arrived(milliseconds(20)), b"ad");
        assert_eq!(channel.counters().cut, 2);
    }

    #[test]
    fn a_cut_by_hand_lasts_until_it_is_mended() {
        let mut channel = Channel::new(CLEAN, 1, 0);
        channel.set_cut(true);
        channel.send(milliseconds(1), b"lost");
        channel.set_cut(false);
        channel.send(milliseconds(2), b"kept");
        assert_eq!(channel.arrived(milliseconds(2)), b"kept");
    }

    #[test]
    fn a_slow_receiver_costs_the_newest_bytes_beyond_the_buffer() {
        let mut channel = Channel::new(Quality { buffer: 4, ..CLEAN }, 1, 0);
        channel.send(Duration::ZERO, b"abcdef");
        assert_eq!(channel.arrived(Duration::ZERO), b"abcd");
        channel.take(2);
        channel.send(Duration::ZERO, b"gh");
        assert_eq!(channel.arrived(Duration::ZERO).len() + channel.arrived.as_slices().1.len(), 4);
        assert_eq!(channel.counters().overrun, 2);
    }

    #[test]
    fn without_a_receiver_a_paced_line_loses_and_a_fast_one_waits() {
        for (baud, may_come, waits) in [(Some(115_200), true, 0), (None, true, 3), (None, false, 0)] {
            let mut channel = Channel::new(Quality { baud, ..CLEAN }, 1, 0);
            channel.send(Duration::from_secs(1), b"abc");
            channel.nobody_listens(Duration::from_secs(1), may_come);
            assert_eq!(channel.arrived(Duration::from_secs(1)).len(), waits);
        }
    }

    #[test]
    fn a_seed_names_its_faults() {
        let quality = Quality { bit_errors: 1e-3, drop: 1e-3, insert: 1e-3, ..CLEAN };
        let run = |seed| {
            let mut channel = Channel::new(quality.clone(), seed, 0);
            channel.send(Duration::ZERO, &[0x5a; 20_000]);
            (channel.arrived(Duration::ZERO).to_vec(), channel.counters())
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let counters = run(1).1;
        assert!((100..300).contains(&counters.flipped_bits), "{counters:?}");
        assert!((5..50).contains(&counters.dropped) && (5..50).contains(&counters.inserted), "{counters:?}");
    }

    #[test]
    fn counters_account_for_every_byte_of_a_line_without_noise() {
        let quality = Quality { drop: 0.1, insert: 0.05, buffer: 300, ..CLEAN };
        let mut channel = Channel::new(quality, 1, 0);
        channel.send(Duration::ZERO, &[1; 1000]);
        let arrived = channel.arrived(Duration::ZERO).len();
        channel.take(arrived);
        let counters = channel.counters();
        let came = counters.sent - counters.dropped + counters.inserted;
        assert_eq!(came, counters.delivered + counters.overrun);
    }
}
