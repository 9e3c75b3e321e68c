//! rcapture's wire format, specified in docs/wire-format.md. Everything here is free of I/O and of clocks.
//!
//! # Terms
//! - **[`Record`]**: one statement about the crashed machine: a page, pages of one word, a hole, a part of the notes.
//! - **[`Block`]**: records compressed together, decompressible alone, between two [`Cursor`]s.
//! - **[`Fragment`]**: a piece of an encoded block; carries the block's CRC as its *generation*.
//! - **[`Frame`]**: what the line carries: a fragment, a session header or an end, with a CRC of its own.
//! - **Session**: one dump of one crash, known by its [`SessionId`]. **Stream**: an independent row of blocks in it.
//!
//! # Flow
//! [`Record::encode`] ─▶ block ─▶ [`Sender`] ─▶ line ─▶ [`Receiver`] ─▶ [`Block::decode`] ─▶ [`Records`];
//! and back: [`Receiver::take_replies`] ─▶ line ─▶ [`Sender::receive`].
//!
//! A receiver may ask for pages before their turn ([`Receiver::request`]): a block of stream [`ANSWERS`] answers.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::cast_possible_truncation, reason = "test data"))]

extern crate alloc;

mod answers;
mod asked;
mod block;
mod bytes;
mod frame;
pub mod line;
mod loss;
mod pass;
mod pieces;
mod receiver;
mod record;
mod reply;
mod request;
mod sender;
mod session;
mod window;

pub use block::{
    Block, BlockError, BlockHeader, Cursor, HEADER_BYTES, MAX_ENCODED_BYTES, MAX_RAW_BYTES, generation,
};
pub use frame::{
    Body, Fragment, Frame, FrameError, MAGIC, MAX_FRAGMENT_BYTES, MAX_FRAME_BYTES, SessionId, VERSION,
};
pub use pass::Pass;
pub use receiver::{Event, LineStats, Receiver};
pub use record::{Located, MAX_META_BYTES, MAX_META_TOTAL, MetaKind, Record, RecordError, Records, digest};
pub use reply::{ACK_HISTORY, Reply};
pub use request::{ANSWERS, Course, MAX_REQUEST_BYTES, MAX_REQUESTS, Request, Service, Urgency};
pub use sender::Sender;
pub use session::{Run, SessionEnd, SessionHeader, UTSNAME_BYTES, uts_field};
