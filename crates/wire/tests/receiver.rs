//! What a receiver makes of what it hears, and when it speaks.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod support;

use proptest::prelude::*;
use support::{SESSION, block, end, frame, session};
use wire::{
    Body, Cursor, Event, Fragment, MAX_ENCODED_BYTES, MAX_FRAGMENT_BYTES, Receiver, Run, SessionHeader,
    SessionId,
};

/// What a receiver hands over, but for text.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Session(SessionId),
    Restarted(u32),
    Block(u32, Vec<u8>),
    End(u32),
    Unknown,
}

fn push(receiver: &mut Receiver, line: &[u8]) -> Vec<Came> {
    let mut came = Vec::new();
    receiver.push(line, |event| {
        came.push(match event {
            Event::Session(session, _) => Came::Session(session),
            Event::Restarted { first_block } => Came::Restarted(first_block),
            Event::Block { number, encoded, .. } => Came::Block(number, encoded.to_vec()),
            Event::End(_, end) => Came::End(end.blocks),
            Event::Unknown(_) => Came::Unknown,
            Event::Text(_) => return,
        });
    });
    came
}

/// Has the receiver heard and done everything but what opens a session.
fn say_all_but_a_header(receiver: &mut Receiver) -> usize {
    let damaged = |mut line: Vec<u8>, at: usize| {
        line[at] ^= 0x10;
        line
    };
    let run = Run::default();
    let header = |page_shift| SessionHeader { page_shift, ..support::header() }.encode();
    let odd_pages = [&run.encode()[..], &header(13)].concat();
    let mut resume = Vec::new();
    wire::Reply::Resume { receiver: 9, next_block: 0, cursor: Cursor::START }.encode(SESSION, &mut resume);
    // Magic, version 2, session, sequence.
    let mut later_version = vec![0xd5, 0x21, 0x34, 0x12, 7, 0];
    later_version.extend(wire::generation(&later_version).to_le_bytes());
    let mut of_later_version = vec![0];
    wire::line::encode(&later_version, &mut of_later_version);
    let lines = [
        b"login: ".to_vec(),
        b"\r\nLinux version 6.1.0 panics\r\n".to_vec(),
        vec![0; 40],
        vec![0xff; 3000],
        b"\0\xd5\xd5\xd5\0".to_vec(),
        frame(SESSION, 1, Body::KeepAlive),
        block(SESSION, 2, 0, b"a whole block"),
        end(SESSION, 3, 1),
        damaged(session(SESSION, 4, run), 30),
        frame(SESSION, 5, Body::Session(&odd_pages)),
        frame(SESSION, 6, Body::Session(&run.encode())),
        of_later_version,
        session(SESSION, 8, run)[..300].to_vec(),
        // What a terminal sends back: its own words.
        resume,
    ];
    let mut said = 0;
    for line in lines {
        push(receiver, &line);
        receiver.idle(|_| {});
        said += receiver.take_replies().len();
    }
    receiver.set_durable(1);
    said + receiver.take_replies().len()
}

#[test]
fn nothing_is_said_before_a_session_header() {
    let mut receiver = Receiver::new(9);
    assert_eq!(say_all_but_a_header(&mut receiver), 0);
    push(&mut receiver, &session(SESSION, 9, Run::default()));
    assert_ne!(receiver.take_replies(), []);
}

#[test]
fn nothing_is_said_after_the_end() {
    let mut receiver = Receiver::new(9);
    let run = Run { receiver: 0, ..Run::default() };
    push(&mut receiver, &session(SESSION, 0, run));
    push(&mut receiver, &session(SESSION, 1, Run { receiver: 9, ..run }));
    push(&mut receiver, &block(SESSION, 2, 0, b"all there is"));
    push(&mut receiver, &end(SESSION, 3, 1));
    receiver.set_durable(2);
    assert_ne!(receiver.take_replies(), [], "that it is stored");
    for _ in 0..1000 {
        push(&mut receiver, b"\r\nGRUB loading.\r\n\0login: ");
        push(&mut receiver, &[0, 0xd5, 0xff, 0]);
        push(&mut receiver, &frame(SessionId(0x4321), 4, Body::KeepAlive));
        receiver.idle(|_| {});
        receiver.set_durable(2);
        assert_eq!(receiver.take_replies(), []);
    }
}

#[test]
fn what_was_heard_before_the_header_of_a_later_run_is_void() {
    let mut receiver = Receiver::new(9);
    assert_eq!(push(&mut receiver, &block(SESSION, 0, 4, b"before the sender went back")).len(), 1);
    let run = Run { number: 1, first_block: 3, receiver: 0 };
    assert_eq!(push(&mut receiver, &session(SESSION, 1, run)), [Came::Restarted(3), Came::Session(SESSION)]);
    let again = block(SESSION, 2, 4, b"before the sender went back");
    assert_eq!(push(&mut receiver, &again).len(), 1, "it is taken as if it came for the first time");
}

