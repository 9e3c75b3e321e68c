//! What a sender makes of what it hears.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use support::SESSION;
use wire::line::{Chunk, Deframer};
use wire::{
    ANSWERS, Body, Course, Cursor, HEADER_BYTES, Reply, Request, Run, Sender, SessionEnd, SessionId, Urgency,
};

const MS: Duration = Duration::from_millis(1);

/// A sender, and who listens to it.
struct Line {
    sender: Sender,
    now: Duration,
    deframer: Deframer,
}

/// A frame, as far as these tests look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Header(Run),
    Fragment { block: u32, index: u8 },
    Answer { number: u32, index: u8 },
    End,
    KeepAlive,
}

impl Line {
    fn new() -> Self {
        Self {
            sender: Sender::new(SESSION, support::header()),
            now: Duration::ZERO,
            deframer: Deframer::new(),
        }
    }

    /// Pushes the next block, which goes up to `end`.
    fn push(&mut self, bytes: usize, end: Cursor) {
        assert!(self.sender.has_room());
        self.sender.push(&vec![0x5a; bytes], end);
    }

    fn hear(&mut self, reply: Reply) {
        let mut line = Vec::new();
        reply.encode(SESSION, &mut line);
        self.sender.receive(&line, self.now);
    }

    /// What the sender says until it has nothing more to say now, with the frames' sequence numbers.
    fn said(&mut self) -> Vec<(u16, Said)> {
        let mut said = Vec::new();
        loop {
            self.now += MS;
            let pending = self.sender.pending(self.now);
            if pending.is_empty() {
                return said;
            }
            let count = pending.len();
            self.deframer.push(pending, |chunk| {
                let Chunk::Frame(frame) = chunk else { panic!("{chunk:?}") };
                let body = match frame.body {
                    Body::Session(payload) => Said::Header(Run::decode(payload).unwrap().0),
                    Body::Fragment(fragment) if fragment.stream == ANSWERS => {
                        Said::Answer { number: fragment.block, index: fragment.index }
                    }
                    Body::Fragment(fragment) => {
                        Said::Fragment { block: fragment.block, index: fragment.index }
                    }
                    Body::End(_) => Said::End,
                    Body::KeepAlive => Said::KeepAlive,
                };
                said.push((frame.sequence, body));
            });
            self.sender.advance(count);
        }
    }

    /// The blocks it says something of.
    fn blocks_said(&mut self) -> Vec<u32> {
        let mut blocks: Vec<u32> = self.said().iter().filter_map(|(_, said)| said.block()).collect();
        blocks.dedup();
        blocks
    }
}

impl Said {
    fn block(self) -> Option<u32> {
        if let Self::Fragment { block, .. } = self { Some(block) } else { None }
    }
}

fn at(pass: u8, position: u64) -> Cursor {
    Cursor { pass, position }
}

fn resume(receiver: u8, next_block: u32, cursor: Cursor) -> Reply {
    Reply::Resume { receiver, next_block, cursor }
}

#[test]
fn a_sender_that_needs_answers_says_its_header_only_until_somebody_answers() {
    let mut line = Line::new();
    line.sender.need_answers();
    line.push(100, at(1, 700));
    line.sender.end(&SessionEnd { blocks: 1, ..SessionEnd::default() });
    for _ in 0..100 {
        let said = line.said();
        assert!(matches!(said[..], [(_, Said::Header(_))]), "{said:?}");
        line.now += Duration::from_secs(1);
    }
    assert!(!line.sender.is_finished());
    line.hear(resume(7, 0, Cursor::START));
    assert_eq!(line.blocks_said(), [0]);
}

#[test]
fn what_a_receiver_had_not_acknowledged_before_it_went_away_is_sent_to_the_next() {
    let mut line = Line::new();
    line.sender.need_answers();
    line.push(100, at(1, 700));
    line.said();
    line.hear(resume(7, 0, Cursor::START));
    assert_eq!(line.blocks_said(), [0]);
    // It took it, and is gone.
    line.now += Duration::from_secs(100);
    line.said();
    assert!(!line.sender.is_answered() && !line.sender.is_idle());
    line.hear(resume(8, 0, Cursor::START));
    assert_eq!(line.sender.take_rewind(), None, "it is still there");
    assert_eq!(line.blocks_said(), [0]);
}

