//! Small TCP segments, as a router with a narrow link behind it asks for them.

use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, TcpOption, TcpPacket,
};

/// Lowers the most that the sender of this frame takes in a segment to `mss`, if the frame begins a TCP connection over
/// IPv4. Whether it did; any other frame stays as it is.
pub(super) fn limit_segments(frame: &mut [u8], mss: u16) -> bool {
    limit(frame, mss).is_some()
}

fn limit(frame: &mut [u8], mss: u16) -> Option<()> {
    let mut ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let mut ip = Ipv4Packet::new_checked(ethernet.payload_mut()).ok()?;
    if ip.next_header() != IpProtocol::Tcp || ip.more_frags() || ip.frag_offset() != 0 {
        return None;
    }
    let (from, to): (IpAddress, IpAddress) = (ip.src_addr().into(), ip.dst_addr().into());
    let mut tcp = TcpPacket::new_checked(ip.payload_mut()).ok()?;
    if !tcp.syn() {
        return None;
    }
    let mut rest = tcp.options_mut();
    loop {
        let (behind, option) = TcpOption::parse(rest).ok()?;
        let skipped = rest.len() - behind.len();
        match option {
            TcpOption::EndOfList => return None,
            TcpOption::MaxSegmentSize(more) if more > mss => {
                TcpOption::MaxSegmentSize(mss).emit(rest);
                break;
            }
            _ => rest = rest.get_mut(skipped..)?,
        }
    }
    tcp.fill_checksum(&from, &to);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{
        EthernetAddress, EthernetRepr, Ipv4Address, Ipv4Repr, TcpControl, TcpRepr, TcpSeqNumber,
    };

    const FROM: Ipv4Address = Ipv4Address::new(10, 0, 2, 15);
    const TO: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);

    fn repr(control: TcpControl, mss: Option<u16>) -> TcpRepr<'static> {
        TcpRepr {
            src_port: 49152,
            dst_port: 7707,
            control,
            seq_number: TcpSeqNumber(1),
            ack_number: None,
            window_len: 1000,
            window_scale: Some(2),
            max_seg_size: mss,
            sack_permitted: true,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: b"abc",
        }
    }

    fn frame(tcp: &TcpRepr<'_>) -> Vec<u8> {
        let checksums = ChecksumCapabilities::default();
        let address = EthernetAddress([2, 0, 0, 0, 0, 1]);
        let ethernet =
            EthernetRepr { src_addr: address, dst_addr: address, ethertype: EthernetProtocol::Ipv4 };
        let ip = Ipv4Repr {
            src_addr: FROM,
            dst_addr: TO,
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let mut bytes = vec![0; ethernet.buffer_len() + ip.buffer_len() + tcp.buffer_len()];
        let mut frame = EthernetFrame::new_unchecked(&mut bytes);
        ethernet.emit(&mut frame);
        let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
        ip.emit(&mut packet, &checksums);
        let mut segment = TcpPacket::new_unchecked(packet.payload_mut());
        tcp.emit(&mut segment, &FROM.into(), &TO.into(), &checksums);
        bytes
    }

    #[test]
    fn a_connection_is_made_with_the_smaller_limit_and_is_otherwise_the_same() {
        let mut bytes = frame(&repr(TcpControl::Syn, Some(1460)));
        assert!(limit_segments(&mut bytes, 100));
        // With its checksum.
        assert_eq!(bytes, frame(&repr(TcpControl::Syn, Some(100))));
    }

    #[test]
    fn other_frames_stay_as_they_are() {
        for (control, mss) in [
            (TcpControl::Syn, Some(99)),
            (TcpControl::Syn, None),
            (TcpControl::None, None),
            (TcpControl::Fin, None),
        ] {
            let before = frame(&repr(control, mss));
            let mut after = before.clone();
            assert!(!limit_segments(&mut after, 100), "{control:?} {mss:?}");
            assert_eq!(after, before);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_to_it(
            at in 0usize..60, changed in prop::collection::vec(any::<u8>(), 0..40), end in 0usize..90,
        ) {
            let mut bytes = frame(&repr(TcpControl::Syn, Some(1460)));
            for (place, byte) in bytes.iter_mut().skip(at).zip(changed) {
                *place = byte;
            }
            bytes.truncate(end);
            let length = bytes.len();
            limit_segments(&mut bytes, 100);
            prop_assert_eq!(bytes.len(), length);
        }
    }
}
