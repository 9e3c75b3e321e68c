//! A line that is noisy, and receivers that are killed: what arrives is what was there.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "tests")]

use std::thread::sleep;
use std::time::Duration;

use end_to_end::{DUMP, Spec, compare, rcapture};
use rcapture_qemu::LineOptions;

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn noise_and_receivers_that_are_killed_cost_nothing_but_time() {
    // At ten bits a byte some 1 % of the frames are damaged.
    let line = LineOptions { bit_errors: 1e-6, seed: 1, ..LineOptions::default() };
    let mut crashed = Spec { memory_mib: 256, line, ..Spec::default() }.crash();
    let first = crashed.start_receiver(&[]);
    crashed.machine.cont().unwrap();
    first.wait_for_journal(1 << 20, DUMP);
    first.kill();
    sleep(Duration::from_secs(1));
    let second = crashed.start_receiver(&[]);
    second.wait_for_journal(3 << 20, DUMP);
    second.kill();
    let received = crashed.start_receiver(&[]).wait(DUMP);
    assert!(received.status.success(), "{}: {}", received.status, received.stderr);
    let vmcore = received.directory.join("vmcore");
    let comparison = compare(&vmcore, &crashed.truth, &[]);
    println!("{comparison}");
    assert!(comparison.different.is_empty() && comparison.absent.is_empty(), "{comparison}");
    let info = rcapture().arg("info").arg(&vmcore).output().unwrap();
    let info = String::from_utf8_lossy(&info.stdout);
    assert!(info.lines().any(|line| line.starts_with("complete") && line.ends_with("yes")), "{info}");
}
