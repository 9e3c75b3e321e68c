//! Long descriptors: entries of 8 bytes, pages of 4 KiB, as aarch64 has them (Arm ARM DDI 0487, D8.3) and 32-bit Arm with
//! the Large Physical Address Extension (DDI 0406, B3.6).

use super::{Format, Use};

/// Valid, and a table or, at the last level, a page.
const VALID: u64 = 0b11;
/// AttrIndx: which byte of [`ATTRIBUTES`] says what memory it is.
const NORMAL: u64 = 0 << 2;
const DEVICE: u64 = 1 << 2;
/// AP[2].
const READ_ONLY: u64 = 1 << 7;
/// SH: inner shareable.
const SHAREABLE: u64 = 0b11 << 8;
/// AF: otherwise the first access faults.
const ACCESSED: u64 = 1 << 10;
/// PXN and UXN; 32-bit Arm has XN in the place of that.
const NO_EXECUTE: u64 = 1 << 53 | 1 << 54;

/// What MAIR must say: Normal memory, write-back, allocated on read and write; Device memory, of aarch64 no gathering, no
/// reordering, early write acknowledgement.
pub const ATTRIBUTES: u32 = 0xff | 0x04 << 8;

const TABLE_BITS: u32 = 9;

/// Tables of long descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Long {
    levels: u32,
    /// Of the highest level.
    root_bits: u32,
    /// Of a physical address.
    address_mask: u64,
}

impl Long {
    /// aarch64: 48 bits to 48.
    pub const AARCH64: Self = Self { levels: 4, root_bits: TABLE_BITS, address_mask: 0x0000_ffff_ffff_f000 };

    /// 32-bit Arm: 32 bits to 40.
    pub const ARM: Self = Self { levels: 3, root_bits: 2, address_mask: 0x0000_00ff_ffff_f000 };
}

impl Format for Long {
    fn entry_bytes(&self) -> usize {
        8
    }

    fn levels(&self) -> u32 {
        self.levels
    }

    fn index_bits(&self, level: u32) -> u32 {
        if level + 1 == self.levels { self.root_bits } else { TABLE_BITS }
    }

    fn page(&self, pa: u64, purpose: Use) -> Option<u64> {
        let flags = match purpose {
            Use::Text => NORMAL | SHAREABLE | READ_ONLY,
            Use::Constants | Use::Ram => NORMAL | SHAREABLE | READ_ONLY | NO_EXECUTE,
            Use::Data => NORMAL | SHAREABLE | NO_EXECUTE,
            Use::Device => DEVICE | NO_EXECUTE,
        };
        (pa & !self.address_mask == 0).then_some(pa | VALID | ACCESSED | flags)
    }

    fn page_at(&self, entry: u64) -> u64 {
        entry & self.address_mask
    }

    fn table(&self, pa: u64) -> u64 {
        pa | VALID
    }

    fn table_at(&self, entry: u64) -> u64 {
        entry & self.address_mask
    }
}
