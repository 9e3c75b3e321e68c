//! Keeps the line busy: moves bytes from the sender to the link whenever the link has room.

use core::time::Duration;

use wire::Sender;

use crate::{Clock, Link};

/// A link that takes no byte for so long is given up.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// The link took no byte for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the link took no byte for {} s", STALL_LIMIT.as_secs())]
pub struct LinkStalled;

/// Sender, link and clock. Whoever works for longer than half a millisecond calls [`Pump::poll`] in between.
pub(crate) struct Pump<'a, L, C> {
    pub(crate) sender: Sender,
    pub(crate) sent_bytes: u64,
    link: &'a mut L,
    clock: &'a C,
    moved_at: Duration,
}

impl<'a, L: Link, C: Clock> Pump<'a, L, C> {
    pub(crate) fn new(sender: Sender, link: &'a mut L, clock: &'a C) -> Self {
        Self { sender, sent_bytes: 0, moved_at: clock.now(), link, clock }
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Writes what the link takes without waiting.
    pub(crate) fn poll(&mut self) -> Result<(), LinkStalled> {
        // Nothing is expected from a receiver yet; what it may say must not pile up in the UART.
        while self.link.read(&mut [0; 16]) > 0 {}
        let now = self.clock.now();
        loop {
            let pending = self.sender.pending(now);
            if pending.is_empty() {
                self.moved_at = now;
                return Ok(());
            }
            let written = self.link.write(pending);
            if written == 0 {
                let stalled = now.saturating_sub(self.moved_at) >= STALL_LIMIT;
                return if stalled { Err(LinkStalled) } else { Ok(()) };
            }
            self.sender.advance(written);
            self.sent_bytes += written as u64;
            self.moved_at = now;
        }
    }

    /// Polls until the sender takes another block.
    pub(crate) fn wait_for_room(&mut self) -> Result<(), LinkStalled> {
        while !self.sender.has_room() {
            self.poll()?;
        }
        Ok(())
    }

    /// Polls until everything has been sent.
    pub(crate) fn drain(&mut self) -> Result<(), LinkStalled> {
        while !self.sender.is_finished() {
            self.poll()?;
        }
        Ok(())
    }
}
