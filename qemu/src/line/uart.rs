//! The receiving end of an asynchronous serial line, bit by bit: 8N1, as a 16550 does it.
//!
//! A wrong data bit changes a byte. A wrong start or stop bit does more: the receiver loses its place, and
//! finds it again only with luck or at a pause. That is how noise really looks to a protocol.

use crate::noise::Events;

/// Bits on the line per byte: start, eight data bits, stop.
pub(crate) const BITS_PER_BYTE: u64 = 10;

/// A receiver, and the noise on the line before it.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    noise: Events,
    state: State,
    flipped: u64,
    framing_errors: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits for a start bit.
    Idle,
    /// Has so many of the eight data bits.
    Data { bits: u8, have: u8 },
}

impl Receiver {
    pub(crate) const fn new(noise: Events) -> Self {
        Self { noise, state: State::Idle, flipped: 0, framing_errors: 0 }
    }

    /// Sends `bytes` back to back; appends what is received to `out`.
    pub(crate) fn send(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.state {
                State::Idle => self.send_unharmed(rest, out),
                State::Data { .. } => rest,
            };
            if let Some((&byte, after)) = rest.split_first() {
                self.send_byte(byte, out);
                rest = after;
            }
        }
    }

    /// In step, and no noise for some bytes: they arrive as they are. Returns the others.
    fn send_unharmed<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let whole = usize::try_from(self.noise.quiet() / BITS_PER_BYTE).unwrap_or(usize::MAX);
        let (unharmed, rest) = bytes.split_at(whole.min(bytes.len()));
        out.extend_from_slice(unharmed);
        self.noise.skip(unharmed.len() as u64 * BITS_PER_BYTE);
        rest
    }

    fn send_byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        let frame = u16::from(byte) << 1 | 1 << 9;
        for position in 0..BITS_PER_BYTE {
            let mut bit = frame >> position & 1 == 1;
            if self.noise.happens() {
                bit = !bit;
                self.flipped += 1;
            }
            self.receive(bit, out);
        }
    }

    /// The line rests, at one, for at least a byte's time: the receiver is in step afterwards.
    pub(crate) fn pause(&mut self, out: &mut Vec<u8>) {
        for _ in 0..BITS_PER_BYTE {
            if self.state == State::Idle {
                break;
            }
            self.receive(true, out);
        }
    }

    /// Forgets a byte that was cut off.
    pub(crate) const fn reset(&mut self) {
        self.state = State::Idle;
    }

    fn receive(&mut self, bit: bool, out: &mut Vec<u8>) {
        self.state = match self.state {
            State::Idle if bit => State::Idle,
            State::Idle => State::Data { bits: 0, have: 0 },
            State::Data { bits, have } if have < 8 => {
                State::Data { bits: bits | u8::from(bit) << have, have: have + 1 }
            }
            State::Data { bits, .. } => {
                // Without its stop bit the byte is delivered all the same, as a tty in raw mode does.
                out.push(bits);
                if bit {
                    State::Idle
                } else {
                    // The 16550 takes a missing stop bit for the next start bit.
                    self.framing_errors += 1;
                    State::Data { bits: 0, have: 0 }
                }
            }
        };
    }

    pub(crate) const fn flipped(&self) -> u64 {
        self.flipped
    }

    pub(crate) const fn framing_errors(&self) -> u64 {
        self.framing_errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Chance;
    use proptest::prelude::*;

    fn receiver(bit_errors: f64) -> Receiver {
        Receiver::new(Events::new(bit_errors, Chance::new(3, 1)))
    }

    /// What arrives of `bytes` when the bits at these places are wrong.
    fn with_wrong_bits(bytes: &[u8], wrong: &[usize]) -> Vec<u8> {
        let mut receiver = receiver(0.0);
        let mut out = Vec::new();
        for place in 0..bytes.len() * 10 {
            let frame = u16::from(bytes[place / 10]) << 1 | 1 << 9;
            let bit = frame >> (place % 10) & 1 == 1;
            receiver.receive(bit != wrong.contains(&place), &mut out);
        }
        receiver.pause(&mut out);
        out
    }

    #[test]
    fn a_wrong_data_bit_changes_its_byte_only() {
        assert_eq!(with_wrong_bits(b"abc", &[10 + 1]), b"acc");
    }

    #[test]
    fn a_lost_start_bit_makes_the_receiver_start_late() {
        // 0xff has no other zero: the whole byte is lost.
        assert_eq!(with_wrong_bits(&[0xff, 0x41], &[0]), [0x41]);
        // Else the first zero of the data is taken for the start bit, and the next byte's start bit for data.
        assert_eq!(with_wrong_bits(&[0x11, 0xff, 0xff], &[0]), [0x44, 0xff]);
    }

    #[test]
    fn a_lost_stop_bit_costs_the_bytes_that_follow_without_a_pause() {
        let received = with_wrong_bits(&[0x41, 0x42, 0x43], &[9]);
        assert_eq!(received.first(), Some(&0x41));
        assert_ne!(received.get(1), Some(&0x42));
    }

    #[test]
    fn after_a_pause_the_receiver_is_in_step() {
        let mut receiver = receiver(0.01);
        let mut out = Vec::new();
        receiver.send(&[0x20; 5000], &mut out);
        receiver.pause(&mut out);
        assert_eq!(receiver.state, State::Idle);
        assert!(receiver.flipped() > 300 && receiver.framing_errors() > 0);
    }

    proptest! {
        #[test]
        fn a_line_without_noise_changes_nothing(bytes: Vec<u8>) {
            let mut out = Vec::new();
            receiver(0.0).send(&bytes, &mut out);
            prop_assert_eq!(out, bytes);
        }

        #[test]
        fn bytes_arrive_alike_however_they_are_split(bytes: Vec<u8>, at: prop::sample::Index) {
            let at = at.index(bytes.len() + 1);
            let (mut whole, mut parts) = (Vec::new(), Vec::new());
            receiver(0.02).send(&bytes, &mut whole);
            let mut receiver = receiver(0.02);
            receiver.send(&bytes[..at], &mut parts);
            receiver.send(&bytes[at..], &mut parts);
            prop_assert_eq!(whole, parts);
        }
    }
}
