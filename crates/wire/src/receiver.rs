//! The receiving side of a session, without any I/O: line bytes in, whole blocks out, replies back.
//!
//! It says nothing before a session header has come, and it only ever speaks when spoken to: each reply answers frames
//! that came, but for the one that tells of blocks durably stored, and for what its host wants of the sender
//! ([`Receiver::request`], [`Receiver::set_course`]). That is said only while frames come, and once the end is stored only
//! to a sender that has said that it stays. So it is silent once the sender is.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::asked::{Asked, Saying};
use crate::block::{self, Cursor, MAX_ENCODED_BYTES};
use crate::frame::{Body, Fragment, Frame, FrameError, SessionId};
use crate::line::{Chunk, Deframer};
use crate::reply::{ACK_HISTORY, Reply};
use crate::request::{ANSWERS, Course, Service, Urgency};
use crate::session::{Run, SessionEnd, SessionHeader};

/// Blocks that may be incomplete at the same time, of the passes and of answers each; the oldest is given up for another.
pub(crate) const MAX_INCOMPLETE: usize = 64;

/// Whole blocks that are remembered, so that they are handed out once: many times what a sender has on its way. The first
/// ones are forgotten.
const MAX_COMPLETE: usize = 4096;

/// Frames that one acknowledgement may answer; it can speak of a few more than these.
const MAX_UNANSWERED: u16 = ACK_HISTORY / 2;

/// Replies that wait to be written; a line that takes none must not fill memory.
const MAX_REPLY_BYTES: usize = 4096;