#[test]
fn a_receiver_that_goes_on_behind_a_pass_gets_what_is_kept() {
    let mut line = Line::new();
    for end in [at(1, 700), at(2, 10), at(2, 20)] {
        line.push(100, end);
    }
    assert_eq!(line.blocks_said(), [0, 1, 2]);
    // Of block 1 it knows only where block 0 ended; that it begins at (2, 0) stands in block 1 itself.
    line.hear(resume(7, 1, at(1, 700)));
    assert_eq!(line.sender.take_rewind(), None);
    assert_eq!(line.blocks_said(), [1, 2]);
    assert_eq!(line.sender.first_block(), 0);
}

#[test]
fn a_receiver_that_needs_what_is_gone_makes_the_sender_go_back() {
    let mut line = Line::new();
    for position in 1..=3 {
        line.push(100, at(2, position * 10));
        line.said();
    }
    line.hear(resume(7, 2, at(2, 15)));
    assert_eq!(line.sender.take_rewind(), Some(at(2, 15)));
    assert_eq!(line.sender.take_rewind(), None, "said once");
    assert_eq!((line.sender.next_block(), line.sender.first_block()), (2, 2));
    let said = line.said();
    assert_eq!(said[0].1, Said::Header(Run { number: 1, first_block: 2, receiver: 7 }));
    assert_eq!(said.len(), 1, "nothing of the run before: {said:?}");
}

#[test]
fn a_receiver_that_is_slow_to_store_does_not_hold_the_sender_up() {
    const BLOCK_BYTES: usize = 60_000;
    let mut line = Line::new();
    line.push(BLOCK_BYTES, at(2, 10));
    line.said();
    line.hear(resume(7, 0, Cursor::START));
    let mut latest = 0;
    for number in 1u64..20 {
        line.push(BLOCK_BYTES, at(2, 10 * (number + 1)));
        // Nothing is stored, however much came.
        for (sequence, _) in line.said() {
            latest = sequence;
            if sequence % 16 == 0 {
                line.hear(Reply::Ack { receiver: 7, latest, history: u32::MAX, durable: 0 });
            }
        }
        line.hear(Reply::Ack { receiver: 7, latest, history: u32::MAX, durable: 0 });
    }
    // The next receiver has what was stored: the first two blocks.
    line.hear(resume(8, 2, at(2, 20)));
    assert_eq!(line.sender.take_rewind(), Some(at(2, 20)), "it is made again");
}

#[test]
fn a_receiver_that_may_have_blocks_of_the_run_before_is_not_taken_for_one_that_has_this_runs() {
    let mut line = Line::new();
    for run in 0..2 {
        for position in 1..=3 {
            line.push(100, at(2, position * 10));
        }
        line.said();
        if run == 0 {
            // What it names is not kept: run 1 begins.
            line.hear(resume(7, 0, at(2, 5)));
            assert_eq!(line.sender.take_rewind(), Some(at(2, 5)));
        }
    }
    // The next one finds two blocks that the first one stored before it heard of run 1.
    line.hear(resume(8, 2, at(2, 20)));
    assert_eq!(line.sender.take_rewind(), Some(at(2, 20)));
    assert_eq!(line.sender.first_block(), 2);
    // Once somebody acknowledges a frame of a run, all that is stored is of that run.
    line.push(100, at(2, 30));
    line.push(100, at(2, 40));
    let (latest, _) = *line.said().last().unwrap();
    line.hear(Reply::Ack { receiver: 8, latest, history: 0, durable: 3 });
    line.hear(resume(9, 3, at(2, 30)));
    assert_eq!(line.sender.take_rewind(), None);
    assert_eq!(line.blocks_said(), [3]);
}

#[test]
fn an_answer_to_the_last_end_is_still_heard() {
    let mut line = Line::new();
    line.push(100, at(2, 10));
    line.sender.end(&SessionEnd { blocks: 1, ..SessionEnd::default() });
    let mut ends = 0;
    while ends < 5 {
        ends += line.said().iter().filter(|(_, said)| *said == Said::End).count();
    }
    assert!(!line.sender.is_finished());
    line.hear(resume(7, 0, Cursor::START));
    assert!(line.blocks_said().contains(&0));
    line.now += Duration::from_secs(2);
    line.said();
    assert!(!line.sender.is_finished(), "somebody listens");
}

