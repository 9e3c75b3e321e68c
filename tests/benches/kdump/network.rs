//! Over a virtio network card, at three sizes of the machine.

use std::fmt::Write as _;

use rcapture_qemu::Arch;

use crate::course::Times;
use crate::plot::{self, Bars};
use crate::support::{is_quick, publish, runs};
use crate::{kdump_reservation, machine, ours, theirs};

pub(crate) fn measure() {
    let runs = runs(3);
    let sizes: &[u32] = if is_quick() { &[512] } else { &[512, 2048, 6144] };
    let mut table = head();
    let mut bars = Vec::new();
    for arch in Arch::ALL {
        for &memory_mib in sizes {
            // Without LPAE there is no more.
            if arch == Arch::Arm && memory_mib > 2048 {
                continue;
            }
            let spec = machine(arch, memory_mib);
            let (mut our_times, mut their_times, mut our_bytes, mut their_bytes) =
                (Vec::new(), Vec::new(), 0, 0);
            // In turns: whatever else the host has to do meets both.
            for _ in 0..runs {
                let us = ours::dump(&spec);
                our_times.push(us.times(&spec));
                our_bytes = us.bytes();
                if let Some(them) = theirs::dump(&spec, kdump_reservation(arch), "-l") {
                    their_times.push(them.times(&spec));
                    their_bytes = them.bytes();
                }
            }
            let us = Times::median(&our_times);
            let them = (!their_times.is_empty()).then(|| Times::median(&their_times));
            let name = format!("{}, {memory_mib} MiB", arch.name());
            rows(&mut table, &name, (us, our_bytes), them.map(|times| (times, their_bytes)));
            eprintln!("{name}: {:?} and {:?}", us.all(), them.map(Times::all));
            let seconds = |times: Times| times.complete.as_secs_f64();
            bars.push(Bars { name, ours: seconds(us), theirs: them.map(seconds) });
        }
    }
    publish("kdump.network", &format!("{table}\nRuns of each: {runs}; medians.\n"));
    plot::draw("kdump-network", "From panic to the whole dump, over virtio-net", "seconds", &bars);
}

/// What the columns of [`rows`] are.
pub(crate) fn head() -> String {
    let names = Times::NAMES.join(" | ");
    format!("| machine | | {names} | bytes |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |\n")
}

/// Rows of both, and of how the first compares with the second, if that made a dump.
pub(crate) fn rows(table: &mut String, name: &str, us: (Times, u64), them: Option<(Times, u64)>) {
    let cells = |times: Times| times.all().map(|time| format!("{:.2} s", time.as_secs_f64())).join(" | ");
    writeln!(table, "| {name} | rcapture | {} | {} |", cells(us.0), us.1).unwrap();
    let Some(them) = them else {
        writeln!(table, "| | kdump | no dump | | | | |").unwrap();
        return;
    };
    let ratio = |us: f64, them: f64| format!("**{:.3}**", us / them);
    let ratios =
        us.0.all()
            .into_iter()
            .zip(them.0.all())
            .map(|(us, them)| ratio(us.as_secs_f64(), them.as_secs_f64()));
    let ratios: Vec<String> = ratios.chain([ratio(us.1 as f64, them.1 as f64)]).collect();
    writeln!(table, "| | kdump | {} | {} |", cells(them.0), them.1).unwrap();
    writeln!(table, "| | ratio | {} |", ratios.join(" | ")).unwrap();
}
