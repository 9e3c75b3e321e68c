//! 32-bit Arm over a serial line: a stock kernel crashes on a board with an i.MX6, or on QEMU's `virt`, and every page of it
//! arrives.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use end_to_end::{Spec, Whole, is_full, is_left_to_full};
use rcapture::dump;
use rcapture_qemu::Suite;

/// The board's first UART for the dump alone. Linux leaves it turned off.
fn line_of_its_own() -> Spec {
    Spec { is_console_apart: true, cmdline: "rcapture.link=serial:ttymxc0,115200n8", ..Spec::sabrelite() }
}

/// Another reader of vmcores walks page tables and the stack of the task that crashed, and reads tasks and log.
fn drgn_reads(spec: &Spec, whole: &Whole) {
    let vmlinux = spec.vmlinux();
    whole.drgn_finds_on_the_stack(&vmlinux, &["sysrq_handle_crash", "write_sysrq_trigger", "ksys_write"]);
    whole.drgn_reads_tasks_and_log(&vmlinux);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn imx6_on_a_line_of_its_own_512_mib_2_cpus_linux_6_1() {
    let spec = line_of_its_own();
    let whole = Whole::of(&spec);
    whole.has_said("console.log", &["arm: capture kernel started, link serial:ttymxc0,115200n8", "KiB sent"]);
    whole.has_said("vmcore-dmesg.txt", &["sysrq: Trigger a crash"]);
    drgn_reads(&spec, &whole);
    // A prime number of pages apart: all kinds of pages. The reservation is above.
    let addresses: Vec<u64> = (0x1000_0000..0x2800_0000).step_by(4096 * 977).collect();
    whole.drgn_reads_what_was_there(&addresses);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn imx6_on_its_console_512_mib_1_cpu_linux_6_12() {
    let spec = Spec { suite: Suite::Trixie, smp: 1, ..Spec::sabrelite() };
    let whole = Whole::of(&spec);
    whole.has_said(
        "console.log",
        &[
            "Kernel panic - not syncing: sysrq triggered crash",
            "arm: capture kernel started, link serial:ttymxc1",
        ],
    );
}

#[test]
#[ignore = "needs QEMU: cargo xtask test --full"]
fn imx6_on_either_line_with_the_other_kernels() {
    if is_left_to_full() {
        return;
    }
    for suite in [Suite::Bookworm, Suite::Trixie, Suite::Sid] {
        for spec in [line_of_its_own(), Spec { smp: 1, ..Spec::sabrelite() }] {
            let spec = Spec { suite, ..spec };
            println!("{spec:?}");
            let _ = Whole::of(&spec);
        }
    }
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn virt_512_mib_2_cpus_linux_6_1() {
    let spec = Spec { cmdline: "rcapture.final=poweroff", ..Spec::arm() };
    let whole = Whole::of(&spec);
    whole.has_said(
        "console.log",
        &[
            "Kernel panic - not syncing: sysrq triggered crash",
            "arm: capture kernel started, link serial:ttyAMA0",
            "KiB sent",
        ],
    );
    whole.has_said("vmcore-dmesg.txt", &["sysrq: Trigger a crash"]);
    drgn_reads(&spec, &whole);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn virt_with_lpae_1_gib_1_cpu_linux_6_1() {
    let spec = Spec { memory_mib: 1024, smp: 1, cmdline: "rcapture.final=poweroff", ..Spec::arm_lpae() };
    let whole = Whole::of(&spec);
    let dump = dump::open(&whole.vmcore()).unwrap();
    assert!(dump.facts().vmcoreinfo().config("ARM_LPAE"), "the kernel's page tables are long ones");
    if is_full() {
        // Its unwinder ends at this kernel's __crash_kexec.
        whole.drgn_reads_tasks_and_log(&spec.vmlinux());
    }
}
