//! The receiving side of a session, without any I/O: line bytes in, whole blocks out.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::block::{self, MAX_ENCODED_BYTES};
use crate::frame::{Body, Fragment, Frame, FrameError, SessionId};
use crate::line::{Chunk, Deframer};
use crate::session::{SessionEnd, SessionHeader};

/// Blocks that may be incomplete at the same time; the oldest is given up for another.
const MAX_INCOMPLETE: usize = 64;

/// What the line brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A session began: nothing that came before belongs to it.
    Session(SessionId, &'a SessionHeader),
    /// A whole block of the session; its CRC is right. Comes once for each number.
    Block {
        /// Whose it is.
        session: SessionId,
        /// 0: the passes.
        stream: u8,
        /// Its number in the stream.
        number: u32,
        /// Its CRC-32.
        generation: u32,
        /// Header and compressed data; see [`crate::Block::decode`].
        encoded: &'a [u8],
    },
    /// The sender has said all it has to say. May be repeated.
    End(SessionId, SessionEnd),
    /// Text between the frames. May hold control characters.
    Text(&'a [u8]),
    /// A whole frame that this program is too old for.
    Unknown(FrameError),
}

/// What was wrong with the line so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineStats {
    /// Frames with a right CRC.
    pub frames: u64,
    /// Bytes that were neither a frame nor text: damaged frames, noise.
    pub rubbish_bytes: u64,
    /// Frames of other sessions.
    pub foreign_frames: u64,
    /// Fragments of blocks that were given up or made again.
    pub dropped_fragments: u64,
}

/// The receiver of one line.
#[derive(Default)]
pub struct Receiver {
    deframer: Deframer,
    reassembly: Reassembly,
}

impl Receiver {
    /// A receiver that has heard nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the line and hands over what they complete.
    pub fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Event<'_>)) {
        let Self { deframer, reassembly } = self;
        deframer.push(bytes, |chunk| reassembly.chunk(chunk, &mut sink));
    }

    /// The line has been quiet for a while: hands over text that has no line end yet.
    pub fn idle(&mut self, mut sink: impl FnMut(Event<'_>)) {
        let Self { deframer, reassembly } = self;
        deframer.idle(|chunk| reassembly.chunk(chunk, &mut sink));
    }

    /// What was wrong with the line so far.
    #[must_use]
    pub fn stats(&self) -> LineStats {
        self.reassembly.stats
    }
}

#[derive(Default)]
struct Reassembly {
    session: Option<SessionId>,
    /// Whether the session's header came.
    introduced: bool,
    incomplete: BTreeMap<(u8, u32), Incomplete>,
    complete: BlockSet,
    stats: LineStats,
}

