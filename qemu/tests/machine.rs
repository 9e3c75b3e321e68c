//! The lab with a real QEMU and a stock kernel: `cargo test -p rcapture-qemu -- --ignored`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "tests")]

use std::time::Duration;

use rcapture_qemu::crash::normalised_log;
use rcapture_qemu::{Error, Lab, Line, LineOptions, Machine, MachineBuilder, Outcome, Suite, Trigger};

const BOOT: Duration = Duration::from_secs(180);

/// A small machine that panics and stays.
fn machine(lab: &Lab) -> MachineBuilder {
    let kernel = lab.kernel(Suite::Bookworm).unwrap();
    Machine::builder(kernel, lab.userland().unwrap()).memory_mib(256).append("panic=0")
}

#[test]
#[ignore = "needs QEMU and Debian's archive"]
fn a_restored_snapshot_is_the_same_machine() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name| directory.path().join(name);
    let lab = Lab::open().unwrap();
    let mut first = machine(&lab).start().unwrap();
    first.wait_for_line_text("end Kernel panic", BOOT).unwrap();
    first.snapshot(&file("snapshot")).unwrap();
    let truth = first.dump_truth(&file("first")).unwrap();
    drop(first);
    let mut second = machine(&lab).restore_from(file("snapshot")).start().unwrap();
    let restored = second.dump_truth(&file("second")).unwrap();
    assert!(truth.pfns().count() > 60_000);
    assert!(truth.pfns().eq(restored.pfns()));
    for pfn in truth.pfns() {
        assert!(truth.page(pfn).unwrap() == restored.page(pfn).unwrap(), "page {pfn:#x} differs");
    }
    second.cont().unwrap();
}

#[test]
#[ignore = "needs QEMU and Debian's archive"]
fn crash_reads_the_truth_and_names_who_panicked() {
    let directory = tempfile::tempdir().unwrap();
    let lab = Lab::open().unwrap();
    let kernel = lab.kernel(Suite::Bookworm).unwrap();
    let (vmlinux, crash) = (lab.vmlinux(&kernel).unwrap(), lab.crash().unwrap());
    let mut machine = machine(&lab).start().unwrap();
    machine.wait_for_line_text("end Kernel panic", BOOT).unwrap();
    let dump = directory.path().join("vmcore");
    machine.dump_truth(&dump).unwrap();
    let console = std::fs::read(machine.serial_log()).unwrap();
    drop(machine);
    let sections = crash.run(&vmlinux, &dump, &["sys", "bt", "log"], Duration::from_secs(600)).unwrap();
    let [sys, bt, log] = sections.as_slice() else { panic!("{sections:?}") };
    assert!(sys.contains(&kernel.release) && bt.contains("sysrq_handle_crash"), "{sys}{bt}");
    let log = normalised_log(log.as_bytes());
    let panic = normalised_log(&console).into_iter().find(|line| line.contains("Kernel panic")).unwrap();
    assert!(log.contains(&panic), "{panic}");
}

#[test]
#[ignore = "needs QEMU and Debian's archive"]
fn the_line_hears_the_panic_of_an_nmi() {
    let lab = Lab::open().unwrap();
    let mut line = Line::spawn(LineOptions { baud: Some(115_200), ..LineOptions::default() }).unwrap();
    let mut machine = machine(&lab).trigger(Trigger::Nmi).line(&line).start().unwrap();
    machine.wait_for_line_text("LAB: crashing", BOOT).unwrap();
    machine.inject_nmi().unwrap();
    machine.wait_for_line_text("Kernel panic - not syncing: NMI: Not continuing", BOOT).unwrap();
    assert!(machine.monitor("info status").unwrap().contains("running"));
    let report = line.report().unwrap().to_host;
    // Nobody listens at the host's end, and the machine did not notice.
    assert!(report.sent > 200 && report.overrun == report.sent, "{report:?}");
}

#[test]
#[ignore = "needs QEMU and Debian's archive"]
fn a_missing_text_and_arguments_that_qemu_does_not_take_are_different_ends() {
    let lab = Lab::open().unwrap();
    let mut quiet = machine(&lab).start().unwrap();
    let error = quiet.wait_for_line_text("never said", Duration::from_millis(300)).unwrap_err();
    let Error::Awaited { log, .. } = &error else { panic!("{error}") };
    assert_eq!(error.outcome(), Outcome::Failed);
    assert!(log.is_file(), "the serial log is kept");
    std::fs::remove_dir_all(quiet.keep_logs()).unwrap();
    let error = machine(&lab).argument("-no-such-option").start().unwrap_err();
    assert_eq!(error.outcome(), Outcome::ToolMissing);
    assert!(error.to_string().contains("no-such-option"), "{error}");
}