#[test]
fn a_second_after_the_last_end_a_sender_that_nobody_answers_is_done() {
    let mut line = Line::new();
    line.push(100, at(2, 10));
    line.sender.end(&SessionEnd { blocks: 1, ..SessionEnd::default() });
    let mut ends = Vec::new();
    while !line.sender.is_finished() {
        ends.extend(line.said().iter().filter(|(_, said)| *said == Said::End).map(|_| line.now));
    }
    assert_eq!(ends.len(), 5);
    assert!((990..1010).contains(&(line.now - ends[4]).as_millis()));
    assert_eq!(line.said(), []);
}

fn ack(receiver: u8, latest: u16, history: u32, durable: u16) -> Reply {
    Reply::Ack { receiver, latest, history, durable }
}

/// A sender that has sent three blocks to receiver 7, and the sequence number of its last frame.
fn three_blocks() -> (Line, u16) {
    let mut line = Line::new();
    line.said();
    line.hear(resume(7, 0, Cursor::START));
    for position in 1..=3 {
        line.push(2000, at(2, position * 10));
    }
    let (latest, _) = *line.said().last().unwrap();
    (line, latest)
}

#[test]
fn a_peer_that_acknowledges_what_was_never_sent_is_not_believed() {
    let (mut line, latest) = three_blocks();
    let held = line.sender.held_bytes();
    for ahead in [1, 2, 1000, 0x7fff] {
        line.hear(ack(7, latest.wrapping_add(ahead), u32::MAX, 3));
        assert_eq!(line.sender.held_bytes(), held, "{ahead} frames ahead");
    }
    // Frames that were sent, of blocks that were not.
    for durable in [4, 5, 64, 0x7fff, u16::MAX] {
        line.hear(ack(7, latest, u32::MAX, durable));
        assert_eq!(line.sender.held_bytes(), held, "{durable} blocks stored");
    }
    line.sender.end(&SessionEnd { blocks: 3, ..SessionEnd::default() });
    line.said();
    line.hear(ack(7, latest, u32::MAX, 5));
    assert!(!line.sender.is_finished());
    // And it still takes the truth.
    let (latest, _) = *line.said().last().unwrap_or(&(latest, Said::End));
    line.hear(ack(7, latest, u32::MAX, 4));
    assert_eq!(line.sender.held_bytes(), 0);
}

#[test]
fn a_peer_that_has_stored_what_was_not_sent_yet_is_not_believed() {
    let (mut line, latest) = three_blocks();
    line.push(2000, at(2, 40));
    line.sender.end(&SessionEnd { blocks: 4, ..SessionEnd::default() });
    let held = line.sender.held_bytes();
    for durable in [4, 5] {
        line.hear(ack(7, latest, u32::MAX, durable));
        assert_eq!(line.sender.held_bytes(), held, "{durable} blocks stored");
    }
    // A part of the block is not the block.
    let count = line.sender.pending(line.now).len();
    line.sender.advance(count);
    line.hear(ack(7, latest.wrapping_add(1), u32::MAX, 4));
    assert_eq!(line.sender.held_bytes(), held);
    let before_the_end = line.sender.pending(line.now).len();
    line.sender.advance(before_the_end);
    line.hear(ack(7, latest.wrapping_add(2), u32::MAX, 5));
    assert!(!line.sender.is_finished(), "the end was not said");
    let (latest, said) = *line.said().last().unwrap();
    assert_eq!(said, Said::End);
    line.hear(ack(7, latest, u32::MAX, 5));
    assert!(line.sender.is_finished());
}

#[test]
fn a_sender_that_is_done_stays_silent_whatever_its_receiver_says() {
    let (mut line, _) = three_blocks();
    line.sender.end(&SessionEnd { blocks: 3, ..SessionEnd::default() });
    let (latest, _) = *line.said().last().unwrap();
    line.hear(ack(7, latest, u32::MAX, 4));
    assert!(line.sender.is_finished());
    for late in [resume(7, 0, Cursor::START), ack(7, latest, 0, 0), ack(7, latest, u32::MAX, 4)] {
        line.hear(late);
        line.now += Duration::from_secs(5);
        assert!(line.sender.is_finished());
        assert_eq!(line.said(), [], "{late:?}");
    }
}

#[test]
fn a_peer_that_acknowledges_frames_before_the_first_is_not_believed() {
    let (mut line, latest) = three_blocks();
    let held = line.sender.held_bytes();
    for before in [1, 2, 1000, 0x7000] {
        line.hear(ack(7, 0_u16.wrapping_sub(before), u32::MAX, 3));
        assert_eq!(line.sender.held_bytes(), held, "{before} frames before the first");
    }
    line.hear(ack(7, latest, u32::MAX, 3));
    assert_eq!(line.sender.held_bytes(), 0);
}

