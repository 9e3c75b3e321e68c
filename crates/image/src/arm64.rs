//! Image: what arm64's loaders take (Linux Documentation/arch/arm64/booting.rst).
//!
//! `kexec -p` puts the file `text_offset` bytes into the reservation and enters its first byte, with the MMU off and
//! x0 = device tree.

use alloc::vec::Vec;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::FlatImage;
use crate::head::{HeaderError, branch_words, with_header};

/// Bytes at the start of the image that are left to the header; it is entered behind them.
pub const HEADER_BYTES: usize = size_of::<Header>();

const MAGIC: [u8; 4] = *b"ARM\x64";
/// Little endian, pages of 4 KiB, and may be anywhere in memory.
const FLAGS: u64 = 0b1010;
/// `b`; the distance is counted from itself.
const BRANCH: u32 = 0x1400_0000;

/// The header. Fields are named as in booting.rst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// 0: entered here.
    pub code0: U32,
    /// 4.
    pub code1: U32,
    /// 8: where the image wants to be, from a multiple of 2 MiB.
    pub text_offset: U64,
    /// 16: bytes that it needs in memory from there on.
    pub image_size: U64,
    /// 24: bit 0 big endian; bits 1 and 2 the page size, 1 = 4 KiB; bit 3 may be anywhere.
    pub flags: U64,
    /// 32.
    pub res2: U64,
    /// 40.
    pub res3: U64,
    /// 48.
    pub res4: U64,
    /// 56: "ARM\x64".
    pub magic: [u8; 4],
    /// 60: offset of a PE header; 0 = none.
    pub res5: U32,
}

const _: () = assert!(HEADER_BYTES == 64);

/// The Image of `image`, whose first [`HEADER_BYTES`] are zero.
///
/// # Errors
/// [`HeaderError`], if there is no room for the header.
pub fn build(image: &FlatImage) -> Result<Vec<u8>, HeaderError> {
    let header = Header {
        code0: (BRANCH | branch_words(image, HEADER_BYTES)?).into(),
        text_offset: image.front_bytes.into(),
        image_size: image.memory_bytes.into(),
        flags: FLAGS.into(),
        magic: MAGIC,
        ..Header::new_zeroed()
    };
    with_header(image, header.as_bytes())
}

/// Reads the header of `file`.
///
/// # Errors
/// [`HeaderError`], if `file` is none, or ends before its header.
pub fn parse(file: &[u8]) -> Result<Header, HeaderError> {
    let short = HeaderError::Short { actual: file.len(), wanted: HEADER_BYTES };
    let (header, _) = Header::read_from_prefix(file).map_err(|_| short)?;
    if header.magic != MAGIC {
        return Err(HeaderError::Missing("arm64 Image"));
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::head::image_with_room;

    #[test]
    fn the_header_is_these_bytes() {
        let file = build(&image_with_room(HEADER_BYTES)).unwrap();
        // b 0x100: 0x40 words.
        let mut expected = vec![0x40, 0, 0, 0x14, 0, 0, 0, 0];
        expected.extend([0; 8]);
        expected.extend([0, 0x10, 0x20, 0, 0, 0, 0, 0]);
        expected.extend([0x0a, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([0; 24]);
        expected.extend(*b"ARMd\0\0\0\0");
        assert_eq!(file[..64], expected);
        assert_eq!(file[64..0x206], image_with_room(HEADER_BYTES).bytes[64..]);
        assert_eq!(file.len(), 0x208);
    }

    #[test]
    fn what_was_built_is_parsed_again() {
        let image = FlatImage { front_bytes: 0x10_0000, ..image_with_room(HEADER_BYTES) };
        let header = parse(&build(&image).unwrap()).unwrap();
        assert_eq!((header.text_offset.get(), header.image_size.get()), (0x10_0000, 0x20_1000));
    }

    #[test]
    fn the_header_of_a_stock_kernel_is_understood() {
        // Debian's 6.1.0-50-cloud-arm64.
        let mut file = *b"MZ@\xfaS#N\x14\0\0\0\0\0\0\0\0\0\0\xaa\x01\0\0\0\0\x0a\0\0\0\0\0\0\0\
            \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0ARMd\x40\0\0\0";
        let header = parse(&file).unwrap();
        assert_eq!((header.text_offset.get(), header.image_size.get()), (0, 0x1aa_0000));
        assert_eq!((header.flags.get(), header.res5.get()), (FLAGS, 64));
        file[56] = 0;
        assert!(parse(&file).is_err());
    }

    #[test]
    fn an_image_without_room_for_the_header_is_refused() {
        let mut occupied = image_with_room(HEADER_BYTES);
        occupied.bytes[8] = 1;
        assert_eq!(build(&occupied), Err(HeaderError::Occupied { header_bytes: 64 }));
        for entry in [0, 60, 0x101] {
            let image = FlatImage { entry, ..image_with_room(HEADER_BYTES) };
            assert_eq!(build(&image), Err(HeaderError::Entry { entry, header_bytes: 64 }));
        }
    }

    #[test]
    fn a_cut_or_foreign_file_is_refused() {
        let file = build(&image_with_room(HEADER_BYTES)).unwrap();
        for length in 0..64 {
            assert_eq!(parse(&file[..length]), Err(HeaderError::Short { actual: length, wanted: 64 }));
        }
        assert_eq!(parse(&[0; 64]), Err(HeaderError::Missing("arm64 Image")));
    }
}
