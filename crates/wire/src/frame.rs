//! Frames: what the line carries, each protected by its own CRC-32. docs/wire-format.md, "Frame".

use alloc::vec::Vec;

use crate::bytes::Reader;

/// The first byte of every frame. It is not ASCII, and the byte behind it is not printable: console text is never
/// mistaken for a frame.
pub const MAGIC: u8 = 0xd5;

/// The version of the format this crate writes, and the only one it reads.
pub const VERSION: u8 = 1;

/// The largest frame, from magic to CRC, in bytes.
pub const MAX_FRAME_BYTES: usize = 1200;

/// magic, version and kind, session, sequence number.
const COMMON_BYTES: usize = 6;
/// stream, block, generation, fragment, fragments.
const FRAGMENT_BYTES: usize = 11;
const CRC_BYTES: usize = 4;

/// The most bytes of a block that one frame carries.
pub const MAX_FRAGMENT_BYTES: usize = MAX_FRAME_BYTES - COMMON_BYTES - FRAGMENT_BYTES - CRC_BYTES;

/// The number of one dump: frames of another are not this dump's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u16);

/// A frame, decoded. Its bytes are still where the frame was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Whose it is.
    pub session: SessionId,
    /// Counts the sender's frames, modulo 2^16: a fragment that is sent again has a new one.
    pub sequence: u16,
    /// What it says.
    pub body: Body<'a>,
}

/// The kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Kind 1: the session header; see [`crate::SessionHeader`].
    Session(&'a [u8]),
    /// Kind 2: a fragment of a block.
    Fragment(Fragment<'a>),
    /// Kind 3: the end of the session; see [`crate::SessionEnd`].
    End(&'a [u8]),
    /// Kind 4: the sender is alive and has nothing to send.
    KeepAlive,
}

/// A piece of an encoded block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// 0: the passes; others answer requests.
    pub stream: u8,
    /// Counts from 0 in its stream.
    pub block: u32,
    /// CRC-32 of the whole encoded block: a block made again from changed memory is another generation.
    pub generation: u32,
    /// Which piece, from 0.
    pub index: u8,
    /// How many pieces the block has.
    pub count: u8,
    /// The piece.
    pub bytes: &'a [u8],
}

impl Body<'_> {
    const fn kind(&self) -> u8 {
        match self {
            Self::Session(_) => 1,
            Self::Fragment(_) => 2,
            Self::End(_) => 3,
            Self::KeepAlive => 4,
        }
    }
}

impl Frame<'_> {
    /// Appends the frame to `out`, from magic to CRC.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[MAGIC, VERSION << 4 | self.body.kind()]);
        out.extend_from_slice(&self.session.0.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        match self.body {
            Body::Session(payload) | Body::End(payload) => out.extend_from_slice(payload),
            Body::KeepAlive => {}
            Body::Fragment(fragment) => {
                out.push(fragment.stream);
                out.extend_from_slice(&fragment.block.to_le_bytes());
                out.extend_from_slice(&fragment.generation.to_le_bytes());
                out.extend_from_slice(&[fragment.index, fragment.count]);
                out.extend_from_slice(fragment.bytes);
            }
        }
        let crc = crc32fast::hash(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&crc.to_le_bytes());
    }
}

impl<'a> Frame<'a> {
    /// The frame that `bytes` are, from magic to CRC.
    ///
    /// # Errors
    /// [`FrameError`] tells what is wrong with it; nothing of it may be believed then.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let length = FrameError::Length(bytes.len());
        if bytes.len() > MAX_FRAME_BYTES {
            return Err(length);
        }
        let (checked, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or(length)?;
        let mut reader = Reader::new(checked);
        if reader.u8() != Some(MAGIC) {
            return Err(FrameError::Magic);
        }
        if crc32fast::hash(checked) != u32::from_le_bytes(*crc) {
            return Err(FrameError::Crc);
        }
        let version_and_kind = reader.u8().ok_or(length)?;
        if version_and_kind >> 4 != VERSION {
            return Err(FrameError::Version(version_and_kind >> 4));
        }
        let session = SessionId(reader.u16().ok_or(length)?);
        let sequence = reader.u16().ok_or(length)?;
        let body = match version_and_kind & 0xf {
            1 => Body::Session(reader.rest()),
            2 => Body::Fragment(Fragment::decode(reader).ok_or(length)?),
            3 => Body::End(reader.rest()),
            4 => Body::KeepAlive,
            kind => return Err(FrameError::Kind(kind)),
        };
        Ok(Self { session, sequence, body })
    }
}

