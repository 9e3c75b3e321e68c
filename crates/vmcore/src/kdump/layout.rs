//! Where the parts of a kdump-compressed file are.

use super::{Abi, DumpHeader, KdumpError, SubHeader};

/// Page frames there can be: 52 bits of address, pages of 4 KiB.
const MAX_FRAMES: u64 = 1 << 40;
/// Blocks believed of the sub header: 64 MiB, enough for the notes of 8192 CPUs.
const MAX_SUB_HEADER_BLOCKS: u64 = 16 * 1024;

/// The parts of a file, from its header or for a file to be written. Offsets and sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    block_bytes: u64,
    sub_header_blocks: u64,
    /// Of one bitmap.
    bitmap_blocks: u64,
    max_mapnr: u64,
}

impl Layout {
    /// Plans a file for frames below `max_mapnr`, in blocks of `block_bytes`, whose sub header is followed by
    /// `notes_bytes` of notes.
    ///
    /// # Errors
    /// [`KdumpError`] if there is no such page size, or no room for that many frames or notes.
    pub fn plan(abi: Abi, block_bytes: u32, notes_bytes: u64, max_mapnr: u64) -> Result<Self, KdumpError> {
        let block_size = i32::try_from(block_bytes).unwrap_or(i32::MAX);
        let block_bytes = checked_block_bytes(block_size)?;
        let behind_header = SubHeader::bytes(abi).saturating_add(notes_bytes);
        let sub_header_blocks = behind_header.div_ceil(block_bytes);
        if sub_header_blocks > MAX_SUB_HEADER_BLOCKS {
            return Err(KdumpError::BadSubHeaderSize(i32::try_from(sub_header_blocks).unwrap_or(i32::MAX)));
        }
        if max_mapnr > MAX_FRAMES {
            return Err(KdumpError::BadBitmap { blocks: 0, max_mapnr });
        }
        let bitmap_blocks = max_mapnr.div_ceil(8).div_ceil(block_bytes);
        Ok(Self { block_bytes, sub_header_blocks, bitmap_blocks, max_mapnr })
    }

