//! From the panic's first line to the capture kernel's banner, as the line carries them. Needs the lab and the image:
//! `cargo xtask image`, and `$RCAPTURE_QEMU` naming the program `rcapture-qemu`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "a benchmark")]

mod support;

use std::fmt::Write as _;
use std::time::Duration;

use end_to_end::{BANNER, Spec};
use rcapture_qemu::{Arch, Loader};

const RUNS: usize = 5;

fn main() {
    if !support::is_chosen("banner") {
        return;
    }
    let mut table = String::from(
        "| machine | loader | CPUs | median | least | most |\n| --- | --- | ---: | ---: | ---: | ---: |\n",
    );
    let loaders = |arch| match arch {
        // Debian's kernels for Arm have no kexec_file_load(2).
        Arch::X86_64 => &[(Loader::KexecLoad, "kexec -p"), (Loader::KexecFileLoad, "kexec -s -p")][..],
        _ => &[(Loader::KexecLoad, "kexec -p")],
    };
    for machine in [Spec::default(), Spec::aarch64()] {
        for &(loader, command) in loaders(machine.arch) {
            for smp in [1, 4] {
                let spec = Spec { loader, smp, ..machine.clone() };
                let name = spec.arch.name();
                let mut times: Vec<u128> = (0..RUNS).map(|_| measure(&spec).as_millis()).collect();
                times.sort_unstable();
                eprintln!("{name}, {command}, {smp} CPUs: {times:?} ms");
                let (median, least, most) = (times[RUNS / 2], times[0], times[RUNS - 1]);
                writeln!(table, "| {name} | `{command}` | {smp} | {median} ms | {least} ms | {most} ms |")
                    .unwrap();
            }
        }
    }
    support::publish("banner", &table);
}

fn measure(spec: &Spec) -> Duration {
    let (line, _machine) = spec.start();
    let panicked = support::wait_for(&line, support::PANIC);
    support::wait_for(&line, BANNER) - panicked
}
