//! The least `crashkernel=` with which a whole dump comes over a network.

use std::fmt::Write as _;
use std::time::Duration;

use end_to_end::Spec;
use rcapture_qemu::run::{self, Link, Scenario};
use rcapture_qemu::{Arch, Lab};

use crate::plot::{self, Bars};
use crate::support::{is_quick, publish};
use crate::{machine, theirs};

/// What is tried, in MiB. The kernel rounds neither.
const OURS: [u32; 6] = [2, 3, 4, 5, 6, 8];
const THEIRS: [u32; 14] = [32, 40, 48, 56, 64, 72, 80, 88, 96, 112, 128, 160, 192, 256];

const THEIRS_QUICKLY: [u32; 3] = [64, 80, 128];

/// A kdump without memory may hang.
const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) fn measure() {
    let archs: &[Arch] = if is_quick() { &[Arch::X86_64] } else { &Arch::ALL };
    let sizes: &[u32] = if is_quick() { &THEIRS_QUICKLY } else { &THEIRS };
    let mut table = String::from("| machine | rcapture | kdump | ratio |\n| --- | ---: | ---: | ---: |\n");
    let mut bars = Vec::new();
    for &arch in archs {
        let spec = machine(arch, 512);
        let name = arch.name();
        let ours = least(&OURS, |mib| is_enough_for_us(&spec, mib)).unwrap();
        let theirs = least(sizes, |mib| theirs::try_dump(&spec, &format!("{mib}M"), "-l", DEADLINE).is_ok());
        eprintln!("{name}: {ours} and {theirs:?} MiB");
        match theirs {
            Some(theirs) => {
                let ratio = f64::from(ours) / f64::from(theirs);
                writeln!(table, "| {name} | {ours}M | {theirs}M | **{ratio:.3}** |").unwrap();
            }
            None => writeln!(table, "| {name} | {ours}M | no dump | |").unwrap(),
        }
        bars.push(Bars { name: name.into(), ours: ours.into(), theirs: theirs.map(f64::from) });
    }
    publish("kdump.reservation", &table);
    plot::draw("kdump-reservation", "The least crashkernel= that works", "MiB", &bars);
}

/// The least of `sizes` that is enough, if one is. What is enough is so for all larger ones.
fn least(sizes: &[u32], is_enough: impl Fn(u32) -> bool) -> Option<u32> {
    sizes.get(sizes.partition_point(|&mib| !is_enough(mib))).copied()
}

fn is_enough_for_us(spec: &Spec, mib: u32) -> bool {
    let scenario = Scenario {
        name: "reservation".into(),
        suite: Some(spec.suite),
        arch: Some(spec.arch),
        cpu: Some(spec.cpu.into()),
        memory: spec.memory_mib,
        crashkernel: Some(format!("{mib}M")),
        link: Link::Tcp,
        ..Scenario::default()
    };
    let directory = tempfile::Builder::new().prefix("rcapture-bench-").tempdir().unwrap();
    let report = run::run(&scenario, &Lab::open().unwrap(), directory.path(), &false.into()).unwrap();
    report.is_complete
}
