//! One machine that has just crashed, let go over eight lines: the same vmcore comes of each, to the byte.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "tests")]

use std::sync::LazyLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use end_to_end::{Crashed, DUMP, Received, SameVmcore, Snapshot, Spec, is_left_to_full};
use rcapture_qemu::LineOptions;
use rcapture_qemu::line::Report;

/// A small one, all of which is sent.
static MACHINE: LazyLock<Snapshot> =
    LazyLock::new(|| Snapshot::take(&Spec { memory_mib: 128, ..Spec::default() }));

/// What comes of every trial.
static VMCORE: SameVmcore = SameVmcore::new();

/// Lets the machine go over `line`, and looks at what was received. Returns what became of the line's bytes.
fn trial(line: LineOptions, receive: impl FnOnce(&mut Crashed) -> Received) -> Report {
    let mut crashed = MACHINE.restore(line);
    let start = Instant::now();
    let received = receive(&mut crashed);
    let seconds = start.elapsed().as_secs_f32();
    let report = crashed.line.report().unwrap();
    println!("{seconds:.1} s, {} bytes on the line: {report:?}", report.to_host.sent);
    VMCORE.judge(&crashed, &received);
    report
}

/// A clean line.
fn mbaud(rate: u32) -> LineOptions {
    LineOptions { baud: Some(rate * 1_000_000), seed: 1, ..LineOptions::default() }
}

fn whole(crashed: &mut Crashed) -> Received {
    crashed.receive(&[], DUMP)
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_clean_line_carries_every_page() {
    trial(mbaud(4), whole);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test --full"]
fn a_wrong_bit_in_a_million_costs_no_page() {
    if is_left_to_full() {
        return;
    }
    let report = trial(LineOptions { bit_errors: 1e-6, ..mbaud(3) }, whole);
    assert!(report.to_host.flipped_bits > 0);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_wrong_bit_in_a_hundred_thousand_costs_no_page() {
    let report = trial(LineOptions { bit_errors: 1e-5, ..mbaud(4) }, whole);
    assert!(report.to_host.flipped_bits > 0 && report.to_target.flipped_bits > 0);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test --full"]
fn a_lost_byte_in_a_thousand_costs_no_page() {
    if is_left_to_full() {
        return;
    }
    let report = trial(LineOptions { drop: 1e-3, ..mbaud(4) }, whole);
    assert!(report.to_host.dropped > 0 && report.to_target.dropped > 0);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_cut_of_20_seconds_costs_no_page() {
    let report = trial(mbaud(4), |crashed| {
        let receiver = crashed.start_receiver(&[]);
        crashed.machine.cont().unwrap();
        receiver.wait_for_journal(4 << 20, DUMP);
        crashed.line.cut().unwrap();
        sleep(Duration::from_secs(20));
        crashed.line.mend().unwrap();
        receiver.wait(DUMP)
    });
    assert!(report.to_host.cut > 0);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn five_receivers_that_are_killed_cost_no_page() {
    trial(mbaud(4), |crashed| {
        let mut receiver = crashed.start_receiver(&[]);
        crashed.machine.cont().unwrap();
        for number in 1..=5 {
            receiver.wait_for_journal(number << 21, DUMP);
            receiver.kill();
            receiver = crashed.start_receiver(&[]);
        }
        receiver.wait(DUMP)
    });
}

#[test]
#[ignore = "needs QEMU: cargo xtask test --full"]
fn a_receiver_that_comes_a_minute_late_misses_no_page() {
    if is_left_to_full() {
        return;
    }
    // Faster, and the dump would be over by then.
    let report = trial(mbaud(2), |crashed| {
        crashed.machine.cont().unwrap();
        sleep(Duration::from_secs(60));
        crashed.start_receiver(&[]).wait(DUMP)
    });
    assert!(report.to_host.overrun > 0);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_receiver_that_nobody_hears_misses_no_page() {
    // What a busy receiver does not read at once is not lost: this line is a clean one.
    let line = LineOptions { one_way: true, buffer: Some(4 << 20), ..mbaud(4) };
    let report = trial(line, |crashed| {
        // Nothing that is sent before it listens would come again.
        let receiver = crashed.start_listening();
        crashed.machine.cont().unwrap();
        receiver.wait(DUMP)
    });
    assert!(report.to_target.cut > 0 && report.to_target.delivered == 0);
}