/// What the line brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A session began: nothing that came before belongs to it. If its blocks are stored already,
    /// [`Receiver::resume_at`] should be told so at once.
    Session(SessionId, &'a SessionHeader),
    /// The sender went back: blocks from this number on, as far as they came, are void. They will come again. Right
    /// before [`Event::Session`]: those heard until then may be of a time before the sender went back.
    Restarted {
        /// The first block that is void.
        first_block: u32,
    },
    /// A whole block of the session; its CRC is right. It comes once, and again only if the sender made it again.
    Block {
        /// Whose it is.
        session: SessionId,
        /// 0: the passes; [`ANSWERS`]: answers to requests.
        stream: u8,
        /// Its number in the stream, of an answer that of the request.
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
    /// Fragments that had come before.
    pub repeated_fragments: u64,
}

/// The receiver of one line.
pub struct Receiver {
    deframer: Deframer,
    state: State,
}

struct State {
    id: u8,
    session: Option<SessionId>,
    /// The run that the last session header told of; none before it came.
    run: Option<Run>,
    /// What that header told of the sender's service; `None`: it has none.
    service: Option<Service>,
    page_shift: Option<u8>,
    asked: Asked,
    /// The blocks that the end said there are.
    end_blocks: Option<u32>,
    resume_at: (u32, Cursor),
    incomplete: BTreeMap<(u8, u32), Incomplete>,
    /// Stream and number of whole blocks → their generation.
    complete: BTreeMap<(u8, u32), u32>,
    arrivals: Option<Arrivals>,
    durable: u32,
    replies: Vec<u8>,
    stats: LineStats,
}

/// Which frames came, as an acknowledgement tells it.
#[derive(Clone, Copy)]
struct Arrivals {
    latest: u16,
    history: u32,
    unanswered: u16,
}

impl Receiver {
    /// A receiver that has heard nothing. `id` is not 0, and another number each time a receiver is started.
    #[must_use]
    pub fn new(id: u8) -> Self {
        Self { deframer: Deframer::new(), state: State::new(id.max(1)) }
    }

    /// Takes bytes from the line and hands over what they complete.
    pub fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Event<'_>)) {
        let Self { deframer, state } = self;
        deframer.push(bytes, |chunk| state.chunk(chunk, &mut sink));
    }

    /// The line has been quiet for a while: hands over text that has no line end yet.
    pub fn idle(&mut self, mut sink: impl FnMut(Event<'_>)) {
        let Self { deframer, state } = self;
        deframer.idle(|chunk| state.chunk(chunk, &mut sink));
    }

    /// Blocks before `next_block`, which begins at `cursor`, are durably stored from an earlier life; those behind it
    /// are wanted again. Said after [`Event::Session`], before replies are taken.
    pub fn resume_at(&mut self, next_block: u32, cursor: Cursor) {
        let state = &mut self.state;
        state.resume_at = (next_block, cursor);
        state.durable = next_block;
        state.forget_from(next_block);
        // What was to be said to the header did not know of this yet.
        state.replies.clear();
        if let Some(arrivals) = &mut state.arrivals {
            arrivals.unanswered = arrivals.unanswered.max(1);
        }
        state.acknowledge();
    }

    /// Blocks before `next_block` are durably stored: the sender may forget them. Once the end is stored too, behind
    /// all blocks, it counts as one more: then the sender is done.
    pub fn set_durable(&mut self, next_block: u32) {
        if next_block > self.state.durable {
            self.state.durable = next_block;
            if let Some(arrivals) = &mut self.state.arrivals {
                arrivals.unanswered = arrivals.unanswered.max(1);
            }
        }
    }

    /// Wants `pages` pages from frame `first_pfn` on, at most 64 KiB of them: any page of RAM, whatever the dump level. The
    /// answer is the [`Event::Block`] of stream [`ANSWERS`] with the number that is returned here: of each page it says
    /// what it holds, or why it cannot be read (one that is no RAM, too). [`Receiver::service`] says it, and says it
    /// again, until that block has come.
    ///
    /// `None`: 64 requests are unanswered, or no session header has come yet, or there are no such pages.
    pub fn request(&mut self, first_pfn: u64, pages: u8, urgency: Urgency) -> Option<u32> {
        let state = &mut self.state;
        state.asked.request(first_pfn, pages, urgency, state.page_shift?)
    }

    /// A request that was made for later is for now.
    pub fn hurry(&mut self, number: u32) {
        self.state.asked.hurry(number);
    }

    /// Nobody wants this request's answer any more. It may come all the same.
    pub fn forget_request(&mut self, number: u32) {
        self.state.asked.forget(number);
    }

    /// Requests that are not answered yet.
    #[must_use]
    pub fn unanswered_requests(&self) -> usize {
        self.state.asked.unanswered()
    }

    /// Requests are numbered from here on: behind all whose answers an earlier receiver has stored of this session.
    pub fn set_first_request(&mut self, number: u32) {
        self.state.asked.set_first_number(number);
    }

    /// How the dump is to go on. A sender goes on as ever ([`Course::GoOn`]) once it hears no receiver, or another one.
    pub fn set_course(&mut self, course: Course) {
        self.state.asked.set_course(course);
    }

    /// What the sender's last session header told of its service. `None`: none has come, or the sender is too old to be
    /// asked for anything.
    #[must_use]
    pub fn service_of_sender(&self) -> Option<Service> {
        self.state.service
    }

    /// Puts requests and the course among the replies, as far as it is time for that. To be called whenever there may be
    /// something new to say, and several times a second while there are requests or a course that is not
    /// [`Course::GoOn`]; before [`Receiver::take_replies`]. `now` is the time since any fixed moment.
    pub fn service(&mut self, now: Duration) {
        self.state.serve_host(now);
    }

    /// Another line to the same sender: of what came over the one before nothing counts, and what is wanted of the sender
    /// is wanted still. `id` is another number than before.
    pub fn line_changed(&mut self, id: u8) {
        let mut asked = core::mem::take(&mut self.state.asked);
        asked.line_changed();
        let page_shift = self.state.page_shift;
        *self = Self { state: State { asked, page_shift, ..State::new(id.max(1)) }, ..Self::new(id) };
    }

    /// What is to be written to the line, taken away. To be called after each of the other calls: one reply answers all
    /// that came until then, because a second one close behind it would not fit the FIFO of a sender that is busy.
    pub fn take_replies(&mut self) -> Vec<u8> {
        self.state.acknowledge();
        core::mem::take(&mut self.state.replies)
    }

    /// Bytes of blocks that are incomplete now: at most 64 of [`MAX_ENCODED_BYTES`].
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.state.incomplete.values().map(|block| block.bytes).sum()
    }

    /// What was wrong with the line so far.
    #[must_use]
    pub fn stats(&self) -> LineStats {
        self.state.stats
    }
}

