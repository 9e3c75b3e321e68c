//! Addresses by DHCP, from a server that sits at the peer's end of the network.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    DhcpMessageType, DhcpPacket, DhcpRepr, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol,
    Ipv4Address, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

use super::*;

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;

/// What the server gives.
#[derive(Clone, Copy)]
struct Lease {
    address: Ipv4Address,
    mask: Ipv4Address,
    router: Option<Ipv4Address>,
    seconds: u32,
}

impl Default for Lease {
    fn default() -> Self {
        let (address, mask) = ([10, 0, 2, 15].into(), [255, 255, 255, 0].into());
        Self { address, mask, router: None, seconds: 3600 }
    }
}

/// The peer's end, with a server of one address.
struct Served {
    end: End,
    lease: Lease,
    /// So many questions it does not hear.
    deaf_to: u32,
    acknowledged: Rc<Cell<u32>>,
}

impl Card for Served {
    fn mac(&self) -> [u8; 6] {
        self.end.mac
    }

    fn receive(&mut self, frame: &mut [u8; MAX_FRAME_BYTES]) -> Option<usize> {
        loop {
            let length = self.end.receive(frame)?;
            let Some((kind, answer)) = self.lease.answer(&frame[..length]) else { return Some(length) };
            if self.deaf_to > 0 {
                self.deaf_to -= 1;
                continue;
            }
            self.acknowledged.set(self.acknowledged.get() + u32::from(kind == DhcpMessageType::Ack));
            self.end.transmit(&answer);
        }
    }

    fn can_transmit(&mut self) -> bool {
        self.end.can_transmit()
    }

    fn transmit(&mut self, frame: &[u8]) {
        self.end.transmit(frame);
    }
}

impl Lease {
    /// What a server says to this frame, if it is for one.
    fn answer(&self, frame: &[u8]) -> Option<(DhcpMessageType, Vec<u8>)> {
        let frame = EthernetFrame::new_checked(frame).ok()?;
        let ip = Ipv4Packet::new_checked(frame.payload()).ok()?;
        if frame.ethertype() != EthernetProtocol::Ipv4 || ip.next_header() != IpProtocol::Udp {
            return None;
        }
        let udp = UdpPacket::new_checked(ip.payload()).ok()?;
        if udp.dst_port() != SERVER_PORT {
            return None;
        }
        let packet = DhcpPacket::new_checked(udp.payload()).unwrap();
        let question = DhcpRepr::parse(&packet).unwrap();
        let message_type = match question.message_type {
            DhcpMessageType::Discover => DhcpMessageType::Offer,
            DhcpMessageType::Request => DhcpMessageType::Ack,
            other => panic!("{other:?}"),
        };
        let dhcp = DhcpRepr {
            message_type,
            your_ip: self.address,
            server_ip: SERVER.host,
            server_identifier: Some(SERVER.host),
            subnet_mask: Some(self.mask),
            router: self.router,
            lease_duration: Some(self.seconds),
            requested_ip: None,
            client_identifier: None,
            parameter_request_list: None,
            max_size: None,
            ..question
        };
        let to =
            if question.client_ip.is_unspecified() { Ipv4Address::BROADCAST } else { question.client_ip };
        let ethernet = EthernetRepr {
            src_addr: EthernetAddress(PEER_MAC),
            dst_addr: frame.src_addr(),
            ethertype: EthernetProtocol::Ipv4,
        };
        let udp = UdpRepr { src_port: SERVER_PORT, dst_port: CLIENT_PORT };
        let ip = Ipv4Repr {
            src_addr: SERVER.host,
            dst_addr: to,
            next_header: IpProtocol::Udp,
            payload_len: udp.header_len() + dhcp.buffer_len(),
            hop_limit: 64,
        };
        let checksums = ChecksumCapabilities::default();
        let mut bytes = vec![0; ethernet.buffer_len() + ip.buffer_len() + ip.payload_len];
        let mut frame = EthernetFrame::new_unchecked(&mut bytes);
        ethernet.emit(&mut frame);
        let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
        ip.emit(&mut packet, &checksums);
        udp.emit(
            &mut UdpPacket::new_unchecked(packet.payload_mut()),
            &ip.src_addr.into(),
            &ip.dst_addr.into(),
            dhcp.buffer_len(),
            |payload| dhcp.emit(&mut DhcpPacket::new_unchecked(payload)).unwrap(),
            &checksums,
        );
        Some((message_type, bytes))
    }
}

