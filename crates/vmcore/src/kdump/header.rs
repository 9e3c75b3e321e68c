//! `struct disk_dump_header`: block 0.

use alloc::vec::Vec;

use super::KdumpError;
use super::abi::{Abi, StructReader, StructWriter};

/// The first bytes of the file.
pub const SIGNATURE: &[u8; 8] = b"KDUMP   ";
/// The header version written here; all since makedumpfile 1.5.6.
pub const VERSION: i32 = 6;
/// Bytes of `struct new_utsname`.
pub const UTSNAME_BYTES: usize = 6 * UTS_FIELD_BYTES;

/// `__NEW_UTS_LEN` and a NUL.
const UTS_FIELD_BYTES: usize = 65;

/// Bits of `disk_dump_header.status`. Those of compressions are flags of a [`PageDescriptor`](super::PageDescriptor)
/// too.
pub mod status {
    /// Compressed with zlib.
    pub const ZLIB: u32 = 0x1;
    /// Compressed with LZO.
    pub const LZO: u32 = 0x2;
    /// Compressed with snappy.
    pub const SNAPPY: u32 = 0x4;
    /// Not all pages got into the dump.
    pub const INCOMPLETE: u32 = 0x8;
    /// The memmap's own pages were left out.
    pub const EXCLUDED_VMEMMAP: u32 = 0x10;
    /// Compressed with zstd.
    pub const ZSTD: u32 = 0x20;
}

/// `struct new_utsname`: six strings of at most 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utsname {
    fields: [[u8; UTS_FIELD_BYTES]; 6],
}

impl Utsname {
    /// Of sysname, nodename, release, version, machine, domainname: what is longer than 64 bytes is cut.
    #[must_use]
    pub fn new(strings: [&[u8]; 6]) -> Self {
        Self { fields: strings.map(field) }
    }

    /// The structure as it is in memory of the crashed kernel (`init_uts_ns.name`).
    #[must_use]
    pub fn from_bytes(bytes: &[u8; UTSNAME_BYTES]) -> Self {
        Self { fields: zerocopy::transmute!(*bytes) }
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; UTSNAME_BYTES] {
        zerocopy::transmute!(self.fields)
    }

    /// The strings, without the NULs behind them: sysname, nodename, release, version, machine, domainname.
    #[must_use]
    pub fn strings(&self) -> [&[u8]; 6] {
        self.fields.each_ref().map(|field| field.split(|&byte| byte == 0).next().unwrap_or_default())
    }

    /// Name of the node.
    #[must_use]
    pub fn nodename(&self) -> &[u8] {
        let [_, nodename, ..] = self.strings();
        nodename
    }

    /// Release of the kernel.
    #[must_use]
    pub fn release(&self) -> &[u8] {
        let [_, _, release, ..] = self.strings();
        release
    }

    /// Name of the architecture.
    #[must_use]
    pub fn machine(&self) -> &[u8] {
        let [.., machine, _] = self.strings();
        machine
    }
}

/// A string with NULs behind it.
fn field(string: &[u8]) -> [u8; UTS_FIELD_BYTES] {
    let mut field = [0; UTS_FIELD_BYTES];
    for (place, byte) in field.iter_mut().take(UTS_FIELD_BYTES - 1).zip(string) {
        *place = *byte;
    }
    field
}

/// `struct disk_dump_header`, the format's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpHeader {
    /// Version of the format: [`VERSION`].
    pub header_version: i32,
    /// What `uname` said in the crashed kernel.
    pub utsname: Utsname,
    /// Time of the dump, in seconds since 1970.
    pub timestamp_sec: i64,
    /// And microseconds.
    pub timestamp_usec: i64,
    /// Bits of [`status`].
    pub status: u32,
    /// Bytes of a block, that is of a page.
    pub block_size: i32,
    /// Blocks of the sub header with its notes.
    pub sub_hdr_size: i32,
    /// Blocks of both bitmaps.
    pub bitmap_blocks: u32,
    /// One past the highest frame, or its low 32 bits: [`SubHeader::max_mapnr_64`](super::SubHeader) has all of it.
    pub max_mapnr: u32,
    /// Not used in kdump.
    pub total_ram_blocks: u32,
    /// Not used in kdump.
    pub device_blocks: u32,
    /// Not used in kdump.
    pub written_blocks: u32,
    /// The CPU that wrote the dump.
    pub current_cpu: u32,
    /// Number of CPUs.
    pub nr_cpus: i32,
}