#[test]
fn whoever_resumes_behind_what_was_not_sent_yet_gets_all() {
    let mut line = Line::new();
    line.push(100, at(2, 10));
    line.said();
    line.push(100, at(2, 20));
    line.push(100, at(2, 30));
    line.hear(resume(7, 2, at(2, 20)));
    assert_eq!(line.sender.take_rewind(), Some(Cursor::START));
    assert_eq!(line.sender.held_bytes(), 0);
}

#[test]
fn a_peer_that_was_not_heard_of_acknowledges_nothing() {
    let (mut line, latest) = three_blocks();
    let held = line.sender.held_bytes();
    line.hear(ack(8, latest, u32::MAX, 3));
    assert_eq!(line.sender.held_bytes(), held);
}

#[test]
fn replies_of_another_session_say_nothing() {
    let (mut line, latest) = three_blocks();
    let held = line.sender.held_bytes();
    let mut replies = Vec::new();
    ack(7, latest, u32::MAX, 3).encode(SessionId(0x1235), &mut replies);
    resume(9, 1, at(2, 10)).encode(SessionId(0x1235), &mut replies);
    for _ in 0..100 {
        line.sender.receive(&replies, line.now);
    }
    assert_eq!((line.sender.held_bytes(), line.sender.take_rewind()), (held, None));
    assert_eq!(line.said(), []);
}

#[test]
fn old_replies_that_come_again_change_nothing() {
    let (mut line, latest) = three_blocks();
    line.hear(ack(7, latest, u32::MAX, 2));
    let held = line.sender.held_bytes();
    for old in [ack(7, latest, 0, 0), ack(7, latest.wrapping_sub(3), 0, 1), ack(7, latest, u32::MAX, 2)] {
        for _ in 0..100 {
            line.hear(old);
        }
        assert_eq!(line.sender.held_bytes(), held, "{old:?}");
        assert_eq!(line.blocks_said(), [] as [u32; 0], "{old:?}");
    }
    // The Resume of the receiver that is heard: the header is repeated for it, and nothing else.
    for _ in 0..100 {
        line.hear(resume(7, 0, Cursor::START));
    }
    assert_eq!(line.sender.take_rewind(), None);
    assert!(matches!(line.said()[..], [(_, Said::Header(_))]));
}

#[test]
fn whoever_resumes_behind_what_was_ever_made_gets_all() {
    for (next_block, cursor) in [
        (u32::MAX, Cursor { pass: u8::MAX, position: u64::MAX }),
        (u32::MAX, at(2, 30)),
        (4, at(2, 30)),
        (3, at(2, 31)),
        (3, at(3, 0)),
        (0, at(2, 31)),
        (1 << 16, Cursor::START),
    ] {
        let (mut line, _) = three_blocks();
        line.hear(resume(9, next_block, cursor));
        assert_eq!(line.sender.take_rewind(), Some(Cursor::START), "{next_block}, {cursor:?}");
        assert_eq!((line.sender.next_block(), line.sender.first_block()), (0, 0));
        assert_eq!(line.said()[0].1, Said::Header(Run { number: 1, first_block: 0, receiver: 9 }));
        assert_eq!(line.sender.held_bytes(), 0);
    }
}

#[test]
fn a_peer_that_resumes_again_and_again_makes_the_sender_hold_no_more() {
    let (mut line, _) = three_blocks();
    for receiver in (1..=u8::MAX).cycle().take(1000) {
        line.hear(resume(receiver, 2, at(2, 15)));
        while line.sender.take_rewind().is_some() || line.sender.has_room() {
            line.push(60_000, at(2, 30));
        }
        assert!(line.sender.held_bytes() <= 246 << 10);
    }
}

#[test]
fn numbers_of_blocks_go_on_behind_16_bits() {
    let mut line = Line::new();
    line.said();
    line.hear(resume(7, 0, Cursor::START));
    for number in 0..70_000_u32 {
        line.push(30, at(2, u64::from(number) + 1));
        let (latest, said) = *line.said().last().unwrap();
        assert_eq!(said.block(), Some(number));
        let [low, high, ..] = (number + 1).to_le_bytes();
        line.hear(ack(7, latest, u32::MAX, u16::from_le_bytes([low, high])));
        assert_eq!(line.sender.held_bytes(), 0, "block {number}");
    }
}

