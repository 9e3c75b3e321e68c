//! makedumpfile's flattened format (`makedumpfile -F`): a dump as records that can be written without seeking.
//!
//! A header of 4096 bytes, then records of a 16-byte head and their data, then an end record. All numbers are big
//! endian. crash and libkdumpfile read it; `makedumpfile -R` makes a plain file of it.

use zerocopy::big_endian::I64;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 4096;
/// Bytes of a record's head.
pub const RECORD_HEAD_BYTES: usize = 16;

const SIGNATURE: &[u8; 16] = b"makedumpfile\0\0\0\0";
const TYPE: i64 = 1;
const VERSION: i64 = 1;
/// Offset and size of the record that ends the stream.
const END: i64 = -1;

/// Why bytes are not of the flattened format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlattenedError {
    /// The signature is another.
    #[error("not a flattened dump")]
    BadSignature,
    /// Only type 1, version 1 exists.
    #[error("flattened dump of type {dump_type}, version {version}: only 1, 1 is known")]
    Unsupported {
        /// Type.
        dump_type: i64,
        /// Version.
        version: i64,
    },
    /// A record cannot be where it says.
    #[error("flattened record with offset {offset} and size {size}")]
    BadRecord {
        /// Its offset in the plain file, in bytes.
        offset: i64,
        /// Its size in bytes.
        size: i64,
    },
}

/// The header, whole.
#[must_use]
pub fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let fields = SIGNATURE.iter().copied().chain(TYPE.to_be_bytes()).chain(VERSION.to_be_bytes());
    for (byte, field) in header.iter_mut().zip(fields) {
        *byte = field;
    }
    header
}

/// Checks a header; its first 32 bytes are enough.
///
/// # Errors
/// [`FlattenedError`] if this is none.
pub fn check_header(bytes: &[u8]) -> Result<(), FlattenedError> {
    let (signature, rest) = bytes.split_first_chunk::<16>().ok_or(FlattenedError::BadSignature)?;
    let (dump_type, rest) = rest.split_first_chunk().ok_or(FlattenedError::BadSignature)?;
    let version = rest.first_chunk().ok_or(FlattenedError::BadSignature)?;
    if signature != SIGNATURE {
        return Err(FlattenedError::BadSignature);
    }
    match (i64::from_be_bytes(*dump_type), i64::from_be_bytes(*version)) {
        (TYPE, VERSION) => Ok(()),
        (dump_type, version) => Err(FlattenedError::Unsupported { dump_type, version }),
    }
}

/// The head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordHead {
    /// `bytes` of data follow, which belong at `offset` of the plain file.
    Data {
        /// Offset in the plain file.
        offset: u64,
        /// Bytes of data.
        bytes: u64,
    },
    /// Nothing follows.
    End,
}

impl RecordHead {
    /// Reads a head. What it promises need not be there: neither the end of the data nor of the plain file is bounded
    /// by anything but 63 bits.
    ///
    /// # Errors
    /// [`FlattenedError::BadRecord`] for negative numbers, an empty record, or an end past 63 bits.
    pub fn parse(head: &[u8; RECORD_HEAD_BYTES]) -> Result<Self, FlattenedError> {
        let [offset, size]: [I64; 2] = zerocopy::transmute!(*head);
        let (offset, size) = (offset.get(), size.get());
        if (offset, size) == (END, END) {
            return Ok(Self::End);
        }
        let bad = FlattenedError::BadRecord { offset, size };
        if offset < 0 || size <= 0 || offset.checked_add(size).is_none() {
            return Err(bad);
        }
        Ok(Self::Data { offset: offset.cast_unsigned(), bytes: size.cast_unsigned() })
    }

    /// Its bytes.
    ///
    /// # Errors
    /// [`FlattenedError::BadRecord`] if they could not be read back.
    pub fn encode(self) -> Result<[u8; RECORD_HEAD_BYTES], FlattenedError> {
        let (offset, size) = match self {
            Self::End => (END, END),
            Self::Data { offset, bytes } => (offset.cast_signed(), bytes.cast_signed()),
        };
        let head = zerocopy::transmute!([I64::new(offset), I64::new(size)]);
        match Self::parse(&head)? {
            back if back == self => Ok(head),
            _ => Err(FlattenedError::BadRecord { offset, size }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_these_bytes() {
        let header = header();
        assert_eq!(header[..32], *b"makedumpfile\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01");
        assert!(header[32..].iter().all(|&byte| byte == 0));
        assert_eq!(check_header(&header), Ok(()));
    }

    #[test]
    fn another_header_is_refused() {
        assert_eq!(check_header(b"KDUMP   "), Err(FlattenedError::BadSignature));
        assert_eq!(check_header(&header()[..31]), Err(FlattenedError::BadSignature));
        let mut newer = header();
        newer[31] = 2;
        assert_eq!(check_header(&newer), Err(FlattenedError::Unsupported { dump_type: 1, version: 2 }));
    }

    #[test]
    fn records_are_these_bytes() {
        let record = RecordHead::Data { offset: 0x1000, bytes: 0x20 };
        let bytes = *b"\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\x20";
        assert_eq!(record.encode(), Ok(bytes));
        assert_eq!(RecordHead::parse(&bytes), Ok(record));
        assert_eq!(RecordHead::End.encode(), Ok([0xff; 16]));
        assert_eq!(RecordHead::parse(&[0xff; 16]), Ok(RecordHead::End));
    }

    #[test]
    fn records_that_cannot_be_are_refused() {
        for (offset, size) in [(-1_i64, 4_i64), (4, -1), (0, 0), (i64::MAX, 1), (i64::MIN, i64::MIN)] {
            let mut head = [0; 16];
            head[..8].copy_from_slice(&offset.to_be_bytes());
            head[8..].copy_from_slice(&size.to_be_bytes());
            assert_eq!(RecordHead::parse(&head), Err(FlattenedError::BadRecord { offset, size }));
        }
        for (offset, bytes) in [(u64::MAX, u64::MAX), (0, 0), (1 << 63, 1), (0, 1 << 63)] {
            assert!(RecordHead::Data { offset, bytes }.encode().is_err());
        }
    }
}