impl DumpHeader {
    /// Its bytes: 464 with 8-byte longs, 452 with 4-byte ones. The rest of the block is zero.
    #[must_use]
    pub fn encode(&self, abi: Abi) -> Vec<u8> {
        let mut out = StructWriter::new(abi);
        out.bytes(SIGNATURE);
        out.i32(self.header_version);
        out.bytes(&self.utsname.to_bytes());
        out.long(self.timestamp_sec.cast_unsigned());
        out.long(self.timestamp_usec.cast_unsigned());
        out.u32(self.status);
        out.i32(self.block_size);
        out.i32(self.sub_hdr_size);
        for word in [
            self.bitmap_blocks,
            self.max_mapnr,
            self.total_ram_blocks,
            self.device_blocks,
            self.written_blocks,
            self.current_cpu,
        ] {
            out.u32(word);
        }
        out.i32(self.nr_cpus);
        out.finish()
    }

    /// Reads the header at the start of a file; its machine tells the ABI.
    ///
    /// # Errors
    /// [`KdumpError`] if this is no such header, or of a machine we do not know.
    pub fn parse(bytes: &[u8]) -> Result<(Abi, Self), KdumpError> {
        if !bytes.starts_with(SIGNATURE) {
            return Err(KdumpError::BadSignature);
        }
        let truncated = KdumpError::Truncated(bytes.len());
        // Up to utsname all ABIs agree.
        let mut head = StructReader::new(Abi::Lp64, bytes);
        let _signature: [u8; 8] = head.bytes().ok_or(truncated)?;
        let header_version = head.i32().ok_or(truncated)?;
        let utsname = Utsname::from_bytes(&head.bytes().ok_or(truncated)?);
        if !(1..=VERSION).contains(&header_version) {
            return Err(KdumpError::UnknownVersion(header_version));
        }
        let abi = Abi::of_uts_machine(utsname.machine()).ok_or(KdumpError::UnknownMachine)?;
        let header = Self::members(abi, bytes).ok_or(truncated)?;
        Ok((abi, header))
    }

    fn members(abi: Abi, bytes: &[u8]) -> Option<Self> {
        let mut members = StructReader::new(abi, bytes);
        let _signature: [u8; 8] = members.bytes()?;
        // In the order of the structure: Rust evaluates the fields as they are written.
        Some(Self {
            header_version: members.i32()?,
            utsname: Utsname::from_bytes(&members.bytes()?),
            timestamp_sec: signed_long(abi, members.long()?),
            timestamp_usec: signed_long(abi, members.long()?),
            status: members.u32()?,
            block_size: members.i32()?,
            sub_hdr_size: members.i32()?,
            bitmap_blocks: members.u32()?,
            max_mapnr: members.u32()?,
            total_ram_blocks: members.u32()?,
            device_blocks: members.u32()?,
            written_blocks: members.u32()?,
            current_cpu: members.u32()?,
            nr_cpus: members.i32()?,
        })
    }
}

