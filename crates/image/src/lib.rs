//! Boot images: the formats in which a boot loader takes a kernel, built from a linked ELF file and parsed again.
//!
//! # Terms
//! - **flat image**: the bytes of an ELF file as they lie in memory, from its lowest address on, without the part
//!   that is zero at start.
//! - **packed**: those bytes compressed, in a file that unpacks them itself.
//! - **memory bytes**: what the running image occupies, from its first byte to the end of bss, stack and heap.
//! - **bzImage**: the x86 boot protocol's file: a setup header in front of the protected-mode payload.
//! - **zImage**, **Image**: arm's and arm64's: the image itself, with a header in its first bytes.
//!
//! # Flow
//! linked ELF ─▶ [`flatten`] ─▶ [`FlatImage`] ─▶ [`bzimage::build`], [`zimage::build`] or, packed and with the unpacker that is in
//! a [`section`] of the ELF, [`arm64::build`] ─▶ what `kexec -p` loads.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod arm64;
pub mod bzimage;
mod flat;
mod head;
pub mod zimage;

pub use flat::{FlatImage, FlattenError, Machine, flatten, section};
pub use head::HeaderError;
