//! From Ethernet frames to a link: IP by smoltcp over any [`Card`].

mod card;
mod choice;
mod tcp;
#[cfg(test)]
mod tests;

pub use card::{Card, MAX_FRAME_BYTES};
pub use choice::{NoCard, Seen, choose};
pub use tcp::{NetError, TcpLink};
