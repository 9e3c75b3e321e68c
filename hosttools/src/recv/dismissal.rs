//! A sender that comes back when its dump is complete: its last replies got lost, and it would wait for them for long; or
//! it stays to be asked, and nobody here asks.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use wire::{Course, Cursor, Event, Receiver};

use super::READ_BYTES;
use super::greeting::Connection;
use super::outbox::Outbox;
use super::reception::random_id;
use super::wait::{Ready, wait};

/// A sender that has not understood by then comes again.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tells the sender at the other end of `connection`, until it closes it, that all its `blocks`, the last of which ended at
/// `cursor`, are stored, and lets it go. `stop` becomes readable when there is no more time for that.
pub(super) fn dismiss(
    connection: Connection,
    (blocks, cursor): (u32, Cursor),
    stop: &UnixStream,
) -> io::Result<()> {
    let Connection { mut line, heard, .. } = connection;
    let (mut receiver, mut outbox) = (Receiver::new(random_id()), Outbox::default());
    receiver.set_course(Course::Release);
    let (never_woken, _waker) = UnixStream::pair()?;
    let started = Instant::now();
    let mut buf = vec![0; READ_BYTES];
    let mut bytes = heard.as_slice();
    loop {
        let (mut has_begun, mut stored) = (false, 0);
        receiver.push(bytes, |event| match event {
            Event::Session(..) => has_begun = true,
            // It began anew, and is not believed to have sent what it has not.
            Event::Block { stream: 0, number, .. } => {
                stored = stored.max(number.saturating_add(1).min(blocks))
            }
            Event::End(_, end) if end.blocks == blocks => stored = blocks.saturating_add(1),
            _ => {}
        });
        if has_begun {
            receiver.resume_at(blocks, cursor);
            stored = blocks.saturating_add(1);
        }
        receiver.set_durable(stored);
        receiver.service(started.elapsed());
        outbox.add(&receiver.take_replies());
        outbox.flush(&mut line);
        bytes = &[];
        match wait(Some(&line), !outbox.is_empty(), stop, &never_woken)? {
            _ if started.elapsed() >= PATIENCE => return Ok(()),
            Ready::Stop => return Ok(()),
            Ready::Line => match line.read(&mut buf) {
                Ok(0) => return Ok(()),
                Ok(count) => bytes = buf.get(..count).unwrap_or_default(),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(error) => return Err(error),
            },
            Ready::Nothing | Ready::Other => {}
        }
    }
}
