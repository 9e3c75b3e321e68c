//! aarch64 over a serial line: a stock kernel crashes on QEMU's board `virt`, and every page of it arrives.
#![allow(missing_docs, reason = "tests")]

use end_to_end::{Spec, Whole};
use rcapture_qemu::Suite;

/// With a hypervisor's exception level, which the kernel takes for its own.
const EL2: Option<&str> = Some("virt,virtualization=on");

// PSCI turns the machines off, by whichever instruction their device tree names.

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn cortex_a57_at_el1_512_mib_2_cpus_linux_6_1() {
    let spec = Spec { cmdline: "rcapture.final=poweroff", ..Spec::aarch64() };
    let whole = Whole::of(&spec);
    whole.has_said(
        "console.log",
        &[
            "Kernel panic - not syncing: sysrq triggered crash",
            "aarch64: capture kernel started, link serial:ttyAMA0",
            "KiB sent",
        ],
    );
    whole.has_said("vmcore-dmesg.txt", &["sysrq: Trigger a crash"]);
    whole.drgn_finds_on_the_stack(
        &spec.vmlinux(),
        &["sysrq_handle_crash", "write_sysrq_trigger", "el0t_64_sync"],
    );
    // A prime number of pages apart: all kinds of pages. The reservation is above.
    let addresses: Vec<u64> = (0x4000_0000..0x5800_0000).step_by(4096 * 977).collect();
    whole.drgn_reads_what_was_there(&addresses);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn cortex_a57_at_el2_512_mib_1_cpu_linux_6_1() {
    let _ = Whole::of(&Spec { board: EL2, smp: 1, cmdline: "rcapture.final=poweroff", ..Spec::aarch64() });
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn cortex_a76_at_el2_with_vhe_1_gib_1_cpu_linux_6_1() {
    let _ = Whole::of(&Spec {
        cpu: "cortex-a76",
        board: EL2,
        memory_mib: 1024,
        smp: 1,
        cmdline: "rcapture.final=poweroff rcapture.link=serial:ttyAMA0,115200n8",
        ..Spec::aarch64()
    });
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn cortex_a57_at_el1_512_mib_1_cpu_linux_6_12() {
    let _ = Whole::of(&Spec {
        suite: Suite::Trixie,
        smp: 1,
        cmdline: "rcapture.final=poweroff",
        ..Spec::aarch64()
    });
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn cortex_a76_at_el2_with_vhe_512_mib_1_cpu_linux_7_2() {
    let _ = Whole::of(&Spec {
        suite: Suite::Sid,
        cpu: "cortex-a76",
        board: EL2,
        smp: 1,
        cmdline: "rcapture.final=poweroff",
        ..Spec::aarch64()
    });
}
