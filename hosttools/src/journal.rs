//! The journal: everything a session brought, appended to a file as it came.
//!
//! It is what makes a dump safe before it is a vmcore: a receiver that is killed, a full disk or a power cut leave a
//! journal whose whole records are all there. All numbers are little endian.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | magic, `rcapjrnl` |
//! | 4 | version, 1 |
//! | 4 | reserved, 0 |
//! | … | records |
//!
//! | bytes of a record | what |
//! | --- | --- |
//! | 4 | length of the payload, at most [`MAX_PAYLOAD_BYTES`] |
//! | 4 | CRC-32 of kind and payload |
//! | 1 | kind: 1 session, 2 block, 3 end, 4 restart, 5 stored; others are passed over |
//! | … | payload |
//!
//! A session is the session's number (2) and the session header as on the wire; a block is stream (1), number (4),
//! generation (4) and the encoded block; an end is the end as on the wire; a restart is the first block that is void (4): the sender went back to it, or a
//! receiver that was started again asked for it. Stored is the number of blocks (4) and the cursor where the last one ends (pass 1, position 8): it stands
//! beside a complete vmcore for all of them.

use std::io::{self, Write};

use wire::{Cursor, MAX_ENCODED_BYTES, SessionEnd, SessionHeader, SessionId};

use crate::file::ReadAt;

/// The first bytes of a journal.
pub const MAGIC: [u8; 8] = *b"rcapjrnl";

/// The version written here, and the only one read.
pub const VERSION: u32 = 1;

/// The longest payload believed: an encoded block and what stands before it.
pub const MAX_PAYLOAD_BYTES: usize = MAX_ENCODED_BYTES + BLOCK_PREFIX_BYTES;

const HEADER_BYTES: usize = 16;
const RECORD_HEAD_BYTES: usize = 9;
/// Stream, number, generation.
const BLOCK_PREFIX_BYTES: usize = 9;

/// One record of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The session header: the first record of a whole journal.
    Session(SessionId, Box<SessionHeader>),
    /// A whole block.
    Block(BlockEntry),
    /// The sender said all it had to say.
    End(SessionEnd),
    /// The sender went back: blocks of stream 0 from this number on come again.
    Restart(u32),
    /// So many blocks, and where the last one ends: all of the session, of which a vmcore was made.
    Stored(u32, Cursor),
}

/// A block in a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// 0: the passes.
    pub stream: u8,
    /// Its number in the stream.
    pub number: u32,
    /// Its CRC-32.
    pub generation: u32,
    /// Where the encoded block begins in the file.
    pub offset: u64,
    /// The encoded block.
    pub encoded: Vec<u8>,
}

/// Appends records to a journal.
pub struct Writer<W> {
    out: W,
    length: u64,
    record: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a journal in the empty `out`.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W) -> io::Result<Self> {
        let mut header = [0; HEADER_BYTES];
        for (place, byte) in header.iter_mut().zip(MAGIC.into_iter().chain(VERSION.to_le_bytes())) {
            *place = byte;
        }
        out.write_all(&header)?;
        Ok(Self { out, length: HEADER_BYTES as u64, record: Vec::new() })
    }

    /// Goes on with a journal whose whole records take `length` bytes; `out` writes behind them.
    pub fn go_on(out: W, length: u64) -> Self {
        Self { out, length, record: Vec::new() }
    }

    /// Bytes of whole records written so far. After an error the file may be longer: a reader stops there.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What is written to; for flushing it.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// What was written to.
    pub fn into_inner(self) -> W {
        self.out
    }

    /// Appends the session header.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn session(&mut self, session: SessionId, header: &SessionHeader) -> io::Result<()> {
        self.append(1, &[&session.0.to_le_bytes(), &header.encode()]).map(|_| ())
    }

    /// Appends a block, and tells where its encoded bytes begin.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn block(&mut self, stream: u8, number: u32, generation: u32, encoded: &[u8]) -> io::Result<u64> {
        let payload =
            self.append(2, &[&[stream][..], &number.to_le_bytes(), &generation.to_le_bytes(), encoded])?;
        Ok(payload + BLOCK_PREFIX_BYTES as u64)
    }

    /// Appends the end.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn end(&mut self, end: &SessionEnd) -> io::Result<()> {
        self.append(3, &[&end.encode()]).map(|_| ())
    }

    /// Appends that the sender went back to `first_block`.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn restart(&mut self, first_block: u32) -> io::Result<()> {
        self.append(4, &[&first_block.to_le_bytes()]).map(|_| ())
    }

    /// Appends that all `blocks`, the last of which ends at `cursor`, are in a vmcore.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn stored(&mut self, blocks: u32, cursor: Cursor) -> io::Result<()> {
        let position = cursor.position.to_le_bytes();
        self.append(5, &[&blocks.to_le_bytes(), &[cursor.pass], &position]).map(|_| ())
    }

    /// Appends a record in one write, and returns where its payload begins.
    fn append(&mut self, kind: u8, payload: &[&[u8]]) -> io::Result<u64> {
        let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "journal record too long");
        let bytes = u32::try_from(payload.iter().map(|part| part.len()).sum::<usize>()).map_err(too_long)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&[kind]);
        payload.iter().for_each(|part| crc.update(part));
        self.record.clear();
        self.record.extend_from_slice(&bytes.to_le_bytes());
        self.record.extend_from_slice(&crc.finalize().to_le_bytes());
        self.record.push(kind);
        payload.iter().for_each(|part| self.record.extend_from_slice(part));
        self.out.write_all(&self.record)?;
        let payload_at = self.length + RECORD_HEAD_BYTES as u64;
        self.length += self.record.len() as u64;
        Ok(payload_at)
    }
}

