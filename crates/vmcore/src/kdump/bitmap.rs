//! The bitmaps: frame `pfn` is bit `pfn % 8`, counted from the lowest, of byte `pfn / 8`.

/// Whether frame `pfn` is set; frames past the end of `bitmap` are not.
#[must_use]
pub fn bitmap_bit(bitmap: &[u8], pfn: u64) -> bool {
    let byte = usize::try_from(pfn / 8).ok().and_then(|index| bitmap.get(index));
    byte.is_some_and(|byte| byte & mask(pfn) != 0)
}

/// Sets frame `pfn`. `false` if `bitmap` ends before it.
#[must_use]
pub fn set_bitmap_bit(bitmap: &mut [u8], pfn: u64) -> bool {
    let byte = usize::try_from(pfn / 8).ok().and_then(|index| bitmap.get_mut(index));
    byte.is_some_and(|byte| {
        *byte |= mask(pfn);
        true
    })
}

const fn mask(pfn: u64) -> u8 {
    1 << (pfn % 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_bits_from_the_lowest() {
        let mut bitmap = [0; 2];
        assert!(set_bitmap_bit(&mut bitmap, 0) && set_bitmap_bit(&mut bitmap, 11));
        assert_eq!(bitmap, [0b0000_0001, 0b0000_1000]);
        let set: alloc::vec::Vec<u64> = (0..16).filter(|&pfn| bitmap_bit(&bitmap, pfn)).collect();
        assert_eq!(set, [0, 11]);
    }

    #[test]
    fn frames_past_the_end_are_not_set() {
        let mut bitmap = [0xff; 2];
        assert!(!bitmap_bit(&bitmap, 16) && !bitmap_bit(&bitmap, u64::MAX));
        assert!(!set_bitmap_bit(&mut bitmap, 16));
    }
}
