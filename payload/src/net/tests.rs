//! The link on a network in memory, with a peer that is smoltcp too, and a clock that each look at the card moves.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;

use capture::config::{Address, Network, TcpLink as Server};
use capture::{Clock, Link};
use proptest::prelude::*;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Cidr};

use super::card::Phy;
use super::{Card, MAX_FRAME_BYTES, NetError, TcpLink};

mod dhcp;

const OUR_MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
const SERVER: Server = Server { host: core::net::Ipv4Addr::new(10, 0, 2, 2), port: 7373 };

#[derive(Clone, Default)]
struct Time(Rc<Cell<Duration>>);

impl Clock for Time {
    fn now(&self) -> Duration {
        self.0.set(self.0.get() + Duration::from_micros(5));
        self.0.get()
    }
}

/// What happens to frames, of 1000.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    lost: u32,
    swapped: u32,
    doubled: u32,
}

/// Frames in one direction.
#[derive(Default)]
struct Cable {
    frames: VecDeque<Vec<u8>>,
    weather: Weather,
    random: u32,
}

impl Cable {
    fn chance(&mut self, of_1000: u32) -> bool {
        // xorshift32 (Marsaglia, 2003).
        let mut x = self.random.max(1);
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.random = x;
        x % 1000 < of_1000
    }

    fn carry(&mut self, frame: &[u8]) {
        let Weather { lost, swapped, doubled } = self.weather;
        if self.chance(lost) {
            return;
        }
        self.frames.push_back(frame.to_vec());
        if self.chance(doubled) {
            self.frames.push_back(frame.to_vec());
        }
        let count = self.frames.len();
        if count > 1 && self.chance(swapped) {
            self.frames.swap(count - 1, count - 2);
        }
    }
}

/// One end of two cables.
struct End {
    mac: [u8; 6],
    incoming: Rc<RefCell<Cable>>,
    outgoing: Rc<RefCell<Cable>>,
}

impl Card for End {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn receive(&mut self, frame: &mut [u8; MAX_FRAME_BYTES]) -> Option<usize> {
        let next = self.incoming.borrow_mut().frames.pop_front()?;
        frame[..next.len()].copy_from_slice(&next);
        Some(next.len())
    }

    fn can_transmit(&mut self) -> bool {
        self.outgoing.borrow().frames.len() < 64
    }

    fn transmit(&mut self, frame: &[u8]) {
        self.outgoing.borrow_mut().carry(frame);
    }
}

/// What a peer takes at once.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// In a segment.
    mss: usize,
    /// In all.
    window: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { mss: 1460, window: 32_768 }
    }
}

/// A card on a network that carries less in a frame.
struct Narrow {
    phy: Phy,
    frame_bytes: usize,
}

impl Device for Narrow {
    type RxToken<'a> = <Phy as Device>::RxToken<'a>;
    type TxToken<'a> = <Phy as Device>::TxToken<'a>;

    fn receive(&mut self, now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.phy.receive(now)
    }

    fn transmit(&mut self, now: Instant) -> Option<Self::TxToken<'_>> {
        self.phy.transmit(now)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = self.phy.capabilities();
        capabilities.max_transmission_unit = self.frame_bytes;
        capabilities
    }
}

/// A receiver that takes one connection at a time, and whose network goes on whenever ours does.
struct Peer {
    phy: Narrow,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    received: Vec<u8>,
    connections: u32,
    was_active: bool,
    answers: bool,
}

