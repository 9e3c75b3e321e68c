//! One machine that has just crashed, let go over Ethernets with different faults: the same vmcore comes of each, to the
//! byte.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "tests")]

use std::fs;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use end_to_end::{Crashed, DUMP, Received, Receiver, SameVmcore, Snapshot, Spec, free_port, is_left_to_full};
use rcapture_qemu::ether::Report;
use rcapture_qemu::{Ether, EtherOptions, LineOptions, MachineBuilder};

const DEVICE: &str = "virtio-net-pci";

/// A small one, all of which is sent; and the port its receivers listen on.
static MACHINE: LazyLock<(Snapshot, u16)> = LazyLock::new(|| {
    let port = free_port();
    let cmdline = format!("rcapture.link=tcp:10.0.2.2:{port} ip=dhcp");
    let spec = Spec { memory_mib: 128, compress: "lz4", cmdline: cmdline.leak(), ..Spec::default() };
    let ether = Ether::spawn(&EtherOptions::default()).unwrap();
    let card = ether.arguments(DEVICE);
    let with_card = |machine| card.iter().fold(machine, MachineBuilder::argument);
    (Snapshot::take_with(&spec, with_card), port)
});

/// What comes of every trial.
static VMCORE: SameVmcore = SameVmcore::new();

/// Trials need the same port.
static TURN: Mutex<()> = Mutex::new(());

struct Trial {
    crashed: Crashed,
    ether: Ether,
}

impl Trial {
    /// A receiver, on this trial's directory.
    fn start_receiver(&self) -> Receiver {
        self.crashed.start_listener(MACHINE.1, &["--keep-journal"])
    }
}

/// Lets the machine go over an Ethernet with these faults, and looks at what was received.
fn trial(options: &EtherOptions, receive: impl FnOnce(&mut Trial) -> Received) -> Outcome {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let ether = Ether::spawn(options).unwrap();
    let card = ether.arguments(DEVICE);
    let crashed = MACHINE.0.restore_with(LineOptions::default(), |machine| {
        card.into_iter().fold(machine, |machine, it| machine.argument(it))
    });
    let mut trial = Trial { crashed, ether };
    let start = Instant::now();
    let received = receive(&mut trial);
    let seconds = start.elapsed().as_secs_f32();
    let report = trial.ether.report().unwrap();
    println!("{seconds:.1} s: {report:?}");
    VMCORE.judge(&trial.crashed, &received);
    let journal_bytes = fs::metadata(received.directory.join("journal")).unwrap().len();
    Outcome { report, journal_bytes }
}

/// What a trial took.
struct Outcome {
    report: Report,
    journal_bytes: u64,
}

impl Outcome {
    /// Nothing that was on disk was sent again. A frame is 1.06 times what it carries; a dump of which a fifth is there
    /// already, begun anew, would take more than is allowed here.
    fn assert_went_on(&self) {
        let sent = self.report.to_host.sent_bytes;
        assert!(sent < self.journal_bytes * 23 / 20, "{sent} bytes for {}", self.journal_bytes);
    }
}

fn whole(trial: &mut Trial) -> Received {
    let receiver = trial.start_receiver();
    trial.crashed.machine.cont().unwrap();
    receiver.wait(DUMP)
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_clean_ethernet_carries_every_page() {
    let Outcome { report, .. } = trial(&EtherOptions::default(), whole);
    assert_eq!((report.to_host.lost, report.to_host.overrun, report.to_target.overrun), (0, 0, 0));
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_lost_frame_in_a_hundred_costs_no_page() {
    let Outcome { report, .. } =
        trial(&EtherOptions { loss: 0.01, seed: 1, ..EtherOptions::default() }, whole);
    assert!(report.to_host.lost > 0 && report.to_target.lost > 0);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn frames_out_of_order_and_doubled_cost_no_page() {
    let Outcome { report, .. } =
        trial(&EtherOptions { reorder: 0.02, double: 0.01, seed: 1, ..EtherOptions::default() }, whole);
    assert!(report.to_host.overtaken > 0 && report.to_host.doubled > 0);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test --full"]
fn segments_of_100_bytes_cost_no_page() {
    if is_left_to_full() {
        return;
    }
    let Outcome { report, .. } = trial(&EtherOptions { mss: Some(100), ..EtherOptions::default() }, whole);
    // 14 of Ethernet, 20 of IP, 20 of TCP.
    let bytes = report.to_host.sent_bytes / report.to_host.sent;
    assert!(report.to_target.limited > 0 && bytes <= 154, "{bytes} bytes a frame");
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_network_that_is_away_for_half_a_minute_costs_no_page() {
    let outcome = trial(&EtherOptions::default(), |trial| {
        let receiver = trial.start_receiver();
        trial.crashed.machine.cont().unwrap();
        receiver.wait_for_journal(8 << 20, DUMP);
        trial.ether.cut().unwrap();
        sleep(Duration::from_secs(30));
        trial.ether.mend().unwrap();
        receiver.wait(DUMP)
    });
    assert!(outcome.report.to_host.cut > 0);
    outcome.assert_went_on();
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_receiver_that_is_killed_and_started_again_costs_no_page() {
    let outcome = trial(&EtherOptions::default(), |trial| {
        let mut receiver = trial.start_receiver();
        trial.crashed.machine.cont().unwrap();
        for number in 1..=2 {
            receiver.wait_for_journal(number << 23, DUMP);
            receiver.kill();
            // Long enough that the target is refused.
            sleep(Duration::from_secs(2));
            receiver = trial.start_receiver();
        }
        receiver.wait(DUMP)
    });
    outcome.assert_went_on();
}
