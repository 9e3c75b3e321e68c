//! From the panic's first line to the capture kernel's banner, as the line carries them. Needs the lab and the image:
//! `cargo xtask image`, and `$RCAPTURE_QEMU` naming the program `rcapture-qemu`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "a benchmark")]

mod support;

use std::fmt::Write as _;
use std::time::Duration;

use end_to_end::{BANNER, Spec};
use rcapture_qemu::Loader;

const RUNS: usize = 5;

fn main() {
    if !support::is_chosen("banner") {
        return;
    }
    let mut table =
        String::from("| loader | CPUs | median | least | most |\n| --- | ---: | ---: | ---: | ---: |\n");
    for (loader, command) in [(Loader::KexecLoad, "kexec -p"), (Loader::KexecFileLoad, "kexec -s -p")] {
        for smp in [1, 4] {
            let spec = Spec { loader, smp, ..Spec::default() };
            let mut times: Vec<u128> = (0..RUNS).map(|_| measure(&spec).as_millis()).collect();
            times.sort_unstable();
            eprintln!("{command}, {smp} CPUs: {times:?} ms");
            let (median, least, most) = (times[RUNS / 2], times[0], times[RUNS - 1]);
            writeln!(table, "| `{command}` | {smp} | {median} ms | {least} ms | {most} ms |").unwrap();
        }
    }
    support::publish("banner", &table);
}

fn measure(spec: &Spec) -> Duration {
    let (line, _machine) = spec.start();
    let panicked = support::wait_for(&line, support::PANIC);
    support::wait_for(&line, BANNER) - panicked
}