impl Reassembly {
    fn chunk(&mut self, chunk: Chunk<'_>, sink: &mut impl FnMut(Event<'_>)) {
        match chunk {
            Chunk::Frame(frame) => self.frame(&frame, sink),
            Chunk::Unknown(error) => sink(Event::Unknown(error)),
            Chunk::Text(text) => sink(Event::Text(text)),
            Chunk::Rubbish(count) => self.stats.rubbish_bytes += count as u64,
        }
    }

    fn frame(&mut self, frame: &Frame<'_>, sink: &mut impl FnMut(Event<'_>)) {
        self.stats.frames += 1;
        let ours = *self.session.get_or_insert(frame.session) == frame.session;
        match frame.body {
            Body::Session(payload) => {
                let Some(header) = SessionHeader::decode(payload) else { return };
                if !ours {
                    let stats = self.stats;
                    *self = Self { session: Some(frame.session), stats, ..Self::default() };
                }
                if !self.introduced {
                    self.introduced = true;
                    sink(Event::Session(frame.session, &header));
                }
            }
            _ if !ours => self.stats.foreign_frames += 1,
            Body::Fragment(fragment) => self.fragment(frame.session, &fragment, sink),
            Body::End(payload) => {
                if let Some(end) = SessionEnd::decode(payload) {
                    sink(Event::End(frame.session, end));
                }
            }
        }
    }

    fn fragment(&mut self, session: SessionId, fragment: &Fragment<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let key = (fragment.stream, fragment.block);
        if self.complete.contains(key) {
            return;
        }
        let block = self.incomplete.entry(key).or_insert_with(|| Incomplete::of(fragment));
        if !block.matches(fragment) {
            // Made again from memory that had changed: what came before is worthless.
            self.stats.dropped_fragments += block.received();
            *block = Incomplete::of(fragment);
        }
        block.insert(fragment);
        if let Some(encoded) = block.assemble() {
            self.incomplete.remove(&key);
            if block::generation(&encoded) == fragment.generation {
                self.complete.insert(key);
                let (stream, number) = key;
                sink(Event::Block {
                    session,
                    stream,
                    number,
                    generation: fragment.generation,
                    encoded: &encoded,
                });
            } else {
                self.stats.dropped_fragments += u64::from(fragment.count);
            }
        } else if self.incomplete.len() > MAX_INCOMPLETE
            && let Some((_, given_up)) = self.incomplete.pop_first()
        {
            self.stats.dropped_fragments += given_up.received();
        }
    }
}

/// A block of which fragments are missing.
struct Incomplete {
    generation: u32,
    fragments: Vec<Option<Vec<u8>>>,
}

impl Incomplete {
    fn of(fragment: &Fragment<'_>) -> Self {
        let mut fragments = Vec::new();
        fragments.resize(usize::from(fragment.count), None);
        Self { generation: fragment.generation, fragments }
    }

    fn matches(&self, fragment: &Fragment<'_>) -> bool {
        self.generation == fragment.generation && self.fragments.len() == usize::from(fragment.count)
    }

    fn insert(&mut self, fragment: &Fragment<'_>) {
        if let Some(place) = self.fragments.get_mut(usize::from(fragment.index)) {
            place.get_or_insert_with(|| fragment.bytes.to_vec());
        }
    }

    fn received(&self) -> u64 {
        self.fragments.iter().flatten().count() as u64
    }

    fn assemble(&self) -> Option<Vec<u8>> {
        let mut encoded = Vec::new();
        for fragment in &self.fragments {
            encoded.extend_from_slice(fragment.as_ref()?);
        }
        encoded.truncate(MAX_ENCODED_BYTES);
        Some(encoded)
    }
}

/// Block numbers, kept as ranges: on a good line there is one per stream.
#[derive(Default)]
struct BlockSet {
    /// First number of a range → its last.
    ranges: BTreeMap<(u8, u32), u32>,
}

impl BlockSet {
    fn contains(&self, (stream, number): (u8, u32)) -> bool {
        self.ranges
            .range(..=(stream, number))
            .next_back()
            .is_some_and(|(&(of, _), &last)| of == stream && number <= last)
    }

    fn insert(&mut self, (stream, number): (u8, u32)) {
        let mut last = number;
        if let Some(next) = number.checked_add(1)
            && let Some(joined) = self.ranges.remove(&(stream, next))
        {
            last = joined;
        }
        if let Some((&(of, _), before)) = self.ranges.range_mut(..(stream, number)).next_back()
            && of == stream
            && before.checked_add(1) == Some(number)
        {
            *before = last;
        } else {
            self.ranges.insert((stream, number), last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_block_set_holds_what_was_put_into_it(numbers in prop::collection::vec((0u8..2, 0u32..60), 0..80)) {
            let (mut set, mut model) = (BlockSet::default(), BTreeSet::new());
            for key in numbers {
                if model.insert(key) {
                    set.insert(key);
                }
                for stream in 0..2 {
                    for number in 0..60 {
                        prop_assert_eq!(set.contains((stream, number)), model.contains(&(stream, number)));
                    }
                }
            }
        }
    }
}
