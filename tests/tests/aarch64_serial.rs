//! aarch64 over a serial line: a stock kernel crashes on QEMU's board `virt`, and every page of it arrives.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "tests")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use end_to_end::{BOOT, DUMP, Received, Spec, compare, drgn};
use rcapture_qemu::{Lab, Suite, Truth};
use tempfile::TempDir;

/// With a hypervisor's exception level, which the kernel takes for its own.
const EL2: Option<&str> = Some("virt,virtualization=on");

/// Crashes a machine, and compares every page of every range of RAM with what QEMU saw at the banner.
fn every_page_arrives(spec: &Spec) -> (Received, Arc<Truth>, TempDir) {
    let mut crashed = spec.crash();
    let received = crashed.receive(&[], DUMP);
    assert!(received.status.success(), "{}: {}", received.status, received.stderr);
    let comparison = compare(&received.directory.join("vmcore"), &crashed.truth, &[]);
    println!("{comparison}");
    // The reservation is not RAM to the dump; hardly more than that is missing.
    assert!(comparison.equal > u64::from(spec.memory_mib) * 256 * 97 / 100, "{comparison}");
    assert!(comparison.different.is_empty() && comparison.absent.is_empty(), "{comparison}");
    // PSCI turns the machine off, by whichever instruction its device tree names.
    let status = crashed.machine.wait_for_end(BOOT).unwrap();
    assert!(status.success(), "the machine was turned off as rcapture.final says");
    (received, crashed.truth, crashed.directory)
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn cortex_a57_at_el1_512_mib_2_cpus_linux_6_1() {
    let spec = Spec { cmdline: "rcapture.final=poweroff", ..Spec::aarch64() };
    let (received, truth, _directory) = every_page_arrives(&spec);
    let console = fs::read_to_string(received.directory.join("console.log")).unwrap();
    for text in [
        "Kernel panic - not syncing: sysrq triggered crash",
        "aarch64: capture kernel started, link serial:ttyAMA0",
        "KiB sent",
    ] {
        assert!(console.contains(text), "{text:?} is not in console.log:\n{console}");
    }
    let log = fs::read_to_string(received.directory.join("vmcore-dmesg.txt")).unwrap();
    assert!(log.contains("sysrq: Trigger a crash"), "{log}");
    drgn_names_what_crashed(&spec, &received.directory.join("vmcore"));
    drgn_reads_what_was_there(&received.directory.join("vmcore"), &truth);
}

/// Another reader of vmcores walks page tables, and the stack of the task that crashed.
fn drgn_names_what_crashed(spec: &Spec, vmcore: &Path) {
    let lab = Lab::open().unwrap().for_arch(spec.arch);
    let vmlinux = lab.vmlinux(&spec.kernel()).unwrap();
    match drgn::crashed_stack(vmcore, &vmlinux) {
        Ok(stack) => {
            for function in ["sysrq_handle_crash", "write_sysrq_trigger", "el0t_64_sync"] {
                assert!(stack.iter().any(|name| name == function), "{function}: {stack:?}");
            }
        }
        Err(reason) => println!("left out: drgn: {reason}"),
    }
}

fn drgn_reads_what_was_there(vmcore: &Path, truth: &Truth) {
    // A prime number of pages apart: all kinds of pages. The reservation is above.
    let addresses: Vec<u64> = (0x4000_0000..0x5800_0000).step_by(4096 * 977).collect();
    let bytes_at = |pa: &u64| {
        let mut bytes = [0; 16];
        truth.read(*pa, &mut bytes).unwrap();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let expected: Vec<String> = addresses.iter().map(bytes_at).collect();
    match drgn::read_16_bytes(&[vmcore], &addresses) {
        Ok(read) => assert_eq!(read, [expected], "at {addresses:x?}"),
        Err(reason) => println!("left out: drgn: {reason}"),
    }
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn cortex_a57_at_el2_512_mib_1_cpu_linux_6_1() {
    let spec = Spec { board: EL2, smp: 1, cmdline: "rcapture.final=poweroff", ..Spec::aarch64() };
    every_page_arrives(&spec);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn cortex_a76_at_el2_with_vhe_1_gib_1_cpu_linux_6_1() {
    let spec = Spec {
        cpu: "cortex-a76",
        board: EL2,
        memory_mib: 1024,
        smp: 1,
        cmdline: "rcapture.final=poweroff rcapture.link=serial:ttyAMA0,115200n8",
        ..Spec::aarch64()
    };
    every_page_arrives(&spec);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn cortex_a57_at_el1_512_mib_1_cpu_linux_6_12() {
    let spec = Spec { suite: Suite::Trixie, smp: 1, cmdline: "rcapture.final=poweroff", ..Spec::aarch64() };
    every_page_arrives(&spec);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn cortex_a76_at_el2_with_vhe_512_mib_1_cpu_linux_7_2() {
    let spec = Spec {
        suite: Suite::Sid,
        cpu: "cortex-a76",
        board: EL2,
        smp: 1,
        cmdline: "rcapture.final=poweroff",
        ..Spec::aarch64()
    };
    every_page_arrives(&spec);
}
