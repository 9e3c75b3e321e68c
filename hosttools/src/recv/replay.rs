//! A session out of bytes that are there already, for fuzzing.

use super::line::Mode;
use super::notice::Teller;
use super::progress::Progress;
use super::reception::{Reason, Reception};
use super::served::{Ending, finish};
use super::{Options, Outcome};
use crate::Error;

/// Receives what each of `connections` brought, one after the other, as [`listen`](super::listen()) does when its sender
/// connects again; what is answered is heard by nobody. `None`: no block came.
///
/// # Errors
/// [`Error`], if what came could not be written.
#[doc(hidden)]
pub fn replay(connections: &[&[u8]], options: &Options) -> Result<Option<Outcome>, Error> {
    let progress = Progress::among(Teller::silent(), ([0, 0, 0, 0], 0).into());
    let io = Error::io("make a socket pair for", &options.directory);
    let mut reception = Reception::new(options, Mode::Answer, progress, None).map_err(io)?;
    for (number, bytes) in connections.iter().enumerate() {
        if number > 0 {
            reception.line_changed();
        }
        reception.push(bytes)?;
        reception.idle()?;
        reception.is_another_session();
        reception.answer(&mut Vec::new());
    }
    match finish(reception, Reason::Closed, options, || {})? {
        Ending::Dump(outcome, _) => Ok(Some(outcome)),
        Ending::Nothing | Ending::Suspended(_) => Ok(None),
    }
}
