//! What a receiver's host wants of the sender: when it is said, and when not.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod support;

use std::time::Duration;

use codec::{CodecId, Filter};
use support::{SESSION, frame, header};
use wire::{
    ANSWERS, BlockHeader, Body, Course, Cursor, Event, Fragment, Receiver, Request, Run, Service, SessionId,
    Urgency, generation,
};

const SECOND: Duration = Duration::from_secs(1);
const SERVES: Service = Service { course: Course::GoOn, stays: false };

/// What a receiver says of requests and courses, by the bytes they begin with.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Request { number: u32, first_pfn: u64, pages: u8, urgency: u8 },
    Course(u8),
}

/// A receiver, and what is said to it.
struct Host {
    receiver: Receiver,
    now: Duration,
    sequence: u16,
}

impl Host {
    fn new() -> Self {
        Self { receiver: Receiver::new(9), now: SECOND, sequence: 0 }
    }

    /// One whose Resume was heard by a sender that says this of its service.
    fn heard(service: Option<Service>) -> Self {
        let mut host = Self::new();
        host.header(SESSION, 0, None);
        host.header(SESSION, 9, service);
        assert_eq!(host.said(), []);
        host
    }

    fn header(&mut self, session: SessionId, receiver: u8, service: Option<Service>) {
        let run = Run { receiver, ..Run::default() };
        let byte = service.map(Service::encode);
        let payload = [&run.encode()[..], &header().encode(), &byte.into_iter().collect::<Vec<_>>()].concat();
        self.hear(session, Body::Session(&payload));
    }

    fn alive(&mut self) {
        self.hear(SESSION, Body::KeepAlive);
    }

    fn hear(&mut self, session: SessionId, body: Body<'_>) -> Vec<u32> {
        let line = frame(session, self.sequence, body);
        self.sequence += 1;
        let mut answers = Vec::new();
        self.receiver.push(&line, |event| {
            if let Event::Block { stream: ANSWERS, number, .. } = event {
                answers.push(number);
            }
        });
        answers
    }

    /// A block that answers request `number` with these pages.
    fn answer(&mut self, number: u32, first_pfn: u64, pages: u64) -> Vec<u32> {
        let place = |position| Cursor { pass: 0, position };
        let block = BlockHeader {
            start: place(first_pfn),
            end: place(first_pfn + pages),
            codec: CodecId::None,
            filter: Filter::None,
            raw_bytes: 0,
        };
        let bytes = &block.encode();
        let generation = generation(bytes);
        let fragment = Fragment { stream: ANSWERS, block: number, generation, index: 0, count: 1, bytes };
        self.hear(SESSION, Body::Fragment(fragment))
    }

    fn said(&mut self) -> Vec<Said> {
        self.receiver.service(self.now);
        let line = self.receiver.take_replies();
        let coded = line.split(|&byte| byte == 0).filter(|coded| !coded.is_empty());
        let replies = coded.map(|coded| {
            let mut bytes = vec![0; 64];
            let report = cobs::decode(coded, &mut bytes).unwrap();
            bytes.truncate(report.frame_size());
            bytes
        });
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        let said = replies.filter_map(|bytes| match bytes.first()? {
            0xa3 => Some(Said::Request {
                number: word(&bytes[2..6]) as u32,
                first_pfn: word(&bytes[6..11]),
                pages: bytes[11],
                urgency: bytes[12],
            }),
            0xa4 => Some(Said::Course(bytes[2])),
            _ => None,
        });
        said.collect()
    }

    fn requests(&mut self) -> Vec<u32> {
        self.said()
            .iter()
            .filter_map(|s| if let Said::Request { number, .. } = s { Some(*number) } else { None })
            .collect()
    }

    fn want(&mut self, first_pfn: u64) -> u32 {
        self.receiver.request(first_pfn, 1, Urgency::Now).unwrap()
    }
}