impl State {
    fn new(id: u8) -> Self {
        Self {
            id,
            session: None,
            run: None,
            service: None,
            page_shift: None,
            asked: Asked::default(),
            end_blocks: None,
            resume_at: (0, Cursor::START),
            incomplete: BTreeMap::new(),
            complete: BTreeMap::new(),
            arrivals: None,
            durable: 0,
            replies: Vec::new(),
            stats: LineStats::default(),
        }
    }

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
        // Fragments may be heard before the header is: they are kept, but not answered.
        let is_ours = *self.session.get_or_insert(frame.session) == frame.session;
        if let Body::Session(payload) = frame.body {
            self.header(frame.session, is_ours, payload, sink);
        } else if !is_ours {
            self.stats.foreign_frames += 1;
            return;
        }
        match frame.body {
            Body::Session(_) | Body::KeepAlive => {}
            Body::Fragment(fragment) => self.fragment(frame.session, &fragment, sink),
            Body::End(payload) => {
                if let Some(end) = SessionEnd::decode(payload) {
                    self.end_blocks = Some(end.blocks);
                    sink(Event::End(frame.session, end));
                }
            }
        }
        if self.session == Some(frame.session) {
            self.arrived(frame.sequence);
        }
    }

    fn header(
        &mut self,
        session: SessionId,
        is_ours: bool,
        payload: &[u8],
        sink: &mut impl FnMut(Event<'_>),
    ) {
        let Some((run, rest)) = Run::decode(payload) else { return };
        let Some(header) = SessionHeader::decode(rest) else { return };
        if !is_ours {
            let asked = core::mem::take(&mut self.asked);
            *self = Self { session: Some(session), stats: self.stats, asked, ..Self::new(self.id) };
        }
        let before = self.run.replace(run);
        self.asked.listen_to(session);
        self.service = Service::decode(payload);
        self.page_shift = Some(header.page_shift);
        if before.is_none() {
            if run.number != 0 {
                self.restarted(run.first_block, sink);
            }
            // So was an earlier receiver called: the sender must see that this is another one.
            if run.receiver == self.id {
                self.id = self.id % u8::MAX + 1;
            }
            sink(Event::Session(session, &header));
        }
        if before.is_some_and(|before| before.number != run.number) {
            self.restarted(run.first_block, sink);
        }
        if before.is_none_or(|before| (before.number, before.receiver) != (run.number, run.receiver)) {
            self.asked.say_again();
        }
    }

    /// The sender went back to `first_block`: what came of it and of those behind it is void.
    fn restarted(&mut self, first_block: u32, sink: &mut impl FnMut(Event<'_>)) {
        self.forget_from(first_block);
        self.durable = self.durable.min(first_block);
        self.end_blocks = None;
        self.arrivals = None;
        sink(Event::Restarted { first_block });
    }

    /// Forgets the passes' blocks from this one on.
    fn forget_from(&mut self, first_block: u32) {
        self.incomplete.retain(|&(stream, number), _| stream != 0 || number < first_block);
        self.complete.retain(|&(stream, number), _| stream != 0 || number < first_block);
    }

    fn fragment(&mut self, session: SessionId, fragment: &Fragment<'_>, sink: &mut impl FnMut(Event<'_>)) {
        let key = (fragment.stream, fragment.block);
        if self.complete.get(&key) == Some(&fragment.generation) {
            self.stats.repeated_fragments += 1;
            return;
        }
        let block = self.incomplete.entry(key).or_insert_with(|| Incomplete::of(fragment));
        if !block.matches(fragment) {
            // Made again from memory that had changed: what came before is worthless.
            self.stats.dropped_fragments += block.received();
            *block = Incomplete::of(fragment);
        }
        match block.insert(fragment) {
            Inserted::New => {}
            Inserted::Repeated => self.stats.repeated_fragments += 1,
            Inserted::TooMuch => {
                self.stats.dropped_fragments += block.received() + 1;
                self.incomplete.remove(&key);
                return;
            }
        }
        if let Some(encoded) = block.assemble() {
            self.incomplete.remove(&key);
            if block::generation(&encoded) == fragment.generation {
                let (stream, number) = key;
                self.complete.insert(key, fragment.generation);
                if self.complete.len() > MAX_COMPLETE {
                    // A stream's own: many answers are no reason to forget the passes' blocks.
                    pop_first_of(&mut self.complete, stream);
                }
                if stream == ANSWERS {
                    self.asked.answered(number, &encoded);
                }
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
        } else if self.incomplete_beside(fragment.stream) > MAX_INCOMPLETE
            && let Some(given_up) = pop_first_of(&mut self.incomplete, fragment.stream)
        {
            self.stats.dropped_fragments += given_up.received();
        }
    }

    /// Blocks that are incomplete: of the passes, or of all that is none of theirs, as the stream is.
    fn incomplete_beside(&self, stream: u8) -> usize {
        let of_passes = self.incomplete.range(..(1, 0)).count();
        if stream == 0 { of_passes } else { self.incomplete.len() - of_passes }
    }

    /// Says what the host wants of the sender. Its Resume must have been heard, and once the end is stored nobody may be
    /// there any more, but for one that has said that he stays.
    fn serve_host(&mut self, now: Duration) {
        let (Some(session), Some(run)) = (self.session, self.run) else { return };
        let is_end_stored = self.end_blocks.is_some_and(|blocks| self.durable > blocks);
        let may_speak = |service: &Service| run.receiver == self.id && (service.stays || !is_end_stored);
        let service = self.service.filter(may_speak);
        let (receiver, replies) = (self.id, &mut self.replies);
        self.asked.service(now, self.stats.frames, service, |saying| {
            let reply = match saying {
                Saying::Request(request) => Reply::Request { receiver, request },
                Saying::Course(course) => Reply::Course { receiver, course },
            };
            if replies.len() < MAX_REPLY_BYTES {
                reply.encode(session, replies);
            }
        });
    }

    fn arrived(&mut self, sequence: u16) {
        let arrivals = self.arrivals.get_or_insert(Arrivals { latest: sequence, history: 0, unanswered: 0 });
        arrivals.arrived(sequence);
        if arrivals.unanswered >= MAX_UNANSWERED {
            self.acknowledge();
        }
    }

    /// Answers the frames that came since the last answer.
    fn acknowledge(&mut self) {
        let (Some(session), Some(run)) = (self.session, self.run) else { return };
        let Some(arrivals) = self.arrivals.as_mut().filter(|arrivals| arrivals.unanswered > 0) else {
            return;
        };
        arrivals.unanswered = 0;
        let reply = if run.receiver == self.id {
            let [low, high, ..] = self.durable.to_le_bytes();
            Reply::Ack {
                receiver: self.id,
                latest: arrivals.latest,
                history: arrivals.history,
                durable: u16::from_le_bytes([low, high]),
            }
        } else {
            let (next_block, cursor) = self.resume_at;
            Reply::Resume { receiver: self.id, next_block, cursor }
        };
        if self.replies.len() < MAX_REPLY_BYTES {
            reply.encode(session, &mut self.replies);
        }
    }
}

impl Arrivals {
    fn arrived(&mut self, sequence: u16) {
        self.unanswered = self.unanswered.saturating_add(1);
        let ahead = sequence.wrapping_sub(self.latest);
        let behind = self.latest.wrapping_sub(sequence);
        if ahead == 0 {
        } else if ahead < 1 << 15 {
            let history = u64::from(self.history) << 1 | 1;
            self.history = history.checked_shl(u32::from(ahead) - 1).map_or(0, low_half);
            self.latest = sequence;
        } else if behind <= ACK_HISTORY {
            self.history |= 1 << (behind - 1);
        }
    }
}

/// Takes out what is first in the group of the stream: of the passes, or of all others.
fn pop_first_of<V>(blocks: &mut BTreeMap<(u8, u32), V>, stream: u8) -> Option<V> {
    let first = blocks.range((stream.min(1), 0)..).next().map(|(&key, _)| key)?;
    blocks.remove(&first)
}

/// The low half of `word`: what fell out at the top is older than the history goes.
fn low_half(word: u64) -> u32 {
    u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0)
}

