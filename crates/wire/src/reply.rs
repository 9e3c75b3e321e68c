//! What the receiver says to the sender. docs/wire-format.md, "Reply".
//!
//! Replies are short, because each takes the sender's attention. They do not name their session: their CRC-32 begins
//! with its number.

use alloc::vec::Vec;

use crate::block::Cursor;
use crate::bytes::Reader;
use crate::frame::SessionId;
use crate::line;
use crate::request::{Course, Request, Urgency};

/// The first byte of an acknowledgement, a resume, a request, a course.
const ACK: u8 = 0xa1;
const RESUME: u8 = 0xa2;
const REQUEST: u8 = 0xa3;
const COURSE: u8 = 0xa4;

const CRC_BYTES: usize = 4;
/// A Resume, the longest reply.
const MAX_REPLY_BYTES: usize = 15 + CRC_BYTES;

/// Frames before the latest one that an acknowledgement speaks of.
pub const ACK_HISTORY: u16 = 32;

/// What a receiver says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Which frames came, and which blocks are safe.
    Ack {
        /// The receiver's number: it changes when the receiver is started again.
        receiver: u8,
        /// Sequence number of the latest frame that came.
        latest: u16,
        /// Bit *i*: frame `latest − 1 − i` came.
        history: u32,
        /// The low 16 bits of the number of the first block that is not durably stored; the end counts as the block
        /// behind the last one.
        durable: u16,
    },
    /// Where to go on: said by a receiver that just started, until a session header echoes its number.
    Resume {
        /// The receiver's number, not 0.
        receiver: u8,
        /// The first block it does not have durably stored.
        next_block: u32,
        /// Where the block before it ended.
        cursor: Cursor,
    },
    /// Pages that are wanted before their turn: said again until the block came that answers it.
    Request {
        /// The receiver's number.
        receiver: u8,
        /// Which pages.
        request: Request,
    },
    /// How the dump is to go on: said again until a session header tells of it.
    Course {
        /// The receiver's number.
        receiver: u8,
        /// How.
        course: Course,
    },
}

impl Reply {
    /// Appends the reply to `out` as it goes on the line. An acknowledgement takes 16 bytes there.
    pub fn encode(&self, session: SessionId, out: &mut Vec<u8>) {
        let mut bytes = Vec::with_capacity(MAX_REPLY_BYTES);
        match *self {
            Self::Ack { receiver, latest, history, durable } => {
                bytes.extend_from_slice(&[ACK, receiver]);
                bytes.extend_from_slice(&latest.to_le_bytes());
                bytes.extend_from_slice(&history.to_le_bytes());
                bytes.extend_from_slice(&durable.to_le_bytes());
            }
            Self::Resume { receiver, next_block, cursor } => {
                bytes.extend_from_slice(&[RESUME, receiver]);
                bytes.extend_from_slice(&next_block.to_le_bytes());
                bytes.push(cursor.pass);
                bytes.extend_from_slice(&cursor.position.to_le_bytes());
            }
            Self::Request { receiver, request: Request { number, urgency, first_pfn, pages } } => {
                bytes.extend_from_slice(&[REQUEST, receiver]);
                bytes.extend_from_slice(&number.to_le_bytes());
                let [pfn @ .., _, _, _] = first_pfn.to_le_bytes();
                bytes.extend_from_slice(&pfn);
                bytes.extend_from_slice(&[pages, urgency as u8]);
            }
            Self::Course { receiver, course } => {
                bytes.extend_from_slice(&[COURSE, receiver, course as u8]);
            }
        }
        bytes.extend_from_slice(&crc(session, &bytes).to_le_bytes());
        line::encode(&bytes, out);
    }

    /// The reply that `bytes` (between two zeros of the line, decoded) are, if they are one and of this session.
    fn decode(session: SessionId, bytes: &[u8]) -> Option<Self> {
        let (checked, expected) = bytes.split_last_chunk::<CRC_BYTES>()?;
        if crc(session, checked) != u32::from_le_bytes(*expected) {
            return None;
        }
        let mut reader = Reader::new(checked);
        let kind = reader.u8()?;
        let receiver = reader.u8()?;
        let reply = match kind {
            ACK => {
                Self::Ack { receiver, latest: reader.u16()?, history: reader.u32()?, durable: reader.u16()? }
            }
            RESUME => Self::Resume {
                receiver,
                next_block: reader.u32()?,
                cursor: Cursor { pass: reader.u8()?, position: reader.u64()? },
            },
            REQUEST => {
                let number = reader.u32()?;
                let [a, b, c, d, e] = reader.array()?;
                let first_pfn = u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]);
                let pages = reader.u8()?;
                let urgency = Urgency::from_wire(reader.u8()?)?;
                Self::Request { receiver, request: Request { number, urgency, first_pfn, pages } }
            }
            COURSE => Self::Course { receiver, course: Course::from_wire(reader.u8()?)? },
            _ => return None,
        };
        (reader.rest().is_empty() && receiver != 0).then_some(reply)
    }
}