fn want(line: &mut Line, receiver: u8, number: u32) {
    let request = Request { number, urgency: Urgency::Now, first_pfn: 1, pages: 1 };
    line.hear(Reply::Request { receiver, request });
}

/// Answers what is wanted with so many bytes.
fn answer(line: &mut Line, bytes: usize) -> Option<u32> {
    let request = line.sender.wanted()?;
    line.sender.begin_answer(&request);
    line.sender.answer().unwrap().extend(vec![1; bytes]);
    line.sender.finish_answer(&[2; HEADER_BYTES]);
    Some(request.number)
}

/// The last byte of the next header: what the sender says of its service.
fn service_said(line: &mut Line) -> Option<u8> {
    let mut service = None;
    line.now += MS;
    let pending = line.sender.pending(line.now).to_vec();
    line.deframer.push(&pending, |chunk| {
        if let Chunk::Frame(frame) = chunk
            && let Body::Session(payload) = frame.body
        {
            service = payload.last().copied();
        }
    });
    line.sender.advance(pending.len());
    service
}

fn of_passes(said: &[(u16, Said)]) -> usize {
    said.iter().filter(|(_, said)| said.block().is_some()).count()
}

#[test]
fn an_answer_goes_out_behind_the_frame_that_was_on_its_way() {
    let (mut line, _) = three_blocks();
    line.push(5000, at(2, 40));
    // A frame of the passes is half written.
    let frame_bytes = line.sender.pending(line.now).len();
    line.sender.advance(frame_bytes / 2);
    want(&mut line, 7, 3);
    line.sender.advance(frame_bytes);
    assert_eq!(of_passes(&line.said()), 0, "the answer will be ready in a moment");
    assert_eq!(answer(&mut line, 2000), Some(3));
    let said: Vec<_> = line.said().iter().map(|(_, said)| *said).collect();
    assert_eq!(said, [Said::Answer { number: 3, index: 0 }, Said::Answer { number: 3, index: 1 }]);
    // Whoever waited for it gets time to want the next one.
    line.now += Duration::from_secs(2);
    assert_eq!(of_passes(&line.said()), 4);
}

#[test]
fn a_lost_piece_of_an_answer_is_sent_again_and_what_was_received_is_forgotten() {
    let (mut line, _) = three_blocks();
    want(&mut line, 7, 3);
    answer(&mut line, 2000);
    let (latest, _) = *line.said().last().unwrap();
    line.hear(ack(7, latest, u32::MAX - 1, 3));
    assert!(line.sender.answer_bytes() > 2000);
    let said: Vec<_> = line.said();
    let [(latest, Said::Answer { number: 3, index: 0 })] = said[..] else { panic!("{said:?}") };
    want(&mut line, 7, 3);
    assert_eq!(line.sender.wanted(), None, "it is on its way");
    line.hear(ack(7, latest, u32::MAX, 3));
    assert_eq!(line.sender.answer_bytes(), 0);
    want(&mut line, 7, 3);
    assert!(line.sender.wanted().is_some(), "it got lost after all");
}

#[test]
fn only_the_receiver_that_is_heard_may_want_something() {
    let mut line = Line::new();
    line.push(100, at(2, 10));
    line.said();
    want(&mut line, 7, 1);
    line.hear(Reply::Course { receiver: 7, course: Course::Hold });
    assert_eq!((line.sender.wanted(), line.sender.is_answered()), (None, false), "one-way");
    line.hear(resume(7, 0, Cursor::START));
    want(&mut line, 8, 1);
    line.hear(Reply::Course { receiver: 8, course: Course::Hold });
    assert_eq!(line.sender.wanted(), None);
    assert_eq!(line.blocks_said(), [0]);
    // Another one comes: what the first one wanted is void.
    want(&mut line, 7, 1);
    answer(&mut line, 100);
    want(&mut line, 7, 2);
    line.hear(Reply::Course { receiver: 7, course: Course::Hold });
    line.hear(resume(8, 0, Cursor::START));
    assert_eq!((line.sender.wanted(), line.sender.answer_bytes()), (None, 0));
    assert_eq!(line.blocks_said(), [0], "and nothing is held");
    // One that says nothing for long is gone.
    want(&mut line, 8, 3);
    line.now += Duration::from_secs(61);
    line.said();
    assert_eq!(line.sender.wanted(), None);
}

