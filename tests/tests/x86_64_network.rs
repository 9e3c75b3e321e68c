//! x86_64 over virtio network cards: Linux's own driver is busy with them when the machine crashes, and every page arrives.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "tests")]

use end_to_end::network::{CRASH, KEEP_BUSY, MMIO_MODULES, QUIET, Trial};
use end_to_end::{BOOT, DUMP, free_port, is_left_to_full};

/// Loads the image again with what Linux knows of cards that no bus tells of, as docs/boot.md has it.
const TELL_OF_CARDS: &str = "for card in /sys/class/net/eth*; do \
    device=$(basename $(dirname $(readlink -f $card/device))); \
    start=$(grep \" : $device$\" /proc/iomem | cut -d- -f1); \
    LAB_CMDLINE=\"$LAB_CMDLINE virtio_mmio.device=512@0x$start:0\"; done; \
    kexec -p /capture.bin --command-line=\"$LAB_CMDLINE\" || fail kexec";

/// That Linux has turned its IOMMU on.
const HAS_IOMMU: &str = "[ -e /sys/class/iommu/dmar0 ] || fail \"no IOMMU\"";

/// No bus. Linux finds no timer there to measure its processor's clock with, and takes what it is told.
const MICROVM: &str = "microvm,acpi=on,isa-serial=on";
const MICROVM_CLOCK: &str = "tsc_early_khz=2000000";

/// An address in the network of card 0 or 1.
const FIRST: &str = "ip=10.0.2.15::10.0.2.2:255.255.255.0";
const SECOND: &str = "ip=10.0.3.15::10.0.3.2:255.255.255.0";

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_transitional_card_by_dhcp() {
    Trial::pc(&["virtio-net-pci"], "ip=dhcp").every_page_arrives(|_| ());
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_modern_card_with_a_given_address() {
    // With four megabytes of registers.
    Trial::pc(&["virtio-net-pci,disable-legacy=on,page-per-vq=on"], FIRST).every_page_arrives(|_| ());
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_card_from_before_version_1_with_a_given_address() {
    Trial::pc(&["virtio-net-pci,disable-modern=on"], FIRST).every_page_arrives(|_| ());
}

/// The device of 8 GiB makes the firmware place all registers that can be there above 4 GiB. No bridge leads from bus 0 to
/// the second card.
#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn the_second_of_two_cards_behind_bridges_with_registers_above_4_gib() {
    Trial {
        host: "10.0.3.2",
        ..Trial::pc(
            &[
                "pci-testdev,membar=8G",
                "pcie-root-port,id=near,chassis=1",
                "virtio-net-pci,bus=near",
                "pxb-pcie,id=root,bus_nr=64",
                "pcie-root-port,id=far,bus=root,chassis=2",
                "virtio-net-pci,bus=far",
            ],
            "ip=10.0.3.15::10.0.3.2:255.255.255.0::eth1:off",
        )
    }
    .every_page_arrives(|machine| {
        let bus = machine.monitor("info pci").unwrap();
        let registers: Vec<u64> = bus
            .split("64 bit prefetchable memory at 0x")
            .skip(1)
            .map(|rest| u64::from_str_radix(&rest[..rest.find(' ').unwrap()], 16).unwrap())
            .collect();
        assert_eq!(registers.len(), 3, "{bus}");
        assert!(registers.iter().all(|&pa| pa >= 1 << 32), "{bus}");
        machine.wait_for_line_text("PCI through memory", BOOT).unwrap();
    });
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn the_one_with_a_carrier_of_two_cards_without_a_bus() {
    the_one_with_a_carrier("virtio-mmio.force-legacy=true");
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn the_one_with_a_carrier_of_two_modern_cards_without_a_bus() {
    if !is_left_to_full() {
        the_one_with_a_carrier("virtio-mmio.force-legacy=false");
    }
}

fn the_one_with_a_carrier(mmio: &'static str) {
    let trial = Trial {
        board: MICROVM,
        append: MICROVM_CLOCK,
        modules: &MMIO_MODULES,
        mmio,
        last: vec![TELL_OF_CARDS, KEEP_BUSY, CRASH],
        host: "10.0.3.2",
        ..Trial::pc(&["virtio-net-device", "virtio-net-device"], SECOND)
    };
    trial.every_page_arrives(|machine| {
        machine.wait_for_line_text("LAB: busy", BOOT).unwrap();
        machine.monitor("set_link net2 off").unwrap();
    });
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_card_by_its_address_that_bypasses_an_iommu() {
    Trial {
        append: "intel_iommu=on",
        last: vec![HAS_IOMMU, KEEP_BUSY, CRASH],
        ..Trial::pc(
            &["intel-iommu", "virtio-net-pci", "virtio-net-pci,disable-legacy=on,iommu_platform=on"],
            "BOOTIF=01-52-54-00-12-34-56 ip=10.0.2.15::10.0.2.2:255.255.255.0",
        )
    }
    .every_page_arrives(|_| ());
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_card_behind_an_iommu_is_passed_over_for_the_serial_line() {
    let devices = ["intel-iommu", "virtio-net-pci,disable-legacy=on,iommu_platform=on"];
    let mut trial = Trial::pc(&devices, "ip=dhcp rcapture.link=serial:ttyS0 rcapture.compress=deflate");
    trial.append = "intel_iommu=on";
    trial.last.insert(0, HAS_IOMMU);
    trial.spec.dump_level = 31;
    trial.falls_back_to_serial(free_port(), "eth0 is behind an IOMMU");
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_receiver_that_does_not_answer_is_passed_over_for_the_serial_line() {
    let settings = "ip=dhcp rcapture.link=serial:ttyS0 rcapture.compress=deflate";
    let mut trial = Trial::pc(&["virtio-net-pci"], settings);
    trial.spec.dump_level = 31;
    trial.falls_back_to_serial(free_port(), "no connection within 15 s");
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_receiver_that_goes_away_for_good_is_given_up_for_the_serial_line() {
    if is_left_to_full() {
        return;
    }
    let settings = "ip=dhcp rcapture.link=serial:ttyS0 rcapture.compress=deflate";
    let mut trial = Trial::pc(&["virtio-net-pci"], settings);
    trial.spec.dump_level = 31;
    let port = free_port();
    let mut crashed = trial.crash(QUIET, port, |_| ());
    let gone = crashed.start_listener(port, &[]);
    let receiver = crashed.start_listening();
    crashed.machine.cont().unwrap();
    gone.wait_for_journal(1 << 20, DUMP);
    gone.kill();
    crashed.machine.wait_for_line_text("the link took no byte for 60 s", DUMP).unwrap();
    let comparison = receiver.wait(DUMP).compare(&crashed.truth);
    assert!(comparison.equal > 1000 && comparison.different.is_empty(), "{comparison}");
}