fn crc(session: SessionId, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&session.0.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// Finds replies in what comes back over the line. Holds a few bytes; what is longer than a reply is passed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyReader {
    held: [u8; MAX_REPLY_BYTES + 1],
    length: usize,
}

impl ReplyReader {
    pub(crate) const fn new() -> Self {
        Self { held: [0; MAX_REPLY_BYTES + 1], length: 0 }
    }

    /// Takes one byte from the line; a reply that it completes is returned.
    pub(crate) fn push(&mut self, session: SessionId, byte: u8) -> Option<Reply> {
        if byte != 0 {
            if let Some(place) = self.held.get_mut(self.length) {
                *place = byte;
            }
            self.length = self.length.saturating_add(1);
            return None;
        }
        let length = core::mem::take(&mut self.length);
        let mut decoded = [0; MAX_REPLY_BYTES + 1];
        let report = cobs::decode(self.held.get(..length)?, &mut decoded).ok()?;
        Reply::decode(session, decoded.get(..report.frame_size())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    const SESSION: SessionId = SessionId(0x0201);

    fn heard(session: SessionId, line: &[u8]) -> Vec<Reply> {
        let mut reader = ReplyReader::new();
        line.iter().filter_map(|&byte| reader.push(session, byte)).collect()
    }

    fn encoded(reply: Reply) -> Vec<u8> {
        let mut out = Vec::new();
        reply.encode(SESSION, &mut out);
        out
    }

    const ACKNOWLEDGED: Reply = Reply::Ack { receiver: 7, latest: 0x0102, history: 0xffff_fffe, durable: 5 };
    const RESUMED: Reply =
        Reply::Resume { receiver: 7, next_block: 9, cursor: Cursor { pass: 2, position: 0x1_0000 } };

    const WANTED: Reply = Reply::Request {
        receiver: 0xee,
        request: Request { number: 5, urgency: Urgency::Soon, first_pfn: 0x1_2345, pages: 8 },
    };
    const HELD: Reply = Reply::Course { receiver: 0xee, course: Course::Hold };

    /// The worked examples of docs/wire-format.md: in session 0x0201, CRCs by zlib.crc32.
    #[test]
    fn requests_and_courses_have_these_bytes() {
        let bytes = |reply: Reply| {
            let line = encoded(reply);
            let mut bytes = vec![0; line.len()];
            let report = cobs::decode(&line[..line.len() - 1], &mut bytes).unwrap();
            bytes.truncate(report.frame_size());
            bytes
        };
        #[rustfmt::skip]
        assert_eq!(bytes(WANTED), [
            0xa3, 0xee,                    // request, receiver
            0x05, 0x00, 0x00, 0x00,        // number
            0x45, 0x23, 0x01, 0x00, 0x00,  // first page frame
            0x08, 0x01,                    // pages, urgency
            0x52, 0xdc, 0xde, 0xe4,        // CRC-32
        ]);
        assert_eq!(bytes(HELD), [0xa4, 0xee, 0x01, 0x6e, 0x0d, 0xc0, 0x38]);
    }

    #[test]
    fn what_a_receiver_asks_for_is_found_as_it_was_said() {
        let line = [encoded(WANTED), encoded(HELD)].concat();
        assert_eq!(heard(SESSION, &line), [WANTED, HELD]);
        assert_eq!(encoded(WANTED).len(), 19);
    }

    #[test]
    fn an_acknowledgement_takes_16_bytes_of_the_line() {
        assert_eq!(encoded(ACKNOWLEDGED).len(), 16);
    }

    #[test]
    fn replies_are_found_between_rubbish_and_only_in_their_session() {
        let mut line = b"login: \x03\x00".to_vec();
        line.extend(encoded(ACKNOWLEDGED));
        line.extend([0xff; 300]);
        line.push(0);
        line.extend(encoded(RESUMED));
        assert_eq!(heard(SESSION, &line), [ACKNOWLEDGED, RESUMED]);
        assert_eq!(heard(SessionId(9), &line), []);
    }

    proptest! {
        #[test]
        fn a_damaged_reply_is_not_believed(at in 0usize..15, bit in 0u8..8) {
            let mut line = encoded(ACKNOWLEDGED);
            line[at] ^= 1 << bit;
            prop_assert_eq!(heard(SESSION, &line), []);
        }

        #[test]
        fn arbitrary_bytes_are_no_reply(line in prop::collection::vec(any::<u8>(), 0..500)) {
            prop_assert_eq!(heard(SESSION, &line), []);
        }
    }
}