#[test]
fn an_answer_whose_receiver_is_gone_while_it_is_made_is_given_up() {
    let (mut line, _) = three_blocks();
    want(&mut line, 7, 3);
    line.sender.begin_answer(&line.sender.wanted().unwrap());
    line.hear(resume(8, 3, at(2, 30)));
    assert_eq!(line.sender.answer(), None);
    line.sender.finish_answer(&[2; HEADER_BYTES]);
    assert_eq!(line.sender.answer_bytes(), 0);
    assert!(line.said().iter().all(|(_, said)| !matches!(said, Said::Answer { .. })));
}

#[test]
fn numbers_that_cannot_be_are_not_wanted() {
    let (mut line, _) = three_blocks();
    for (first_pfn, pages) in [(0, 0), (0, 17), ((1 << 40) - 1, 2), (u64::MAX >> 24, u8::MAX)] {
        let request = Request { number: 1, urgency: Urgency::Now, first_pfn, pages };
        line.hear(Reply::Request { receiver: 7, request });
        assert_eq!(line.sender.wanted(), None, "{request:?}");
    }
}

#[test]
fn while_the_passes_are_held_there_are_keep_alives_and_no_end() {
    let (mut line, latest) = three_blocks();
    line.hear(ack(7, latest, u32::MAX, 3));
    line.push(100, at(2, 40));
    line.hear(Reply::Course { receiver: 7, course: Course::Hold });
    assert_eq!(service_said(&mut line), Some(0x81));
    line.sender.end(&SessionEnd { blocks: 4, ..SessionEnd::default() });
    for _ in 0..10 {
        line.now += Duration::from_secs(1);
        let said = line.said();
        let [(latest, Said::KeepAlive)] = said[..] else { panic!("{said:?}") };
        line.hear(ack(7, latest, u32::MAX, 3));
    }
    assert!(!line.sender.take_cut());
    line.hear(Reply::Course { receiver: 7, course: Course::GoOn });
    assert_eq!(service_said(&mut line), Some(0));
    let said: Vec<_> = line.said().iter().map(|(_, said)| *said).collect();
    assert_eq!(said, [Said::Fragment { block: 3, index: 0 }, Said::End]);
}

#[test]
fn passes_that_were_held_are_cut_once_if_the_machine_is_released() {
    let (mut line, _) = three_blocks();
    let say = |line: &mut Line, course| line.hear(Reply::Course { receiver: 7, course });
    say(&mut line, Course::Release);
    assert!(!line.sender.take_cut(), "nobody held them");
    say(&mut line, Course::Hold);
    say(&mut line, Course::Release);
    say(&mut line, Course::Release);
    assert!(line.sender.take_cut());
    assert!(!line.sender.take_cut());
    line.sender.end(&SessionEnd { blocks: 3, ..SessionEnd::default() });
    say(&mut line, Course::Hold);
    say(&mut line, Course::Release);
    assert!(!line.sender.take_cut(), "they are at their end");
}

#[test]
fn a_sender_that_stays_says_so_and_when_it_does_no_longer() {
    let (mut line, _) = three_blocks();
    line.sender.stay_after_end();
    assert_eq!(service_said(&mut line), Some(0x80));
    line.sender.end(&SessionEnd { blocks: 3, ..SessionEnd::default() });
    let (latest, _) = *line.said().last().unwrap();
    line.hear(ack(7, latest, u32::MAX, 4));
    assert!(line.sender.is_end_over() && !line.sender.is_finished());
    want(&mut line, 7, 1);
    assert_eq!(answer(&mut line, 100), Some(1));
    assert!(matches!(line.said()[..], [(_, Said::Answer { .. })]));
    line.hear(Reply::Course { receiver: 7, course: Course::Release });
    assert!(!line.sender.is_finished());
    assert_eq!(service_said(&mut line), Some(2));
    assert!(line.sender.is_finished());
    // And then it is silent.
    line.hear(Reply::Course { receiver: 7, course: Course::Stay });
    want(&mut line, 7, 2);
    line.now += Duration::from_secs(5);
    assert_eq!(line.said(), []);
}

#[test]
fn nobody_is_waited_for_longer_than_the_sender_is_told_to() {
    let mut line = Line::new();
    line.sender.stay_after_end();
    line.push(100, at(2, 10));
    line.sender.end(&SessionEnd { blocks: 1, ..SessionEnd::default() });
    for _ in 0..1000 {
        line.said();
        line.now += Duration::from_secs(1);
        assert!(!line.sender.is_finished());
    }
    line.sender.leave();
    assert_eq!(service_said(&mut line), Some(2));
    assert!(line.sender.is_finished());
}
