//! One direction of an Ethernet: what becomes of its frames, without I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::options::EtherOptions;
use super::segments::limit_segments;
use crate::noise::{Chance, Events};

/// For so long a frame is held back that others are to overtake.
const HELD_BACK: Duration = Duration::from_millis(3);
/// Frames that wait to be taken at most; later ones are lost. Far more than a TCP window of 64 KiB.
const MAX_WAITING: usize = 4096;

/// What became of the frames of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Frames that came.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost because the Ethernet was cut.
    pub cut: u64,
    /// Lost because nobody took them in time.
    pub overrun: u64,
    /// Delivered twice.
    pub doubled: u64,
    /// Delivered after one that was sent later.
    pub overtaken: u64,
    /// Whose limit of TCP segments was lowered.
    pub limited: u64,
    /// Delivered.
    pub delivered: u64,
}

/// Frames on their way.
pub(super) struct Channel {
    loss: Events,
    reorder: Events,
    double: Events,
    mss: Option<u16>,
    is_cut: bool,
    /// By the time they are due, then in their order.
    waiting: BTreeMap<(Duration, u64), Vec<u8>>,
    next_number: u64,
    /// The latest frame, by its number, that was delivered.
    latest: Option<u64>,
    counters: Counters,
}

impl Channel {
    /// `direction` keeps the chances of two channels apart.
    pub(super) fn new(options: &EtherOptions, direction: u64) -> Self {
        let events = |probability, purpose| {
            Events::new(probability, Chance::new(options.seed, direction * 3 + purpose))
        };
        Self {
            loss: events(options.loss, 0),
            reorder: events(options.reorder, 1),
            double: events(options.double, 2),
            mss: options.mss,
            is_cut: false,
            waiting: BTreeMap::new(),
            next_number: 0,
            latest: None,
            counters: Counters::default(),
        }
    }

    pub(super) const fn counters(&self) -> Counters {
        self.counters
    }

    /// While it is cut, what is sent is lost.
    pub(super) const fn set_cut(&mut self, is_cut: bool) {
        self.is_cut = is_cut;
    }

    /// Takes a frame that is sent.
    pub(super) fn send(&mut self, now: Duration, frame: &mut [u8]) {
        self.counters.sent += 1;
        self.counters.sent_bytes += frame.len() as u64;
        // Of each frame, so that a cut does not move what happens after it.
        let (is_lost, is_held, is_doubled) =
            (self.loss.happens(), self.reorder.happens(), self.double.happens());
        if self.is_cut {
            self.counters.cut += 1;
            return;
        }
        if is_lost {
            self.counters.lost += 1;
            return;
        }
        if self.mss.is_some_and(|mss| limit_segments(frame, mss)) {
            self.counters.limited += 1;
        }
        let due = if is_held { now + HELD_BACK } else { now };
        self.wait(due, frame);
        if is_doubled {
            self.counters.doubled += 1;
            self.wait(due, frame);
        }
    }

    fn wait(&mut self, due: Duration, frame: &[u8]) {
        if self.waiting.len() >= MAX_WAITING {
            self.counters.overrun += 1;
            return;
        }
        self.waiting.insert((due, self.next_number), frame.to_vec());
        self.next_number += 1;
    }

    /// The next frame to deliver.
    pub(super) fn arrived(&self, now: Duration) -> Option<&[u8]> {
        self.waiting.first_key_value().filter(|((due, _), _)| *due <= now).map(|(_, frame)| frame.as_slice())
    }

    /// That frame was delivered.
    pub(super) fn take(&mut self) {
        let Some(((_, number), _)) = self.waiting.pop_first() else { return };
        self.counters.delivered += 1;
        match self.latest {
            Some(latest) if latest > number => self.counters.overtaken += 1,
            _ => self.latest = Some(number),
        }
    }

    /// When the next frame is to be delivered.
    pub(super) fn next_arrival(&self) -> Option<Duration> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends numbered frames, one a millisecond, and returns what is delivered.
    fn delivered(options: &EtherOptions, count: u32) -> (Vec<u32>, Counters) {
        let mut channel = Channel::new(options, 1);
        let mut numbers = Vec::new();
        for number in 0..count + 10 {
            let now = Duration::from_millis(number.into());
            if number < count {
                channel.send(now, &mut number.to_le_bytes());
            }
            while let Some(frame) = channel.arrived(now) {
                numbers.push(u32::from_le_bytes(frame.try_into().unwrap()));
                channel.take();
            }
        }
        (numbers, channel.counters())
    }

    #[test]
    fn without_faults_every_frame_arrives_once_in_its_order() {
        let (numbers, counters) = delivered(&EtherOptions::default(), 1000);
        assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
        assert_eq!((counters.sent, counters.sent_bytes, counters.delivered), (1000, 4000, 1000));
    }

    #[test]
    fn every_fault_happens_as_often_as_it_should_and_is_counted() {
        let options =
            EtherOptions { loss: 0.01, reorder: 0.02, double: 0.03, seed: 5, ..EtherOptions::default() };
        let (numbers, counters) = delivered(&options, 100_000);
        let Counters { lost, doubled, overtaken, delivered, .. } = counters;
        assert!((900..1100).contains(&lost), "{counters:?}");
        assert!((2800..3200).contains(&doubled), "{counters:?}");
        assert!((1800..2200).contains(&overtaken), "{counters:?}");
        assert_eq!(delivered, 100_000 - lost + doubled);
        assert_eq!(delivered, numbers.len() as u64);
        let mut latest = 0;
        let mut late = 0;
        for number in numbers {
            late += u64::from(number < latest);
            latest = latest.max(number);
        }
        assert_eq!(late, overtaken);
    }

    #[test]
    fn a_seed_names_what_happens() {
        let options = |seed| EtherOptions { loss: 0.1, reorder: 0.1, seed, ..EtherOptions::default() };
        assert_eq!(delivered(&options(1), 1000), delivered(&options(1), 1000));
        assert_ne!(delivered(&options(1), 1000).0, delivered(&options(2), 1000).0);
    }

    #[test]
    fn while_it_is_cut_nothing_passes() {
        let mut channel = Channel::new(&EtherOptions::default(), 1);
        channel.set_cut(true);
        channel.send(Duration::ZERO, &mut [1]);
        channel.set_cut(false);
        channel.send(Duration::ZERO, &mut [2]);
        assert_eq!(channel.arrived(Duration::ZERO), Some(&[2][..]));
        assert_eq!(channel.counters().cut, 1);
    }

    #[test]
    fn frames_that_nobody_takes_are_lost_beyond_a_bound() {
        let mut channel = Channel::new(&EtherOptions::default(), 1);
        (0..5000).for_each(|_| channel.send(Duration::ZERO, &mut [1]));
        assert_eq!(channel.counters().overrun, 5000 - MAX_WAITING as u64);
    }
}
