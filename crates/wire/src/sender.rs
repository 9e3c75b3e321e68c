//! The sending side of a session, without any I/O: what goes on the line next.
//!
//! It begins one-way: what is on the line counts as sent, because there may be nobody who answers. The first
//! [`Reply::Resume`] ends that. From then on a fragment counts once it is acknowledged. A block is kept until the receiver
//! has stored it durably, or has received it and its space is needed: should that receiver not live to store it, the next
//! one says where to go on, and it is made again. Where a link needs answers ([`Sender::need_answers`]), a sender that nobody
//! answers says its header only.
//!
//! A line keeps the order of what is sent. So there is no timer for resending: whatever was sent before a frame that
//! came, and did not come itself, is lost. When there is nothing to send, a keep-alive finds out about the last frames.
//!
//! The receiver may want pages before their turn ([`Sender::wanted`]): whoever has the memory makes the answer
//! ([`Sender::begin_answer`]), which goes out ahead of the passes' blocks.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::answers::Answers;
use crate::block::{Cursor, HEADER_BYTES, MAX_ENCODED_BYTES};
use crate::frame::{Body, Fragment, Frame, MAX_FRAGMENT_BYTES, MAX_FRAME_BYTES, SessionId};
use crate::line;
use crate::loss::FragmentSize;
use crate::pieces::FragmentId;
use crate::reply::{ACK_HISTORY, Reply, ReplyReader};
use crate::request::{ANSWERS, Course, Request, Service};
use crate::session::{Run, SessionEnd, SessionHeader};
use crate::window::Window;

/// One-way, a receiver that was plugged in late learns within this time what it listens to.
const HEADER_EVERY: Duration = Duration::from_secs(10);

/// One-way, the end is said so often, so that a receiver that is slow to answer has time to ask for what it missed.
const END_REPEATS: u8 = 5;

/// The longest silence of a sender, and the time between two ends.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(1);

/// The shortest time after which it is asked what became of the last frames.
const MIN_PROBE: Duration = Duration::from_millis(50);

/// A receiver that says nothing for so long may have been started again.
const RECEIVER_SILENT: Duration = Duration::from_secs(2);

/// A receiver that says nothing for so long is gone; the dump goes on one-way.
const RECEIVER_GONE: Duration = Duration::from_secs(60);

/// Whoever waited for an answer wants the next one soon. So long the passes leave the line to him: at 115200 baud a frame of
/// theirs would take five times as long.
const ATTENTIVE: Duration = Duration::from_millis(20);

/// Of so many frames one is of the passes, or the end, if there is one to say: whoever reads all of the machine must not keep
/// the dump from its end.
const PASSES_EVERY: u8 = 16;

/// Frames on their way: a line of 3 Mbaud with a second of latency has 250.
const MAX_FLIGHT: usize = 1024;

/// Text that may wait for its turn; more is dropped, the dump comes first.
const MAX_TEXT_BYTES: usize = 1024;

/// The sender of one session.
pub struct Sender {
    session: SessionId,
    header: SessionHeader,
    /// Whether only what is acknowledged counts as sent.
    needs_answers: bool,
    run: Run,
    /// Whether a receiver knows of this run. Before, what one has stored may be of the run before.
    is_run_known: bool,
    /// The most that was ever sent: a number of whole blocks, and where the last of them ended.
    furthest: (u32, Cursor),
    window: Window,
    answers: Answers,
    /// Until then no frame of the passes is begun.
    attentive_until: Duration,
    /// Frames of answers since the last one of the passes.
    answers_in_a_row: u8,
    /// What the receiver wants of the passes.
    course: Course,
    /// Whether what is left of them goes out at once, whatever the receiver wants.
    is_hurrying: bool,
    /// Whether the machine goes when its end is over, whatever the receiver wants.
    is_leaving: bool,
    /// Whether the passes are to end where they are, since the receiver that held them let the machine go.
    is_cut: bool,
    /// Whether the sender stays after the end until it is released.
    serves: bool,
    /// What the last header told of that.
    told: Service,
    mode: Mode,
    end: Option<End>,
    text: Vec<u8>,
    /// When the header was sent last; `None`: it is wanted at once.
    header_at: Option<Duration>,
    rewind: Option<Cursor>,

