//! What opens and closes a session. docs/wire-format.md, "Session header" and "End".

use alloc::vec::Vec;

use crate::bytes::Reader;

/// Bytes of the crashed kernel's `struct new_utsname` (include/uapi/linux/utsname.h): six strings of 65.
pub const UTSNAME_BYTES: usize = 6 * 65;

/// How the blocks of a session are numbered right now: told with the header, because it changes when a receiver comes
/// late or comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Which run this is, modulo 256: one begins whenever the sender goes back to an earlier cursor.
    pub number: u8,
    /// The first block of this run. Blocks from here on that came in an earlier run are void.
    pub first_block: u32,
    /// The receiver whose [`crate::Reply::Resume`] was heard last; 0: none was.
    pub receiver: u8,
}

pub(crate) const RUN_BYTES: usize = 6;

/// A header as this version writes it.
pub(crate) const SESSION_HEADER_BYTES: usize = 20 + UTSNAME_BYTES;

impl Run {
    /// What stands before the header in a Session frame.
    #[must_use]
    pub fn encode(&self) -> [u8; RUN_BYTES] {
        let [a, b, c, d] = self.first_block.to_le_bytes();
        [self.number, self.receiver, a, b, c, d]
    }

    /// Reads the start of a Session frame's payload, and gives the rest.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<(Self, &[u8])> {
        let mut reader = Reader::new(payload);
        let run = Self { number: reader.u8()?, receiver: reader.u8()?, first_block: reader.u32()? };
        Some((run, reader.rest()))
    }
}

/// The first thing a receiver must know: which machine this is and what will come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionHeader {
    /// ELF's number of the architecture (e_machine): 62 is x86_64, 40 arm, 183 aarch64.
    pub e_machine: u16,
    /// Pages have `1 << page_shift` bytes.
    pub page_shift: u8,
    /// makedumpfile's dump level: which classes of pages are left out.
    pub dump_level: u8,
    /// Seconds since 1970 when the kernel crashed (CRASHTIME of VMCOREINFO); 0 if unknown.
    pub crash_time: u64,
    /// Pages of RAM that the machine has, wholly or in part.
    pub ram_pages: u64,
    /// `init_uts_ns.name` of the crashed kernel; zeros if it could not be read.
    pub utsname: [u8; UTSNAME_BYTES],
}

impl SessionHeader {
    /// What a Session frame says of the machine, behind the [`Run`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SESSION_HEADER_BYTES);
        out.extend_from_slice(&self.e_machine.to_le_bytes());
        out.push(self.page_shift);
        out.push(self.dump_level);
        out.extend_from_slice(&self.crash_time.to_le_bytes());
        out.extend_from_slice(&self.ram_pages.to_le_bytes());
        out.extend_from_slice(&self.utsname);
        out
    }

    /// Reads what follows the [`Run`]; `None` if it is no header. Bytes after the known ones are ignored: a later
    /// version may add fields.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let header = Self {
            e_machine: reader.u16()?,
            page_shift: reader.u8()?,
            dump_level: reader.u8()?,
            crash_time: reader.u64()?,
            ram_pages: reader.u64()?,
            utsname: reader.array()?,
        };
        matches!(header.page_shift, 12 | 14 | 16).then_some(header)
    }

    /// One of the strings of [`SessionHeader::utsname`]; see [`uts_field`].
    #[must_use]
    pub fn uts(&self, index: usize) -> &str {
        uts_field(&self.utsname, index)
    }
}

/// One of the strings of `struct new_utsname`: 0 sysname, 1 nodename, 2 release, 3 version, 4 machine, 5 domain. It ends
/// before the first byte that is not printable ASCII.
#[must_use]
pub fn uts_field(utsname: &[u8; UTSNAME_BYTES], index: usize) -> &str {
    let field = utsname.chunks(65).nth(index).unwrap_or_default();
    let length = field.iter().position(|byte| !(b' '..=b'~').contains(byte)).unwrap_or(field.len());
    field.get(..length).and_then(|name| core::str::from_utf8(name).ok()).unwrap_or_default()
}

