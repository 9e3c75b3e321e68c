//! `rcapture-load` on stock kernels: what it says where something is missing, and what comes of what it loads.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use end_to_end::network::QUIET;
use end_to_end::target::{Said, script};
use end_to_end::{BANNER, CARD_MODULES, Crashed, DUMP, Spec, Whole, free_port};
use rcapture_qemu::MachineBuilder;

/// Settings as an administrator would make them.
const CONFIGURE: &str = "mkdir -p /etc /sys/kernel/security; mount -t securityfs none /sys/kernel/security; \
    { echo IMAGE=/capture.bin; echo SETTINGS=\\\"$LAB_CMDLINE\\\"; } >/etc/rcapture.conf";

/// Checks, and goes no further.
fn checked(spec: &Spec, first: &str, append: &'static str) -> Said {
    const END: &str = "LAB: checked";
    let command = format!(
        "{CONFIGURE}; exec >/dev/console 2>&1; {first}; rcapture-load check; echo exit $?; rcapture-load load; echo {END}; false"
    );
    let (_line, machine) = spec.start_until(END, |machine| {
        machine.file("bin/rcapture-load", script()).load_by(command.as_str()).append(append)
    });
    let said = std::fs::read(machine.serial_log()).unwrap();
    let out = String::from_utf8_lossy(&said).replace('\r', "");
    println!("{out}");
    let code = out.split_once("\nexit ").unwrap().1.get(..1).unwrap().parse().unwrap();
    Said { code, out, err: String::new() }
}

fn without_a_reservation_or_kexec(spec: &Spec) {
    let said = checked(&Spec { crashkernel: "none", ..spec.clone() }, "rm /bin/kexec", "quiet");
    said.says("FAIL", "reservation", &["no memory is reserved", "crashkernel="]);
    said.says("FAIL", "kexec", &["kexec-tools"]);
    said.says("ok", "image", &["/capture.bin"]);
    said.says("ok", "lockdown", &["none"]);
    assert_eq!(said.code, 1);
}

fn with_too_small_a_reservation(spec: &Spec) {
    let said = checked(&Spec { crashkernel: "2M", ..spec.clone() }, ":", "quiet");
    said.says("FAIL", "reservation", &["2048 KiB", "crashkernel="]);
    assert_eq!(said.code, 1);
    // And so it is.
    assert!(said.out.contains("not loaded: the reservation is too small"), "{}", said.out);
}

fn locked_down(append: &'static str, state: &str) {
    let said = checked(&Spec::default(), ":", append);
    said.says("FAIL", "lockdown", &[state, "signed", "Secure Boot"]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("not loaded: the kernel is locked down"), "{}", said.out);
}

/// Checks, loads, and says what is loaded; then the machine crashes.
fn a_dump_comes_of_what_it_loads(spec: &Spec) -> Whole {
    let command = format!(
        "{CONFIGURE}; rcapture-load check >/dev/console && rcapture-load load && rcapture-load status >/dev/console"
    );
    let load = |machine: MachineBuilder| {
        machine.file("bin/rcapture-load", script()).load_by(command.as_str()).append("oops=panic")
    };
    let crashed = spec.crash_at(BANNER, load);
    let said = said_on_serial(&crashed);
    assert!(said.contains("0 failed, ") && !said.contains("\nFAIL"), "{said}");
    assert!(said.contains("loaded: /capture.bin"), "{said}");
    Whole::received_from(spec, crashed)
}

/// What the machine has said.
fn said_on_serial(crashed: &Crashed) -> String {
    let said = std::fs::read(crashed.machine.serial_log()).unwrap();
    let said = String::from_utf8_lossy(&said).into_owned();
    println!("{said}");
    said
}

/// Turned off in the end.
fn turned_off(spec: Spec) -> Spec {
    Spec { smp: 1, cmdline: "rcapture.final=poweroff", ..spec }
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_pc_without_reservation_and_kexec_is_told_both() {
    without_a_reservation_or_kexec(&Spec::default());
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn aarch64_without_reservation_and_kexec_is_told_both() {
    without_a_reservation_or_kexec(&Spec::aarch64());
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn arm_without_reservation_and_kexec_is_told_both() {
    without_a_reservation_or_kexec(&Spec::sabrelite());
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_pc_with_too_small_a_reservation_is_told_the_size() {
    with_too_small_a_reservation(&Spec::default());
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn aarch64_with_too_small_a_reservation_is_told_the_size() {
    with_too_small_a_reservation(&Spec::aarch64());
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn arm_with_too_small_a_reservation_is_told_the_size() {
    with_too_small_a_reservation(&Spec::arm());
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_locked_kernel_is_told_apart_by_either_system_call() {
    locked_down("lockdown=integrity", "integrity");
    locked_down("lockdown=confidentiality", "confidentiality");
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_pcs_dump_comes() {
    let whole = a_dump_comes_of_what_it_loads(&turned_off(Spec::default()));
    whole.has_said("console.log", &["capture kernel started, link serial:ttyS0"]);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_dump_of_aarch64_comes() {
    let whole = a_dump_comes_of_what_it_loads(&turned_off(Spec::aarch64()));
    whole.has_said("console.log", &["capture kernel started, link serial:ttyAMA0"]);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_dump_of_an_imx6_comes() {
    let whole = a_dump_comes_of_what_it_loads(&Spec { smp: 1, ..Spec::sabrelite() });
    whole.has_said("console.log", &["capture kernel started, link serial:ttymxc1"]);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_pcs_dump_comes_over_the_network_that_leads_to_the_receiver() {
    let spec = turned_off(Spec::default());
    let modules = spec.kernel().module_files(&CARD_MODULES).unwrap();
    let port = free_port();
    let command = format!(
        "{CONFIGURE}; echo RECEIVER=10.0.2.2:{port} >>/etc/rcapture.conf; ifconfig eth0 10.0.2.15 netmask 255.255.255.0; \
        rcapture-load check >/dev/console && rcapture-load load >/dev/console"
    );
    let mut crashed = spec.crash_at(QUIET, |machine| {
        let machine = modules.iter().fold(machine, MachineBuilder::module);
        machine.network_card().file("bin/rcapture-load", script()).load_by(command.as_str())
    });
    let said = said_on_serial(&crashed);
    let settings =
        format!("rcapture.link=tcp:10.0.2.2:{port} ip=10.0.2.15:::255.255.255.0 BOOTIF=01-52-54-00-12-34-56");
    assert!(said.contains(&format!("ok    network: {settings}")), "{said}");
    let receiver = crashed.start_listener(port, &[]);
    crashed.machine.cont().unwrap();
    receiver.wait(DUMP).compare(&crashed.truth).assert_every_page();
}
