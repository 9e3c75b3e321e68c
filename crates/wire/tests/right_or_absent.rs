//! What no line may bring about, however bad it is: a wrong page, or a block of two minds.
//!
//! Memory of the machine in these tests is other bytes each time a block is made of it, as if DMA never ended. Each block
//! that is handed out is compared with it: see `Simulation::look_at_blocks`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

mod simulation;
mod support;

use std::time::Duration;

use proptest::prelude::*;
use simulation::{Left, MS, Machine, Noise, Random, Schedule, Setup, Simulation};
use support::{SESSION, frame};
use wire::{Body, Event, Fragment, Receiver, generation};

/// What befalls a session.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// The line is cut for so long: on the way there, on the way back.
    Cut(Duration, bool, bool),
    Kill(Left),
    /// For so long, what came comes again and again: no serial line does that.
    Repeat(Duration),
}

fn left() -> impl Strategy<Value = Left> {
    prop_oneof![Just(Left::Everything), (0_u32..20).prop_map(Left::Blocks)]
}

fn blow() -> impl Strategy<Value = Blow> {
    prop_oneof![
        1 => (1_u32..2000, any::<bool>(), any::<bool>()).prop_map(|(ms, to, fro)| Blow::Cut(MS * ms, to, fro)),
        2 => left().prop_map(Blow::Kill),
        2 => (1_u32..1000).prop_map(|ms| Blow::Repeat(MS * ms)),
    ]
}

/// A session of some seconds.
fn setup() -> impl Strategy<Value = Setup> {
    let errors = || prop::sample::select(&[0.0, 0.0, 1e-5, 1e-4, 3e-4][..]);
    let noise = (errors(), errors(), errors()).prop_map(|(flip, drop, insert)| Noise { flip, drop, insert });
    let machine = (10_u32..40, prop::sample::select(&[500, 9000, 20_000][..]), any::<u64>())
        .prop_map(|(blocks, max_block_bytes, seed)| Machine { blocks, max_block_bytes, seed });
    let schedule = (0_u32..100, any::<bool>())
        .prop_map(|(every, is_shuffled)| Schedule { every: MS * every, is_shuffled });
    let baud = prop::sample::select(&[115_200, 460_800][..]);
    (baud, 0_u32..250, noise, machine, schedule, any::<u64>()).prop_map(
        |(baud, latency, noise, machine, schedule, seed)| Setup {
            baud,
            latency: MS * latency,
            noise,
            machine,
            schedule,
            seed,
        },
    )
}

proptest! {
    #[test]
    fn whatever_the_line_does_a_page_is_right_or_absent(
        setup in setup(),
        blows in prop::collection::vec((0_u32..3000, blow()), 0..12),
    ) {
        let mut session = Simulation::new(setup);
        let mut random = Random(setup.seed);
        for (after, blow) in blows {
            session.run_to(session.now + MS * after);
            match blow {
                Blow::Cut(length, there, back) => {
                    (session.forward.is_cut, session.back.is_cut) = (there, back);
                    session.run_to(session.now + length);
                    (session.forward.is_cut, session.back.is_cut) = (false, false);
                }
                Blow::Kill(left) => session.host.kill(session.now, left),
                Blow::Repeat(length) => {
                    let end = session.now + length;
                    while session.now < end {
                        session.run_to(session.now + 20 * MS);
                        session.host.inbox.extend(session.forward.earlier(&mut random));
                    }
                }
            }
        }
        session.run_to(session.now + 5000 * MS);
    }

    /// Receivers that lost some of what they had make the sender go back, and make blocks of changed memory.
    #[test]
    fn memory_that_changes_under_the_sender_never_yields_a_block_mixed_of_two_generations(
        setup in setup(),
        kills in prop::collection::vec((100_u32..2000, left()), 1..6),
    ) {
        let mut session = Simulation::new(setup);
        for (after, left) in kills {
            session.run_to(session.now + MS * after);
            if !session.host.has_stored_everything(session.now) {
                session.host.kill(session.now, left);
            }
        }
        session.run(Duration::from_secs(600));
        prop_assert!(session.is_complete() || !session.sender.is_answered());
    }

    /// In whatever order fragments of two makings come.
    #[test]
    fn fragments_of_two_generations_never_join(
        length in 10_usize..60,
        order in prop::collection::vec((any::<bool>(), 0_u8..5), 1..200),
        change in (0_usize..10, 1_u8..),
    ) {
        let before: Vec<u8> = (0..length as u8).collect();
        let mut after = before.clone();
        after[change.0] ^= change.1;
        let mut receiver = Receiver::new(1);
        let mut handed_out = Vec::new();
        for ((is_after, index), sequence) in order.into_iter().zip(0..) {
            let encoded = if is_after { &after } else { &before };
            let bytes = encoded.chunks(length.div_ceil(5)).nth(index.into());
            let count = encoded.chunks(length.div_ceil(5)).count() as u8;
            let Some(bytes) = bytes else { continue };
            let fragment = Fragment { stream: 0, block: 7, generation: generation(encoded), index, count, bytes };
            receiver.push(&frame(SESSION, sequence, Body::Fragment(fragment)), |event| {
                let Event::Block { encoded, generation, .. } = event else { panic!("{event:?}") };
                handed_out.push((generation, encoded.to_vec()));
            });
        }
        for (of, encoded) in handed_out {
            prop_assert_eq!(of, generation(&encoded));
            prop_assert!(encoded == before || encoded == after);
        }
    }
}