#[test]
fn a_request_is_said_at_once_and_again_each_second_until_its_block_came() {
    let mut host = Host::heard(Some(SERVES));
    let number = host.receiver.request(0x1_2345, 8, Urgency::Soon).unwrap();
    let said = [Said::Request { number, first_pfn: 0x1_2345, pages: 8, urgency: 1 }];
    assert_eq!(host.said(), said);
    for _ in 0..9 {
        host.now += SECOND / 10;
        host.alive();
        assert_eq!(host.said(), []);
    }
    host.now += SECOND / 10;
    assert_eq!(host.said(), said);
    assert_eq!(host.answer(number, 0x1_2345, 8), [number]);
    assert_eq!(host.receiver.unanswered_requests(), 0);
    host.now += 2 * SECOND;
    host.alive();
    assert_eq!(host.said(), []);
}

#[test]
fn a_sender_that_is_too_old_to_serve_is_asked_for_nothing() {
    let mut host = Host::heard(None);
    assert_eq!(host.receiver.service_of_sender(), None);
    host.want(1);
    host.receiver.set_course(Course::Hold);
    assert_eq!(host.said(), []);
}

#[test]
fn nothing_is_wanted_before_the_sender_knows_this_receiver() {
    let mut host = Host::new();
    assert_eq!(host.receiver.request(1, 1, Urgency::Now), None, "how large is a page?");
    host.header(SESSION, 0, Some(SERVES));
    let number = host.want(1);
    assert_eq!(host.said(), []);
    host.header(SESSION, 9, Some(SERVES));
    assert_eq!(host.requests(), [number]);
    // Another one has taken its place.
    host.header(SESSION, 77, Some(SERVES));
    host.now += SECOND;
    assert_eq!(host.said(), []);
}

#[test]
fn nothing_is_wanted_of_a_line_that_is_silent() {
    let mut host = Host::heard(Some(SERVES));
    host.want(1);
    host.receiver.set_course(Course::Hold);
    let mut said = 0;
    for _ in 0..100 {
        host.now += SECOND / 10;
        said += host.said().len();
    }
    assert_eq!(said, 2 * 3);
    host.alive();
    assert_eq!(host.said().len(), 2);
}

#[test]
fn once_the_end_is_stored_only_a_sender_that_stays_is_asked() {
    for stays in [false, true] {
        let mut host = Host::heard(Some(Service { stays, ..SERVES }));
        host.hear(
            SESSION,
            Body::End(&wire::SessionEnd { blocks: 1, ..wire::SessionEnd::default() }.encode()),
        );
        host.receiver.set_durable(1);
        host.want(1);
        assert_eq!(host.requests().len(), 1, "the end is not stored");
        host.receiver.set_durable(2);
        host.alive();
        host.now += SECOND;
        host.want(2);
        assert_eq!(host.requests().len(), if stays { 2 } else { 0 });
    }
}

#[test]
fn a_course_is_said_until_a_header_tells_of_it() {
    let mut host = Host::heard(Some(SERVES));
    host.receiver.set_course(Course::Hold);
    assert_eq!(host.said(), [Said::Course(1)]);
    assert_eq!(host.said(), []);
    host.now += SECOND;
    assert_eq!(host.said(), [Said::Course(1)]);
    host.header(SESSION, 9, Some(Service { course: Course::Hold, stays: true }));
    host.now += SECOND;
    assert_eq!(host.said(), []);
    // The sender has heard nothing for long, or another receiver.
    host.header(SESSION, 9, Some(SERVES));
    assert_eq!(host.said(), [Said::Course(1)]);
    host.receiver.set_course(Course::GoOn);
    assert_eq!(host.said(), [], "as it is");
}

#[test]
fn what_is_wanted_is_said_at_once_on_another_line_and_to_a_sender_that_went_back() {
    let mut host = Host::heard(Some(SERVES));
    let number = host.want(1);
    assert_eq!(host.requests(), [number]);
    host.receiver.line_changed(10);
    assert_eq!(host.said(), []);
    host.header(SESSION, 9, Some(SERVES));
    assert_eq!(host.said(), []);
    host.header(SESSION, 10, Some(SERVES));
    assert_eq!(host.requests(), [number]);
    let run = Run { receiver: 10, number: 1, first_block: 0 };
    let payload = [&run.encode()[..], &header().encode(), &[0]].concat();
    host.hear(SESSION, Body::Session(&payload));
    assert_eq!(host.requests(), [number]);
}

