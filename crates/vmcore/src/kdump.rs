//! makedumpfile's kdump-compressed format (diskdump, header version 6; makedumpfile diskdump_mod.h, crash diskdump.c).
//!
//! Everything is a C structure of the *dumped* machine, so its layout depends on the architecture ([`Abi`]); integers
//! are little endian on all of ours. In blocks of a page each:
//!
//! | block | what |
//! | --- | --- |
//! | 0 | [`DumpHeader`] (`struct disk_dump_header`) |
//! | 1, `sub_hdr_size` blocks | [`SubHeader`] (`struct kdump_sub_header`), then the notes, VMCOREINFO among them |
//! | `bitmap_blocks` blocks | first bitmap: frames that are RAM; second: frames this dump knows |
//! | at [`Layout::descriptors_offset`] | a [`PageDescriptor`] for each bit of the second bitmap, ascending |
//! | behind | the pages' data, compressed one by one |

mod abi;
mod bitmap;
mod header;
mod layout;
mod page_descriptor;
mod sub_header;

pub use abi::Abi;
pub use bitmap::{bitmap_bit, set_bitmap_bit};
pub use header::{DumpHeader, SIGNATURE, UTSNAME_BYTES, Utsname, VERSION, status};
pub use layout::Layout;
pub use page_descriptor::{PAGE_DESCRIPTOR_BYTES, PageDescriptor};
pub use sub_header::SubHeader;

/// Why bytes are not a kdump-compressed dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KdumpError {
    /// The signature is another.
    #[error("not a kdump-compressed dump")]
    BadSignature,
    /// The structures end before their time.
    #[error("the header is cut short at {0} bytes")]
    Truncated(usize),
    /// `header_version` is none that we know.
    #[error("kdump-compressed header version {0}: only 1 to 6 are known")]
    UnknownVersion(i32),
    /// `utsname.machine` is none that we know.
    #[error("the dumped machine's architecture is not supported")]
    UnknownMachine,
    /// `block_size` is no page size.
    #[error("block size {0} is not a page size")]
    BadBlockSize(i32),
    /// `sub_hdr_size` is negative or absurd.
    #[error("sub header of {0} blocks")]
    BadSubHeaderSize(i32),
    /// The bitmaps have too few bits for the page frames.
    #[error("{blocks} bitmap blocks are wrong for {max_mapnr} page frames")]
    BadBitmap {
        /// `bitmap_blocks`.
        blocks: u32,
        /// `max_mapnr`.
        max_mapnr: u64,
    },
}
