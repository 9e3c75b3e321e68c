//! What the headers have in common that lie inside of the image: arm's and arm64's loaders enter the first byte of what
//! they load, and so the first word is a branch behind the header.

use alloc::vec::Vec;

use crate::FlatImage;

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
    /// The image has something where the header goes.
    #[error("the image's first {header_bytes:#x} bytes are the header's: leave them zero")]
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

/// How far an instruction of the architecture branches: encoded from the distance in words.
pub(crate) fn branch_words(image: &FlatImage, header_bytes: usize) -> Result<u32, HeaderError> {
    // Both architectures branch 32 MiB at least.
    const MAX_WORDS: u32 = 1 << 23;
    let wrong = HeaderError::Entry { entry: image.entry, header_bytes };
    let is_good = image.entry.is_multiple_of(4) && image.entry >= header_bytes as u64;
    let words = u32::try_from(image.entry / 4).ok().filter(|words| is_good && *words < MAX_WORDS);
    words.ok_or(wrong)
}

/// The image with `header` over its first bytes.
pub(crate) fn with_header(image: &FlatImage, header: &[u8]) -> Result<Vec<u8>, HeaderError> {
    let header_bytes = header.len();
    let mut file = image.padded(4);
    let occupied = HeaderError::Occupied { header_bytes };
    let room = file.get_mut(..header_bytes).filter(|room| room.iter().all(|&byte| byte == 0));
    room.ok_or(occupied)?.copy_from_slice(header);
    Ok(file)
}

/// An image of 0x206 bytes that is entered at 0x100, for tests.
#[cfg(test)]
pub(crate) fn image_with_room(header_bytes: usize) -> FlatImage {
    let mut bytes = alloc::vec![0x5a; 0x206];
    bytes[..header_bytes].fill(0);
    FlatImage::new(bytes, 0x20_1000, 0x100)
}
