//! Waiting for whatever happens next.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::line::Line;

/// How often the clock is looked at while the line is quiet.
pub(super) const TICK: Duration = Duration::from_millis(200);

/// What there is to do.
pub(super) enum Ready {
    Line,
    Stop,
    Nothing,
    /// The line takes replies again, or we were woken.
    Other,
}

/// Waits for `line`, for `stop`, or for being woken by way of `woken`, which is emptied; no longer than [`TICK`].
pub(super) fn wait(
    line: Option<&Line>,
    has_replies: bool,
    stop: &UnixStream,
    woken: &UnixStream,
) -> io::Result<Ready> {
    let of_line = if has_replies { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
    let mut fds = vec![PollFd::new(stop, PollFlags::IN), PollFd::new(woken, PollFlags::IN)];
    fds.extend(line.map(|line| PollFd::new(line, of_line)));
    let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
    match poll(&mut fds, Some(&tick)) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(Ready::Nothing),
        Err(error) => return Err(error.into()),
    }
    let mut happened = fds.iter().map(PollFd::revents);
    let mut next = || happened.next().unwrap_or(PollFlags::empty());
    let (of_stop, of_woken, of_line) = (next(), next(), next());
    if !of_woken.is_empty() {
        let mut bytes = [0; 64];
        let _ = (&mut &*woken).read(&mut bytes);
    }
    Ok(if !of_stop.is_empty() {
        Ready::Stop
    } else if of_line.intersects(PollFlags::OUT.complement()) {
        Ready::Line
    } else if of_line.is_empty() && of_woken.is_empty() {
        Ready::Nothing
    } else {
        Ready::Other
    })
}
