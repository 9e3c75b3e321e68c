//! Little-endian numbers at an offset of a byte slice: `None` where the slice ends before.

/// The `N` bytes at `offset`.
#[inline]
#[must_use]
pub fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// The `u16` at `offset`.
#[inline]
#[must_use]
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    array_at(bytes, offset).map(u16::from_le_bytes)
}

/// The `u32` at `offset`.
#[inline]
#[must_use]
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    array_at(bytes, offset).map(u32::from_le_bytes)
}

/// The `u64` at `offset`.
#[inline]
#[must_use]
pub fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    array_at(bytes, offset).map(u64::from_le_bytes)
}

/// The kernel's `unsigned long` at `offset`: `long_bytes` is 4 or 8, anything else gives `None`.
#[inline]
#[must_use]
pub fn long_at(bytes: &[u8], offset: usize, long_bytes: usize) -> Option<u64> {
    match long_bytes {
        4 => u32_at(bytes, offset).map(u64::from),
        8 => u64_at(bytes, offset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_little_endian_and_end_with_the_slice() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(u16_at(&bytes, 1), Some(0x0302));
        assert_eq!(u32_at(&bytes, 5), Some(0x0908_0706));
        assert_eq!(u64_at(&bytes, 1), Some(0x0908_0706_0504_0302));
        assert_eq!((long_at(&bytes, 0, 4), long_at(&bytes, 0, 3)), (Some(0x0403_0201), None));
        assert_eq!((u16_at(&bytes, 8), u32_at(&bytes, 6), u64_at(&bytes, 2)), (None, None, None));
        assert_eq!(u16_at(&bytes, usize::MAX), None);
    }
}