/// A link whose address is by DHCP, its peer, and how often an address was given.
fn open_with(weather: Weather, seed: u32, lease: Lease) -> (TcpLink<Time>, Rc<RefCell<Peer>>, Rc<Cell<u32>>) {
    let acknowledged = Rc::new(Cell::new(0));
    let counted = Rc::clone(&acknowledged);
    let serve = |end| Served { end, lease, deaf_to: 0, acknowledged: counted };
    let (card, peer, time) = network_with(weather, seed, Room::default(), serve);
    let link = TcpLink::open(Box::new(card), &Network::default(), SERVER, seed.into(), time).unwrap();
    (link, peer, acknowledged)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_address_is_had_whatever_the_weather(
        lost in 0u32..30, swapped in 0u32..100, doubled in 0u32..100, seed: u32,
    ) {
        let (mut link, peer, _) = open_with(Weather { lost, swapped, doubled }, seed, Lease::default());
        write_all(&mut link, b"hello");
        prop_assert!(link.close());
        prop_assert!(peer.borrow().received == b"hello");
    }
}

#[test]
fn lost_questions_cost_seconds() {
    let serve = |end| Served { end, lease: Lease::default(), deaf_to: 3, acknowledged: Rc::default() };
    let (card, _peer, time) = network_with(Weather::default(), 4, Room::default(), serve);
    let link = TcpLink::open(Box::new(card), &Network::default(), SERVER, 4, time);
    assert!(link.is_ok_and(|link| link.clock().now() < Duration::from_secs(8)));
}

#[test]
fn a_short_lease_is_renewed_and_the_connection_stays() {
    let lease = Lease { seconds: 20, ..Lease::default() };
    let (mut link, peer, acknowledged) = open_with(Weather::default(), 1, lease);
    let sent = numbers(100);
    for (second, piece) in (1..).zip(sent.chunks(4)) {
        write_all(&mut link, piece);
        while link_time(&mut link) < Duration::from_secs(second) {}
    }
    assert!(link.close());
    assert!(acknowledged.get() >= 5, "{acknowledged:?}");
    assert!(peer.borrow().received == sent);
    assert_eq!(peer.borrow().connections, 1);
}

#[test]
fn a_lease_that_runs_out_while_the_network_is_away_is_asked_for_again() {
    let lease = Lease { seconds: 10, ..Lease::default() };
    let (mut link, peer, _) = open_with(Weather::default(), 2, lease);
    write_all(&mut link, b"before");
    while link_time(&mut link) < Duration::from_secs(1) {}
    peer.borrow_mut().answers = false;
    for second in 2..=31 {
        // As a sender says something every second.
        let _ = link.write(b"?");
        while link_time(&mut link) < Duration::from_secs(second) {}
    }
    peer.borrow_mut().answers = true;
    while peer.borrow().connections < 2 {
        assert!(link_time(&mut link) < Duration::from_secs(60));
    }
    write_all(&mut link, b"after");
    assert!(link.close());
    assert!(peer.borrow().received.starts_with(b"before") && peer.borrow().received.ends_with(b"after"));
}

#[test]
fn a_receiver_in_another_network_is_reached_by_the_router_of_the_lease() {
    let router = Ipv4Address::new(10, 0, 2, 18);
    // The receiver, 10.0.2.2, is not in 10.0.2.16/28.
    let lease = Lease {
        address: [10, 0, 2, 17].into(),
        mask: [255, 255, 255, 240].into(),
        router: Some(router),
        ..Lease::default()
    };
    let serve = |end| Served { end, lease, deaf_to: 0, acknowledged: Rc::default() };
    let (card, peer, time) = network_with(Weather::default(), 3, Room::default(), serve);
    peer.borrow_mut().interface.update_ip_addrs(|addresses| {
        addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(router, 28))).unwrap();
    });
    let mut link = TcpLink::open(Box::new(card), &Network::default(), SERVER, 3, time).unwrap();
    write_all(&mut link, b"hello");
    assert!(link.close());
    assert!(peer.borrow().received == b"hello");
}

#[test]
fn a_network_without_dhcp_is_given_up_after_a_stated_time() {
    let (card, _peer, time) = network(Weather::default(), 5);
    let error = TcpLink::open(Box::new(card), &Network::default(), SERVER, 5, time).err();
    assert_eq!(error, Some(NetError::NoAddress(15)));
}