/// How much was sent, and a digest over it: what a complete dump must add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionEnd {
    /// Blocks of stream 0, from the first one of the session.
    pub blocks: u32,
    /// The first block that the counts below cover: that of the last [`Run`].
    pub first_block: u32,
    /// Pages sent byte for byte.
    pub pages: u64,
    /// Pages sent as one word.
    pub filled_pages: u64,
    /// Pages that could not be read.
    pub hole_pages: u64,
    /// Records of parts of pages.
    pub fragments: u64,
    /// Wrapping sum of [`crate::digest`] over all records.
    pub digest: u64,
    /// Whether the sender stopped before it had sent everything: its budget was spent.
    pub is_cut: bool,
}

impl SessionEnd {
    /// The payload of an End frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(49);
        out.extend_from_slice(&self.blocks.to_le_bytes());
        out.extend_from_slice(&self.first_block.to_le_bytes());
        for number in [self.pages, self.filled_pages, self.hole_pages, self.fragments, self.digest] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(u8::from(self.is_cut));
        out
    }

    /// Reads an End frame's payload; `None` if it is not one.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        Some(Self {
            blocks: reader.u32()?,
            first_block: reader.u32()?,
            pages: reader.u64()?,
            filled_pages: reader.u64()?,
            hole_pages: reader.u64()?,
            fragments: reader.u64()?,
            digest: reader.u64()?,
            is_cut: reader.u8()? != 0,
        })
    }

    /// Counts one record that is sent or received; `encoded` are its bytes.
    pub fn count(&mut self, record: &crate::Record<'_>, encoded: &[u8]) {
        self.digest = self.digest.wrapping_add(crate::digest(encoded));
        match *record {
            crate::Record::Page { .. } => self.pages += 1,
            crate::Record::Fill { pages, .. } => self.filled_pages += u64::from(pages),
            crate::Record::Hole { pages, .. } => self.hole_pages += u64::from(pages),
            crate::Record::Bytes { .. } => self.fragments += 1,
            crate::Record::Meta { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SessionHeader {
        let mut utsname = [0; UTSNAME_BYTES];
        utsname[65..70].copy_from_slice(b"board");
        utsname[130..138].copy_from_slice(b"6.1\x1b[31m");
        SessionHeader { e_machine: 62, page_shift: 12, dump_level: 31, crash_time: 7, ram_pages: 9, utsname }
    }

    /// The worked example of docs/wire-format.md.
    #[test]
    fn a_header_has_these_bytes() {
        let bytes = header().encode();
        assert_eq!(bytes[..20], [62, 0, 12, 31, 7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes.len(), 410);
        assert_eq!(SessionHeader::decode(&bytes), Some(header()));
    }

    #[test]
    fn names_end_at_the_first_unprintable_byte() {
        assert_eq!(header().uts(1), "board");
        assert_eq!(header().uts(2), "6.1");
        assert_eq!(header().uts(6), "");
    }

    #[test]
    fn a_page_size_no_architecture_has_is_refused() {
        let mut bytes = header().encode();
        bytes[2] = 63;
        assert_eq!(SessionHeader::decode(&bytes), None);
        assert_eq!(SessionHeader::decode(&bytes[..100]), None);
    }

    /// The worked example of docs/wire-format.md.
    #[test]
    fn an_end_has_these_bytes() {
        let end = SessionEnd {
            blocks: 9,
            first_block: 1,
            pages: 2,
            filled_pages: 3,
            hole_pages: 4,
            fragments: 5,
            digest: 6,
            is_cut: true,
        };
        let mut expected = [0; 49];
        for (at, value) in [(0, 9), (4, 1), (8, 2), (16, 3), (24, 4), (32, 5), (40, 6), (48, 1)] {
            expected[at] = value;
        }
        assert_eq!(end.encode(), expected);
        assert_eq!(SessionEnd::decode(&expected), Some(end));
        assert_eq!(SessionEnd::decode(&expected[..48]), None);
    }

    /// The worked example of docs/wire-format.md.
    #[test]
    fn a_run_has_these_bytes() {
        let run = Run { number: 1, first_block: 0x0203, receiver: 0xee };
        assert_eq!(run.encode(), [1, 0xee, 3, 2, 0, 0]);
        assert_eq!(Run::decode(&[1, 0xee, 3, 2, 0, 0, 7]), Some((run, &[7][..])));
    }
}
