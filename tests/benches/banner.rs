//! From the panic to the capture kernel's banner, as the line carries them. Needs the lab and the image:
//! `cargo xtask image`, and `$RCAPTURE_QEMU` naming the program `rcapture-qemu`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "a benchmark")]

mod support;

use std::fmt::Write as _;
use std::time::Duration;

use end_to_end::{BANNER, Spec};
use rcapture_qemu::{Arch, Loader};
use support::{PANIC, Timeline};

fn main() {
    if !support::is_chosen("banner") {
        return;
    }
    let mut table = String::from(
        "| machine | loader | CPUs | since the panic's first line | since Linux's last |\n\
         | --- | --- | ---: | ---: | ---: |\n",
    );
    let loaders = |arch| match arch {
        // Debian's kernels for Arm have no kexec_file_load(2).
        Arch::X86_64 => &[(Loader::KexecLoad, "kexec -p"), (Loader::KexecFileLoad, "kexec -s -p")][..],
        _ => &[(Loader::KexecLoad, "kexec -p")],
    };
    for machine in [Spec::default(), Spec::aarch64(), Spec::arm(), Spec::sabrelite()] {
        for &(loader, command) in loaders(machine.arch) {
            for smp in [1, 4] {
                let spec = Spec { loader, smp, ..machine.clone() };
                let name = spec.board.unwrap_or(spec.arch.name());
                let (first, last): (Vec<_>, Vec<_>) = (0..support::runs(5)).map(|_| measure(&spec)).unzip();
                let [first, last] = [first, last].map(milliseconds);
                eprintln!("{name}, {command}, {smp} CPUs: {first}, {last}");
                writeln!(table, "| {name} | `{command}` | {smp} | {first} | {last} |").unwrap();
            }
        }
    }
    support::publish("banner", &table);
}

/// Times to the banner: since the panic's first line, and since the last one that Linux wrote.
fn measure(spec: &Spec) -> (Duration, Duration) {
    let (line, _machine) = spec.start();
    let timeline = Timeline::until(&line, BANNER);
    let banner = timeline.when(BANNER);
    (banner - timeline.when(PANIC), banner - timeline.before(BANNER))
}

/// The median, the least and the most of some times, as a cell of a table.
fn milliseconds(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let [least, median, most] = [times[0], times[times.len() / 2], times[times.len() - 1]];
    format!("{} ms ({}–{})", median.as_millis(), least.as_millis(), most.as_millis())
}