#[test]
fn of_another_session_nothing_is_wanted() {
    let mut host = Host::heard(Some(SERVES));
    host.want(1);
    let other = SessionId(0x4321);
    host.receiver.line_changed(10);
    host.header(other, 0, Some(SERVES));
    host.header(other, 10, Some(SERVES));
    assert_eq!(host.said(), []);
    assert_eq!(host.want(1), 1, "numbers go on");
}

#[test]
fn a_request_that_was_overtaken_is_said_again_at_once() {
    let mut host = Host::heard(Some(SERVES));
    let [lost, soon] = [host.want(1), host.receiver.request(2, 1, Urgency::Soon).unwrap()];
    let answered = host.want(3);
    assert_eq!(host.requests(), [lost, answered, soon]);
    host.answer(answered, 3, 1);
    assert_eq!(host.requests(), [lost]);
    host.answer(lost, 1, 1);
    assert_eq!(host.requests(), [], "what is for later comes later");
}

#[test]
fn what_was_for_later_can_be_hurried_or_forgotten() {
    let mut host = Host::heard(Some(SERVES));
    let [first, second] = [1, 2].map(|pfn| host.receiver.request(pfn, 1, Urgency::Soon).unwrap());
    assert_eq!(host.requests(), [first, second]);
    host.receiver.hurry(second);
    assert_eq!(host.said(), [Said::Request { number: second, first_pfn: 2, pages: 1, urgency: 0 }]);
    host.receiver.forget_request(first);
    host.receiver.hurry(first);
    host.now += SECOND;
    host.alive();
    assert_eq!(host.requests(), [second]);
}

#[test]
fn what_an_earlier_receiver_asked_for_under_this_number_is_no_answer() {
    let mut host = Host::heard(Some(SERVES));
    host.receiver.set_first_request(70);
    let number = host.want(5);
    assert_eq!((number, host.answer(number, 6, 1)), (70, vec![70]), "it is a block all the same");
    assert_eq!(host.receiver.unanswered_requests(), 1);
    assert_eq!(host.answer(number, 5, 1), [70]);
    assert_eq!(host.receiver.unanswered_requests(), 0);
}

#[test]
fn no_more_than_64_requests_wait_and_none_that_cannot_be() {
    let mut host = Host::heard(Some(SERVES));
    assert_eq!(host.receiver.request(0, 17, Urgency::Now), None);
    assert_eq!(host.receiver.request(1 << 40, 1, Urgency::Now), None);
    let numbers: Vec<_> = (0..100).filter_map(|pfn| host.receiver.request(pfn, 1, Urgency::Now)).collect();
    assert_eq!(numbers, (0..64).collect::<Vec<_>>());
    assert_eq!(host.requests(), numbers);
}

#[test]
fn answers_that_are_never_whole_cost_the_passes_nothing() {
    let mut host = Host::heard(Some(SERVES));
    let part = |stream, block| Fragment { stream, block, generation: 1, index: 0, count: 2, bytes: &[1] };
    let whole = [1, 1];
    let of_passes = Fragment { generation: generation(&whole), ..part(0, 0) };
    host.hear(SESSION, Body::Fragment(of_passes));
    for block in 0..1000 {
        host.hear(SESSION, Body::Fragment(part(1, block)));
        host.hear(SESSION, Body::Fragment(part((block % 250) as u8 + 2, block)));
    }
    assert_eq!(host.receiver.held_bytes(), 65);
    let mut has_come = false;
    let line = frame(SESSION, 0, Body::Fragment(Fragment { index: 1, ..of_passes }));
    host.receiver.push(&line, |event| has_come |= matches!(event, Event::Block { stream: 0, .. }));
    assert!(has_come);
}

#[test]
fn a_request_tells_its_frames() {
    let request = Request { number: 1, urgency: Urgency::Now, first_pfn: 7, pages: 2 };
    assert!(request.pfns().eq([7, 8]));
}
