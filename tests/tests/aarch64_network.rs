//! aarch64 over virtio network cards: Linux's own driver is busy with them when the machine crashes, and every page arrives.
#![allow(missing_docs, reason = "tests")]

use end_to_end::Spec;
use end_to_end::network::{MMIO_MODULES, Trial};

/// The address that QEMU's network has for the card.
const ADDRESS: &str = "ip=10.0.2.15::10.0.2.2:255.255.255.0";

fn virt(devices: &[&'static str], settings: &'static str) -> Trial {
    Trial::virt(Spec::aarch64(), devices, settings)
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_card_without_a_bus_from_before_version_1() {
    let trial = virt(&["virtio-net-device"], ADDRESS);
    Trial { modules: &MMIO_MODULES, ..trial }.every_page_arrives(|_| ());
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_modern_card_without_a_bus_by_dhcp_at_el2() {
    let trial = virt(&["virtio-net-device"], "ip=dhcp");
    let mmio = "virtio-mmio.force-legacy=false";
    Trial { modules: &MMIO_MODULES, board: "virt,virtualization=on", mmio, ..trial }
        .every_page_arrives(|_| ());
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_card_on_a_pci_bus() {
    virt(&["virtio-net-pci"], ADDRESS).every_page_arrives(|_| ());
}
