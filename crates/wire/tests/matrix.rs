//! Thousands of sessions: what the line does to bytes × how the host is scheduled × how the window is used × receivers
//! that are killed. Each must end complete, and what it costs is kept as a snapshot.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation)]

mod simulation;

use std::fmt::Write as _;
use std::time::Duration;

use simulation::{Left, MS, Machine, Noise, Random, Schedule, Setup, Simulation};

const NOISE: [(&str, Noise); 7] = [
    ("clean", noise(0.0, 0.0, 0.0)),
    ("flips 1e-6", noise(1e-6, 0.0, 0.0)),
    ("flips 1e-5", noise(1e-5, 0.0, 0.0)),
    ("flips 3e-5", noise(3e-5, 0.0, 0.0)),
    ("drops 0.1 %", noise(0.0, 1e-3, 0.0)),
    ("inserts 0.1 %", noise(0.0, 0.0, 1e-3)),
    ("all of it", noise(1e-5, 3e-4, 3e-4)),
];

const SCHEDULES: [(&str, Schedule); 4] = [
    ("at once", Schedule { every: Duration::ZERO, is_shuffled: false }),
    ("30 ms", Schedule { every: Duration::from_millis(30), is_shuffled: false }),
    ("300 ms", Schedule { every: Duration::from_millis(300), is_shuffled: false }),
    ("shuffled", Schedule { every: Duration::from_millis(40), is_shuffled: true }),
];

/// What a window is filled with, and how often.
struct Window {
    blocks: u32,
    max_block_bytes: u64,
    baud: u32,
    seeds: u64,
}

const WINDOWS: [Window; 3] = [
    // Full with 64 blocks.
    Window { blocks: 150, max_block_bytes: 300, baud: 921_600, seeds: 64 },
    // Never full.
    Window { blocks: 12, max_block_bytes: 20_000, baud: 921_600, seeds: 64 },
    // Full with 246 KiB.
    Window { blocks: 16, max_block_bytes: 66_000, baud: 12_000_000, seeds: 16 },
];

const fn noise(flips_per_bit: f64, drop: f64, insert: f64) -> Noise {
    Noise { flip: flips_per_bit * 10.0, drop, insert }
}

#[test]
fn no_seed_ends_wrong_or_stalls() {
    let mut table = format!("{:32}", "bytes of blocks per line byte");
    for Window { blocks, max_block_bytes, .. } in WINDOWS {
        write!(table, "{:>15}", format!("{blocks} x {max_block_bytes}")).unwrap();
    }
    table.push('\n');
    for (noise_name, noise) in NOISE {
        for (schedule_name, schedule) in SCHEDULES {
            write!(table, "{noise_name:13}  host looks {schedule_name:8}").unwrap();
            for Window { blocks, max_block_bytes, baud, seeds } in WINDOWS {
                let (mut of_blocks, mut carried) = (0, 0);
                for seed in 0..seeds {
                    let setup = Setup {
                        baud,
                        latency: MS * Random(seed).below(60) as u32,
                        noise,
                        machine: Machine { blocks, max_block_bytes, seed },
                        schedule,
                        seed,
                    };
                    let session = run(setup);
                    assert!(session.is_complete(), "not complete: {setup:?}");
                    of_blocks += session.machine.bytes();
                    carried += session.forward.carried;
                }
                write!(table, "{:13} %", of_blocks * 100 / carried).unwrap();
            }
            table.push('\n');
        }
    }
    insta::assert_snapshot!(table);
}

/// A session in which, by its seed, nobody is killed, or a receiver that leaves everything, some, or nothing behind.
fn run(setup: Setup) -> Simulation {
    let mut random = Random(setup.seed ^ 0x1d);
    let left = match setup.seed % 4 {
        0 => None,
        1 => Some(Left::Everything),
        2 => Some(Left::Blocks(random.below(u64::from(setup.machine.blocks)) as u32)),
        _ => Some(Left::Blocks(0)),
    };
    let kill_at = MS * random.below(1500) as u32;
    let mut session = Simulation::new(setup);
    while session.now < kill_at && !session.sender.is_finished() {
        session.step();
    }
    // Once all is stored, nobody waits for it any more.
    if let Some(left) = left.filter(|_| !session.host.has_stored_everything(session.now)) {
        session.host.kill(session.now, left);
    }
    session.run(Duration::from_secs(300));
    session
}
