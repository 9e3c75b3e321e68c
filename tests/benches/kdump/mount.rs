//! What a debugger says of a machine at the end of a slow line: of its mounted memory, while the dump is still coming, and of
//! the whole dump.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use end_to_end::{CRASH, Mounted, Spec};
use rcapture_qemu::{Lab, LineOptions};

/// From the panic to the stack of the crash on the screen.
pub(crate) struct Stacks {
    pub(crate) name: String,
    /// Of the mounted machine.
    pub(crate) mounted: Duration,
    /// Of our whole dump, and of kdump's, if there is one.
    pub(crate) whole: Duration,
    pub(crate) kdump: Option<Duration>,
}

/// A table of them.
pub(crate) fn table(all: &[Stacks]) -> String {
    let mut table = String::from(
        "| machine | kdump, whole | rcapture, whole | rcapture, mounted | mounted / whole |\n\
        | --- | ---: | ---: | ---: | ---: |\n",
    );
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    for Stacks { name, mounted, whole, kdump } in all {
        let kdump = kdump.map_or_else(|| "no dump".to_owned(), seconds);
        let ratio = mounted.as_secs_f64() / whole.as_secs_f64();
        let (whole, mounted) = (seconds(*whole), seconds(*mounted));
        writeln!(table, "| {name} | {kdump} | {whole} | {mounted} | **{ratio:.3}** |").unwrap();
    }
    table
}

/// From the capture kernel's first words to the stack of the crash, by the mount, over a line of so many baud.
pub(crate) fn stack_of_mounted(spec: &Spec, baud: u64) -> Duration {
    let line = LineOptions { baud: u32::try_from(baud).ok(), ..LineOptions::default() };
    let crashed = Spec { compress: "auto", line, ..spec.clone() }.crash();
    let start = Instant::now();
    let mounted = Mounted::of(crashed);
    time_of_stack(spec, &mounted.vmcore);
    start.elapsed()
}

/// How long a debugger takes to say where the crash was.
pub(crate) fn time_of_stack(spec: &Spec, vmcore: &Path) -> Duration {
    let debugger = Lab::open().unwrap().debugger(spec.arch).unwrap();
    let start = Instant::now();
    let said = debugger.backtrace(&spec.vmlinux(), &[], vmcore, false, CRASH).unwrap();
    assert!(said.contains("sysrq_handle_crash"), "{said}");
    start.elapsed()
}
