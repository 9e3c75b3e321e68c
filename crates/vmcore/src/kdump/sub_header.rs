//! `struct kdump_sub_header`: block 1.

use alloc::vec::Vec;

use super::abi::{Abi, StructReader, StructWriter};

/// `struct kdump_sub_header`, the format's names. Offsets are bytes from the start of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubHeader {
    /// Where the kernel was loaded, as two's complement (x86_64's can be negative).
    pub phys_base: u64,
    /// Which pages were left out.
    pub dump_level: i32,
    /// 1 for a part of a dump that was split in several files.
    pub split: i32,
    /// First frame of a part, low bits ([`start_pfn_64`](Self::start_pfn_64) has all).
    pub start_pfn: u64,
    /// One past the last frame of a part, low bits.
    pub end_pfn: u64,
    /// Where the VMCOREINFO text is (version 3).
    pub offset_vmcoreinfo: u64,
    /// Its bytes.
    pub size_vmcoreinfo: u64,
    /// Where the ELF notes are (version 4).
    pub offset_note: u64,
    /// Their bytes.
    pub size_note: u64,
    /// Where makedumpfile says what it erased (version 5).
    pub offset_eraseinfo: u64,
    /// Bytes of that.
    pub size_eraseinfo: u64,
    /// First frame of a part (version 6).
    pub start_pfn_64: u64,
    /// One past the last frame of a part (version 6).
    pub end_pfn_64: u64,
    /// One past the highest frame (version 6).
    pub max_mapnr_64: u64,
}

impl SubHeader {
    /// How many bytes it has.
    #[must_use]
    pub const fn bytes(abi: Abi) -> u64 {
        match abi {
            Abi::Lp64 => 104,
            Abi::Arm => 96,
            Abi::I386 => 80,
        }
    }

    /// Its bytes, [`SubHeader::bytes`] of them.
    #[must_use]
    pub fn encode(&self, abi: Abi) -> Vec<u8> {
        let mut out = StructWriter::new(abi);
        out.long(self.phys_base);
        out.i32(self.dump_level);
        out.i32(self.split);
        out.long(self.start_pfn);
        out.long(self.end_pfn);
        out.u64(self.offset_vmcoreinfo);
        out.long(self.size_vmcoreinfo);
        out.u64(self.offset_note);
        out.long(self.size_note);
        out.u64(self.offset_eraseinfo);
        out.long(self.size_eraseinfo);
        out.u64(self.start_pfn_64);
        out.u64(self.end_pfn_64);
        out.u64(self.max_mapnr_64);
        out.finish()
    }

    /// Reads it from the start of block 1; what `header_version` does not have is 0. `None` if it is cut short.
    #[must_use]
    pub fn parse(abi: Abi, header_version: i32, bytes: &[u8]) -> Option<Self> {
        let mut members = StructReader::new(abi, bytes);
        // In the order of the structure: Rust evaluates the fields as they are written.
        let all = Self {
            phys_base: members.long()?,
            dump_level: members.i32()?,
            split: members.i32()?,
            start_pfn: members.long()?,
            end_pfn: members.long()?,
            offset_vmcoreinfo: members.u64()?,
            size_vmcoreinfo: members.long()?,
            offset_note: members.u64()?,
            size_note: members.long()?,
            offset_eraseinfo: members.u64()?,
            size_eraseinfo: members.long()?,
            start_pfn_64: members.u64()?,
            end_pfn_64: members.u64()?,
            max_mapnr_64: members.u64()?,
        };
        Some(all.as_of(header_version))
    }

    /// Without what came after `version`: makedumpfile leaves those bytes undefined.
    fn as_of(mut self, version: i32) -> Self {
        if version < 2 {
            (self.split, self.start_pfn, self.end_pfn) = (0, 0, 0);
        }
        if version < 1 {
            self.dump_level = 0;
        }
        if version < 3 {
            (self.offset_vmcoreinfo, self.size_vmcoreinfo) = (0, 0);
        }
        if version < 4 {
            (self.offset_note, self.size_note) = (0, 0);
        }
        if version < 5 {
            (self.offset_eraseinfo, self.size_eraseinfo) = (0, 0);
        }
        if version < 6 {
            (self.start_pfn_64, self.end_pfn_64, self.max_mapnr_64) = (0, 0, 0);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: SubHeader = SubHeader {
        phys_base: 0xffff_ffff_f740_0000,
        dump_level: 31,
        split: 1,
        start_pfn: 2,
        end_pfn: 3,
        offset_vmcoreinfo: 4,
        size_vmcoreinfo: 5,
        offset_note: 6,
        size_note: 7,
        offset_eraseinfo: 8,
        size_eraseinfo: 9,
        start_pfn_64: 10,
        end_pfn_64: 11,
        max_mapnr_64: 12,
    };

    /// `(offset, byte)` of each small member, and the structure's size.
    fn golden(abi: Abi, offsets: [usize; 13], size: usize) -> Vec<u8> {
        let mut bytes = alloc::vec![0; size];
        for (offset, value) in offsets.into_iter().zip([31, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]) {
            bytes[offset] = value;
        }
        let phys_base = ALL.phys_base.to_le_bytes();
        let long_bytes = if abi == Abi::Lp64 { 8 } else { 4 };
        bytes[..long_bytes].copy_from_slice(&phys_base[..long_bytes]);
        bytes
    }

    #[test]
    fn members_are_where_each_abi_puts_them() {
        for (abi, offsets, size) in [
            (Abi::Lp64, [8, 12, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96], 104),
            (Abi::Arm, [4, 8, 12, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88], 96),
            (Abi::I386, [4, 8, 12, 16, 20, 28, 32, 40, 44, 52, 56, 64, 72], 80),
        ] {
            let bytes = golden(abi, offsets, size);
            assert_eq!(ALL.encode(abi), bytes, "{abi:?}");
            assert_eq!(SubHeader::bytes(abi), size as u64);
            let phys_base = if abi == Abi::Lp64 { ALL.phys_base } else { 0xf740_0000 };
            assert_eq!(SubHeader::parse(abi, 6, &bytes), Some(SubHeader { phys_base, ..ALL }));
            assert_eq!(SubHeader::parse(abi, 6, &bytes[..size - 1]), None);
        }
    }

    #[test]
    fn members_of_later_versions_are_zero() {
        let parsed = |version| SubHeader::parse(Abi::Lp64, version, &ALL.encode(Abi::Lp64)).unwrap();
        assert_eq!((parsed(1).dump_level, parsed(1).split), (31, 0));
        assert_eq!((parsed(2).end_pfn, parsed(2).offset_vmcoreinfo), (3, 0));
        assert_eq!((parsed(3).size_vmcoreinfo, parsed(3).size_note), (5, 0));
        assert_eq!((parsed(4).size_note, parsed(4).size_eraseinfo), (7, 0));
        assert_eq!((parsed(5).size_eraseinfo, parsed(5).max_mapnr_64), (9, 0));
    }
}
