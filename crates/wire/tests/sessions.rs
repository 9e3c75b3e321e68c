//! Whole sessions over lines that are slow, noisy, cut and one-way, in virtual time.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation)]

mod simulation;

use std::time::Duration;

use simulation::{COMPRESSED, Efficiency, Left, MS, Machine, Noise, Setup, Simulation};

/// A session of so many blocks, on a line that is otherwise fine.
fn session(blocks: u32) -> Simulation {
    let machine = Machine { blocks, ..Setup::default().machine };
    Simulation::new(Setup { machine, ..Setup::default() })
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_clean_line_carries_a_session() {
    let mut session = session(20);
    session.run(seconds(60));
    session.assert_complete();
    assert!(session.sender.is_answered());
}

#[test]
fn nothing_is_said_to_the_line_before_a_header_and_after_the_end() {
    let mut session = session(200);
    // What a machine may say before it crashes, and after.
    let mut said = session.back.carried;
    assert_eq!(said, 0);
    session.forward.is_cut = true;
    for _ in 0..100 {
        session.step();
    }
    assert_eq!(session.back.carried, 0, "no header was heard");
    session.forward.is_cut = false;
    session.run(seconds(60));
    said = session.back.carried;
    for _ in 0..20_000 {
        session.step();
    }
    assert_eq!(session.back.carried, said, "the sender is silent");
}

#[test]
fn a_line_without_a_way_back_carries_a_session() {
    let mut session = session(20);
    session.back.is_cut = true;
    session.run(seconds(60));
    session.assert_complete();
    assert!(!session.sender.is_answered());
}

#[test]
fn a_receiver_that_comes_late_gets_everything() {
    let mut session = session(200);
    session.forward.is_cut = true;
    session.run_to(seconds(12));
    session.forward.is_cut = false;
    session.run(seconds(120));
    session.assert_complete();
}

#[test]
fn a_line_that_is_cut_for_20_seconds_goes_on_where_it_was() {
    let mut session = session(100);
    session.run_to(seconds(4));
    (session.forward.is_cut, session.back.is_cut) = (true, true);
    session.run_to(seconds(24));
    let carried = session.forward.carried;
    (session.forward.is_cut, session.back.is_cut) = (false, false);
    session.run(seconds(120));
    session.assert_complete();
    // What was on its way is sent again, not the whole.
    assert!(session.forward.carried - carried < session.machine.bytes());
}

#[test]
fn a_receiver_that_is_killed_five_times_loses_nothing_durable() {
    let mut session = session(120);
    for kill in 1..=5 {
        session.run_to(seconds(2 * kill));
        session.host.kill(session.now, Left::Everything);
    }
    session.run(seconds(120));
    session.assert_complete();
}

#[test]
fn a_receiver_that_lost_its_disk_starts_over_and_loses_nothing() {
    let mut session = session(120);
    session.run_to(seconds(6));
    session.host.kill(session.now, Left::Blocks(0));
    session.run(seconds(120));
    session.assert_complete();
    // The dump began anew: block 0 was made twice.
    assert_eq!(session.made[0].len(), 2);
}

#[test]
fn a_receiver_that_never_comes_back_does_not_stop_the_dump() {
    let mut session = session(100);
    session.run_to(seconds(3));
    session.back.is_cut = true;
    session.run(seconds(200));
    assert!(!session.sender.is_answered());
}

#[test]
fn the_line_carries_97_percent_of_its_rate() {
    for (bit_errors, at_least) in [(0.0, 0.97), (1e-6, 0.955), (1e-5, 0.90)] {
        let is = Efficiency::measure(115_200, 20 * MS, Noise::bit_errors(bit_errors), COMPRESSED);
        assert!(is.of_bytes >= at_least && is.of_rate >= at_least, "{bit_errors:e}: {is:?}");
    }
}

/// One byte in a thousand: in fragments of 158 bytes 72 % gets through, and no others are better.
#[test]
fn lost_bytes_cost_what_they_must_in_blocks_of_any_size() {
    let noise = Noise { drop: 1e-3, ..Noise::default() };
    for max_block_bytes in [13_000, COMPRESSED, 66_000] {
        let is = Efficiency::measure(921_600, 20 * MS, noise, max_block_bytes);
        assert!(is.of_rate >= 0.7, "{max_block_bytes}: {is:?}");
    }
}
