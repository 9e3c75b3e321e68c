//! What has come over a line, and what is answered.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use wire::{Cursor, Event, LineStats, Receiver, SessionHeader, SessionId};

use super::Options;
use super::console::Console;
use super::line::Mode;
use super::outbox::Outbox;
use super::progress::{Progress, Received, pass_name};
use super::pull::Pull;
use super::session::Session;
use crate::Error;

/// After the end came and something is missing, frames are awaited for so long: of a sender that does not hear us, and
/// of one that may, when the line is whole again.
const END_LINGER: Duration = Duration::from_secs(3);
const ANSWERED_END_LINGER: Duration = Duration::from_secs(30);

/// A sender that did not hear that all is stored asks again before this time is over.
const SENDER_GONE: Duration = Duration::from_millis(1200);

/// For so long it is told again.
const STORED_LINGER: Duration = Duration::from_secs(3);

/// For so long the sender is not told that the end is stored, if it is to stay and has not said that it does.
const END_HELD_BACK: Duration = Duration::from_millis(1500);

/// Blocks kept while the session header has not come: it is repeated every 10 s.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// Why receiving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Complete,
    BudgetSpent,
    EndWithGaps,
    Silence,
    Closed,
    Stopped,
    AnotherSession,
    TooManyBytes,
    Absurd,
    Stalled,
    Released,
}

impl Reason {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Complete => "all of it came",
            Self::BudgetSpent => "the sender's budget was spent",
            Self::EndWithGaps => "parts were lost on the line",
            Self::Silence => "the line fell silent before the end",
            Self::Closed => "the line was closed before the end",
            Self::Stopped => "stopped before the end",
            Self::AnotherSession => "another session began before the end",
            Self::TooManyBytes => "the limit of bytes per session was reached",
            Self::Absurd => "it told of more memory than the machine in its header has",
            Self::Stalled => "nothing new came for long",
            Self::Released => "the machine was released before the end",
        }
    }
}

/// A dump while it is received.
pub(super) struct Reception<'a> {
    receiver: Receiver,
    outbox: Outbox,
    state: State<'a>,
    woken: UnixStream,
    waker: UnixStream,
}

impl<'a> Reception<'a> {
    /// Of which nothing has come yet. `pull`: what asks for pages, if the session is mounted.
    ///
    /// # Errors
    /// Those of making a socket pair.
    pub(super) fn new(
        options: &'a Options,
        mode: Mode,
        progress: Progress,
        pull: Option<Pull>,
    ) -> io::Result<Self> {
        let (woken, waker) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        if let Some(pull) = &pull {
            pull.live().set_waker(waker.try_clone()?);
        }
        Ok(Self {
            receiver: Receiver::new(random_id()),
            outbox: Outbox::default(),
            state: State::new(options, mode, progress, waker.try_clone()?, pull),
            woken,
            waker,
        })
    }

    /// Wakes the one who waits for [`Self::woken`].
    pub(super) fn waker(&self) -> io::Result<UnixStream> {
        self.waker.try_clone()
    }

    /// Becomes readable whenever more is on disk.
    pub(super) fn woken(&self) -> &UnixStream {
        &self.woken
    }