    /// The layout a file's headers tell.
    ///
    /// # Errors
    /// [`KdumpError`] if their numbers cannot be.
    pub fn of(header: &DumpHeader, sub_header: &SubHeader) -> Result<Self, KdumpError> {
        let block_bytes = checked_block_bytes(header.block_size)?;
        let sub_header_blocks = u64::try_from(header.sub_hdr_size)
            .ok()
            .filter(|blocks| *blocks <= MAX_SUB_HEADER_BLOCKS)
            .ok_or(KdumpError::BadSubHeaderSize(header.sub_hdr_size))?;
        let max_mapnr = match sub_header.max_mapnr_64 {
            0 => u64::from(header.max_mapnr),
            all => all,
        };
        let blocks = header.bitmap_blocks;
        let bitmap_blocks = u64::from(blocks / 2);
        let frames = bitmap_blocks.saturating_mul(block_bytes).saturating_mul(8);
        if !blocks.is_multiple_of(2) || max_mapnr > MAX_FRAMES || max_mapnr > frames {
            return Err(KdumpError::BadBitmap { blocks, max_mapnr });
        }
        Ok(Self { block_bytes, sub_header_blocks, bitmap_blocks, max_mapnr })
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn block_bytes(&self) -> u64 {
        self.block_bytes
    }

    /// `disk_dump_header.sub_hdr_size`.
    #[must_use]
    pub fn sub_hdr_size(&self) -> i32 {
        i32::try_from(self.sub_header_blocks).unwrap_or(i32::MAX)
    }

    /// `disk_dump_header.bitmap_blocks`: of both bitmaps.
    #[must_use]
    pub fn bitmap_blocks(&self) -> u32 {
        u32::try_from(self.bitmap_blocks.saturating_mul(2)).unwrap_or(u32::MAX)
    }

    /// One past the highest frame.
    #[must_use]
    pub const fn max_mapnr(&self) -> u64 {
        self.max_mapnr
    }

    /// Where the sub header is.
    #[must_use]
    pub const fn sub_header_offset(&self) -> u64 {
        self.block_bytes
    }

    /// Where the notes of a planned file go. (A file's sub header tells where they are.)
    #[must_use]
    pub const fn notes_offset(&self, abi: Abi) -> u64 {
        self.block_bytes.saturating_add(SubHeader::bytes(abi))
    }

    /// Where the first bitmap is: frames that are RAM.
    #[must_use]
    pub const fn first_bitmap_offset(&self) -> u64 {
        self.sub_header_blocks.saturating_add(1).saturating_mul(self.block_bytes)
    }

    /// Where the second bitmap is: frames that have a descriptor.
    #[must_use]
    pub const fn second_bitmap_offset(&self) -> u64 {
        self.first_bitmap_offset().saturating_add(self.bitmap_bytes())
    }

    /// Bytes of one bitmap, whole blocks.
    #[must_use]
    pub const fn bitmap_bytes(&self) -> u64 {
        self.bitmap_blocks.saturating_mul(self.block_bytes)
    }

    /// Where the page descriptors begin.
    #[must_use]
    pub const fn descriptors_offset(&self) -> u64 {
        self.second_bitmap_offset().saturating_add(self.bitmap_bytes())
    }
}

/// Linux has pages of 4 to 64 KiB.
fn checked_block_bytes(block_size: i32) -> Result<u64, KdumpError> {
    u64::try_from(block_size)
        .ok()
        .filter(|bytes| bytes.is_power_of_two() && (4096..=65536).contains(bytes))
        .ok_or(KdumpError::BadBlockSize(block_size))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kdump::Utsname;

    fn header(block_size: i32, sub_hdr_size: i32, bitmap_blocks: u32, max_mapnr: u32) -> DumpHeader {
        DumpHeader {
            header_version: 6,
            utsname: Utsname::new([b""; 6]),
            timestamp_sec: 0,
            timestamp_usec: 0,
            status: 0,
            block_size,
            sub_hdr_size,
            bitmap_blocks,
            max_mapnr,
            total_ram_blocks: 0,
            device_blocks: 0,
            written_blocks: 0,
            current_cpu: 0,
            nr_cpus: 1,
        }
    }

    #[test]
    fn the_parts_of_a_1_gib_dump_follow_each_other() {
        let layout = Layout::plan(Abi::Lp64, 4096, 4020, 0x40000).unwrap();
        assert_eq!((layout.sub_hdr_size(), layout.bitmap_blocks()), (2, 16));
        assert_eq!(layout.sub_header_offset(), 4096);
        assert_eq!(layout.notes_offset(Abi::Lp64), 4096 + 104);
        assert_eq!(layout.first_bitmap_offset(), 3 * 4096);
        assert_eq!(layout.second_bitmap_offset(), 11 * 4096);
        assert_eq!(layout.descriptors_offset(), 19 * 4096);
    }

    #[test]
    fn the_64_bit_number_of_frames_counts() {
        let sub_header = SubHeader { max_mapnr_64: 1 << 33, ..SubHeader::default() };
        let layout = Layout::of(&header(4096, 1, 1 << 19, 0), &sub_header).unwrap();
        assert_eq!(layout.max_mapnr(), 1 << 33);
        assert_eq!(layout.bitmap_bytes(), 1 << 30);
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        let of = |header| Layout::of(&header, &SubHeader::default());
        assert_eq!(of(header(4095, 1, 2, 1)), Err(KdumpError::BadBlockSize(4095)));
        assert_eq!(of(header(-4096, 1, 2, 1)), Err(KdumpError::BadBlockSize(-4096)));
        assert_eq!(of(header(4096, -1, 2, 1)), Err(KdumpError::BadSubHeaderSize(-1)));
        assert_eq!(of(header(4096, i32::MAX, 2, 1)), Err(KdumpError::BadSubHeaderSize(i32::MAX)));
        let too_few = KdumpError::BadBitmap { blocks: 2, max_mapnr: 32769 };
        assert_eq!(of(header(4096, 1, 2, 32769)), Err(too_few));
        let odd = KdumpError::BadBitmap { blocks: 3, max_mapnr: 1 };
        assert_eq!(of(header(4096, 1, 3, 1)), Err(odd));
        assert_eq!(
            Layout::plan(Abi::Lp64, 4096, 0, MAX_FRAMES + 1),
            Err(KdumpError::BadBitmap { blocks: 0, max_mapnr: MAX_FRAMES + 1 })
        );
        assert!(Layout::plan(Abi::Lp64, 4096, u64::MAX, 1).is_err());
    }

    proptest! {
        #[test]
        fn what_is_planned_is_found_again(
            shift in 12_u32..=16, notes_bytes in 0_u64..100_000, max_mapnr in 0_u64..=MAX_FRAMES,
        ) {
            let layout = Layout::plan(Abi::Arm, 1 << shift, notes_bytes, max_mapnr).unwrap();
            let header = header(1 << shift, layout.sub_hdr_size(), layout.bitmap_blocks(), 0);
            let sub_header = SubHeader { max_mapnr_64: max_mapnr, ..SubHeader::default() };
            prop_assert_eq!(Layout::of(&header, &sub_header), Ok(layout));
            prop_assert!(layout.bitmap_bytes() * 8 >= max_mapnr);
            prop_assert!(layout.first_bitmap_offset() >= layout.notes_offset(Abi::Arm) + notes_bytes);
        }
    }
}