/// Whether a file that begins with these bytes is a journal, or the beginning of one.
#[must_use]
pub fn is_journal(start: &[u8]) -> bool {
    start.starts_with(&MAGIC)
}

/// Where a journal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// After a whole record.
    Clean,
    /// In the middle of a record: it was cut, or grows just now.
    Cut,
    /// At a record that is damaged; what follows cannot be found.
    Damaged,
}

/// Walks the records of a journal, which may grow meanwhile: a walk that ended can be taken up again.
pub struct Reader<F> {
    file: F,
    at: u64,
    tail: Tail,
}

/// Why a file is not a journal this program can read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It begins otherwise.
    #[error("not a journal")]
    BadMagic,
    /// Written by another version.
    #[error("journal of version {0}; this program reads version {VERSION}")]
    Version(u32),
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl<F: ReadAt> Reader<F> {
    /// Opens a journal.
    ///
    /// # Errors
    /// [`JournalError`], if `file` does not begin like one.
    pub fn new(file: F) -> Result<Self, JournalError> {
        let mut header = [0; HEADER_BYTES];
        let got = file.read_up_to(0, &mut header)?;
        let (magic, rest) = header.split_first_chunk::<8>().ok_or(JournalError::BadMagic)?;
        let version = rest.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        if got < HEADER_BYTES || *magic != MAGIC {
            return Err(JournalError::BadMagic);
        }
        if version != VERSION {
            return Err(JournalError::Version(version));
        }
        Ok(Self { file, at: HEADER_BYTES as u64, tail: Tail::Clean })
    }

    /// The next whole record; `None` where the journal ends for now.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        loop {
            let mut head = [0; RECORD_HEAD_BYTES];
            let got = self.file.read_up_to(self.at, &mut head)?;
            if got < RECORD_HEAD_BYTES {
                self.tail = if got == 0 { Tail::Clean } else { Tail::Cut };
                return Ok(None);
            }
            let [l0, l1, l2, l3, c0, c1, c2, c3, kind] = head;
            let bytes = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
            if bytes > MAX_PAYLOAD_BYTES {
                self.tail = Tail::Damaged;
                return Ok(None);
            }
            let payload_at = self.at + RECORD_HEAD_BYTES as u64;
            let mut payload = vec![0; bytes];
            if self.file.read_up_to(payload_at, &mut payload)? < bytes {
                self.tail = Tail::Cut;
                return Ok(None);
            }
            let mut crc = crc32fast::Hasher::new();
            crc.update(&[kind]);
            crc.update(&payload);
            if crc.finalize() != u32::from_le_bytes([c0, c1, c2, c3]) {
                self.tail = Tail::Damaged;
                return Ok(None);
            }
            self.at = payload_at + bytes as u64;
            self.tail = Tail::Clean;
            // A record of a kind or shape unknown here is a later version's.
            if let Some(entry) = entry(kind, payload, payload_at) {
                return Ok(Some(entry));
            }
        }
    }

    /// How the last walk ended.
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// Bytes of whole records read so far, with the header.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at
    }
}

