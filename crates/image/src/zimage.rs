//! zImage: what arm's loaders take (Linux arch/arm/boot/compressed/head.S and vmlinux.lds.S; kexec-tools
//! kexec/arch/arm/kexec-zImage-arm.c).
//!
//! `kexec -p` puts the file 32 KiB into the reservation and enters its first byte, in SVC mode, with the MMU off and
//! r2 = device tree. Of a real zImage it expects that it needs four times its size to unpack itself; a tag says what an
//! image needs instead.

use alloc::vec::Vec;

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::FlatImage;
use crate::head::{HeaderError, with_header};

/// Bytes at the start of the image that are left to the header; it is entered behind them.
pub const HEADER_BYTES: usize = size_of::<Header>();

const MAGIC: u32 = 0x016f_2818;
const LITTLE_ENDIAN: u32 = 0x0403_0201;
/// There is a table of tags.
const TABLE_MAGIC: u32 = 0x4545_4545;
/// `KRNL_SIZE`: what the kernel needs in memory.
const TAG_KRNL_SIZE: u32 = 0x5a53_4c4b;
/// Its length in words: two that every tag has, and two of its own.
const TAG_KRNL_SIZE_WORDS: u32 = 4;
/// Tags looked at.
const MAX_TAGS: usize = 16;

/// `b`, always; the distance is counted from the second instruction behind it.
const BRANCH: u32 = 0xea00_0000;
const BRANCH_FROM_WORDS: u32 = 2;

/// The header and, behind it, its table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    /// 0x00: entered here.
    branch: U32,
    unused: [U32; 8],
    /// 0x24: [`MAGIC`].
    magic: U32,
    /// 0x28: where the image is linked; 0 for one that runs anywhere.
    start: U32,
    /// 0x2c: where it ends.
    end: U32,
    /// 0x30: [`LITTLE_ENDIAN`].
    endian: U32,
    /// 0x34: [`TABLE_MAGIC`].
    table_magic: U32,
    /// 0x38: offset of the first tag.
    table: U32,
    padding: U32,
    /// 0x40: length in words, [`TAG_KRNL_SIZE`], the offset of a word, and bytes.
    tag_words: U32,
    tag: U32,
    edata_at: U32,
    bss_bytes: U32,
    /// 0x50: no further tag.
    end_of_table: U32,
    /// 0x54: bytes of initialised data: what `edata_at` leads to.
    edata_bytes: U32,
}

/// Where [`Header::tag_words`] and [`Header::edata_bytes`] are.
const TABLE_AT: u32 = 0x40;
const EDATA_AT: u32 = 0x54;
const _: () = assert!(HEADER_BYTES == EDATA_AT as usize + 4);

/// The zImage of `image`, whose first [`HEADER_BYTES`] are zero.
///
/// # Errors
/// [`HeaderError`], if there is no room for the header, or the image is too large for it.
pub fn build(image: &FlatImage) -> Result<Vec<u8>, HeaderError> {
    let too_large = |_| HeaderError::TooLarge(image.memory_bytes);
    let file_bytes = u32::try_from(image.bytes.len().next_multiple_of(4)).map_err(too_large)?;
    let memory_bytes = u32::try_from(image.memory_bytes).map_err(too_large)?;
    let words = branch_words(image)?;
    let header = Header {
        branch: (BRANCH | words.saturating_sub(BRANCH_FROM_WORDS)).into(),
        magic: MAGIC.into(),
        end: file_bytes.into(),
        endian: LITTLE_ENDIAN.into(),
        table_magic: TABLE_MAGIC.into(),
        table: TABLE_AT.into(),
        tag_words: TAG_KRNL_SIZE_WORDS.into(),
        tag: TAG_KRNL_SIZE.into(),
        edata_at: EDATA_AT.into(),
        bss_bytes: memory_bytes.saturating_sub(file_bytes).into(),
        edata_bytes: file_bytes.into(),
        ..Header::new_zeroed()
    };
    with_header(image.padded(4), header.as_bytes())
}

