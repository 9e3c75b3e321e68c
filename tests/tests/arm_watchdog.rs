//! A watchdog that the crashed kernel armed does not end the dump.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::fs;

use end_to_end::{BANNER, BOOT, Crashed, DUMP, Spec};
use rcapture_qemu::{LineOptions, Trigger};

/// WDOG1_WCR: on, 4 s (i.MX 6Dual/6Quad Reference Manual, 70.7.1).
const CRASH_WITH_WATCHDOG: &str = "devmem 0x020bc000 16 0x0734; echo c >/proc/sysrq-trigger";

/// A board with an i.MX6 whose watchdog is armed, at the banner. Its line is so slow that a dump takes longer than a minute.
fn crash(settings: &'static str) -> Crashed {
    let spec = Spec {
        smp: 1,
        is_console_apart: true,
        dump_level: 31,
        compress: "none",
        cmdline: settings,
        line: LineOptions { baud: Some(115_200), ..LineOptions::default() },
        ..Spec::sabrelite()
    };
    spec.crash_at(BANNER, |machine| machine.trigger(Trigger::Command(CRASH_WITH_WATCHDOG.into())))
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_watchdog_armed_with_4_s_does_not_end_a_dump_of_a_minute() {
    let mut crashed = crash("rcapture.link=serial:ttymxc0,115200n8 rcapture.budget=60s");
    let received = crashed.receive(&[], DUMP);
    assert!(received.stderr.contains("budget was spent"), "{}", received.stderr);
    // The receiver came after that.
    let serial = fs::read(crashed.machine.serial_log()).unwrap();
    let text = String::from_utf8_lossy(&serial);
    assert!(text.contains("watchdog imx2 at 0x20bc000: on, and fed"), "{text}");
    // And the machine, which has no PSCI, is reset by its watchdog.
    let status = crashed.machine.wait_for_end(BOOT).unwrap();
    assert!(status.success(), "{status}");
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn without_being_fed_it_does() {
    let mut crashed = crash("rcapture.link=serial:ttymxc0,115200n8 rcapture.watchdog=none");
    let receiver = crashed.start_receiver(&[]);
    crashed.machine.cont().unwrap();
    // It ends by itself, within seconds of a dump of half an hour.
    let status = crashed.machine.wait_for_end(BOOT).unwrap();
    assert!(status.success(), "{status}");
    drop(receiver);
    let serial = fs::read(crashed.machine.serial_log()).unwrap();
    let text = String::from_utf8_lossy(&serial);
    assert!(text.contains("watchdog imx2 at 0x20bc000: not fed"), "{text}");
    assert!(!text.contains("rcapture: rebooting"), "{text}");
}
