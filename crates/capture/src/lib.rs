//! The capture pipeline: from an elfcorehdr to frames on a link.
//!
//! It does not know where memory comes from and what the link is: in the payload they are the crashed machine and a
//! UART, in tests whatever the test needs.
//!
//! # Terms
//! - **[`Crash`]**: what the crashed kernel left for its dump.
//! - **Pass**: one walk over the machine, with a purpose; passes follow one another from the most telling to the rest.
//! - **[`Link`]**, **[`Clock`]**: what the pipeline needs of the machine it runs on.
//!
//! # Flow
//! [`Crash::read`] ─▶ [`send`]: pass ─▶ read a page ─▶ record ─▶ block ─▶ `wire::Sender` ─▶ [`Link`].
//! Between two pages, and while a block waits for its turn, requests of the receiver are answered the same way.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::cast_possible_truncation, reason = "test data"))]

extern crate alloc;

mod answer;
mod block;
pub mod compress;
pub mod config;
mod crash;
mod dump;
mod early;
mod link;
mod output;
mod passes;
mod pump;
mod ram;
mod regions;
mod runs;
mod uts;

pub use answer::{NOBODY_FOR, Serve};
pub use crash::{Crash, Fault};
pub use dump::{Budget, HEAP_BESIDE_ENCODER_BYTES, Options, SendError, send};
pub use link::{Clock, Link};
pub use pump::{LinkStalled, Unanswered};
