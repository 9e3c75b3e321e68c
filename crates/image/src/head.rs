//! What the headers have in common that lie inside of the file: arm's and arm64's loaders enter the first byte of what
//! they load, and so the first word is a branch behind the header.

use alloc::vec::Vec;

/// Why a file cannot be built, or is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The image is entered where the header is, or between two instructions, or too far away for a branch.
    #[error("entry point at {entry:#x}: wanted a multiple of 4 behind the header's {header_bytes:#x} bytes")]
    Entry {
        /// Where it is entered.
        entry: u64,
        /// Bytes of the header.
        header_bytes: usize,
    },
    /// The image is entered elsewhere than the unpacker does.
    #[error("entry point at {0:#x}: the unpacker enters the image's first byte")]
    NotFirst(u64),
    /// The file has something where the header goes.
    #[error("the first {header_bytes:#x} bytes are the header's: leave them zero")]
    Occupied {
        /// Bytes of the header.
        header_bytes: usize,
    },
    /// The image needs more memory than the header can say.
    #[error("the image needs {0:#x} bytes: more than its header can hold")]
    TooLarge(u64),
    /// The file is shorter than its own header says.
    #[error("{actual} bytes, but {wanted} are needed: the file is cut short")]
    Short {
        /// The file's size in bytes.
        actual: usize,
        /// What the header asks for.
        wanted: usize,
    },
    /// No header.
    #[error("no {0} header")]
    Missing(&'static str),
}

/// `file` with `header` over its first bytes, which are zero.
pub(crate) fn with_header(mut file: Vec<u8>, header: &[u8]) -> Result<Vec<u8>, HeaderError> {
    let header_bytes = header.len();
    let occupied = HeaderError::Occupied { header_bytes };
    let room = file.get_mut(..header_bytes).filter(|room| room.iter().all(|&byte| byte == 0));
    room.ok_or(occupied)?.copy_from_slice(header);
    Ok(file)
}
