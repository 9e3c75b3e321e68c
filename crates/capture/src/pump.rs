//! Keeps the line busy: moves bytes from the sender to the link whenever the link has room.

use core::time::Duration;

use wire::{Cursor, Sender};

use crate::dump::SendError;
use crate::{Clock, Link};

/// A link that takes no byte for so long is given up.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// A link may take bytes one by one and never refuse any, as the UARTs of Arm in QEMU do: after so long it is time to listen.
const TURN: Duration = Duration::from_millis(1);

/// The link took no byte for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the link took no byte for {} s", STALL_LIMIT.as_secs())]
pub struct LinkStalled;

/// Somebody who answers is awaited for so long, where one is needed.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Nobody answered for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody answered for {} s: what does the receiver say?", ANSWER_WITHIN.as_secs())]
pub struct Unanswered;

/// Why work on the dump is left where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Interrupt {
    /// The receiver needs what begins at this cursor.
    Rewind(Cursor),
    /// The dump is to end where it is: it has cost what it may, or its receiver wants no more.
    Cut,
    /// The dump is over.
    Failed(SendError),
}

impl<E: Into<SendError>> From<E> for Interrupt {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Sender, link and clock. Whoever works for longer than half a millisecond calls [`Pump::poll`] in between.
pub(crate) struct Pump<'a, L, C> {
    pub(crate) sender: Sender,
    pub(crate) sent_bytes: u64,
    link: &'a mut L,
    clock: &'a C,
    moved_at: Duration,
    /// When somebody answered last, if that is needed.
    answered_at: Option<Duration>,
}

impl<'a, L: Link, C: Clock> Pump<'a, L, C> {
    pub(crate) fn new(sender: Sender, link: &'a mut L, clock: &'a C) -> Self {
        Self { sender, sent_bytes: 0, moved_at: clock.now(), answered_at: None, link, clock }
    }

    /// Nothing counts as sent that nobody has acknowledged.
    pub(crate) fn need_answers(&mut self) {
        self.sender.need_answers();
        self.answered_at = Some(self.clock.now());
    }

    /// Everything has been sent, and stored: who answers no more is not missed.
    pub(crate) const fn forgo_answers(&mut self) {
        self.answered_at = None;
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Takes replies, and writes what the link takes without waiting, or for a [`TURN`].
    pub(crate) fn poll(&mut self) -> Result<(), Interrupt> {
        let now = self.clock.now();
        let mut replies = [0; 64];
        loop {
            let count = self.link.read(&mut replies);
            let Some(heard @ [_, ..]) = replies.get(..count) else { break };
            self.sender.receive(heard, now);
        }
        if let Some(answered_at) = &mut self.answered_at {
            if self.sender.is_answered() {
                *answered_at = now;
            } else if now.saturating_sub(*answered_at) >= ANSWER_WITHIN {
                return Err(Unanswered.into());
            }
        }
        if let Some(cursor) = self.sender.take_rewind() {
            return Err(Interrupt::Rewind(cursor));
        }
        loop {
            let pending = self.sender.pending(now);
            if pending.is_empty() {
                self.moved_at = now;
                return Ok(());
            }
            let written = self.link.write(pending);
            if written == 0 {
                let is_stalled = now.saturating_sub(self.moved_at) >= STALL_LIMIT;
                return if is_stalled { Err(LinkStalled.into()) } else { Ok(()) };
            }
            self.sender.advance(written);
            self.sent_bytes += written as u64;
            self.moved_at = now;
            if self.clock.now().saturating_sub(now) >= TURN {
                return Ok(());
            }
        }
    }
}