/// How far [`BRANCH`] goes, in words.
fn branch_words(image: &FlatImage) -> Result<u32, HeaderError> {
    // 32 MiB.
    const MAX_WORDS: u32 = 1 << 23;
    let wrong = HeaderError::Entry { entry: image.entry, header_bytes: HEADER_BYTES };
    let is_good = image.entry.is_multiple_of(4) && image.entry >= HEADER_BYTES as u64;
    let words = u32::try_from(image.entry / 4).ok().filter(|words| is_good && *words < MAX_WORDS);
    words.ok_or(wrong)
}

/// What a zImage says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZImage {
    /// Bytes of the file that are the image.
    pub image_bytes: u32,
    /// What the kernel needs in memory, if the file tells.
    pub size: Option<KernelSize>,
}

/// The tag `KRNL_SIZE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelSize {
    /// Bytes of the (unpacked) kernel up to the end of its data.
    pub edata_bytes: u32,
    /// Bytes that begin as zero, behind them.
    pub bss_bytes: u32,
}

/// Reads the header of `file`.
///
/// # Errors
/// [`HeaderError`], if `file` is not a whole zImage.
pub fn parse(file: &[u8]) -> Result<ZImage, HeaderError> {
    let word = |offset: usize| {
        let bytes = file.get(offset..).and_then(|rest| rest.first_chunk());
        bytes
            .copied()
            .map(u32::from_le_bytes)
            .ok_or(HeaderError::Short { actual: file.len(), wanted: offset + 4 })
    };
    if word(0x24)? != MAGIC {
        return Err(HeaderError::Missing("zImage"));
    }
    let image_bytes = word(0x2c)?.wrapping_sub(word(0x28)?);
    let wanted = usize::try_from(image_bytes).unwrap_or(usize::MAX);
    if file.len() < wanted {
        return Err(HeaderError::Short { actual: file.len(), wanted });
    }
    let size = if word(0x34).is_ok_and(|magic| magic == TABLE_MAGIC) { kernel_size(&word) } else { None };
    Ok(ZImage { image_bytes, size })
}

