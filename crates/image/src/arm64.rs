//! Image: what arm64's loaders take (Linux Documentation/arch/arm64/booting.rst), around an image that is packed.
//!
//! `kexec -p` puts the file `text_offset` bytes into the reservation and enters its first byte, with the MMU off and
//! x0 = device tree. Before that its purgatory hashes the file, without caches; so the file is small. It has the header, an unpacker, and what
//! that unpacks into the memory in front, where stack and heap will be, too: the heap's end is where the file was.

use alloc::vec::Vec;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::FlatImage;
use crate::head::{HeaderError, with_header};

/// Bytes at the start of the unpacker that are left to the header; it is entered behind them.
pub const HEADER_BYTES: usize = size_of::<Header>();

const MAGIC: [u8; 4] = *b"ARM\x64";
/// Little endian, pages of 4 KiB, and may be anywhere in memory.
const FLAGS: u64 = 0b1010;
/// `b` over the header's 16 words.
const BRANCH: u32 = 0x1400_0010;
/// Pages of the largest size that a kernel has: it loads the file on one.
const LARGEST_PAGE_BYTES: u64 = 64 * 1024;

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

/// The Image of `image`, of which `packed` is `image.bytes` in the form that `unpacker` unpacks: code that runs anywhere, from
/// [`HEADER_BYTES`] zeros on. It finds `packed` behind itself up to [`Header::image_size`], unpacks [`Header::text_offset`] bytes in front of
/// the file, and enters the first byte of that.
///
/// # Errors
/// [`HeaderError`], if there is no room for the header, or the image is not entered at its first byte.
pub fn build(image: &FlatImage, unpacker: &[u8], packed: &[u8]) -> Result<Vec<u8>, HeaderError> {
    if image.entry != 0 {
        return Err(HeaderError::NotFirst(image.entry));
    }
    let file = [unpacker, packed].concat();
    let file_bytes = file.len() as u64;
    // What is unpacked must not reach the file; stack and heap may, by then.
    let front_bytes = image.memory_bytes.saturating_sub(file_bytes).max(image.bytes.len() as u64);
    let header = Header {
        code0: BRANCH.into(),
        text_offset: front_bytes.next_multiple_of(LARGEST_PAGE_BYTES).into(),
        image_size: file_bytes.into(),
        flags: FLAGS.into(),
        magic: MAGIC,
        ..Header::new_zeroed()
    };
    with_header(file, header.as_bytes())
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

    const UNPACKER: [u8; 72] = {
        let mut unpacker = [0x5a; 72];
        let (header, _) = unpacker.split_at_mut(HEADER_BYTES);
        header.copy_from_slice(&[0; HEADER_BYTES]);
        unpacker
    };

    /// An image of 1 MiB, of which 0x206 bytes are not zero.
    fn image() -> FlatImage {
        FlatImage::new(vec![0x77; 0x206], 0x10_0000, 0)
    }

    #[test]
    fn the_header_is_these_bytes_and_the_rest_follows_it() {
        let file = build(&image(), &UNPACKER, &[0x99; 3]).unwrap();
        // b 0x40: 0x10 words.
        let mut expected = vec![0x10, 0, 0, 0x14, 0, 0, 0, 0];
        expected.extend([0, 0, 0x10, 0, 0, 0, 0, 0]);
        expected.extend([75, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([0x0a, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([0; 24]);
        expected.extend(*b"ARMd\0\0\0\0");
        expected.extend([0x5a; 8]);
        expected.extend([0x99; 3]);
        assert_eq!(file, expected);
    }

    #[test]
    fn the_memory_ends_where_the_file_does_or_less_than_a_page_in_front_of_that() {
        let memory_of = |memory_bytes, packed_bytes| {
            let image = FlatImage { memory_bytes, ..image() };
            let header = parse(&build(&image, &UNPACKER, &vec![0x99; packed_bytes]).unwrap()).unwrap();
            (header.text_offset.get(), header.text_offset.get() + header.image_size.get())
        };
        assert_eq!(memory_of(0x10_0000, 0x2_0000 - 72), (0xe_0000, 0x10_0000));
        assert_eq!(memory_of(0x10_0001, 0x2_0000 - 72), (0xf_0000, 0x11_0000));
    }

    #[test]
    fn what_is_unpacked_does_not_reach_the_file_even_if_the_image_has_nothing_else() {
        let full = FlatImage::new(vec![0x77; 0x1_0001], 0x1_0001, 0);
        let header = parse(&build(&full, &UNPACKER, &[0x99; 0x8000]).unwrap()).unwrap();
        assert_eq!(header.text_offset.get(), 0x2_0000);
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
    fn an_unpacker_without_room_for_the_header_is_refused() {
        let mut occupied = UNPACKER;
        occupied[8] = 1;
        let refused = Err(HeaderError::Occupied { header_bytes: 64 });
        assert_eq!(build(&image(), &occupied, &[]), refused);
        assert_eq!(build(&image(), &UNPACKER[..63], &[]), refused);
    }

    #[test]
    fn an_image_that_is_not_entered_at_its_first_byte_is_refused() {
        let image = FlatImage { entry: 4, ..image() };
        assert_eq!(build(&image, &UNPACKER, &[]), Err(HeaderError::NotFirst(4)));
    }

    #[test]
    fn a_cut_or_foreign_file_is_refused() {
        let file = build(&image(), &UNPACKER, &[]).unwrap();
        for length in 0..64 {
            assert_eq!(parse(&file[..length]), Err(HeaderError::Short { actual: length, wanted: 64 }));
        }
        assert_eq!(parse(&[0; 64]), Err(HeaderError::Missing("arm64 Image")));
    }
}