fn entry(kind: u8, payload: Vec<u8>, payload_at: u64) -> Option<Entry> {
    match kind {
        1 => {
            let (session, header) = payload.split_first_chunk()?;
            Some(Entry::Session(
                SessionId(u16::from_le_bytes(*session)),
                Box::new(SessionHeader::decode(header)?),
            ))
        }
        2 => {
            let (&stream, rest) = payload.split_first()?;
            let (number, rest) = rest.split_first_chunk()?;
            let (generation, encoded) = rest.split_first_chunk()?;
            Some(Entry::Block(BlockEntry {
                stream,
                number: u32::from_le_bytes(*number),
                generation: u32::from_le_bytes(*generation),
                offset: payload_at + BLOCK_PREFIX_BYTES as u64,
                encoded: encoded.to_vec(),
            }))
        }
        3 => SessionEnd::decode(&payload).map(Entry::End),
        4 => payload.first_chunk().map(|first| Entry::Restart(u32::from_le_bytes(*first))),
        5 => {
            let (blocks, rest) = payload.split_first_chunk()?;
            let (&pass, rest) = rest.split_first()?;
            let position = u64::from_le_bytes(*rest.first_chunk()?);
            Some(Entry::Stored(u32::from_le_bytes(*blocks), Cursor { pass, position }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    fn header() -> SessionHeader {
        SessionHeader {
            e_machine: 62,
            page_shift: 12,
            dump_level: 31,
            crash_time: 1,
            ram_pages: 2,
            utsname: [0; wire::UTSNAME_BYTES],
        }
    }

    /// A journal, and where each of its records ends.
    fn journal(blocks: &[Vec<u8>]) -> (Vec<u8>, Vec<u64>) {
        let mut writer = Writer::new(Vec::new()).unwrap();
        let mut ends = Vec::new();
        writer.session(SessionId(7), &header()).unwrap();
        ends.push(writer.length());
        for (number, block) in (0..).zip(blocks) {
            let offset = writer.block(0, number, number + 1, block).unwrap();
            ends.push(writer.length());
            assert_eq!(offset + block.len() as u64, writer.length());
        }
        writer.end(&SessionEnd { blocks: 9, ..SessionEnd::default() }).unwrap();
        ends.push(writer.length());
        (writer.out, ends)
    }

    fn entries(bytes: &[u8]) -> (Vec<Entry>, Tail) {
        let mut reader = Reader::new(bytes).unwrap();
        let mut all = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            all.push(entry);
        }
        (all, reader.tail())
    }

    #[test]
    fn a_journal_has_these_bytes() {
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.block(1, 2, 3, b"abc").unwrap();
        #[rustfmt::skip]
        assert_eq!(writer.out, [
            b'r', b'c', b'a', b'p', b'j', b'r', b'n', b'l', 1, 0, 0, 0, 0, 0, 0, 0,
            12, 0, 0, 0,
            0x2a, 0x84, 0x6c, 0x57, // CRC-32 (zlib.crc32 agrees)
            2,
            1, 2, 0, 0, 0, 3, 0, 0, 0, b'a', b'b', b'c',
        ]);
    }

    #[test]
    fn a_journal_cut_anywhere_keeps_all_whole_records_before_the_cut() {
        let (bytes, ends) = journal(&[vec![1; 40], vec![2; 3], vec![3; 100]]);
        let (all, tail) = entries(&bytes);
        assert_eq!((all.len(), tail), (5, Tail::Clean));
        for cut in HEADER_BYTES..bytes.len() {
            let (kept, tail) = entries(&bytes[..cut]);
            let whole = ends.iter().filter(|&&end| end <= cut as u64).count();
            assert_eq!(kept, all[..whole], "cut at {cut}");
            let clean = cut == HEADER_BYTES || ends.contains(&(cut as u64));
            assert_eq!(tail, if clean { Tail::Clean } else { Tail::Cut }, "cut at {cut}");
        }
    }

    #[test]
    fn a_walk_is_taken_up_again_where_the_journal_has_grown() {
        struct Growing(Rc<RefCell<Vec<u8>>>);
        impl ReadAt for Growing {
            fn read_up_to(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
                self.0.borrow().as_slice().read_up_to(offset, buf)
            }
            fn length(&self) -> io::Result<u64> {
                Ok(self.0.borrow().len() as u64)
            }
        }
        let (bytes, _) = journal(&[vec![1; 40], vec![2; 3]]);
        let (all, _) = entries(&bytes);
        let grown = Rc::new(RefCell::new(bytes[..HEADER_BYTES].to_vec()));
        let mut reader = Reader::new(Growing(Rc::clone(&grown))).unwrap();
        let mut seen = Vec::new();
        for &byte in &bytes[HEADER_BYTES..] {
            grown.borrow_mut().push(byte);
            seen.extend(reader.next_entry().unwrap());
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn a_damaged_record_ends_the_journal_and_is_told_from_a_cut() {
        let (mut bytes, ends) = journal(&[vec![1; 40], vec![2; 3]]);
        let second = usize::try_from(ends[1]).unwrap();
        bytes[second + 20] ^= 1;
        let (kept, tail) = entries(&bytes);
        assert_eq!((kept.len(), tail), (2, Tail::Damaged));
    }

    #[test]
    fn other_files_and_versions_are_refused() {
        let (mut bytes, _) = journal(&[]);
        bytes[8] = 2;
        assert!(matches!(Reader::new(&bytes[..]), Err(JournalError::Version(2))));
        assert!(matches!(Reader::new(&b"KDUMP   "[..]), Err(JournalError::BadMagic)));
    }

    #[test]
    fn a_full_disk_leaves_the_records_before_it() {
        /// Takes so many bytes, then no more.
        struct Disk(Vec<u8>, usize);
        impl Write for Disk {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                let room = self.1 - self.0.len();
                if room == 0 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let now = buf.len().min(room);
                self.0.extend_from_slice(&buf[..now]);
                Ok(now)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = Writer::new(Disk(Vec::new(), 1000)).unwrap();
        writer.session(SessionId(7), &header()).unwrap();
        writer.block(0, 0, 0, &[5; 300]).unwrap();
        let length = writer.length();
        assert_eq!(writer.block(0, 1, 0, &[6; 400]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(writer.length(), length);
        assert_eq!(entries(&writer.out.0).0.len(), 2);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_end(tail in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut bytes = journal(&[vec![9; 50]]).0;
            bytes.extend(tail);
            prop_assert!(entries(&bytes).0.len() >= 3);
        }
    }
}