    /// Takes what the line brought.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Self { receiver, state, .. } = self;
        state.deliver(|sink| receiver.push(bytes, sink))?;
        state.tick(receiver);
        Ok(())
    }

    /// The line has been quiet for a while.
    pub(super) fn idle(&mut self) -> Result<(), Error> {
        let Self { receiver, state, .. } = self;
        state.deliver(|sink| receiver.idle(sink))?;
        state.tick(receiver);
        Ok(())
    }

    /// Says to `line` what there is to say, as far as it takes it now.
    pub(super) fn answer(&mut self, line: &mut impl Write) {
        self.state.answer(&mut self.receiver, &mut self.outbox);
        self.outbox.flush(line);
    }

    /// Whether something waits for the line to take it.
    pub(super) fn has_replies(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// The sender has closed the line.
    pub(super) fn line_closed(&mut self) {
        self.state.is_closed = true;
    }

    /// Another line takes the place of the one before: the sender of the session has connected again.
    pub(super) fn line_changed(&mut self) {
        self.receiver.line_changed(random_id());
        self.outbox = Outbox::default();
        self.state.line_changed();
    }

    /// Whether what comes is another session's. Asked once, it is forgotten.
    pub(super) fn is_another_session(&mut self) -> bool {
        std::mem::take(&mut self.state.another_session)
    }

    /// For how long no frame has come.
    pub(super) fn silence(&self) -> Duration {
        self.state.heard_at.elapsed()
    }

    /// Whether all blocks and the end are on disk.
    pub(super) fn is_stored(&mut self) -> bool {
        self.state.session.as_mut().is_some_and(Session::is_stored)
    }

    /// The session, once it has begun.
    pub(super) fn session(&self) -> Option<&Session> {
        self.state.session.as_ref()
    }

    /// Whether a session has begun.
    pub(super) fn has_session(&self) -> bool {
        self.state.session.is_some()
    }

    /// What was wrong with the line so far.
    pub(super) fn stats(&self) -> LineStats {
        self.receiver.stats()
    }

    /// Why nothing more comes over the line, or nobody is to wait for it.
    pub(super) fn is_over(&mut self) -> Option<Reason> {
        let stays = self.receiver.service_of_sender().is_some_and(|service| service.stays);
        self.state.is_over(stays)
    }

    /// Whether somebody may read what has come although nothing more comes.
    pub(super) fn is_looked_at(&self) -> bool {
        self.state.is_looked_at()
    }

    /// Nothing more comes over the line.
    pub(super) fn nothing_more_comes(&self) {
        if let Some(pull) = &self.state.pull {
            pull.live().nothing_more_comes();
        }
    }

    /// Tells the user, once, that what comes looks like nothing known.
    pub(super) fn warn_of_noise(&mut self) {
        self.state.warn_of_noise();
    }

    /// Nothing more comes: the session, if one began, and what shows how far its vmcore is.
    pub(super) fn finish(self) -> Option<(Session, Progress)> {
        self.state.finish()
    }
}

/// A number by which the sender tells this receiver from the one before.
pub(super) fn random_id() -> u8 {
    // The standard library's source of randomness.
    let [byte, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
    byte.max(1)
}

/// A block that came before its session's header.
struct Waiting {
    session: SessionId,
    number: u32,
    generation: u32,
    encoded: Vec<u8>,
}

/// What has come so far.
struct State<'a> {
    options: &'a Options,
    mode: Mode,
    notify: Option<UnixStream>,
    console: Console,
    progress: Progress,
    session: Option<Session>,
    /// Where the sender is to go on, until the receiver has been told.
    resume_at: Option<(u32, Cursor)>,
    /// Whether the sender has closed the line: it is gone.
    is_closed: bool,
    /// Since when all of it is stored.
    stored_at: Option<Instant>,
    /// Since when the sender is not told that the end is stored.
    held_back_at: Option<Instant>,
    /// Asks for pages, if the session is mounted.
    pull: Option<Pull>,
    /// Where the numbers of requests begin, until the receiver has been told.
    first_request: Option<u32>,
    warned_of_answers: bool,
    /// Whether the user knows that the session can be looked at, or that the machine cannot be asked.
    told_of_mount: bool,
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    another_session: bool,
    /// Whether no session header has come over this line yet.
    is_line_new: bool,
    /// Whether the console's text so far ends with a line end.
    ends_line: bool,
    warned: bool,
    /// Frames at the last look, and when their number last changed.
    frames: u64,
    heard_at: Instant,
}