impl<'a> Fragment<'a> {
    fn decode(mut reader: Reader<'a>) -> Option<Self> {
        let fragment = Self {
            stream: reader.u8()?,
            block: reader.u32()?,
            generation: reader.u32()?,
            index: reader.u8()?,
            count: reader.u8()?,
            bytes: reader.rest(),
        };
        (fragment.index < fragment.count && !fragment.bytes.is_empty()).then_some(fragment)
    }
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It does not begin like one: text of the console, most likely.
    #[error("no frame magic")]
    Magic,
    /// Damaged on the way.
    #[error("CRC mismatch")]
    Crc,
    /// A whole frame of a format that this program does not know.
    #[error("frame of wire format version {0}; this program reads version {VERSION}")]
    Version(u8),
    /// A whole frame of a kind that this program does not know; it may be ignored.
    #[error("frame of unknown kind {0}")]
    Kind(u8),
    /// Too short or too long for its kind.
    #[error("frame of {0} bytes")]
    Length(usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn encoded(frame: &Frame<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        frame.encode(&mut out);
        out
    }

    fn fragment() -> Frame<'static> {
        Frame {
            session: SessionId(0x0201),
            sequence: 0x0403,
            body: Body::Fragment(Fragment {
                stream: 0,
                block: 7,
                generation: 0xaabb_ccdd,
                index: 1,
                count: 3,
                bytes: b"abc",
            }),
        }
    }

    /// The worked example of docs/wire-format.md.
    #[test]
    fn a_fragment_has_these_bytes() {
        #[rustfmt::skip]
        assert_eq!(encoded(&fragment()), [
            0xd5,                    // magic
            0x12,                    // version 1, kind 2
            0x01, 0x02,              // session
            0x03, 0x04,              // sequence
            0x00,                    // stream
            0x07, 0x00, 0x00, 0x00,  // block
            0xdd, 0xcc, 0xbb, 0xaa,  // generation
            0x01, 0x03,              // fragment 1 of 3
            b'a', b'b', b'c',
            0xd3, 0x0f, 0xcb, 0xaf,  // CRC-32 (zlib.crc32 agrees)
        ]);
    }

    #[test]
    fn a_frame_of_another_version_is_named_as_such() {
        let mut bytes = encoded(&fragment());
        bytes[1] = 0x22;
        let body = bytes.len() - 4;
        let crc = crc32fast::hash(&bytes[..body]);
        bytes[body..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Frame::decode(&bytes), Err(FrameError::Version(2)));
    }

    #[test]
    fn a_fragment_outside_its_block_is_refused() {
        let Body::Fragment(good) = fragment().body else { unreachable!() };
        for bad in [
            Fragment { index: 3, ..good },
            Fragment { count: 0, index: 0, ..good },
            Fragment { bytes: b"", ..good },
        ] {
            let frame = Frame { session: SessionId(1), sequence: 0, body: Body::Fragment(bad) };
            assert!(matches!(Frame::decode(&encoded(&frame)), Err(FrameError::Length(_))), "{bad:?}");
        }
    }

    #[test]
    fn the_largest_fragment_makes_the_largest_frame() {
        let bytes = vec![1; MAX_FRAGMENT_BYTES];
        let Body::Fragment(fragment) = fragment().body else { unreachable!() };
        let frame = Frame {
            session: SessionId(1),
            sequence: 0,
            body: Body::Fragment(Fragment { bytes: &bytes, ..fragment }),
        };
        assert_eq!(encoded(&frame).len(), MAX_FRAME_BYTES);
        assert_eq!(Frame::decode(&encoded(&frame)), Ok(frame));
    }

    proptest! {
        #[test]
        fn a_single_wrong_bit_is_noticed(bit in 0usize..24 * 8) {
            let mut bytes = encoded(&fragment());
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Frame::decode(&bytes).is_err());
        }

        #[test]
        fn arbitrary_bytes_are_no_frame(bytes in prop::collection::vec(any::<u8>(), 0..1300)) {
            prop_assert!(Frame::decode(&bytes).is_err());
        }
    }
}
