//! The sender's memory of what was asked for, and of the answers that are on their way.

use alloc::vec::Vec;

use crate::block::{HEADER_BYTES, MAX_ENCODED_BYTES};
use crate::frame::Fragment;
use crate::pieces::{FragmentId, Pieces};
use crate::request::{ANSWERS, MAX_REQUESTS, Request, Urgency};

/// Bytes of all answers: the largest one fits.
const ARENA_BYTES: usize = MAX_ENCODED_BYTES;

/// Answers on their way at most.
const MAX_ANSWERS: usize = 32;

/// Requests that wait, and answers until they are received.
pub(crate) struct Answers {
    /// In the order in which they came.
    requests: Vec<Request>,
    /// The answers, one behind the other, and behind them the one that is being made.
    arena: Vec<u8>,
    kept: Vec<Kept>,
    making: Option<(u32, Urgency)>,
}

struct Kept {
    number: u32,
    urgency: Urgency,
    pieces: Pieces,
}

impl Answers {
    /// With all the memory it will ever take.
    pub(crate) fn new() -> Self {
        Self {
            requests: Vec::with_capacity(MAX_REQUESTS),
            arena: Vec::with_capacity(ARENA_BYTES),
            kept: Vec::with_capacity(MAX_ANSWERS),
            making: None,
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.requests.clear();
        self.arena.clear();
        self.kept.clear();
        self.making = None;
    }

    /// Takes a request, if it is new and there is a place for it.
    pub(crate) fn want(&mut self, request: Request) {
        if let Some(known) = self.requests.iter_mut().find(|known| known.number == request.number) {
            known.urgency = request.urgency;
            return;
        }
        let is_answered = self.making.is_some_and(|(number, _)| number == request.number)
            || self.kept.iter().any(|answer| answer.number == request.number);
        if !is_answered && self.requests.len() < MAX_REQUESTS {
            self.requests.push(request);
        }
    }

    /// The request to answer next, for pages of `1 << page_shift` bytes; `None` also while there is no room for its answer,
    /// and while one is being made.
    pub(crate) fn next(&self, page_shift: u8) -> Option<Request> {
        let next = self.requests.iter().min_by_key(|request| request.urgency)?;
        let needed = HEADER_BYTES + codec::max_encoded_bytes(next.max_answer_bytes(page_shift));
        let has_room = self.arena.len() + needed <= ARENA_BYTES && self.kept.len() < MAX_ANSWERS;
        (has_room && self.making.is_none()).then_some(*next)
    }

    /// Whether an answer is being made.
    pub(crate) const fn is_making(&self) -> bool {
        self.making.is_some()
    }

    /// The answer to this request is made from now on.
    pub(crate) fn begin(&mut self, request: &Request) {
        self.abandon();
        self.requests.retain(|other| other.number != request.number);
        self.making = Some((request.number, request.urgency));
        self.arena.extend_from_slice(&[0; HEADER_BYTES]);
    }

    /// Where the answer that is being made is put, behind what else there is; `None`: nobody wants it any more.
    pub(crate) fn making(&mut self) -> Option<&mut Vec<u8>> {
        self.making.is_some().then_some(&mut self.arena)
    }

    /// The answer is whole, and `header` is its header.
    pub(crate) fn finish(&mut self, header: &[u8; HEADER_BYTES]) {
        let Some((number, urgency)) = self.making.take() else { return };
        let start = self.kept_bytes();
        let Some(encoded) = self.arena.get_mut(start..) else { return };
        if let Some(place) = encoded.first_chunk_mut() {
            *place = *header;
        }
        self.kept.push(Kept { number, urgency, pieces: Pieces::of(encoded) });
    }

    /// The answer that is being made will not be finished.
    pub(crate) fn abandon(&mut self) {
        self.making = None;
        self.arena.truncate(self.kept_bytes());
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.arena.len()
    }

    fn kept_bytes(&self) -> usize {
        self.kept.iter().map(|answer| answer.pieces.length()).sum()
    }

    /// The first fragment that was neither received nor is on its way.
    pub(crate) fn waiting(&self) -> Option<FragmentId> {
        self.kept.iter().find_map(|answer| {
            let index = answer.pieces.waiting()?;
            Some(FragmentId { stream: ANSWERS, block: answer.number, index })
        })
    }

    /// As a [`crate::window::Window`] cuts its blocks.
    pub(crate) fn cut(&mut self, id: FragmentId, fragment_bytes: usize) {
        if let Some(answer) = self.kept(id) {
            answer.pieces.cut(fragment_bytes);
        }
    }

    /// A fragment's content; its bytes are copied to `scratch`.
    pub(crate) fn fragment<'s>(&self, id: FragmentId, scratch: &'s mut Vec<u8>) -> Option<Fragment<'s>> {
        let (index, start) = self.find(|answer| answer.number == id.block)?;
        let pieces = &self.kept.get(index)?.pieces;
        let range = pieces.range(id.index);
        scratch.clear();
        scratch.extend_from_slice(self.arena.get(start + range.start..start + range.end)?);
        Some(pieces.fragment(id, scratch))
    }

    pub(crate) fn set_in_flight(&mut self, id: FragmentId, in_flight: bool) {
        if let Some(answer) = self.kept(id) {
            answer.pieces.set_in_flight(id.index, in_flight);
        }
    }

    pub(crate) fn set_received(&mut self, id: FragmentId) {
        if let Some(answer) = self.kept(id) {
            answer.pieces.set_received(id.index);
        }
    }

    /// Whether this fragment ends an answer that somebody waits for.
    pub(crate) fn ends_urgent(&self, id: FragmentId) -> bool {
        let answer = self.kept.iter().find(|answer| answer.number == id.block);
        answer.is_some_and(|answer| answer.urgency == Urgency::Now && answer.pieces.is_last(id.index))
    }

    /// Forgets the answers that were received, and says whether somebody waited for one of them.
    pub(crate) fn forget_received(&mut self) -> bool {
        let mut is_urgent = false;
        while let Some((index, start)) = self.find(|answer| answer.pieces.is_received()) {
            let answer = self.kept.remove(index);
            self.arena.drain(start..start + answer.pieces.length());
            is_urgent |= answer.urgency == Urgency::Now;
        }
        is_urgent
    }

    /// The first such answer: its index, and where in the arena it begins.
    fn find(&self, is_wanted: impl Fn(&Kept) -> bool) -> Option<(usize, usize)> {
        let index = self.kept.iter().position(is_wanted)?;
        Some((index, self.kept.iter().take(index).map(|before| before.pieces.length()).sum()))
    }

    fn kept(&mut self, id: FragmentId) -> Option<&mut Kept> {
        self.kept.iter_mut().find(|answer| answer.number == id.block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Urgency;
    use alloc::vec;
    use proptest::prelude::*;

    fn want(answers: &mut Answers, number: u32, urgency: Urgency) {
        answers.want(Request { number, urgency, first_pfn: 7, pages: 1 });
    }

    /// Answers what is to be answered next with so many bytes.
    fn answer(answers: &mut Answers, bytes: usize) -> Option<u32> {
        let request = answers.next(12)?;
        let number = request.number;
        answers.begin(&request);
        answers.making().unwrap().extend(vec![number as u8; bytes]);
        answers.finish(&[number as u8; HEADER_BYTES]);
        Some(number)
    }

    #[test]
    fn what_is_wanted_now_is_answered_before_what_is_wanted_soon_each_in_their_order() {
        let mut answers = Answers::new();
        for (number, urgency) in
            [(3, Urgency::Soon), (9, Urgency::Now), (1, Urgency::Soon), (2, Urgency::Now)]
        {
            want(&mut answers, number, urgency);
        }
        // It turned out that somebody waits.
        want(&mut answers, 1, Urgency::Now);
        let order: Vec<_> = core::iter::from_fn(|| answer(&mut answers, 10)).collect();
        assert_eq!(order, [9, 1, 2, 3]);
    }

    #[test]
    fn a_request_that_comes_again_is_answered_once() {
        let mut answers = Answers::new();
        for _ in 0..3 {
            want(&mut answers, 5, Urgency::Now);
        }
        answers.begin(&answers.next(12).unwrap());
        want(&mut answers, 5, Urgency::Now);
        assert_eq!(answers.next(12), None);
        answers.finish(&[0; HEADER_BYTES]);
        want(&mut answers, 5, Urgency::Now);
        assert_eq!(answers.next(12), None);
    }

    #[test]
    fn an_answer_waits_for_room_until_others_are_received() {
        let mut answers = Answers::new();
        for number in 0..100 {
            want(&mut answers, number, Urgency::Now);
        }
        let mut made = 0;
        while answer(&mut answers, 4000).is_some() {
            made += 1;
        }
        assert!((15..25).contains(&made) && answers.held_bytes() <= ARENA_BYTES, "{made}");
        let id = answers.waiting().unwrap();
        answers.cut(id, 5000);
        while let Some(id) = answers.waiting().filter(|id| id.block == 0) {
            answers.set_received(id);
        }
        answers.forget_received();
        assert_eq!(answer(&mut answers, 4000), Some(made));
    }

    #[test]
    fn the_largest_page_has_room() {
        for (page_shift, pages) in [(12, 16), (14, 4), (16, 1)] {
            let mut answers = Answers::new();
            answers.want(Request { number: 1, urgency: Urgency::Now, first_pfn: 0, pages });
            assert!(answers.next(page_shift).is_some());
        }
    }

    proptest! {
        #[test]
        fn fragments_make_up_their_answers_in_whatever_order_those_are_received(
            lengths in prop::collection::vec((1usize..4000, 200usize..1200, any::<u8>()), 1..60),
        ) {
            let mut answers = Answers::new();
            let mut scratch = Vec::new();
            for (number, (length, fragment_bytes, keep)) in (0u32..).zip(lengths) {
                want(&mut answers, number, Urgency::Now);
                if answer(&mut answers, length).is_none() {
                    answers.clear();
                    continue;
                }
                let mut assembled = Vec::new();
                while let Some(id) = answers.waiting() {
                    prop_assert_eq!((id.stream, id.block), (ANSWERS, number));
                    answers.cut(id, fragment_bytes);
                    assembled.extend_from_slice(answers.fragment(id, &mut scratch).unwrap().bytes);
                    answers.set_in_flight(id, true);
                    if keep % 2 == 0 {
                        answers.set_received(id);
                        answers.set_in_flight(id, false);
                    }
                }
                prop_assert_eq!(assembled, vec![number as u8; HEADER_BYTES + length]);
                if keep % 3 == 0 {
                    // Another one is being made meanwhile.
                    answers.begin(&Request { number: number + 1000, urgency: Urgency::Now, first_pfn: 7, pages: 1 });
                    answers.making().unwrap().extend([1; 10]);
                    answers.forget_received();
                    prop_assert_eq!(answers.held_bytes(), answers.kept_bytes() + HEADER_BYTES + 10);
                    answers.abandon();
                }
                answers.forget_received();
                prop_assert_eq!(answers.held_bytes(), answers.kept_bytes());
            }
        }
    }
}