    sequence: u16,
    /// Frames so far, as far as sequence numbers can tell: at most 65535.
    frames: u16,
    flight: VecDeque<Sent>,
    replies: ReplyReader,
    round_trip: Duration,
    fragment_size: FragmentSize,
    sent_at: Duration,

    /// What is being written now, as line bytes, and how many of them are gone.
    line: Vec<u8>,
    written: usize,
    /// Whether a zero ended what was written last.
    line_is_clean: bool,
    frame: Vec<u8>,
    scratch: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Nobody answers.
    OneWay,
    /// The receiver spoke last at this time.
    Answered(Duration),
}

/// The end of the session, while it is being said.
struct End {
    payload: Vec<u8>,
    due: Duration,
    is_said: bool,
    /// One-way.
    repeats_left: u8,
    /// One-way: nobody answered the last one either.
    is_unheard: bool,
    /// The receiver has stored it durably, behind all blocks.
    is_stored: bool,
}

/// A frame on its way. There may be many: 16 bytes each.
struct Sent {
    sequence: u16,
    /// Bytes of the fragment in it. 0: there is none, and it is repeated anyway.
    bytes: u16,
    id: FragmentId,
    /// When, in microseconds modulo 2^32.
    at: u32,
}

const _: () = assert!(size_of::<Sent>() == 16);

impl Sent {
    /// The fragment in it, and its bytes.
    fn fragment(&self) -> Option<(FragmentId, usize)> {
        (self.bytes > 0).then_some((self.id, self.bytes.into()))
    }
}

/// In microseconds modulo 2^32: that is more than an hour, and who is silent for a minute is gone.
fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros() & u128::from(u32::MAX)).unwrap_or(0)
}

impl Sender {
    /// A sender with all its memory. The session header is the first thing it sends.
    #[must_use]
    pub fn new(session: SessionId, header: SessionHeader) -> Self {
        Self {
            session,
            header,
            needs_answers: false,
            run: Run::default(),
            is_run_known: true,
            furthest: (0, Cursor::START),
            window: Window::new(),
            answers: Answers::new(),
            attentive_until: Duration::ZERO,
            answers_in_a_row: 0,
            course: Course::GoOn,
            is_hurrying: false,
            is_leaving: false,
            is_cut: false,
            serves: false,
            told: Service::default(),
            mode: Mode::OneWay,
            end: None,
            text: Vec::with_capacity(MAX_TEXT_BYTES),
            header_at: None,
            rewind: None,
            sequence: 0,
            frames: 0,
            flight: VecDeque::with_capacity(MAX_FLIGHT),
            replies: ReplyReader::new(),
            round_trip: KEEP_ALIVE_EVERY,
            fragment_size: FragmentSize::new(),
            sent_at: Duration::ZERO,
            line: Vec::with_capacity(line::MAX_CODED_BYTES + 2),
            written: 0,
            line_is_clean: false,
            frame: Vec::with_capacity(MAX_FRAME_BYTES),
            scratch: Vec::with_capacity(MAX_FRAGMENT_BYTES),
        }
    }

    /// From now on nothing counts as sent that nobody has acknowledged: for a link that has a way back, or is of no use. While
    /// nobody answers only the session header is said, once a second.
    pub fn need_answers(&mut self) {
        self.needs_answers = true;
    }

    /// Whether another block can be taken now.
    pub fn has_room(&mut self) -> bool {
        self.window.make_room();
        self.window.has_room()
    }

    /// Takes the next block of stream 0, which goes from where the last one ended to `end`. To be called while
    /// [`Sender::has_room`].
    pub fn push(&mut self, encoded: &[u8], end: Cursor) {
        debug_assert!(encoded.len() <= MAX_ENCODED_BYTES, "a block is never longer");
        self.window.push(encoded, end);
    }