/// A block of which fragments are missing.
struct Incomplete {
    generation: u32,
    fragments: Vec<Option<Vec<u8>>>,
    bytes: usize,
}

/// What became of a fragment.
enum Inserted {
    New,
    Repeated,
    /// All together are more than a block may be.
    TooMuch,
}

impl Incomplete {
    fn of(fragment: &Fragment<'_>) -> Self {
        let mut fragments = Vec::new();
        fragments.resize(usize::from(fragment.count), None);
        Self { generation: fragment.generation, fragments, bytes: 0 }
    }

    fn matches(&self, fragment: &Fragment<'_>) -> bool {
        self.generation == fragment.generation && self.fragments.len() == usize::from(fragment.count)
    }

    fn insert(&mut self, fragment: &Fragment<'_>) -> Inserted {
        match self.fragments.get_mut(usize::from(fragment.index)) {
            Some(place @ None) if self.bytes + fragment.bytes.len() <= MAX_ENCODED_BYTES => {
                *place = Some(fragment.bytes.to_vec());
                self.bytes += fragment.bytes.len();
                Inserted::New
            }
            Some(Some(_)) => Inserted::Repeated,
            Some(None) | None => Inserted::TooMuch,
        }
    }

    fn received(&self) -> u64 {
        self.fragments.iter().flatten().count() as u64
    }

    fn assemble(&self) -> Option<Vec<u8>> {
        let is_whole = self.fragments.iter().all(Option::is_some);
        is_whole.then(|| self.fragments.iter().flatten().flatten().copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_history_tells_of_exactly_the_frames_that_came(
            first: u16,
            steps in prop::collection::vec(1u16..40, 1..100),
        ) {
            let mut arrivals = Arrivals { latest: first, history: 0, unanswered: 0 };
            let mut came = Vec::from([first]);
            for step in steps {
                let sequence = arrivals.latest.wrapping_add(step);
                arrivals.arrived(sequence);
                came.push(sequence);
                prop_assert_eq!(arrivals.latest, sequence);
                for age in 1..=ACK_HISTORY {
                    let is_told = arrivals.history >> (age - 1) & 1 == 1;
                    prop_assert_eq!(is_told, came.contains(&sequence.wrapping_sub(age)), "age {}", age);
                }
            }
        }
    }
}
