//! 32-bit Arm over network cards: Linux's own driver is busy with them when the machine crashes, and every page arrives.
#![allow(missing_docs, reason = "tests")]

use end_to_end::network::{ARM_MMIO_MODULES, Trial};
use end_to_end::{Spec, is_left_to_full};
use rcapture_qemu::Suite;

/// The address that QEMU's network has for the card.
const ADDRESS: &str = "ip=10.0.2.15::10.0.2.2:255.255.255.0";

const LEGACY: &str = "virtio-mmio.force-legacy=true";
const MODERN: &str = "virtio-mmio.force-legacy=false";

fn virt(spec: Spec, mmio: &'static str, settings: &'static str) {
    let trial = Trial::virt(spec, &["virtio-net-device"], settings);
    Trial { modules: &ARM_MMIO_MODULES, mmio, ..trial }.every_page_arrives(|_| ());
}

fn sabrelite(suite: Suite, settings: &'static str) {
    let trial = Trial::sabrelite(settings);
    let spec = Spec { suite, ..trial.spec.clone() };
    Trial { spec, ..trial }.every_page_arrives(|_| ());
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn an_imx6_by_its_own_ethernet_and_dhcp_linux_7_2() {
    sabrelite(Suite::Sid, "ip=dhcp");
}

#[test]
#[ignore = "needs QEMU: cargo xtask test --full"]
fn an_imx6_by_its_own_ethernet_with_the_other_kernels() {
    if !is_left_to_full() {
        sabrelite(Suite::Bookworm, ADDRESS);
        sabrelite(Suite::Trixie, ADDRESS);
    }
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_card_without_a_bus_from_before_version_1() {
    virt(Spec::arm(), LEGACY, ADDRESS);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_modern_card_without_a_bus_by_dhcp_with_lpae() {
    virt(Spec::arm_lpae(), MODERN, "ip=dhcp");
}

#[test]
#[ignore = "needs QEMU: cargo xtask test --full"]
fn the_other_kernel_with_either_card() {
    if !is_left_to_full() {
        virt(Spec::arm(), MODERN, ADDRESS);
        virt(Spec::arm_lpae(), LEGACY, ADDRESS);
    }
}