    /// Bytes of the passes' blocks that are kept now, to be sent again if they get lost: at most 246 KiB.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.window.held_bytes()
    }

    /// Bytes of answers that are kept now, or are being made: at most 82 KiB.
    #[must_use]
    pub fn answer_bytes(&self) -> usize {
        self.answers.held_bytes()
    }

    /// What is to be answered now, if anything is; there is room for it then. Until it is answered no frame of the passes is
    /// begun.
    #[must_use]
    pub fn wanted(&self) -> Option<Request> {
        self.answers.next(self.header.page_shift)
    }

    /// The answer to this request, of which nothing is wanted any more then, is made from now on, whatever was being made.
    pub fn begin_answer(&mut self, request: &Request) {
        self.answers.begin(request);
    }

    /// Where the compressed records of the answer are appended, within the capacity that there is. Between two pieces the
    /// line may be looked after. `None`: nobody wants it any more.
    pub fn answer(&mut self) -> Option<&mut Vec<u8>> {
        self.answers.making()
    }

    /// The answer is whole; `header` is its block's.
    pub fn finish_answer(&mut self, header: &[u8; HEADER_BYTES]) {
        self.answers.finish(header);
    }

    /// The answer cannot be finished. If it is still wanted, the receiver asks again.
    pub fn abandon_answer(&mut self) {
        self.answers.abandon();
    }

    /// The sender stays after its end, until its receiver releases it.
    pub fn stay_after_end(&mut self) {
        self.serves = true;
    }

    /// Does as if the receiver had released the machine, and listens to no other wish of a receiver from now on.
    pub fn leave(&mut self) {
        if !core::mem::replace(&mut self.is_leaving, true) {
            self.set_course(Course::Release);
        }
    }

    /// From now on what is left of the dump comes before answers, and no receiver can hold it.
    pub const fn hurry(&mut self) {
        self.is_hurrying = true;
    }

    /// Whether the passes are to end where they are. Asked once, it is forgotten.
    pub fn take_cut(&mut self) -> bool {
        core::mem::take(&mut self.is_cut)
    }

    /// Number of the next block.
    #[must_use]
    pub fn next_block(&self) -> u32 {
        self.window.next()
    }

    /// Number of the first block after the last [`Sender::take_rewind`].
    #[must_use]
    pub const fn first_block(&self) -> u32 {
        self.run.first_block
    }

    /// Where to go back to, once, if the receiver needs blocks that are no longer kept: the next block pushed must
    /// begin there, and totals begin anew with it.
    pub fn take_rewind(&mut self) -> Option<Cursor> {
        self.rewind.take()
    }

    /// Whether a receiver answers.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.mode != Mode::OneWay
    }

    /// Queues a line of text for whoever watches the console; it goes out between two frames.
    pub fn text(&mut self, text: &str) {
        let needed = text.len() + 2;
        if self.text.len() + needed <= MAX_TEXT_BYTES {
            self.text.extend_from_slice(text.as_bytes());
            self.text.extend_from_slice(b"\r\n");
        }
    }

    /// Everything has been pushed; once it is sent, the session ends.
    pub fn end(&mut self, end: &SessionEnd) {
        self.end = Some(End {
            payload: end.encode(),
            due: Duration::ZERO,
            is_said: false,
            repeats_left: END_REPEATS,
            is_unheard: false,
            is_stored: false,
        });
    }

    /// Whether every block has been sent at least once: the line has nothing to do.
    #[must_use]
    pub fn is_idle(&mut self) -> bool {
        self.window.waiting().is_none() && self.written == self.line.len() && self.text.is_empty()
    }

    /// Whether the session is over: nothing will follow.
    #[must_use]
    pub fn is_finished(&mut self) -> bool {
        self.is_idle() && self.is_over()
    }

    /// Whether nothing will be said that has not been made yet.
    fn is_over(&self) -> bool {
        self.is_end_over() && !self.is_staying()
    }

    /// What it says of its service now.
    fn service(&self) -> Service {
        let stays = match self.course {
            Course::GoOn => self.serves,
            Course::Hold | Course::Stay => true,
            Course::Release => false,
        };
        Service { course: self.course, stays }
    }

    /// Whether it stays, or has not yet said that it does not.
    #[must_use]
    pub fn is_staying(&self) -> bool {
        self.service().stays || self.told.stays
    }

    /// Whether the end has been said and nobody answered, or is stored by a receiver that answers.
    #[must_use]
    pub fn is_end_over(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.is_stored || (self.mode == Mode::OneWay && end.is_unheard))
    }

    /// The bytes to write next; none if there is nothing to send now.
    pub fn pending(&mut self, now: Duration) -> &[u8] {
        if self.written == self.line.len() {
            self.line.clear();
            self.written = 0;
            self.fill_line(now);
        }
        self.line.get(self.written..).unwrap_or_default()
    }

    /// `count` bytes of [`Sender::pending`] have been written.
    pub fn advance(&mut self, count: usize) {
        self.written = self.written.saturating_add(count).min(self.line.len());
    }

    fn fill_line(&mut self, now: Duration) {
        if let Mode::Answered(heard_at) = self.mode
            && now.saturating_sub(heard_at) >= RECEIVER_GONE
        {
            self.go_one_way();
        }
        if self.is_header_due(now) {
            self.header_at = Some(now);
            self.told = self.service();
            let mut payload = self.run.encode().to_vec();
            payload.extend_from_slice(&self.header.encode());
            payload.push(self.told.encode());
            self.put(now, Body::Session(&payload));
        } else if !self.text.is_empty() {
            self.line.extend_from_slice(&self.text);
            self.text.clear();
            self.line_is_clean = false;
        } else if self.needs_answers && !self.is_answered() {
            // Who does not answer keeps nothing.
        } else if self.is_turn_of_passes() && self.put_end(now) {
            self.answers_in_a_row = 0;
        } else if let Some(id) = self.next_fragment(now) {
            self.put_fragment(now, id);
        } else if !self.put_end(now) {
            self.put_keep_alive(now);
        }
    }

    /// The fragment to send now: of answers first, and of the passes if nothing is wanted before them.
    fn next_fragment(&mut self, now: Duration) -> Option<FragmentId> {
        if self.flight.len() >= MAX_FLIGHT {
            return None;
        }
        let of_passes = self.window.waiting().filter(|_| !self.is_held());
        if self.is_turn_of_passes() && of_passes.is_some() {
            return of_passes;
        }
        if let Some(id) = self.answers.waiting().filter(|_| !self.is_over()) {
            return Some(id);
        }
        // A frame of the passes would be before an answer that is ready in a moment.
        let is_wanted = self.answers.is_making() || self.wanted().is_some();
        of_passes.filter(|_| !is_wanted && now >= self.attentive_until)
    }

    const fn is_turn_of_passes(&self) -> bool {
        self.is_hurrying || self.answers_in_a_row >= PASSES_EVERY - 1
    }

    /// Whether nothing of the passes is said now.
    fn is_held(&self) -> bool {
        self.course == Course::Hold && !self.is_hurrying
    }

    fn is_header_due(&self, now: Duration) -> bool {
        if self.is_over() {
            return false;
        }
        // The last word of one that stayed.
        if self.service() != self.told {
            return true;
        }
        let Some(sent_at) = self.header_at else { return true };
        let age = now.saturating_sub(sent_at);
        match self.mode {
            Mode::OneWay if self.needs_answers => age >= KEEP_ALIVE_EVERY,
            Mode::OneWay => age >= HEADER_EVERY,
            // Whoever listens now may be another one, who knows nothing and says nothing.
            Mode::Answered(heard_at) => {
                age >= KEEP_ALIVE_EVERY && now.saturating_sub(heard_at) >= RECEIVER_SILENT
            }
        }
    }

    fn put_fragment(&mut self, now: Duration, id: FragmentId) {
        let fragment_bytes = self.fragment_size.best();
        let mut scratch = core::mem::take(&mut self.scratch);
        let fragment: Option<Fragment<'_>> = if id.stream == ANSWERS {
            self.answers.cut(id, fragment_bytes);
            self.answers.fragment(id, &mut scratch)
        } else {
            self.window.cut(id, fragment_bytes);
            self.window.fragment(id, &mut scratch)
        };
        if let Some(fragment) = fragment {
            self.put(now, Body::Fragment(fragment));
        }
        self.scratch = scratch;
        if id.stream == ANSWERS {
            self.answers_in_a_row = self.answers_in_a_row.saturating_add(1);
            self.answers.set_in_flight(id, true);
            if self.answers.ends_urgent(id) {
                self.attentive_until = now + self.round_trip.min(KEEP_ALIVE_EVERY) + ATTENTIVE;
            }
            return;
        }
        self.answers_in_a_row = 0;
        let (blocks, cursor) = self.furthest;
        let sent = self.window.set_sent(id);
        self.furthest = (blocks.max(sent), cursor.max(self.window.start_of(sent).unwrap_or(cursor)));
        match self.mode {
            Mode::OneWay => self.window.set_received(id),
            Mode::Answered(_) => self.window.set_in_flight(id, true),
        }
    }

    /// Says the end if it is due; the receiver must have every fragment by then, or get them before it.
    fn put_end(&mut self, now: Duration) -> bool {
        if self.is_held() || self.window.waiting().is_some() {
            return false;
        }
        let is_due = |end: &&mut End| now >= end.due && !end.is_stored;
        let Some(end) = self.end.as_mut().filter(is_due) else { return false };
        if self.mode == Mode::OneWay {
            if end.repeats_left == 0 {
                end.is_unheard = true;
                return false;
            }
            // Who has not heard the header by now would not know what to do with the rest.
            self.header_at = None;
        }
        end.is_said = true;
        end.repeats_left = end.repeats_left.saturating_sub(1);
        end.due = now + KEEP_ALIVE_EVERY;
        let payload = core::mem::take(&mut end.payload);
        self.put(now, Body::End(&payload));
        if let Some(end) = &mut self.end {
            end.payload = payload;
        }
        true
    }

    /// Asks what became of the last frames, or else shows that the sender is alive.
    fn put_keep_alive(&mut self, now: Duration) {
        let patience = if self.flight.is_empty() {
            KEEP_ALIVE_EVERY
        } else {
            (self.round_trip * 2).clamp(MIN_PROBE, KEEP_ALIVE_EVERY)
        };
        if !self.is_finished() && now.saturating_sub(self.sent_at) >= patience {
            self.put(now, Body::KeepAlive);
        }
    }

    /// Puts a frame on the line.
    fn put(&mut self, now: Duration, body: Body<'_>) {
        if !self.line_is_clean {
            self.line.push(0);
            self.line_is_clean = true;
        }
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        self.frames = self.frames.saturating_add(1);
        self.frame.clear();
        Frame { session: self.session, sequence, body }.encode(&mut self.frame);
        line::encode(&self.frame, &mut self.line);
        self.sent_at = now;
        if self.mode == Mode::OneWay {
            return;
        }
        let (id, bytes) = match body {
            Body::Fragment(Fragment { stream, block, index, bytes, .. }) => {
                (FragmentId { stream, block, index }, u16::try_from(bytes.len()).unwrap_or(u16::MAX))
            }
            Body::Session(_) | Body::End(_) | Body::KeepAlive => (FragmentId::default(), 0),
        };
        // Of frames that carry nothing, the last one tells as much as all of them.
        if bytes == 0 && self.flight.back().is_some_and(|last| last.bytes == 0) {
            self.flight.pop_back();
        } else if self.flight.len() == MAX_FLIGHT {
            return;
        }
        self.flight.push_back(Sent { sequence, bytes, id, at: micros(now) });
    }

    /// Takes what came back over the line.
    pub fn receive(&mut self, bytes: &[u8], now: Duration) {
        for &byte in bytes {
            match self.replies.push(self.session, byte) {
                Some(Reply::Ack { receiver, latest, history, durable })
                    if self.is_answered() && receiver == self.run.receiver =>
                {
                    self.acknowledged(latest, history, durable, now);
                }
                Some(Reply::Resume { receiver, next_block, cursor }) => {
                    self.resume(receiver, next_block, cursor, now);
                }
                Some(Reply::Request { receiver, request }) if self.serves_receiver(receiver) => {
                    self.mode = Mode::Answered(now);
                    if request.is_sound(self.header.page_shift) && self.course != Course::Release {
                        self.answers.want(request);
                    }
                }
                Some(Reply::Course { receiver, course }) if self.serves_receiver(receiver) => {
                    self.mode = Mode::Answered(now);
                    if !self.is_leaving {
                        self.set_course(course);
                    }
                }
                Some(Reply::Ack { .. } | Reply::Request { .. } | Reply::Course { .. }) | None => {}
            }
        }
    }

    /// Whether this receiver is the one that may ask for something.
    fn serves_receiver(&self, receiver: u8) -> bool {
        self.is_answered() && receiver == self.run.receiver && !self.is_over()
    }

    fn set_course(&mut self, course: Course) {
        let was_held = core::mem::replace(&mut self.course, course) == Course::Hold;
        if course == Course::Release {
            // Nobody wants them any more.
            self.answers.clear();
            self.is_cut |= was_held && self.end.is_none();
        }
        // It tells the receiver that it was heard.
        self.header_at = None;
    }

    /// There is no receiver any more that wants something, or not yet.
    fn forget_requests(&mut self) {
        self.answers.clear();
        self.course = if self.is_leaving { Course::Release } else { Course::GoOn };
        self.is_cut = false;
    }

    fn acknowledged(&mut self, latest: u16, history: u32, durable: u16, now: Duration) {
        let is_ahead = |a: u16, b: u16| a != b && a.wrapping_sub(b) < 1 << 15;
        // Of frames that were never sent, or that are long settled, it says nothing.
        if !is_ahead(self.sequence, latest) || self.sequence.wrapping_sub(latest) > self.frames {
            return;
        }
        self.mode = Mode::Answered(now);
        self.is_run_known = true;
        while let Some(sent) = self.flight.front()
            && !is_ahead(sent.sequence, latest)
        {
            let Some(sent) = self.flight.pop_front() else { break };
            let age = latest.wrapping_sub(sent.sequence);
            if age == 0 {
                let sample = Duration::from_micros(micros(now).wrapping_sub(sent.at).into());
                self.round_trip = (self.round_trip * 7 + sample) / 8;
            }
            let came = age == 0 || (age <= ACK_HISTORY && history >> (age - 1) & 1 == 1);
            if let Some((id, bytes)) = sent.fragment() {
                if id.stream == ANSWERS {
                    if came {
                        self.answers.set_received(id);
                    }
                    self.answers.set_in_flight(id, false);
                } else {
                    if came {
                        self.window.set_received(id);
                    }
                    self.window.set_in_flight(id, false);
                }
                if age <= ACK_HISTORY {
                    self.fragment_size.count(bytes, came);
                }
            }
        }
        if self.answers.forget_received() {
            self.attentive_until = now + ATTENTIVE;
        }
        // The full number is the one next to what is already known.
        let base = self.window.base();
        let [low, high, ..] = base.to_le_bytes();
        let ahead = durable.wrapping_sub(u16::from_le_bytes([low, high]));
        let Some(durable) = base.checked_add(u32::from(ahead)) else { return };
        if durable <= self.window.sent() {
            self.window.forget_before(durable);
        } else if let Some(end) = self.end.as_mut().filter(|end| end.is_said)
            && durable - 1 == self.window.next()
            && self.window.sent() == self.window.next()
        {
            self.window.forget_before(durable);
            end.is_stored = true;
        }
    }

    fn resume(&mut self, receiver: u8, next_block: u32, cursor: Cursor, now: Duration) {
        // Asked again because the answer got lost: it is given again.
        let is_repeated = self.is_answered() && self.run.receiver == receiver;
        self.header_at = None;
        self.mode = Mode::Answered(now);
        if is_repeated {
            return;
        }
        self.run.receiver = receiver;
        self.flight.clear();
        self.forget_requests();
        let (blocks, furthest) = self.furthest;
        let is_possible = next_block <= blocks && cursor <= furthest;
        // What was never sent nobody can have behind him: whoever says so gets all.
        let (next_block, cursor) = if is_possible { (next_block, cursor) } else { (0, Cursor::START) };
        let is_of_run =
            next_block <= self.run.first_block || (self.is_run_known && next_block <= self.window.sent());
        if is_possible && is_of_run && self.window.start_of(next_block) == Some(cursor) {
            self.window.forget_before(next_block);
            self.window.send_again();
        } else {
            self.window.restart(next_block, cursor);
            self.run = Run { number: self.run.number.wrapping_add(1), first_block: next_block, receiver };
            self.is_run_known = false;
            self.rewind = Some(cursor);
            self.end = None;
        }
    }

    /// The receiver is gone. Whoever comes next has to introduce himself.
    fn go_one_way(&mut self) {
        self.mode = Mode::OneWay;
        self.run.receiver = 0;
        self.header_at = None;
        self.forget_requests();
        for sent in self.flight.drain(..) {
            if let Some((id @ FragmentId { stream: 0, .. }, _)) = sent.fragment() {
                if !self.needs_answers {
                    self.window.set_received(id);
                }
                self.window.set_in_flight(id, false);
            }
        }
    }
}
