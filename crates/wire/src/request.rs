//! What a receiver may ask of a sender: pages that it wants before their turn, and whether the passes go on.
//! docs/wire-format.md, "Requests".

use core::ops::Range;

use crate::bytes::Reader;
use crate::record::MAX_PFN;
use crate::session::{RUN_BYTES, SESSION_HEADER_BYTES};

/// The stream of the blocks that answer requests; a block has its request's number.
pub const ANSWERS: u8 = 1;

/// The most memory that one request covers: the largest page.
pub const MAX_REQUEST_BYTES: u32 = 64 * 1024;

/// Requests that may wait to be answered; a sender ignores more, and a receiver makes none.
pub const MAX_REQUESTS: usize = 64;

/// Pages that a receiver wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Chosen by the receiver, and used once in a session.
    pub number: u32,
    /// Whether somebody waits for it.
    pub urgency: Urgency,
    /// The first page's frame number, below 2^40.
    pub first_pfn: u64,
    /// How many, at least one, and no more than [`MAX_REQUEST_BYTES`] of them.
    pub pages: u8,
}

/// Which requests are answered first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Urgency {
    /// Somebody waits.
    Now = 0,
    /// Somebody will want it: behind all that is wanted now, before the passes.
    Soon = 1,
}

/// How the dump is to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Course {
    /// As ever: the passes, then the end.
    #[default]
    GoOn = 0,
    /// No passes for now: only what is asked for. There is no end meanwhile.
    Hold = 1,
    /// Nothing more will be asked for. Passes that were held end where they are; after the end nothing holds the sender.
    Release = 2,
    /// The passes go on, and after the end the sender stays for requests.
    Stay = 3,
}

/// What a sender says of its service with each session header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// The course it was told last, by the receiver that the header names.
    pub course: Course,
    /// Whether it stays after the end, as things are now.
    pub stays: bool,
}

const STAYS: u8 = 0x80;

impl Request {
    /// Whether its numbers stay within their bounds, for pages of `1 << page_shift` bytes.
    #[must_use]
    pub fn is_sound(&self, page_shift: u8) -> bool {
        let bytes = u32::from(self.pages).checked_shl(page_shift.into()).unwrap_or(u32::MAX);
        let is_bounded = self.pages > 0 && bytes <= MAX_REQUEST_BYTES;
        is_bounded && self.first_pfn < MAX_PFN && self.first_pfn + u64::from(self.pages) <= MAX_PFN
    }

    /// The most bytes of records that answer it, for pages of `1 << page_shift` bytes: pages with what stands before each, and
    /// more of that where one is RAM only in part.
    #[must_use]
    pub fn max_answer_bytes(&self, page_shift: u8) -> usize {
        let page_bytes = 1_usize.checked_shl(page_shift.into()).unwrap_or(usize::MAX);
        usize::from(self.pages).saturating_mul(page_bytes.saturating_add(8)).saturating_add(256)
    }

    /// Its frame numbers.
    #[must_use]
    pub const fn pfns(&self) -> Range<u64> {
        self.first_pfn..self.first_pfn.saturating_add(self.pages as u64)
    }
}

impl Urgency {
    pub(crate) const fn from_wire(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Now),
            1 => Some(Self::Soon),
            _ => None,
        }
    }
}

impl Course {
    pub(crate) const fn from_wire(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::GoOn),
            1 => Some(Self::Hold),
            2 => Some(Self::Release),
            3 => Some(Self::Stay),
            _ => None,
        }
    }
}

impl Service {
    /// The byte behind the header in a Session frame.
    #[must_use]
    pub const fn encode(self) -> u8 {
        self.course as u8 | if self.stays { STAYS } else { 0 }
    }

    /// From a Session frame's payload; `None`: a sender that knows of no requests.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        reader.take(RUN_BYTES + SESSION_HEADER_BYTES)?;
        let byte = reader.u8()?;
        Some(Self { course: Course::from_wire(byte & !STAYS)?, stays: byte & STAYS != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Run, SessionHeader, UTSNAME_BYTES};

    fn request(first_pfn: u64, pages: u8) -> Request {
        Request { number: 0, urgency: Urgency::Now, first_pfn, pages }
    }

    #[test]
    fn a_request_is_of_64_kib_at_most_and_of_frames_that_there_can_be() {
        for (page_shift, most) in [(12, 16), (14, 4), (16, 1)] {
            assert!(request(0, most).is_sound(page_shift));
            assert!(!request(0, most + 1).is_sound(page_shift));
            assert!(!request(0, 0).is_sound(page_shift));
            assert!(!request(0, u8::MAX).is_sound(page_shift));
            assert!(request((1 << 40) - u64::from(most), most).is_sound(page_shift));
            assert!(!request((1 << 40) + 1 - u64::from(most), most).is_sound(page_shift));
            assert!(!request(u64::MAX, most).is_sound(page_shift));
        }
    }

    /// The worked example of docs/wire-format.md.
    #[test]
    fn a_sender_that_is_held_and_stays_says_so_behind_its_header() {
        let header = SessionHeader {
            e_machine: 62,
            page_shift: 12,
            dump_level: 0,
            crash_time: 0,
            ram_pages: 0,
            utsname: [0; UTSNAME_BYTES],
        };
        let mut payload = [&Run::default().encode()[..], &header.encode()].concat();
        // Magic to sequence number stand before it.
        assert_eq!(6 + payload.len(), 422);
        assert_eq!(Service::decode(&payload), None, "of a sender that does not serve");
        let service = Service { course: Course::Hold, stays: true };
        assert_eq!(service.encode(), 0x81);
        payload.push(0x81);
        assert_eq!(Service::decode(&payload), Some(service));
        payload[416] = 0x7f;
        assert_eq!(Service::decode(&payload), None, "of one that knows more than this program");
    }
}
