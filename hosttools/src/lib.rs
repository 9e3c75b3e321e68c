//! The host's side of rcapture: receives a crash dump from a line, and converts and inspects dumps.
//!
//! # Terms
//! - **Line**: what the crashed machine writes to: a serial port, a socket, a recording of either.
//! - **[`journal`]**: everything a session brought, on disk as it came.
//! - **[`dump::Dump`]**: a dump, whatever it is kept in: a journal, a recording, a vmcore of any format.
//! - **vmcore**: what `crash`, `drgn` and `gdb` open; written by [`mod@write`].
//!
//! # Flow
//! line ─▶ [`recv`] (`wire::Receiver` ─▶ [`journal`] + [`index`]) ─▶ [`dump`] ─▶ [`mod@write`] ─▶ vmcore
//!
//! file ─▶ [`dump::open`] ─▶ [`mod@write`] (convert), [`info`], [`log`], [`mod@mount`]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::cast_possible_truncation, reason = "test data"))]

pub mod dump;
mod error;
pub mod file;
pub mod index;
pub mod info;

pub mod journal;
pub mod log;
pub mod mount;

pub mod pipeline;
pub mod recv;
mod table;

pub mod utsname;
pub mod write;

pub use error::Error;