/// A signed `long`: with 4 bytes it is sign-extended.
fn signed_long(abi: Abi, value: u64) -> i64 {
    match abi {
        Abi::Lp64 => value.cast_signed(),
        Abi::Arm | Abi::I386 => u32::try_from(value).map_or(0, |low| low.cast_signed().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(machine: &[u8]) -> DumpHeader {
        DumpHeader {
            header_version: 6,
            utsname: Utsname::new([b"Linux", b"node", b"6.1.0", b"#1 SMP", machine, b"(none)"]),
            timestamp_sec: 0x6543_2101,
            timestamp_usec: 2,
            status: status::ZLIB | status::INCOMPLETE,
            block_size: 4096,
            sub_hdr_size: 3,
            bitmap_blocks: 4,
            max_mapnr: 5,
            total_ram_blocks: 6,
            device_blocks: 7,
            written_blocks: 8,
            current_cpu: 9,
            nr_cpus: 10,
        }
    }

    /// The bytes from the timestamp on.
    fn tail(abi: Abi, machine: &[u8]) -> Vec<u8> {
        header(machine).encode(abi).split_off(402)
    }

    #[test]
    fn up_to_the_timestamp_all_machines_have_these_bytes() {
        for (abi, machine) in [(Abi::Lp64, &b"x86_64"[..]), (Abi::Arm, b"armv7l"), (Abi::I386, b"i686")] {
            let bytes = header(machine).encode(abi);
            assert_eq!(bytes[..12], *b"KDUMP   \x06\0\0\0");
            assert_eq!(bytes[12..18], *b"Linux\0");
            assert_eq!(bytes[12 + 65..][..5], *b"node\0");
            assert_eq!(bytes[12 + 130..][..6], *b"6.1.0\0");
            assert_eq!(bytes[12 + 260..][..machine.len()], *machine);
            assert_eq!(bytes[12 + 325..][..7], *b"(none)\0");
        }
    }

    #[test]
    fn the_rest_of_the_header_is_these_bytes() {
        let words = b"\x09\0\0\0\0\x10\0\0\x03\0\0\0\x04\0\0\0\x05\0\0\0\x06\0\0\0\x07\0\0\0\x08\0\0\0\x09\0\0\0\x0a\0\0\0";
        let lp64 = tail(Abi::Lp64, b"aarch64");
        assert_eq!(lp64[..22], *b"\0\0\0\0\0\0\x01\x21\x43\x65\0\0\0\0\x02\0\0\0\0\0\0\0");
        assert_eq!(lp64[22..], *words);
        assert_eq!(lp64.len() + 402, 464);
        for abi in [Abi::Arm, Abi::I386] {
            let ilp32 = tail(abi, b"armv7l");
            assert_eq!(ilp32[..10], *b"\0\0\x01\x21\x43\x65\x02\0\0\0");
            assert_eq!(ilp32[10..], *words);
            assert_eq!(ilp32.len() + 402, 452);
        }
    }

    #[test]
    fn a_header_parses_back_with_the_abi_of_its_machine() {
        for (abi, machine) in [
            (Abi::Lp64, &b"x86_64"[..]),
            (Abi::Lp64, b"aarch64"),
            (Abi::Arm, b"armv7l"),
            (Abi::I386, b"i686"),
        ] {
            let mut header = header(machine);
            header.timestamp_sec = -1;
            assert_eq!(DumpHeader::parse(&header.encode(abi)), Ok((abi, header)));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = header(b"x86_64").encode(Abi::Lp64);
        assert_eq!(DumpHeader::parse(b"\x7fELF"), Err(KdumpError::BadSignature));
        for length in [8, 11, 12, 401, 402, 463] {
            assert_eq!(DumpHeader::parse(&good[..length]), Err(KdumpError::Truncated(length)));
        }
        let mut version = good.clone();
        version[8] = 7;
        assert_eq!(DumpHeader::parse(&version), Err(KdumpError::UnknownVersion(7)));
        let mips = header(b"mips").encode(Abi::Lp64);
        assert_eq!(DumpHeader::parse(&mips), Err(KdumpError::UnknownMachine));
    }

    #[test]
    fn a_name_of_more_than_64_bytes_is_cut() {
        let utsname = Utsname::new([&[b'a'; 70], b"", b"", b"", b"", b""]);
        assert_eq!(utsname.strings()[0], [b'a'; 64]);
        assert_eq!(Utsname::from_bytes(&utsname.to_bytes()), utsname);
    }
}
