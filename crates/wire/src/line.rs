//! Frames on a serial line: COBS between zero bytes, and what else such a line carries. docs/wire-format.md, "Serial".

use alloc::vec;
use alloc::vec::Vec;

use crate::frame::{Frame, FrameError, MAGIC, MAX_FRAME_BYTES};

/// The most bytes that a frame takes between its two zeros.
pub const MAX_CODED_BYTES: usize = cobs::max_encoding_length(MAX_FRAME_BYTES);

/// Appends `frame` (from magic to CRC, or a reply) to `out` as it goes on the line: COBS and a zero behind it.
///
/// Where something else than a frame may stand before it on the line, another zero must be sent first.
pub fn encode(frame: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + cobs::max_encoding_length(frame.len()) + 1, 0);
    let coded = out.get_mut(start..).map_or(0, |room| cobs::encode(frame, room));
    out.truncate(start + coded + 1);
    if let Some(last) = out.last_mut() {
        *last = 0;
    }
}

/// A piece of what came over the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// A frame whose CRC is right.
    Frame(Frame<'a>),
    /// A whole frame of a version or kind this program does not know.
    Unknown(FrameError),
    /// Text of the console, at least nine tenths of it printable. May hold control characters.
    Text(&'a [u8]),
    /// So many bytes that are neither.
    Rubbish(usize),
}

/// Cuts what comes over a line into frames, text and rubbish. Holds at most one frame's worth of bytes.
pub struct Deframer {
    /// Bytes since the last zero that are not yet given away.
    held: Vec<u8>,
    decoded: Vec<u8>,
    /// Printable and all bytes since the last zero: text is recognised by their ratio.
    printable: usize,
    seen: usize,
}

impl Default for Deframer {
    fn default() -> Self {
        Self::new()
    }
}

impl Deframer {
    /// A deframer that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            held: Vec::with_capacity(MAX_CODED_BYTES),
            decoded: vec![0; MAX_CODED_BYTES],
            printable: 0,
            seen: 0,
        }
    }

    /// Takes bytes from the line and hands over what they complete.
    pub fn push(&mut self, mut bytes: &[u8], mut sink: impl FnMut(Chunk<'_>)) {
        while !bytes.is_empty() {
            let zero = bytes.iter().position(|&byte| byte == 0);
            let (part, rest) = bytes.split_at(zero.unwrap_or(bytes.len()));
            self.take(part, &mut sink);
            if zero.is_some() {
                self.end_of_chunk(&mut sink);
            }
            bytes = rest.get(usize::from(zero.is_some())..).unwrap_or_default();
        }
    }

    /// The line has been quiet for a while: hands over a line of text that has no end yet (a prompt).
    pub fn idle(&mut self, mut sink: impl FnMut(Chunk<'_>)) {
        if !self.may_be_frame() && self.is_text() {
            self.give_away(&mut sink);
        }
    }

    /// Bytes without a zero among them.
    fn take(&mut self, part: &[u8], sink: &mut impl FnMut(Chunk<'_>)) {
        for line in part.split_inclusive(|&byte| byte == b'\n') {
            let mut rest = line;
            while !rest.is_empty() {
                if self.held.len() == MAX_CODED_BYTES {
                    // Longer than any frame.
                    self.give_away(sink);
                    self.restart();
                }
                let (now, later) = rest.split_at(rest.len().min(MAX_CODED_BYTES - self.held.len()));
                self.held.extend_from_slice(now);
                self.seen += now.len();
                self.printable += count_printable(now);
                rest = later;
            }
            if line.ends_with(b"\n") && !self.may_be_frame() && self.is_text() {
                // At once: a panic must not wait for the next frame, and a frame may follow without a zero.
                self.give_away(sink);
                self.restart();
            }
        }
    }

    fn end_of_chunk(&mut self, sink: &mut impl FnMut(Chunk<'_>)) {
        let decoded = cobs::decode(&self.held, &mut self.decoded).ok();
        match decoded.and_then(|report| self.decoded.get(..report.frame_size())) {
            Some(decoded) if self.held.len() == self.seen => match Frame::decode(decoded) {
                Ok(frame) => sink(Chunk::Frame(frame)),
                Err(error @ (FrameError::Version(_) | FrameError::Kind(_))) => sink(Chunk::Unknown(error)),
                Err(_) => self.give_away(sink),
            },
            _ => self.give_away(sink),
        }
        self.restart();
    }

    fn restart(&mut self) {
        self.held.clear();
        (self.printable, self.seen) = (0, 0);
    }

    /// COBS puts one code byte before the magic, which is no zero.
    fn begins_like_frame(&self) -> bool {
        self.seen == self.held.len() && self.held.get(1) == Some(&MAGIC)
    }

    /// One byte may be that code byte, as long as no zero follows.
    fn may_be_frame(&self) -> bool {
        self.begins_like_frame() || self.seen == 1
    }

    fn is_text(&self) -> bool {
        !self.begins_like_frame() && self.printable * 10 >= self.seen * 9
    }

    fn give_away(&mut self, sink: &mut impl FnMut(Chunk<'_>)) {
        if self.held.is_empty() {
            return;
        }
        sink(if self.is_text() { Chunk::Text(&self.held) } else { Chunk::Rubbish(self.held.len()) });
        self.held.clear();
    }
}

/// Not part of the generic code above: every byte of a line passes here, and this crate's optimisation counts.
fn count_printable(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t')).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Body, Fragment, SessionId};
    use alloc::borrow::ToOwned;
    use alloc::string::String;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq)]
    enum Seen {
        Frame(u32),
        Text(String),
        Rubbish(usize),
        Unknown,
    }

    fn frame(block: u32, bytes: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let fragment = Fragment { stream: 0, block, generation: 1, index: 0, count: 1, bytes };
        Frame { session: SessionId(9), sequence: 0, body: Body::Fragment(fragment) }.encode(&mut frame);
        let mut line = Vec::from([0]);
        encode(&frame, &mut line);
        line
    }

    fn seen(deframer: &mut Deframer, bytes: &[u8]) -> Vec<Seen> {
        let mut all = Vec::new();
        deframer.push(bytes, |chunk| {
            all.push(match chunk {
                Chunk::Frame(Frame { body: Body::Fragment(fragment), .. }) => Seen::Frame(fragment.block),
                Chunk::Frame(_) | Chunk::Unknown(_) => Seen::Unknown,
                Chunk::Text(text) => Seen::Text(String::from_utf8_lossy(text).into_owned()),
                Chunk::Rubbish(count) => Seen::Rubbish(count),
            });
        });
        all
    }

    fn text(text: &str) -> Seen {
        Seen::Text(text.to_owned())
    }

    #[test]
    fn a_line_of_text_is_shown_before_a_zero_comes() {
        let mut deframer = Deframer::new();
        assert_eq!(seen(&mut deframer, b"first\nsec"), [text("first\n")]);
        assert_eq!(seen(&mut deframer, b"ond\n"), [text("second\n")]);
    }

    #[test]
    fn a_prompt_is_shown_once_the_line_is_quiet() {
        let mut deframer = Deframer::new();
        assert_eq!(seen(&mut deframer, b"login: "), []);
        let mut prompt = Vec::new();
        deframer.idle(|chunk| {
            if let Chunk::Text(text) = chunk {
                prompt.extend_from_slice(text);
            }
        });
        assert_eq!(prompt, b"login: ");
    }

    proptest! {
        #[test]
        fn frames_survive_however_the_line_is_cut_into_reads(
            blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..1178), 1..8),
            cuts in prop::collection::vec(1usize..700, 1..50),
        ) {
            let mut line = Vec::new();
            for (number, block) in (0u32..).zip(&blocks) {
                line.extend(frame(number, block));
            }
            let mut deframer = Deframer::new();
            let (mut rest, mut all) = (&line[..], Vec::new());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                all.extend(seen(&mut deframer, now));
                rest = later;
            }
            let expected: Vec<_> = (0..).take(blocks.len()).map(Seen::Frame).collect();
            prop_assert_eq!(all, expected);
        }

        #[test]
        fn every_byte_is_accounted_for(bytes in prop::collection::vec(prop_oneof![1 => Just(0u8), 9 => any::<u8>()], 0..9000)) {
            let mut deframer = Deframer::new();
            let mut counted = 0;
            let mut line = bytes.clone();
            line.push(0);
            deframer.push(&line, |chunk| match chunk {
                Chunk::Text(text) => counted += text.len(),
                Chunk::Rubbish(count) => counted += count,
                Chunk::Frame(_) | Chunk::Unknown(_) => panic!("no frame in random bytes"),
            });
            prop_assert_eq!(counted, bytes.iter().filter(|&&byte| byte != 0).count());
        }
    }
}
