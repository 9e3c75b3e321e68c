//! What a kernel leaves behind for its dump, and the formats a dump is kept in.
//!
//! Only bytes in, bytes out: nothing here reads a file or touches memory, so the bare-metal payload, the host tools
//! and the fuzzer use the same code. All input is hostile: lengths are checked, loops and allocations bounded.
//!
//! # Terms
//! - **elfcorehdr**: the ELF header that kexec prepares for the capture kernel: RAM ranges and where the notes are.
//! - **crash notes**: one buffer per possible CPU with its registers (`NT_PRSTATUS`), and one with VMCOREINFO.
//! - **VMCOREINFO**: a text of the kernel about itself: symbols, sizes, offsets, numbers.
//! - **vmcore**: the file a dump becomes, here as an ELF core or in makedumpfile's kdump-compressed format; either
//!   may be **flattened**, that is cut in records that can be written without seeking.
//!
//! # Flow
//! Of a crash: [`elfcorehdr`] (from crashed memory) ─▶ segments for the memory map, and [`notes`] ─▶ [`prstatus`]
//! registers, [`vmcoreinfo`].
//!
//! Of a dump: [`kdump`] or [`elfcore`] headers, written and read; either through [`flattened`] records.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod elfcore;
pub mod elfcorehdr;
pub mod flattened;
pub mod headers;
pub mod kdump;
pub mod le;
pub mod notes;
pub mod prstatus;
mod table;
pub mod vmcoreinfo;
