//! Over a virtio network card, at three sizes of the machine.

use std::fmt::Write as _;

use rcapture_qemu::Arch;

use crate::course::Times;
use crate::plot::{self, Bars};
use crate::support::{is_quick, publish, runs};
use crate::{KDUMP_RESERVATION, machine, ours, theirs};

pub(crate) fn measure() {
    let runs = runs(3);
    let sizes: &[u32] = if is_quick() { &[512] } else { &[512, 2048, 6144] };
    let mut table = format!(
        "| machine | | {} | bytes |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |\n",
        Times::NAMES.join(" | ")
    );
    let mut bars = Vec::new();
    for arch in Arch::ALL {
        for &memory_mib in sizes {
            // Without LPAE there is no more.
            if arch == Arch::Arm && memory_mib > 2048 {
                continue;
            }
            let spec = machine(arch, memory_mib);
            let (mut our_times, mut their_times, mut bytes) = (Vec::new(), Vec::new(), [0; 2]);
            // In turns: whatever else the host has to do meets both.
            for _ in 0..runs {
                let (us, them) = (ours::dump(&spec), theirs::dump(&spec, KDUMP_RESERVATION, "-l"));
                bytes = [us.bytes(), them.bytes()];
                our_times.push(us.times(&spec));
                their_times.push(them.times(&spec));
            }
            let [us, them] = [&our_times, &their_times].map(|times| Times::median(times));
            let name = format!("{}, {memory_mib} MiB", arch.name());
            rows(&mut table, &name, [us, them], bytes);
            eprintln!("{name}: {:?} and {:?}", us.all(), them.all());
            bars.push(Bars { name, ours: us.complete.as_secs_f64(), theirs: them.complete.as_secs_f64() });
        }
    }
    publish("kdump.network", &format!("{table}\nRuns of each: {runs}; medians.\n"));
    plot::draw("kdump-network", "From panic to the whole dump, over virtio-net", "seconds", &bars);
}

/// Rows of both, and of how the first compares with the second.
pub(crate) fn rows(table: &mut String, name: &str, [us, them]: [Times; 2], bytes: [u64; 2]) {
    let cells = |times: Times| times.all().map(|time| format!("{:.2} s", time.as_secs_f64())).join(" | ");
    let ratios: Vec<String> = us
        .all()
        .into_iter()
        .zip(them.all())
        .map(|(us, them)| format!("**{:.3}**", us.as_secs_f64() / them.as_secs_f64()))
        .collect();
    writeln!(table, "| {name} | rcapture | {} | {} |", cells(us), bytes[0]).unwrap();
    writeln!(table, "| | kdump | {} | {} |", cells(them), bytes[1]).unwrap();
    let bytes = bytes[0] as f64 / bytes[1] as f64;
    writeln!(table, "| | ratio | {} | **{bytes:.3}** |", ratios.join(" | ")).unwrap();
}
