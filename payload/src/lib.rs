//! The part of the capture kernel that can be tested anywhere: what the boot loader and the firmware left, read through
//! [`memory::PhysMemory`], devices by their [registers](devices::Registers), and the network over any [`net::Card`]. The rest
//! is `main.rs`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod boot;
pub mod devices;
pub mod net;
pub mod page_tables;
