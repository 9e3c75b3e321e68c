//! Reads that wait until they can be answered.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fuser::{Errno, ReplyData, ReplyOpen};

use super::reader::has_gone;

/// How often waiting readers are looked after: is one gone, or has it waited for too long?
const TICK: Duration = Duration::from_millis(200);

/// Reads that may wait at the same time: each reader has one.
const MAX_WAITING: usize = 1024;

/// A read whose page does not come while others' do waits for so many times the time without any.
const PATIENCE: u32 = 6;

/// What a reader wants.
pub(super) enum Wish {
    /// To open `vmcore`, once its size is known.
    Open(ReplyOpen),
    /// To read so many bytes of it.
    Read { offset: u64, bytes: u32, reply: ReplyData },
}

impl Wish {
    pub(super) fn refuse(self, error: Errno) {
        match self {
            Self::Open(reply) => reply.error(error),
            Self::Read { reply, .. } => reply.error(error),
        }
    }
}

/// A wish on the desk.
pub(super) struct Request {
    pub(super) wish: Wish,
    /// The pages that were not here when it was looked at last; none before that.
    pub(super) missing: Vec<u64>,
    /// Nobody has looked at it yet.
    pub(super) is_new: bool,
    /// The reader's thread.
    pid: u32,
    since: Instant,
    /// What [`State::arrivals`] was when it was taken up last.
    seen: u64,
}

/// Where reads wait.
pub(crate) struct Desk {
    state: Mutex<State>,
    changed: Condvar,
    timeout: Duration,
}

struct State {
    /// To be taken up, oldest first.
    ready: VecDeque<Request>,
    /// Waiting for pages.
    parked: VecDeque<Request>,
    /// How often pages have come.
    arrivals: u64,
    /// When something came last that somebody had waited for.
    answered_at: Instant,
    looked_at: Instant,
    is_closed: bool,
}

impl Desk {
    /// A reader gets an error after `timeout` in which nothing came that any reader has waited for.
    pub(crate) fn new(timeout: Duration) -> Self {
        let now = Instant::now();
        let state = State {
            ready: VecDeque::new(),
            parked: VecDeque::new(),
            arrivals: 0,
            answered_at: now,
            looked_at: now,
            is_closed: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), timeout }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the wish of the thread `pid`.
    pub(super) fn take(&self, wish: Wish, pid: u32) {
        let mut state = self.state();
        if state.is_closed {
            return wish.refuse(Errno::EIO);
        }
        if state.ready.len() + state.parked.len() >= MAX_WAITING {
            return wish.refuse(Errno::EAGAIN);
        }
        let (since, seen) = (Instant::now(), state.arrivals);
        let request = Request { wish, missing: Vec::new(), is_new: true, pid, since, seen };
        state.ready.push_back(request);
        drop(state);
        self.changed.notify_one();
    }

    /// Puts a request back whose pages are not all here: until more have come.
    pub(super) fn park(&self, request: Request) {
        let mut state = self.state();
        if state.is_closed {
            request.wish.refuse(Errno::EIO);
        } else if request.seen != state.arrivals {
            // They came while it was looked at.
            state.ready.push_back(request);
        } else {
            state.parked.push_back(request);
        }
    }

    /// Pages have come, or will never come: whoever waits may be waiting for them.
    pub(crate) fn arrived(&self) {
        let mut state = self.state();
        state.arrivals += 1;
        let State { ready, parked, .. } = &mut *state;
        if parked.is_empty() {
            return;
        }
        ready.append(parked);
        drop(state);
        self.changed.notify_all();
    }

    /// So did `pages`, which were asked for.
    pub(crate) fn answered(&self, pages: &Range<u64>) {
        let mut state = self.state();
        // What was asked for ahead of a reader shows nobody that his page may still come.
        if state.all().any(|request| request.missing.iter().any(|page| pages.contains(page))) {
            state.answered_at = Instant::now();
        }
        drop(state);
        self.arrived();
    }

    /// The pages that each reader waits for, those who came first first.
    pub(crate) fn wanted(&self) -> Vec<Vec<u64>> {
        let state = self.state();
        let mut all: Vec<&Request> = state.all().collect();
        all.sort_by_key(|request| request.since);
        all.into_iter()
            .filter(|request| !request.missing.is_empty())
            .map(|request| request.missing.clone())
            .collect()
    }

    /// Readers that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.state().all().count()
    }

    /// Nothing more comes: readers that wait, and those to come, get an error, and workers are done.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let State { ready, parked, .. } = &mut *state;
        ready.drain(..).chain(parked.drain(..)).for_each(|request| request.wish.refuse(Errno::EIO));
        drop(state);
        self.changed.notify_all();
    }

    /// The next request to take up; waits for one. `None`: the desk is closed.
    pub(super) fn next(&self) -> Option<Request> {
        let mut state = self.state();
        loop {
            if state.is_closed {
                return None;
            }
            if state.looked_at.elapsed() >= TICK {
                state.look_after(self.timeout);
            }
            if let Some(mut request) = state.ready.pop_front() {
                request.seen = state.arrivals;
                return Some(request);
            }
            state = if state.parked.is_empty() {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }
}

impl State {
    fn all(&self) -> impl Iterator<Item = &Request> {
        self.ready.iter().chain(&self.parked)
    }

    /// Answers those that have waited for too long, and those who are gone.
    fn look_after(&mut self, timeout: Duration) {
        self.looked_at = Instant::now();
        for requests in [&mut self.ready, &mut self.parked] {
            for request in std::mem::take(requests) {
                let waited = request.since.elapsed();
                let is_late = waited.min(self.answered_at.elapsed()) >= timeout
                    || waited >= timeout.saturating_mul(PATIENCE);
                if is_late {
                    request.wish.refuse(Errno::EIO);
                } else if waited >= TICK && has_gone(request.pid) {
                    request.wish.refuse(Errno::EINTR);
                } else {
                    requests.push_back(request);
                }
            }
        }
    }
}
