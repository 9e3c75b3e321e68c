//! What a sender makes of what it hears.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod support;

use std::time::Duration;

use support::SESSION;
use wire::line::{Chunk, Deframer};
use wire::{Body, Cursor, Reply, Run, Sender, SessionEnd};

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
