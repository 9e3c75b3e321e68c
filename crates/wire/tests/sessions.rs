//! Whole sessions over lines that are slow, noisy, cut and one-way, in virtual time.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation)]

mod simulation;

use std::fmt::Write as _;
use std::time::Duration;

use simulation::{Channel, Host, Machine, Noise, Random, Simulation};

const MS: Duration = Duration::from_millis(1);

struct Setup {
    baud: u32,
    latency: Duration,
    noise: Noise,
    blocks: u32,
    max_block_bytes: u64,
    seed: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            baud: 921_600,
            latency: 5 * MS,
            noise: Noise::default(),
            blocks: 20,
            max_block_bytes: 20_000,
            seed: 1,
        }
    }
}

impl Setup {
    fn simulation(&self) -> Simulation {
        let machine = Machine { blocks: self.blocks, max_block_bytes: self.max_block_bytes, seed: self.seed };
        let forward = Channel::new(self.baud, self.latency, self.noise, self.seed ^ 0xf0);
        let back = Channel::new(self.baud, self.latency, self.noise, self.seed ^ 0xb0);
        Simulation::new(machine, forward, back, Host::new(100 * MS))
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_clean_line_carries_a_session() {
    let mut session = Setup::default().simulation();
    session.run(seconds(60));
    session.assert_complete();
    assert!(session.sender.is_answered());
}

#[test]
fn nothing_is_said_to_the_line_before_a_header_and_after_the_end() {
    let mut session = Setup { blocks: 200, ..Setup::default() }.simulation();
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
    let mut session = Setup::default().simulation();
    session.back.is_cut = true;
    session.run(seconds(60));
    session.assert_complete();
    assert!(!session.sender.is_answered());
}

#[test]
fn a_receiver_that_comes_late_gets_everything() {
    let mut session = Setup { blocks: 200, ..Setup::default() }.simulation();
    session.forward.is_cut = true;
    while session.now < seconds(12) {
        session.step();
    }
    session.forward.is_cut = false;
    session.run(seconds(120));
    session.assert_complete();
}

#[test]
fn a_line_that_is_cut_for_20_seconds_goes_on_where_it_was() {
    let mut session = Setup { blocks: 100, ..Setup::default() }.simulation();
    while session.now < seconds(4) {
        session.step();
    }
    (session.forward.is_cut, session.back.is_cut) = (true, true);
    while session.now < seconds(24) {
        session.step();
    }
    let carried = session.forward.carried;
    (session.forward.is_cut, session.back.is_cut) = (false, false);
    session.run(seconds(120));
    session.assert_complete();
    // What was on its way is sent again, not the whole.
    assert!(session.forward.carried - carried < session.machine.bytes());
}

#[test]
fn a_receiver_that_is_killed_five_times_loses_nothing_durable() {
    let mut session = Setup { blocks: 120, ..Setup::default() }.simulation();
    for kill in 1..=5 {
        while session.now < seconds(2 * kill) {
            session.step();
        }
        session.host.kill(session.now, false);
    }
    session.run(seconds(120));
    session.assert_complete();
}

#[test]
fn a_receiver_that_lost_its_disk_starts_over_and_loses_nothing() {
    let mut session = Setup { blocks: 120, ..Setup::default() }.simulation();
    while session.now < seconds(6) {
        session.step();
    }
    session.host.kill(session.now, true);
    session.run(seconds(120));
    session.assert_complete();
    // The dump began anew: block 0 was made twice.
    assert_eq!(session.made[&0].len(), 2);
}

#[test]
fn a_receiver_that_never_comes_back_does_not_stop_the_dump() {
    let mut session = Setup { blocks: 100, ..Setup::default() }.simulation();
    while session.now < seconds(3) {
        session.step();
    }
    session.back.is_cut = true;
    session.run(seconds(200));
    session.assert_nothing_is_wrong();
    assert!(!session.sender.is_answered());
}

/// Loss × corruption × how the host is scheduled × blocks: whatever the line does, a block is right or absent, and
/// every session ends complete.
#[test]
fn no_seed_ends_wrong_or_stalls() {
    let mut table = String::new();
    for (name, noise) in [
        ("clean", Noise::default()),
        ("flips 1e-6", Noise::bit_errors(1e-6)),
        ("flips 1e-5", Noise::bit_errors(1e-5)),
        ("flips 3e-5", Noise::bit_errors(3e-5)),
        ("drops 0.1 %", Noise { drop: 1e-3, ..Noise::default() }),
        ("inserts 0.1 %", Noise { insert: 1e-3, ..Noise::default() }),
    ] {
        for host_every in [0, 30, 300] {
            for max_block_bytes in [300, 20_000] {
                let (mut carried, mut made) = (0, 0);
                for seed in 0..SEEDS {
                    let mut session = Setup {
                        noise,
                        blocks: 12,
                        max_block_bytes,
                        seed,
                        latency: MS * Random(seed).below(60) as u32,
                        ..Setup::default()
                    }
                    .simulation();
                    session.host_every = host_every * MS;
                    let killed_at = MS * Random(seed ^ 7).below(2000) as u32;
                    let mut is_killed = seed % 3 != 0;
                    while !session.sender.is_finished() {
                        session.step();
                        let is_over = session.host.has_stored_everything(session.now);
                        if !is_killed && session.now >= killed_at && !is_over {
                            is_killed = true;
                            session.host.kill(session.now, seed % 2 == 0);
                        }
                        assert!(session.now < seconds(300), "{name}, seed {seed}: the session stalls");
                    }
                    session.run(seconds(400));
                    assert!(
                        session.host.is_complete(),
                        "{name}, every {host_every} ms, {max_block_bytes} bytes, seed {seed}"
                    );
                    session.assert_complete();
                    carried += session.forward.carried;
                    made += session.machine.bytes();
                }
                let percent = made * 100 / carried.max(1);
                writeln!(
                    table,
                    "{name:14} host looks every {host_every:3} ms, blocks to {max_block_bytes:5} bytes: {percent:3} %"
                )
                .unwrap();
            }
        }
    }
    insta::assert_snapshot!(table);
}

const SEEDS: u64 = 30;

/// Block bytes over line bytes, for at least 8 MiB behind the header, at 115200.
fn efficiency(noise: Noise, baud: u32, latency: Duration) -> f64 {
    let mut session =
        Setup { baud, latency, noise, blocks: 700, max_block_bytes: 26_000, seed: 3 }.simulation();
    session.step();
    let before = session.forward.carried;
    session.run(seconds(3600));
    session.assert_complete();
    let bytes = session.machine.bytes();
    assert!(bytes > 8 << 20, "{bytes}");
    bytes as f64 / (session.forward.carried - before) as f64
}

#[test]
fn the_line_carries_97_percent_of_its_rate() {
    for (bit_errors, at_least) in [(0.0, 0.97), (1e-6, 0.955), (1e-5, 0.90)] {
        let is = efficiency(Noise::bit_errors(bit_errors), 115_200, 2 * MS);
        println!("{bit_errors:e} wrong bits: {:.2} %", is * 100.0);
        assert!(is >= at_least, "{bit_errors:e}: {is}");
    }
}