impl<'a> State<'a> {
    fn new(
        options: &'a Options,
        mode: Mode,
        progress: Progress,
        notify: UnixStream,
        pull: Option<Pull>,
    ) -> Self {
        Self {
            options,
            mode,
            notify: Some(notify),
            console: Console::new(),
            progress,
            session: None,
            resume_at: None,
            is_closed: false,
            stored_at: None,
            held_back_at: None,
            pull,
            first_request: None,
            warned_of_answers: false,
            told_of_mount: false,
            waiting: Vec::new(),
            waiting_bytes: 0,
            another_session: false,
            is_line_new: true,
            ends_line: true,
            warned: false,
            frames: 0,
            heard_at: Instant::now(),
        }
    }

    /// Runs the receiver, and takes what it hands over up to the first error.
    fn deliver(&mut self, run: impl FnOnce(&mut dyn FnMut(Event<'_>))) -> Result<(), Error> {
        let mut result = Ok(());
        run(&mut |event| {
            if result.is_ok() {
                result = self.take(event);
            }
        });
        result
    }

    fn take(&mut self, event: Event<'_>) -> Result<(), Error> {
        let is_of_session = matches!(event, Event::Block { .. } | Event::End(..) | Event::Restarted { .. });
        if is_of_session && self.is_line_new && self.session.is_some() {
            // It may be of a time before the sender went back; it sends it again.
            return Ok(());
        }
        match event {
            Event::Text(text) => self.text(text),
            Event::Session(id, header) => self.begin(id, header),
            Event::Block { session: id, stream, number, generation, encoded } => match &mut self.session {
                Some(session) if session.id() == id => {
                    if stream == 0 {
                        session.block(number, generation, encoded)?;
                        self.tell_of_log();
                    } else {
                        self.answer_came(number, generation, encoded)?;
                    }
                    if let Some(pull) = &self.pull {
                        pull.live().has_grown();
                    }
                    Ok(())
                }
                Some(_) => Ok(()),
                // Nobody has asked for anything yet.
                None if stream != 0 => Ok(()),
                None => {
                    self.waiting_bytes += encoded.len();
                    if self.waiting_bytes <= MAX_WAITING_BYTES {
                        let encoded = encoded.to_vec();
                        self.waiting.push(Waiting { session: id, number, generation, encoded });
                    }
                    Ok(())
                }
            },
            Event::End(id, end) => match &mut self.session {
                Some(session) if session.id() == id => session.end(&end),
                _ => Ok(()),
            },
            Event::Restarted { first_block } => match &mut self.session {
                Some(session) => session.restart(first_block),
                None => {
                    // A sender that does not hear us does not send them again.
                    if self.mode == Mode::Answer {
                        self.waiting.retain(|block| block.number < first_block);
                    }
                    Ok(())
                }
            },
            Event::Unknown(error) => {
                if !std::mem::replace(&mut self.warned, true) {
                    self.progress.warn(&format!("{error}: a newer rcapture may understand it"));
                }
                Ok(())
            }
        }
    }

    fn begin(&mut self, id: SessionId, header: &SessionHeader) -> Result<(), Error> {
        if let Some(session) = &mut self.session {
            if self.is_line_new && session.is(id, header) {
                self.is_line_new = false;
                session.take_up(self.mode)?;
                self.resume_at = Some(session.resume_at());
            } else {
                self.another_session = true;
            }
            return Ok(());
        }
        self.is_line_new = false;
        let Some(notify) = self.notify.take() else { return Ok(()) };
        let mut session = Session::begin(&self.options.directory, id, header, self.mode, notify)?;
        let (next_block, _) = session.resume_at();
        self.progress.begin(session.directory(), id, header, next_block != 0);
        session.console(self.console.early())?;
        if next_block > 0 && self.mode == Mode::Answer {
            self.resume_at = Some(session.resume_at());
            // They may be of a time before the sender went back; it sends them again.
            self.waiting.clear();
        }
        for block in self.waiting.drain(..).filter(|block| block.session == id) {
            session.block(block.number, block.generation, &block.encoded)?;
        }
        self.first_request = Some(session.next_request());
        if let Some(pull) = &self.pull {
            let (assembly, journal) = session.share()?;
            pull.live().begin(assembly, journal);
            pull.live().say(|said| session.directory().clone_into(&mut said.directory));
        }
        self.session = Some(session);
        self.tell_of_log();
        Ok(())
    }

    /// An answer to a request has come. One that nobody has asked for is passed over: it may be of an earlier receiver's,
    /// or of no honest sender's.
    fn answer_came(&mut self, number: u32, generation: u32, encoded: &[u8]) -> Result<(), Error> {
        let (Some(session), Some(pull)) = (&mut self.session, &mut self.pull) else { return Ok(()) };
        let mut about = None;
        session.answer(number, generation, encoded, |pages| {
            let is_wanted = pull.take_answer(number, &pages);
            about = Some((pages, is_wanted));
            is_wanted
        })?;
        match about {
            Some((pages, true)) => pull.live().is_answered(pages),
            Some((_, false)) | None => {
                if !std::mem::replace(&mut self.warned_of_answers, true) {
                    self.progress.warn("it answered what nobody had asked, which is passed over");
                }
            }
        }
        Ok(())
    }

    /// A person need not wait for the rest to read the kernel's last words.
    fn tell_of_log(&mut self) {
        if let Some(path) = self.session.as_mut().and_then(Session::new_log) {
            self.progress.log_is_in(path);
        }
    }

    fn text(&mut self, text: &[u8]) -> Result<(), Error> {
        let clean = self.console.clean(text);
        self.show(&clean)
    }

    fn show(&mut self, clean: &str) -> Result<(), Error> {
        if clean.is_empty() {
            return Ok(());
        }
        self.ends_line = clean.ends_with('\n');
        self.progress.console(clean);
        match &mut self.session {
            Some(session) => session.console(clean),
            None => {
                self.console.keep_early(clean);
                Ok(())
            }
        }
    }

    /// Has the receiver say what it has to say.
    fn answer(&mut self, receiver: &mut Receiver, outbox: &mut Outbox) {
        if let Some((next_block, cursor)) = self.resume_at.take() {
            receiver.resume_at(next_block, cursor);
        }
        if let Some(number) = self.first_request.take() {
            receiver.set_first_request(number);
        }
        let is_held_back = self.is_end_held_back(receiver);
        if let Some(session) = &mut self.session {
            let durable = session.durable();
            let end = session.end_blocks().filter(|_| is_held_back).unwrap_or(u32::MAX);
            receiver.set_durable(durable.min(end));
        }
        if let (Some(pull), Some(session), Mode::Answer) = (&mut self.pull, &self.session, self.mode) {
            pull.ask(receiver, session.page_shift());
        }
        let replies = receiver.take_replies();
        if self.mode == Mode::Answer {
            outbox.add(&replies);
        }
    }

    /// Whether the sender is not told yet that the end is stored: it would go, before it has heard that it is to stay.
    fn is_end_held_back(&mut self, receiver: &Receiver) -> bool {
        let stays = receiver.service_of_sender().map(|service| service.stays);
        let is_stored = self.session.as_mut().is_some_and(Session::is_stored);
        if !(is_stored && self.is_looked_at() && stays == Some(false)) {
            return false;
        }
        self.held_back_at.get_or_insert_with(Instant::now).elapsed() < END_HELD_BACK
    }

    /// Whether somebody may look at the session, and has not let the machine go. At a header alone there is nothing to
    /// look at.
    fn is_looked_at(&self) -> bool {
        let has_blocks = self.session.as_ref().is_some_and(Session::has_blocks);
        let live = self.pull.as_ref().map(Pull::live);
        has_blocks && live.is_some_and(|live| live.is_mounted() && !live.is_released())
    }

    /// Tells those who look at it how it goes.
    fn say(&mut self, receiver: &Receiver) {
        let (Some(pull), Some(session)) = (&self.pull, &self.session) else { return };
        let Received { pass, pages, kept_pages, only_asked, .. } = session.received();
        let service = receiver.service_of_sender();
        if let Some(mount) = &self.options.mount
            && pull.live().is_described()
            && !std::mem::replace(&mut self.told_of_mount, true)
        {
            self.progress.is_mounted(&mount.directory);
            if service.is_none() || self.mode == Mode::ListenOnly {
                self.progress
                    .warn("the machine cannot be asked for pages: they are there once their turn has come");
            }
        }
        pull.live().say(|said| {
            said.heard_at = Some(self.heard_at);
            said.pass = pass_name(pass).into_owned();
            (said.pages, said.kept_pages, said.only_asked) = (pages, kept_pages, only_asked);
            said.serves = Some(service.is_some() && self.mode == Mode::Answer);
            said.stays = service.is_some_and(|service| service.stays);
        });
    }

    fn tick(&mut self, receiver: &Receiver) {
        let frames = receiver.stats().frames;
        if frames != self.frames {
            self.frames = frames;
            self.heard_at = Instant::now();
        }
        if let Some(session) = &self.session {
            self.progress.show(session.received());
            self.say(receiver);
        }
    }

    /// `stays`: the sender is there for whoever looks at it.
    fn is_over(&mut self, stays: bool) -> Option<Reason> {
        let is_looked_at = self.is_looked_at();
        let is_released = self.pull.as_ref().is_some_and(|pull| pull.live().is_released());
        let is_given_up =
            self.pull.as_ref().is_some_and(|pull| pull.is_on_demand() && !pull.live().is_mounted());
        let session = self.session.as_mut()?;
        let silence = self.heard_at.elapsed();
        if self.another_session {
            return Some(Reason::AnotherSession);
        }
        if session.is_absurd() {
            return Some(Reason::Absurd);
        }
        if is_looked_at && stays {
            return None;
        }
        if is_given_up && !is_released {
            return Some(Reason::Stopped);
        }
        let end_reason = |session: &Session| match session.end_reason() {
            Reason::BudgetSpent if is_released => Reason::Released,
            reason => reason,
        };
        if self.mode == Mode::ListenOnly && session.has_ended() {
            let reason = end_reason(session);
            if reason != Reason::EndWithGaps {
                return Some(reason);
            }
        }
        if self.mode == Mode::Answer && session.is_stored() {
            let stored_at = *self.stored_at.get_or_insert_with(Instant::now);
            let is_over = self.is_closed
                || silence.min(stored_at.elapsed()) >= SENDER_GONE
                || stored_at.elapsed() >= STORED_LINGER;
            return is_over.then(|| end_reason(session));
        }
        self.stored_at = None;
        let end_linger = if self.mode == Mode::Answer { ANSWERED_END_LINGER } else { END_LINGER };
        if session.has_ended() && silence >= end_linger {
            Some(end_reason(session))
        } else if silence >= self.options.timeout && !is_looked_at {
            Some(Reason::Silence)
        } else {
            None
        }
    }

    fn line_changed(&mut self) {
        self.is_line_new = true;
        self.another_session = false;
        self.resume_at = None;
        self.is_closed = false;
        self.stored_at = None;
        self.frames = 0;
        self.heard_at = Instant::now();
    }

    fn warn_of_noise(&mut self) {
        if !std::mem::replace(&mut self.warned, true) {
            self.progress.warn("nothing but noise so far: is it the right speed?");
        }
    }

    /// The rest of the console's text; the session, and what has shown its progress.
    fn finish(mut self) -> Option<(Session, Progress)> {
        let mut rest = self.console.flush();
        if !self.ends_line {
            rest.push('\n');
        }
        let _ = self.show(&rest);
        if let Some(pull) = &self.pull {
            pull.live().end();
        }
        Some((self.session?, self.progress))
    }
}
