//! x86_64 over a virtio network card: Linux's own driver is busy with it when the machine crashes, and every page arrives.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "tests")]

use std::fs;
use std::net::TcpListener;

use end_to_end::{DUMP, Received, Receiver, Spec, compare, rcapture};
use rcapture_qemu::{Kernel, Trigger};

/// From then on no card writes to memory.
const QUIET: &str = "reset and quiet";

/// What a driver of the card needs, in the order of insertion (Linux 6.1).
const MODULES: [&str; 7] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "net_failover",
    "virtio_net",
];

/// Keeps the card busy in both directions, and crashes.
const CRASH: &str = "ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up; \
    for size in 100 700 1400; do ping -A -s $size 10.0.2.2 >/dev/null & done; sleep 2; echo c >/proc/sysrq-trigger";

const STATIC: &str = "ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off";

fn modules(kernel: &Kernel) -> Vec<std::path::PathBuf> {
    kernel.module_files(&MODULES).unwrap()
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn every_page_arrives(device: &str, ip: &str) {
    let spec = Spec { smp: 1, ..Spec::default() };
    let port = free_port();
    let modules = modules(&spec.kernel());
    let mut crashed = spec.crash_at(QUIET, |machine| {
        let machine = modules.iter().fold(machine, |machine, module| machine.module(module));
        machine
            .trigger(Trigger::Command(CRASH.to_owned()))
            .capture_cmdline(format!("rcapture.dump_level=0 rcapture.link=tcp:10.0.2.2:{port} {ip}"))
            .argument("-netdev")
            .argument("user,id=net")
            .argument("-device")
            .argument(format!("{device},netdev=net"))
    });
    let output = crashed.path("dumps");
    fs::create_dir_all(&output).unwrap();
    let mut command = rcapture();
    command.args(["recv", "--once", "--listen", &format!("127.0.0.1:{port}"), "-o"]).arg(&output);
    let receiver = Receiver::spawn(command, output, crashed.path("recv.stderr"));
    crashed.machine.cont().unwrap();
    let Received { status, stderr, directory } = receiver.wait(DUMP);
    assert!(status.success(), "{status}: {stderr}");
    let comparison = compare(&directory.join("vmcore"), &crashed.truth, &[]);
    println!("{comparison}");
    assert!(comparison.different.is_empty() && comparison.absent.is_empty(), "{comparison}");
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_transitional_card_by_dhcp() {
    every_page_arrives("virtio-net-pci", "ip=dhcp");
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_modern_card_with_a_given_address() {
    every_page_arrives("virtio-net-pci,disable-legacy=on", STATIC);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_card_from_before_version_1_with_a_given_address() {
    every_page_arrives("virtio-net-pci,disable-modern=on", STATIC);
}
