//! What a kernel leaves behind for its dump, and the formats a dump is kept in.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod elfcorehdr;
