//! `struct page_desc`: where a page's data is.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::status;

/// Bytes of `struct page_desc`, on every architecture.
pub const PAGE_DESCRIPTOR_BYTES: usize = 24;

/// The structure as it is in the file.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Raw {
    offset: U64,
    size: U32,
    flags: U32,
    page_flags: U64,
}

/// `struct page_desc`, the format's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageDescriptor {
    /// Where the data is in the file; 0: the page is lost (of an incomplete dump).
    pub offset: u64,
    /// Bytes of data in the file.
    pub size: u32,
    /// How they are compressed: one of the compressions of [`status`], or 0.
    pub flags: u32,
    /// Not used.
    pub page_flags: u64,
}

impl PageDescriptor {
    /// Of a page that should be in the dump and is not.
    pub const LOST: Self = Self { offset: 0, size: 0, flags: 0, page_flags: 0 };

    /// Whether the page is not in the dump.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.offset == 0
    }

    /// Whether the descriptor can be true: raw data has exactly a page's bytes, compressed data less than that, by one
    /// compression.
    #[must_use]
    pub fn is_plausible(&self, block_bytes: u32) -> bool {
        const COMPRESSIONS: u32 = status::ZLIB | status::LZO | status::SNAPPY | status::ZSTD;
        match self.flags & COMPRESSIONS {
            0 => self.is_lost() || self.size == block_bytes,
            one if one.is_power_of_two() => self.size > 0 && self.size <= block_bytes,
            _ => false,
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; PAGE_DESCRIPTOR_BYTES] {
        zerocopy::transmute!(Raw {
            offset: self.offset.into(),
            size: self.size.into(),
            flags: self.flags.into(),
            page_flags: self.page_flags.into(),
        })
    }

    /// Reads one.
    #[must_use]
    pub fn parse(bytes: &[u8; PAGE_DESCRIPTOR_BYTES]) -> Self {
        let raw: Raw = zerocopy::transmute!(*bytes);
        Self {
            offset: raw.offset.get(),
            size: raw.size.get(),
            flags: raw.flags.get(),
            page_flags: raw.page_flags.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_these_bytes() {
        let descriptor = PageDescriptor { offset: 0x12345, size: 0x400, flags: status::ZSTD, page_flags: 7 };
        let bytes = *b"\x45\x23\x01\0\0\0\0\0\0\x04\0\0\x20\0\0\0\x07\0\0\0\0\0\0\0";
        assert_eq!(descriptor.encode(), bytes);
        assert_eq!(PageDescriptor::parse(&bytes), descriptor);
    }

    #[test]
    fn only_a_size_that_fits_the_compression_is_plausible() {
        let plausible =
            |offset, size, flags| PageDescriptor { offset, size, flags, page_flags: 0 }.is_plausible(4096);
        assert!(plausible(0x1000, 4096, 0));
        assert!(plausible(0x1000, 100, status::ZLIB));
        assert!(PageDescriptor::LOST.is_plausible(4096));
        assert!(!plausible(0x1000, 100, 0));
        assert!(!plausible(0x1000, 0, status::LZO));
        assert!(!plausible(0x1000, 4097, status::LZO));
        assert!(!plausible(0x1000, 100, status::ZLIB | status::LZO));
    }
}