impl Peer {
    fn new(end: impl Card + 'static, room: Room) -> Self {
        // Of Ethernet, IP and TCP.
        let mut phy = Narrow { phy: Phy::new(Box::new(end)), frame_bytes: room.mss + 14 + 20 + 20 };
        let config = Config::new(EthernetAddress(PEER_MAC).into());
        let mut interface = Interface::new(config, &mut phy, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(SERVER.host, 24))).unwrap();
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; room.window]);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Self {
            phy,
            interface,
            sockets,
            socket,
            received: Vec::new(),
            connections: 0,
            was_active: false,
            answers: true,
        }
    }

    fn poll(&mut self, now: Duration) {
        if !self.answers {
            return;
        }
        let now = Instant::from_micros(i64::try_from(now.as_micros()).unwrap());
        self.interface.poll(now, &mut self.phy, &mut self.sockets);
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.socket);
        let is_connected = socket.may_recv();
        if is_connected && !self.was_active {
            self.connections += 1;
        }
        self.was_active = is_connected;
        while socket.can_recv() {
            let bytes = socket.recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap();
            self.received.extend_from_slice(&bytes);
        }
        if !socket.is_open() {
            socket.listen(SERVER.port).unwrap();
        } else if !socket.may_recv() && socket.may_send() {
            socket.close();
        }
    }
}

/// Our end; the peer lives behind it.
struct OurCard {
    end: End,
    peer: Rc<RefCell<Peer>>,
    time: Time,
}

impl Card for OurCard {
    fn mac(&self) -> [u8; 6] {
        self.end.mac
    }

    fn receive(&mut self, frame: &mut [u8; MAX_FRAME_BYTES]) -> Option<usize> {
        self.time.0.set(self.time.0.get() + Duration::from_micros(50));
        self.peer.borrow_mut().poll(self.time.0.get());
        self.end.receive(frame)
    }

    fn can_transmit(&mut self) -> bool {
        self.end.can_transmit()
    }

    fn transmit(&mut self, frame: &[u8]) {
        self.end.transmit(frame);
    }
}

fn network(weather: Weather, seed: u32) -> (OurCard, Rc<RefCell<Peer>>, Time) {
    network_with(weather, seed, Room::default(), |end| end)
}

/// A network whose peer has this room, and reaches it by what `peer_card` makes of its end.
fn network_with<C: Card + 'static>(
    weather: Weather,
    seed: u32,
    room: Room,
    peer_card: impl FnOnce(End) -> C,
) -> (OurCard, Rc<RefCell<Peer>>, Time) {
    let cable = |random| Rc::new(RefCell::new(Cable { weather, random, ..Cable::default() }));
    let (to_peer, to_us) = (cable(seed), cable(seed ^ 0x5555));
    let peer = End { mac: PEER_MAC, incoming: to_peer.clone(), outgoing: to_us.clone() };
    let peer = Rc::new(RefCell::new(Peer::new(peer_card(peer), room)));
    let time = Time::default();
    let end = End { mac: OUR_MAC, incoming: to_us, outgoing: to_peer };
    (OurCard { end, peer: peer.clone(), time: time.clone() }, peer, time)
}

fn open(weather: Weather, seed: u32) -> (TcpLink<Time>, Rc<RefCell<Peer>>) {
    let (card, peer, time) = network(weather, seed);
    let link = TcpLink::open(Box::new(card), &our_network(), SERVER, seed.into(), time).unwrap();
    (link, peer)
}

fn our_network() -> Network {
    let address = Address { client: [10, 0, 2, 15].into(), prefix_bits: 24, gateway: None };
    Network { address: Some(address), ..Network::default() }
}

fn write_all(link: &mut impl Link, mut bytes: &[u8]) {
    for _ in 0..2_000_000 {
        bytes = &bytes[link.write(bytes)..];
        if bytes.is_empty() {
            return;
        }
    }
    panic!("{} bytes are not taken", bytes.len());
}

