//! What a receiver has asked for and is not answered yet: when it is said, and said again.

use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::block::{BlockHeader, Cursor};
use crate::frame::SessionId;
use crate::request::{Course, MAX_REQUESTS, Request, Service, Urgency};

/// After so long what was not answered is said again: it may have been lost, or the answer.
const SAY_AGAIN: Duration = Duration::from_secs(1);

/// A sender says something each second. One that is silent for so long may be gone, and the line somebody else's.
const SENDER_SILENT: Duration = Duration::from_secs(3);

/// Requests and a course, for one sender.
#[derive(Default)]
pub(crate) struct Asked {
    /// Whose sender is asked; `None`: it is not known yet.
    session: Option<SessionId>,
    requests: BTreeMap<u32, Asking>,
    next_number: u32,
    course: Course,
    course_said: Option<Duration>,
    /// How often a request was said.
    sayings: u64,
    /// Frames at the last look, and when their number last changed.
    frames: u64,
    heard_at: Option<Duration>,
}

struct Asking {
    request: Request,
    /// When, and as the how-manieth; `None`: it is to be said at once.
    said: Option<(Duration, u64)>,
}

/// What is to be said.
pub(crate) enum Saying {
    Request(Request),
    Course(Course),
}

impl Asked {
    pub(crate) fn request(
        &mut self,
        first_pfn: u64,
        pages: u8,
        urgency: Urgency,
        page_shift: u8,
    ) -> Option<u32> {
        let number = self.next_number;
        let request = Request { number, urgency, first_pfn, pages };
        if self.requests.len() >= MAX_REQUESTS || !request.is_sound(page_shift) {
            return None;
        }
        self.next_number = number.wrapping_add(1);
        self.requests.insert(number, Asking { request, said: None });
        Some(number)
    }

    /// A request that was for later is for now.
    pub(crate) fn hurry(&mut self, number: u32) {
        if let Some(asking) = self.requests.get_mut(&number)
            && asking.request.urgency != Urgency::Now
        {
            asking.request.urgency = Urgency::Now;
            asking.said = None;
        }
    }

    pub(crate) fn forget(&mut self, number: u32) {
        self.requests.remove(&number);
    }

    pub(crate) fn unanswered(&self) -> usize {
        self.requests.len()
    }

    pub(crate) const fn set_first_number(&mut self, number: u32) {
        self.next_number = number;
    }

    pub(crate) fn set_course(&mut self, course: Course) {
        if self.course != course {
            (self.course, self.course_said) = (course, None);
        }
    }

    /// Everything is said again at once: the sender has forgotten it.
    pub(crate) fn say_again(&mut self) {
        self.course_said = None;
        self.requests.values_mut().for_each(|asking| asking.said = None);
    }

    /// Another line, on which nothing has been heard yet.
    pub(crate) fn line_changed(&mut self) {
        self.say_again();
        (self.frames, self.heard_at) = (0, None);
    }

    /// A header of this session came: of another one than before nothing is wanted yet.
    pub(crate) fn listen_to(&mut self, session: SessionId) {
        if self.session.replace(session).is_some_and(|before| before != session) {
            *self = Self { session: Some(session), next_number: self.next_number, ..Self::default() };
        }
    }

    /// A block of the stream of answers came.
    pub(crate) fn answered(&mut self, number: u32, encoded: &[u8]) {
        let is_answer = |asking: &Asking| {
            // What an earlier receiver asked for under this number may still be on the line.
            let frames = asking.request.pfns();
            let place = |position| Cursor { pass: 0, position };
            BlockHeader::of(encoded)
                .is_some_and(|header| (header.start, header.end) == (place(frames.start), place(frames.end)))
        };
        let Some(asking) = self.requests.remove(&number) else { return };
        if !is_answer(&asking) {
            self.requests.insert(number, asking);
            return;
        }
        // They are answered in the order in which they came: what was said before and is not answered got lost.
        for other in self.requests.values_mut().filter(|o| o.request.urgency == asking.request.urgency) {
            if other.said.map(|(_, order)| order) < asking.said.map(|(_, order)| order) {
                other.said = None;
            }
        }
    }

    /// Hands out what is to be said now to a sender that serves, and may be spoken to if `may_speak`.
    pub(crate) fn service(
        &mut self,
        now: Duration,
        frames: u64,
        told: Option<Service>,
        mut say: impl FnMut(Saying),
    ) {
        if self.frames != frames {
            (self.frames, self.heard_at) = (frames, Some(now));
        }
        let is_heard = self.heard_at.is_some_and(|at| now.saturating_sub(at) < SENDER_SILENT);
        let Some(service) = told.filter(|_| is_heard) else { return };
        let is_due = |said: Option<Duration>| said.is_none_or(|said| now.saturating_sub(said) >= SAY_AGAIN);
        if service.course != self.course && is_due(self.course_said) {
            self.course_said = Some(now);
            say(Saying::Course(self.course));
        }
        for urgency in [Urgency::Now, Urgency::Soon] {
            let of_urgency = self.requests.values_mut().filter(|a| a.request.urgency == urgency);
            for asking in of_urgency.filter(|asking| is_due(asking.said.map(|(at, _)| at))) {
                self.sayings += 1;
                asking.said = Some((now, self.sayings));
                say(Saying::Request(asking.request));
            }
        }
    }
}
