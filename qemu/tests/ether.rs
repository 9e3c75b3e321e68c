//! The Ethernet as the process it is.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests")]

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rcapture_qemu::ether::Report;
use rcapture_qemu::{Ether, EtherOptions};

/// A network card of QEMU, or its user network.
struct Card {
    socket: UnixDatagram,
    ether: PathBuf,
}

impl Card {
    /// By the argument with which QEMU would be told of it.
    fn named(ether: &Ether, id: &str) -> Self {
        let arguments = ether.arguments("virtio-net-pci");
        let id = format!("dgram,id={id},");
        let netdev = arguments.iter().find(|argument| argument.starts_with(&id)).unwrap();
        let path = |key| netdev.split(',').find_map(|option| option.strip_prefix(key)).unwrap();
        let socket = UnixDatagram::bind(path("local.path=")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { socket, ether: path("remote.path=").into() }
    }

    fn send(&self, number: u32) {
        self.socket.send_to(&number.to_le_bytes(), &self.ether).unwrap();
    }

    fn receive(&self) -> u32 {
        let mut frame = [0; 100];
        assert_eq!(self.socket.recv(&mut frame).unwrap(), 4);
        u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]])
    }
}

fn ether(options: &EtherOptions) -> (Ether, Card, Card) {
    let ether = Ether::spawn(options).unwrap();
    let (target, host) = (Card::named(&ether, "ether-target"), Card::named(&ether, "ether-host"));
    (ether, target, host)
}

fn wait_until(ether: &mut Ether, reached: impl Fn(Report) -> bool) {
    let start = Instant::now();
    while !reached(ether.report().unwrap()) {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", ether.report());
    }
}

#[test]
fn frames_pass_in_both_directions_and_wait_for_who_is_slow() {
    let (mut ether, target, host) = ether(&EtherOptions::default());
    // Far more than a socket holds.
    (0..1000).for_each(|number| target.send(number));
    host.send(7);
    assert_eq!(target.receive(), 7);
    (0..1000).for_each(|number| assert_eq!(host.receive(), number));
    assert_eq!(ether.report().unwrap().to_host.sent, 1000);
}

#[test]
fn a_cut_ethernet_carries_nothing_until_it_is_mended() {
    let (mut ether, target, host) = ether(&EtherOptions::default());
    ether.cut().unwrap();
    target.send(1);
    host.send(1);
    wait_until(&mut ether, |report| report.to_host.cut + report.to_target.cut == 2);
    ether.mend().unwrap();
    target.send(2);
    assert_eq!(host.receive(), 2);
}

#[test]
fn frames_for_nobody_are_lost() {
    let mut ether = Ether::spawn(&EtherOptions::default()).unwrap();
    let target = Card::named(&ether, "ether-target");
    target.send(1);
    wait_until(&mut ether, |report| report.to_host.delivered == 1);
    let host = Card::named(&ether, "ether-host");
    target.send(2);
    assert_eq!(host.receive(), 2);
}

#[test]
fn a_lossy_ethernet_loses_what_its_report_says() {
    let (mut ether, target, host) = ether(&EtherOptions { loss: 0.1, seed: 3, ..EtherOptions::default() });
    (0..500).for_each(|number| target.send(number));
    wait_until(&mut ether, |report| report.to_host.sent == 500);
    let lost = ether.report().unwrap().to_host.lost;
    assert!(lost > 0);
    let came: Vec<u32> = (0..500 - lost).map(|_| host.receive()).collect();
    assert!(came.is_sorted());
}
