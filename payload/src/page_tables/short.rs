//! Short descriptors: two levels of entries of 4 bytes, as 32-bit Arm has them without the Large Physical Address Extension
//! (Arm ARM DDI 0406, B3.5). SCTLR.AFE and TRE are off, and everything is in domain 0, whose accesses are checked.

use super::{Format, Use};

/// Of an entry of the first level: leads to a table.
const TABLE: u64 = 0b01;
const TABLE_ADDRESS: u64 = 0xffff_fc00;

/// Of the second: a page of 4 KiB, and XN.
const PAGE: u64 = 0b10;
const NO_EXECUTE: u64 = 1 << 0;
const PAGE_ADDRESS: u64 = 0xffff_f000;
/// AP[0]: for nobody but us. It is also the flag without which the entry would be for nobody.
const PRIVILEGED: u64 = 1 << 4;
/// AP[2].
const READ_ONLY: u64 = 1 << 9;
/// TEX, C and B: Normal memory, write-back, allocated on read and write.
const NORMAL: u64 = 0b001 << 6 | 1 << 3 | 1 << 2;
/// TEX, C and B: Device memory.
const DEVICE: u64 = 1 << 2;
/// S.
const SHAREABLE: u64 = 1 << 10;

/// Tables of short descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// Whether other processors look into memory, too. One that is alone may not cache what is shared.
    pub is_shared: bool,
}

impl Format for Short {
    fn entry_bytes(&self) -> usize {
        4
    }

    fn levels(&self) -> u32 {
        2
    }

    fn index_bits(&self, level: u32) -> u32 {
        if level == 0 { 8 } else { 12 }
    }

    fn page(&self, pa: u64, purpose: Use) -> Option<u64> {
        let normal = NORMAL | if self.is_shared { SHAREABLE } else { 0 };
        let flags = match purpose {
            Use::Text => normal | READ_ONLY,
            Use::Constants | Use::Ram => normal | READ_ONLY | NO_EXECUTE,
            Use::Data => normal | NO_EXECUTE,
            Use::Device => DEVICE | NO_EXECUTE,
        };
        (pa & !PAGE_ADDRESS == 0).then_some(pa | PAGE | PRIVILEGED | flags)
    }

    fn page_at(&self, entry: u64) -> u64 {
        entry & PAGE_ADDRESS
    }

    fn table(&self, pa: u64) -> u64 {
        pa | TABLE
    }

    fn table_at(&self, entry: u64) -> u64 {
        entry & TABLE_ADDRESS
    }
}