/// Looks for the tag, word by `word`.
fn kernel_size(word: &dyn Fn(usize) -> Result<u32, HeaderError>) -> Option<KernelSize> {
    let at = |offset: u32| word(usize::try_from(offset).ok()?).ok();
    let mut tag = at(0x38)?;
    for _ in 0..MAX_TAGS {
        let words = at(tag)?;
        if words >= TAG_KRNL_SIZE_WORDS && at(tag.checked_add(4)?)? == TAG_KRNL_SIZE {
            let edata_bytes = at(at(tag.checked_add(8)?)?)?;
            return Some(KernelSize { edata_bytes, bss_bytes: at(tag.checked_add(12)?)? });
        }
        tag = tag.checked_add(words.checked_mul(4).filter(|bytes| *bytes != 0)?)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    /// An image of 0x206 bytes that is entered at 0x100.
    fn image() -> FlatImage {
        let mut bytes = vec![0x5a; 0x206];
        bytes[..HEADER_BYTES].fill(0);
        FlatImage::new(bytes, 0x20_1000, 0x100)
    }

    #[test]
    fn the_header_has_the_bytes_that_kexec_looks_for() {
        let file = build(&image()).unwrap();
        let golden: [(usize, &[u8]); 10] = [
            // b 0x100: from 8 on, 0x3e words.
            (0x00, &[0x3e, 0, 0, 0xea]),
            (0x24, &[0x18, 0x28, 0x6f, 0x01]),
            (0x28, &[0, 0, 0, 0]),
            (0x2c, &[0x08, 0x02, 0, 0]),
            (0x30, &[1, 2, 3, 4]),
            (0x34, &[0x45, 0x45, 0x45, 0x45]),
            (0x38, &[0x40, 0, 0, 0]),
            (0x40, &[4, 0, 0, 0, 0x4b, 0x4c, 0x53, 0x5a, 0x54, 0, 0, 0]),
            (0x4c, &[0xf8, 0x0d, 0x20, 0, 0, 0, 0, 0]),
            (0x54, &[0x08, 0x02, 0, 0, 0x5a]),
        ];
        for (offset, bytes) in golden {
            assert_eq!(&file[offset..offset + bytes.len()], bytes, "at {offset:#x}");
        }
        assert_eq!(file.len(), 0x208);
        assert_eq!(file[HEADER_BYTES..0x206], image().bytes[HEADER_BYTES..]);
    }

    #[test]
    fn what_was_built_is_parsed_again() {
        let size = KernelSize { edata_bytes: 0x208, bss_bytes: 0x20_1000 - 0x208 };
        let file = build(&image()).unwrap();
        assert_eq!(parse(&file), Ok(ZImage { image_bytes: 0x208, size: Some(size) }));
        let mut without_table = file.clone();
        without_table[0x34] = 0;
        assert_eq!(parse(&without_table), Ok(ZImage { image_bytes: 0x208, size: None }));
    }

    #[test]
    fn the_header_of_a_stock_kernel_is_understood() {
        // Debian's 6.1.0-50-armmp: its header from 0x24 on, its table, and the word that the tag leads to.
        let mut file = vec![0; 0x53_2200];
        let parts: [(usize, &[u32]); 3] = [
            (0x24, &[0x016f_2818, 0, 0x53_2200, 0x0403_0201, 0x4545_4545, 0xd4f0, 0x40]),
            (0xd4f0, &[6, 0x5a53_4c4b, 0x53_1871, 0x5_e4d4, 0x20_8000, 0x1_0000, 0]),
            (0x53_1871, &[0x13a_10b4]),
        ];
        for (offset, words) in parts {
            for (place, word) in file[offset..].chunks_exact_mut(4).zip(words) {
                place.copy_from_slice(&word.to_le_bytes());
            }
        }
        let size = KernelSize { edata_bytes: 0x13a_10b4, bss_bytes: 0x5_e4d4 };
        assert_eq!(parse(&file), Ok(ZImage { image_bytes: 0x53_2200, size: Some(size) }));
    }

    #[test]
    fn tags_that_are_not_known_are_passed_over() {
        let mut file = build(&image()).unwrap();
        // A tag of another kind, then one that is longer than it was: Linux has added words to it.
        file[0x38..0x3c].copy_from_slice(&0x180_u32.to_le_bytes());
        let table = [3, 0x1234_5678, 0, 5, TAG_KRNL_SIZE, 0x1f0, 0x99, 0x8000, 0];
        for (place, word) in file[0x180..].chunks_exact_mut(4).zip(table) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        file[0x1f0..0x1f4].copy_from_slice(&0x77_u32.to_le_bytes());
        let size = parse(&file).unwrap().size;
        assert_eq!(size, Some(KernelSize { edata_bytes: 0x77, bss_bytes: 0x99 }));
        // A tag of no length would be followed by itself.
        file[0x180..0x184].copy_from_slice(&0_u32.to_le_bytes());
        assert_eq!(parse(&file).unwrap().size, None);
    }

    #[test]
    fn an_image_without_room_for_the_header_is_refused() {
        let mut occupied = image();
        occupied.bytes[HEADER_BYTES - 1] = 1;
        assert_eq!(build(&occupied), Err(HeaderError::Occupied { header_bytes: HEADER_BYTES }));
        let small = FlatImage::new(vec![0; 8], 8, 0x100);
        assert_eq!(build(&small), Err(HeaderError::Occupied { header_bytes: HEADER_BYTES }));
        for entry in [0, HEADER_BYTES as u64 - 4, 0x102, 1 << 40] {
            let image = FlatImage { entry, ..image() };
            assert_eq!(build(&image), Err(HeaderError::Entry { entry, header_bytes: HEADER_BYTES }));
        }
        let image = FlatImage { memory_bytes: 1 << 32, ..image() };
        assert_eq!(build(&image), Err(HeaderError::TooLarge(1 << 32)));
    }

    #[test]
    fn a_cut_or_foreign_file_is_refused() {
        let file = build(&image()).unwrap();
        for length in 0..file.len() {
            assert!(matches!(parse(&file[..length]), Err(HeaderError::Short { .. })), "{length} bytes");
        }
        assert_eq!(parse(&[0; 0x1000]), Err(HeaderError::Missing("zImage")));
    }

    proptest! {
        #[test]
        fn any_damage_is_read_without_harm(damage in prop::collection::vec((0x24_usize..0x208, any::<u8>()), 0..20)) {
            let mut file = build(&image()).unwrap();
            for (offset, byte) in damage {
                file[offset] = byte;
            }
            let _ = parse(&file);
        }
    }
}
