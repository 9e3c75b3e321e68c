//! From the panic's first line to the capture kernel's banner, as the line carries them. Needs the lab and the image:
//! `cargo xtask image`, and `$RCAPTURE_QEMU` naming the program `rcapture-qemu`.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

use std::fs;
use std::time::{Duration, Instant};

use end_to_end::{BANNER, BOOT, Spec};
use rcapture_qemu::{Line, Loader};

const PANIC: &[u8] = b"Kernel panic - not syncing";
const RUNS: usize = 5;

fn main() {
    // Criterion's way of choosing: names that contain the word.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if filter.is_some_and(|filter| !"banner".contains(&filter)) {
        return;
    }
    for loader in [Loader::KexecLoad, Loader::KexecFileLoad] {
        for smp in [1, 4] {
            let spec = Spec { loader, smp, ..Spec::default() };
            let mut times: Vec<u128> = (0..RUNS).map(|_| measure(&spec).as_millis()).collect();
            times.sort_unstable();
            println!("panic to banner, {loader:?}, {smp} CPUs: {times:?} ms");
        }
    }
}

fn measure(spec: &Spec) -> Duration {
    let (line, _machine) = spec.start();
    let panicked = wait_for(&line, PANIC);
    wait_for(&line, BANNER.as_bytes()) - panicked
}

/// When `text` came.
fn wait_for(line: &Line, text: &[u8]) -> Instant {
    let start = Instant::now();
    loop {
        let said = fs::read(line.record()).unwrap();
        if said.windows(text.len()).any(|window| window == text) {
            return Instant::now();
        }
        assert!(start.elapsed() < BOOT, "it does not come");
        std::thread::sleep(Duration::from_micros(500));
    }
}
