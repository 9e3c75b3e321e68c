//! What the command line says of networks: `ip=` as the kernel has it (Documentation/admin-guide/nfs/nfsroot.rst),
//! `BOOTIF=` as boot loaders have it, `tcp:HOST:PORT`.

use core::fmt;
use core::net::Ipv4Addr;

use memory::parse_number;

/// A receiver that a connection is made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpLink {
    /// Its address.
    pub host: Ipv4Addr,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for TcpLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl TcpLink {
    /// `HOST:PORT`; the host by its number: there is no resolver.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|&port| port != 0)?;
        Some(Self { host: host.parse().ok()?, port })
    }
}

/// The target's own address and card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// `None`: it is asked for by DHCP.
    pub address: Option<Address>,
    /// Which card.
    pub card: Card,
}

/// An address that is known beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The target's.
    pub client: Ipv4Addr,
    /// Bits of it that are the network's.
    pub prefix_bits: u8,
    /// Who forwards to other networks.
    pub gateway: Option<Ipv4Addr>,
}

/// A device's registers, as the kernel's parameter `virtio_mmio.device=SIZE@ADDRESS:IRQ[:ID]` gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmioRegion {
    /// Physical address of the first.
    pub start_pa: u64,
    /// Bytes of all.
    pub bytes: usize,
}

impl MmioRegion {
    /// The most that is believed of their size: devices have 512 bytes of them, or a page.
    const MAX_BYTES: u64 = 1 << 16;

    pub(super) fn parse(value: &str) -> Option<Self> {
        let (bytes, rest) = value.split_once('@')?;
        // The interrupt is of no use to who polls.
        let start = rest.split_once(':').map_or(rest, |(start, _)| start);
        Self::new(parse_number(start)?, parse_number(bytes)?)
    }

    /// `None`: there can be no such device.
    #[must_use]
    pub fn new(start_pa: u64, bytes: u64) -> Option<Self> {
        let is_possible = start_pa.is_multiple_of(4) && start_pa.checked_add(Self::MAX_BYTES).is_some();
        let bytes = usize::try_from(bytes).ok().filter(|_| (0x100..=Self::MAX_BYTES).contains(&bytes))?;
        is_possible.then_some(Self { start_pa, bytes })
    }
}

/// Which of several cards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Card {
    /// The first one with a carrier.
    #[default]
    FirstWithCarrier,
    /// `ethN`: by number, in the order of their addresses.
    Number(usize),
    /// By its hardware address.
    Mac([u8; 6]),
}

impl Network {
    /// `ip=`: `CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF:…`, or only AUTOCONF.
    pub(super) fn set_ip(&mut self, value: &str) -> Option<()> {
        let mut fields = value.split(':');
        let first = fields.next()?;
        if let "dhcp" | "on" | "any" | "both" = first {
            self.address = None;
            return fields.next().is_none().then_some(());
        }
        let [_server, gateway, netmask, _hostname, device, autoconf] =
            core::array::from_fn(|_| fields.next().unwrap_or_default());
        let (address, card) =
            (Self::address(first, gateway, netmask, autoconf)?, Self::card(device, self.card)?);
        (self.address, self.card) = (address, card);
        Some(())
    }

    /// Outer `None`: it makes no sense.
    #[expect(clippy::option_option, reason = "nothing, and nothing sensible")]
    fn address(client: &str, gateway: &str, netmask: &str, autoconf: &str) -> Option<Option<Address>> {
        match (client, autoconf) {
            ("", "" | "dhcp" | "on" | "any" | "both") => return Some(None),
            // An address that is given wins (net/ipv4/ipconfig.c).
            (_, "" | "off" | "none" | "dhcp" | "on" | "any" | "both") => {}
            _ => return None,
        }
        let client: Ipv4Addr = client.parse().ok()?;
        let gateway = match gateway {
            "" => None,
            gateway => Some(gateway.parse().ok()?),
        };
        let prefix_bits = match netmask {
            "" => default_prefix_bits(client),
            netmask => prefix_bits(netmask.parse().ok()?)?,
        };
        Some(Some(Address { client, prefix_bits, gateway }))
    }

    fn card(device: &str, otherwise: Card) -> Option<Card> {
        match device {
            "" => Some(otherwise),
            device => device.strip_prefix("eth")?.parse().ok().map(Card::Number),
        }
    }

    /// `BOOTIF=01-52-54-00-12-34-56`: the type of hardware (1 is Ethernet) and its address (PXELINUX, IPAPPEND 2).
    pub(super) fn set_bootif(&mut self, value: &str) -> Option<()> {
        let mut bytes = value.split(['-', ':']).map(|byte| u8::from_str_radix(byte, 16).ok());
        let mut mac = [0; 6];
        // The type may be missing.
        if value.len() > 17 {
            (bytes.next()?? == 1).then_some(())?;
        }
        for byte in &mut mac {
            *byte = bytes.next()??;
        }
        bytes.next().is_none().then_some(())?;
        self.card = Card::Mac(mac);
        Some(())
    }
}