fn numbers(count: u32) -> Vec<u8> {
    (0..count).flat_map(u32::to_le_bytes).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_arrives_in_its_order_whatever_the_weather(
        lost in 0u32..30, swapped in 0u32..100, doubled in 0u32..50, seed: u32, piece in 1usize..2000,
    ) {
        let (mut link, peer) = open(Weather { lost, swapped, doubled }, seed);
        let sent = numbers(50_000);
        for piece in sent.chunks(piece) {
            write_all(&mut link, piece);
        }
        prop_assert!(link.close());
        prop_assert!(peer.borrow().received == sent);
        prop_assert_eq!(peer.borrow().connections, 1);
    }

    #[test]
    fn what_is_written_arrives_however_little_the_receiver_takes_at_once(
        lost in 0u32..10, swapped in 0u32..100, mss in 36usize..150, window in 20usize..2000, seed: u32,
    ) {
        let weather = Weather { lost, swapped, doubled: 0 };
        let (card, peer, time) = network_with(weather, seed, Room { mss, window }, |end| end);
        let mut link = TcpLink::open(Box::new(card), &our_network(), SERVER, seed.into(), time).unwrap();
        let sent = numbers(2_000);
        write_all(&mut link, &sent);
        while peer.borrow().received.len() < sent.len() {
            prop_assert!(link_time(&mut link) < Duration::from_secs(600));
        }
        prop_assert!(peer.borrow().received == sent);
        prop_assert_eq!(peer.borrow().connections, 1);
    }
}

#[test]
fn what_the_receiver_says_is_read() {
    let (mut link, peer) = open(Weather::default(), 1);
    write_all(&mut link, b"hello");
    while peer.borrow().received.is_empty() {
        assert!(link_time(&mut link) < Duration::from_secs(5));
    }
    {
        let mut peer = peer.borrow_mut();
        let handle = peer.socket;
        peer.sockets.get_mut::<tcp::Socket<'_>>(handle).send_slice(b"reply").unwrap();
    }
    let mut read = Vec::new();
    for _ in 0..1000 {
        let mut buf = [0; 16];
        let count = link.read(&mut buf);
        read.extend_from_slice(&buf[..count]);
    }
    assert_eq!(read, b"reply");
}

#[test]
fn a_connection_that_the_receiver_ends_is_made_again() {
    let (mut link, peer) = open(Weather::default(), 2);
    write_all(&mut link, b"before");
    for _ in 0..1000 {
        let _ = link.read(&mut [0; 16]);
    }
    {
        let mut peer = peer.borrow_mut();
        let handle = peer.socket;
        peer.sockets.get_mut::<tcp::Socket<'_>>(handle).abort();
        assert_eq!(peer.received, b"before");
        peer.received.clear();
    }
    // Nothing fits until there is a connection again: no byte goes to nobody.
    for _ in 0..200_000 {
        let _ = link.read(&mut [0; 16]);
    }
    write_all(&mut link, b"after");
    assert!(link.close());
    assert_eq!((peer.borrow().connections, &peer.borrow().received[..]), (2, &b"after"[..]));
}

#[test]
fn a_receiver_that_is_silent_for_half_a_minute_is_found_again() {
    let (mut link, peer) = open(Weather::default(), 3);
    peer.borrow_mut().answers = false;
    let lost = numbers(1000);
    write_all(&mut link, &lost);
    let away_until = link_time(&mut link) + Duration::from_secs(30);
    while link_time(&mut link) < away_until {}
    {
        let mut peer = peer.borrow_mut();
        peer.answers = true;
        peer.received.clear();
    }
    for _ in 0..400_000 {
        let _ = link.read(&mut [0; 16]);
    }
    write_all(&mut link, b"after");
    assert!(link.close());
    assert!(peer.borrow().received.ends_with(b"after"));
}

/// The time, after another look at the network.
fn link_time(link: &mut TcpLink<Time>) -> Duration {
    let _ = link.read(&mut [0; 16]);
    link.clock().now()
}

#[test]
fn a_receiver_that_is_not_there_is_given_up_after_a_stated_time() {
    let (card, peer, time) = network(Weather::default(), 4);
    peer.borrow_mut().answers = false;
    let error = TcpLink::open(Box::new(card), &our_network(), SERVER, 4, time.clone()).err();
    assert_eq!(error, Some(NetError::NoConnection(15)));
    assert!(time.now() < Duration::from_secs(16));
}