#[test]
fn what_was_heard_before_the_first_header_counts() {
    let mut receiver = Receiver::new(9);
    let early = block(SESSION, 0, 4, b"early");
    assert_eq!(push(&mut receiver, &early), [Came::Block(4, b"early".to_vec())]);
    assert_eq!(push(&mut receiver, &session(SESSION, 1, Run::default())), [Came::Session(SESSION)]);
    assert_eq!(push(&mut receiver, &early), []);
}

#[derive(Clone, Debug)]
enum Step {
    Frame(u8),
    Noise(Vec<u8>),
    Durable(u32),
    Take,
}

proptest! {
    /// It only speaks when spoken to.
    #[test]
    fn there_are_no_more_replies_than_frames_and_news(
        steps in prop::collection::vec(
            prop_oneof![
                4 => any::<u8>().prop_map(Step::Frame),
                1 => prop::collection::vec(any::<u8>(), 1..40).prop_map(Step::Noise),
                1 => (0_u32..50).prop_map(Step::Durable),
                2 => Just(Step::Take),
            ],
            1..200,
        ),
    ) {
        let mut receiver = Receiver::new(9);
        let (mut allowed, mut replies, mut durable, mut has_header) = (0, 0, 0, false);
        for (step, sequence) in steps.into_iter().zip(0..) {
            match step {
                Step::Frame(kind) => {
                    let number = u32::from(kind >> 3);
                    push(&mut receiver, &match kind % 6 {
                        0 => session(SESSION, sequence, Run { receiver: kind % 4 * 3, ..Run::default() }),
                        1 => end(SESSION, sequence, number),
                        2 => frame(SESSION, sequence, Body::KeepAlive),
                        _ => block(SESSION, sequence, number, &[kind]),
                    });
                    has_header |= kind % 6 == 0;
                    allowed += 1;
                }
                Step::Noise(noise) => drop(push(&mut receiver, &noise)),
                Step::Durable(number) => {
                    receiver.set_durable(number);
                    allowed += u32::from(number > durable);
                    durable = durable.max(number);
                }
                Step::Take => {
                    // A reply ends with its only zero.
                    let said = receiver.take_replies();
                    replies += said.iter().filter(|&&byte| byte == 0).count() as u32;
                    prop_assert!(has_header || said.is_empty());
                    prop_assert!(replies <= allowed);
                }
            }
        }
    }
}

/// A fragment of stream 0 with this much in it.
fn fragment(block: u32, generation: u32, (index, count): (u8, u8), bytes: usize) -> Vec<u8> {
    let bytes = &vec![0x5a; bytes];
    let fragment = Fragment { stream: 0, block, generation, index, count, bytes };
    frame(SESSION, 0, Body::Fragment(fragment))
}

#[test]
fn a_block_whose_fragments_are_more_than_a_block_is_given_up() {
    let mut receiver = Receiver::new(9);
    for index in 0..255 {
        assert_eq!(push(&mut receiver, &fragment(0, 1, (index, 255), MAX_FRAGMENT_BYTES)), []);
        assert!(receiver.held_bytes() <= MAX_ENCODED_BYTES);
    }
    assert!(receiver.stats().dropped_fragments >= 255 * 3 / 4);
}

#[test]
fn blocks_that_are_never_completed_take_no_more_memory_than_64() {
    let mut receiver = Receiver::new(9);
    for block in 0..1000 {
        for index in 0..50 {
            push(&mut receiver, &fragment(block, block, (index, 255), MAX_FRAGMENT_BYTES));
        }
        assert!(receiver.held_bytes() <= 64 * MAX_ENCODED_BYTES);
    }
    assert_eq!(receiver.held_bytes(), 64 * 50 * MAX_FRAGMENT_BYTES);
}

#[test]
fn numbers_at_their_end_are_numbers() {
    let mut receiver = Receiver::new(9);
    let run = Run { number: u8::MAX, first_block: u32::MAX, receiver: u8::MAX };
    push(&mut receiver, &session(SESSION, u16::MAX, run));
    assert_eq!(push(&mut receiver, &block(SESSION, 0, u32::MAX, b"the last")).len(), 1);
    push(&mut receiver, &end(SESSION, 1, u32::MAX));
    receiver.set_durable(u32::MAX);
    receiver.resume_at(u32::MAX, Cursor { pass: u8::MAX, position: u64::MAX });
    assert_ne!(receiver.take_replies(), []);
}