/// Of a netmask, whose ones come first.
fn prefix_bits(netmask: Ipv4Addr) -> Option<u8> {
    let bits = netmask.to_bits();
    (bits.leading_ones() == bits.count_ones()).then(|| u8::try_from(bits.count_ones()).ok())?
}

/// As the kernel guesses it (net/ipv4/ipconfig.c): by the classes of old.
fn default_prefix_bits(client: Ipv4Addr) -> u8 {
    match client.octets() {
        [0..=127, ..] => 8,
        [128..=191, ..] => 16,
        _ => 24,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(value: &str) -> Option<Network> {
        let mut network = Network::default();
        network.set_ip(value).map(|()| network)
    }

    fn address(client: [u8; 4], prefix_bits: u8, gateway: Option<[u8; 4]>) -> Option<Address> {
        Some(Address { client: client.into(), prefix_bits, gateway: gateway.map(Into::into) })
    }

    #[test]
    fn ip_has_the_kernels_fields() {
        for (value, expected, card) in [
            ("dhcp", None, Card::FirstWithCarrier),
            ("on", None, Card::FirstWithCarrier),
            (":::::eth1:dhcp", None, Card::Number(1)),
            ("10.0.2.15", address([10, 0, 2, 15], 8, None), Card::FirstWithCarrier),
            ("172.16.0.2", address([172, 16, 0, 2], 16, None), Card::FirstWithCarrier),
            (
                "192.168.7.2::192.168.7.1:255.255.254.0:target:eth0:off",
                address([192, 168, 7, 2], 23, Some([192, 168, 7, 1])),
                Card::Number(0),
            ),
            (
                "10.0.2.15:10.0.2.2:10.0.2.2:255.255.255.0::::1.1.1.1",
                address([10, 0, 2, 15], 24, Some([10, 0, 2, 2])),
                Card::FirstWithCarrier,
            ),
        ] {
            assert_eq!(ip(value), Some(Network { address: expected, card }), "{value}");
        }
    }

    #[test]
    fn what_makes_no_sense_changes_nothing() {
        let mut network = Network { card: Card::Number(3), ..Network::default() };
        for value in [
            "10.0.2",
            "dhcp:1",
            "10.0.2.15:::255.0.255.0",
            "10.0.2.15::::::bootp",
            "10.0.2.15:::::wlan0",
            "::::::rarp",
        ] {
            assert_eq!(network.set_ip(value), None, "{value}");
        }
        for value in ["", "01-52-54", "06-52-54-00-12-34-56", "52-54-00-12-34-56-78", "52-54-00-12-34-5x"] {
            assert_eq!(network.set_bootif(value), None, "{value}");
        }
        assert_eq!(network, Network { card: Card::Number(3), ..Network::default() });
    }

    #[test]
    fn a_card_is_known_by_its_address_with_a_type_before_it_or_without() {
        for value in ["01-52-54-00-12-34-56", "52:54:00:12:34:56", "52-54-00-12-34-56"] {
            let mut network = Network::default();
            assert_eq!(network.set_bootif(value), Some(()), "{value}");
            assert_eq!(network.card, Card::Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
            // And ip= without a device leaves it.
            assert_eq!(network.set_ip("dhcp"), Some(()));
            assert_ne!(network.card, Card::FirstWithCarrier);
        }
    }

    #[test]
    fn devices_without_a_bus_are_given_as_to_the_kernel() {
        let region = MmioRegion { start_pa: 0xfeb0_0e00, bytes: 512 };
        assert_eq!(MmioRegion::parse("512@0xfeb00e00:12"), Some(region));
        assert_eq!(MmioRegion::parse("0x200@0xfeb00e00:12:3"), Some(region));
        for text in [
            "0xfeb00e00",
            "512@",
            "16@0xfeb00e00:1",
            "1G@0xfeb00e00:1",
            "512@0xfeb00e01:1",
            "512@0xffffffffffffff00:1",
        ] {
            assert_eq!(MmioRegion::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_receiver_is_an_address_and_a_port() {
        let link = TcpLink { host: [10, 0, 2, 2].into(), port: 7373 };
        assert_eq!(TcpLink::parse("10.0.2.2:7373"), Some(link));
        for text in ["10.0.2.2", "10.0.2.2:0", "host:7373", ":7373", "10.0.2.2:73731"] {
            assert_eq!(TcpLink::parse(text), None, "{text}");
        }
    }
}
