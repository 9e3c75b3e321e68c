//! A connection to the receiver as a link. If it breaks it is made again, and the session goes on: what got lost with it is
//! sent again, as on any line.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use capture::config::{Network, TcpLink as Server};
use capture::{Clock, Link};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::{dhcpv4, tcp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Cidr};

use super::card::{Card, Phy};

/// Time that the network and the receiver get to answer.
const OPEN_WITHIN: Duration = Duration::from_secs(15);

/// Between two attempts to connect.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// A connection on which nothing is acknowledged for so long is given up, and made again.
const SILENT: Duration = Duration::from_secs(10);

/// Time that the last bytes get to arrive.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Before a server of addresses that does not answer is asked again, at first (CONF_BASE_TIMEOUT in net/ipv4/ipconfig.c).
/// smoltcp's own 10 s would leave one question in the time there is.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Between two looks at the card; the pipeline asks far more often.
const POLL_EVERY: Duration = Duration::from_micros(100);

/// What is on its way at most: 64 KiB, more would take window scaling.
const SEND_BYTES: usize = 64 * 1024;

/// Replies are small.
const RECEIVE_BYTES: usize = 4096;

/// Local ports: those that are nobody's (RFC 6335).
const FIRST_PORT: u16 = 49152;

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// DHCP did not give an address.
    #[error("no answer by DHCP within {0} s: is there a server? ip= sets an address without one")]
    NoAddress(u64),
    /// Nobody took the connection.
    #[error(
        "no connection within {0} s: does `rcapture recv --listen` run there, and is the way to it open?"
    )]
    NoConnection(u64),
}

/// A connection to a receiver.
pub struct TcpLink<C> {
    phy: Phy,
    interface: Interface,
    sockets: SocketSet<'static>,
    tcp: SocketHandle,
    /// `None`: the address was given.
    dhcp: Option<SocketHandle>,
    has_address: bool,
    server: Server,
    port: u16,
    connected_at: Option<Duration>,
    polled_at: Duration,
    clock: C,
}

impl<C: Clock> TcpLink<C> {
    /// Connects to `server`. `seed` differs from one crash to the next.
    ///
    /// # Errors
    /// If that takes longer than 15 s.
    pub fn open(
        card: Box<dyn Card>,
        network: &Network,
        server: Server,
        seed: u64,
        clock: C,
    ) -> Result<Self, NetError> {
        let started = clock.now();
        let mut link = Self::new(card, network, server, seed, clock);
        loop {
            link.poll();
            if link.socket().may_send() {
                return Ok(link);
            }
            if link.clock.now().saturating_sub(started) >= OPEN_WITHIN {
                let seconds = OPEN_WITHIN.as_secs();
                return Err(match link.has_address {
                    true => NetError::NoConnection(seconds),
                    false => NetError::NoAddress(seconds),
                });
            }
        }
    }

    fn new(card: Box<dyn Card>, network: &Network, server: Server, seed: u64, clock: C) -> Self {
        let mut config = Config::new(EthernetAddress(card.mac()).into());
        config.random_seed = seed;
        let mut phy = Phy::new(card);
        let now = clock.now();
        let mut interface = Interface::new(config, &mut phy, instant(now));
        let mut sockets = SocketSet::new(Vec::new());
        let mut socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; RECEIVE_BYTES]),
            tcp::SocketBuffer::new(vec![0; SEND_BYTES]),
        );
        socket.set_timeout(Some(duration(SILENT)));
        let tcp = sockets.add(socket);
        let dhcp = match network.address {
            Some(address) => {
                let cidr = Ipv4Cidr::new(address.client, address.prefix_bits);
                set_address(&mut interface, Some((cidr, address.gateway)));
                None
            }
            None => {
                let mut retry = dhcpv4::RetryConfig::default();
                retry.discover_timeout = duration(ASK_AGAIN);
                retry.initial_request_timeout = duration(ASK_AGAIN);
                let mut socket = dhcpv4::Socket::new();
                socket.set_retry_config(retry);
                Some(sockets.add(socket))
            }
        };
        let [low, high, ..] = seed.to_le_bytes();
        Self {
            phy,
            interface,
            sockets,
            tcp,
            dhcp,
            has_address: dhcp.is_none(),
            server,
            port: u16::from_le_bytes([low, high]),
            connected_at: None,
            polled_at: now,
            clock,
        }
    }

    #[cfg(test)]
    pub(super) fn clock(&self) -> &C {
        &self.clock
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.tcp)
    }

    /// Lets the network go on.
    fn poll(&mut self) {
        self.polled_at = self.clock.now();
        self.interface.poll(instant(self.polled_at), &mut self.phy, &mut self.sockets);
        self.phy.flush();
        if let Some(dhcp) = self.dhcp {
            match self.sockets.get_mut::<dhcpv4::Socket<'_>>(dhcp).poll() {
                Some(dhcpv4::Event::Configured(lease)) => {
                    set_address(&mut self.interface, Some((lease.address, lease.router)));
                    self.has_address = true;
                }
                Some(dhcpv4::Event::Deconfigured) => {
                    set_address(&mut self.interface, None);
                    self.has_address = false;
                }
                None => {}
            }
        }
        let is_due = self.connected_at.is_none_or(|at| self.polled_at.saturating_sub(at) >= RETRY_EVERY);
        if self.has_address && is_due && !self.socket().is_active() {
            self.connect();
        }
    }

    fn connect(&mut self) {
        self.connected_at = Some(self.polled_at);
        // Another port each time: the receiver may still believe in the connection before.
        self.port = self.port.wrapping_add(1);
        let port = FIRST_PORT | self.port;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.tcp);
        socket.abort();
        // It can only be asked again later.
        let _ = socket.connect(self.interface.context(), (self.server.host, self.server.port), port);
    }

    fn poll_if_due(&mut self) {
        if self.clock.now().saturating_sub(self.polled_at) >= POLL_EVERY {
            self.poll();
        }
    }

    /// Ends the connection once everything has arrived. `false`: it did not within 5 s.
    pub fn close(mut self) -> bool {
        let started = self.clock.now();
        self.socket().close();
        loop {
            self.poll();
            // What ends the connection is not waited for: the session's own end has arrived.
            if self.socket().send_queue() == 0 {
                return true;
            }
            if self.clock.now().saturating_sub(started) >= CLOSE_WITHIN {
                return false;
            }
        }
    }
}

impl<C: Clock> Link for TcpLink<C> {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.poll_if_due();
        // Not connected: nothing fits.
        self.socket().send_slice(bytes).unwrap_or(0)
    }

    fn read(&mut self, buf: &mut [u8]) -> usize {
        self.poll_if_due();
        self.socket().recv_slice(buf).unwrap_or(0)
    }
}

fn set_address(interface: &mut Interface, address: Option<(Ipv4Cidr, Option<core::net::Ipv4Addr>)>) {
    interface.update_ip_addrs(|addresses| {
        addresses.clear();
        // There is room for one.
        let _ = address.map(|(cidr, _)| addresses.push(IpCidr::Ipv4(cidr)));
    });
    interface.routes_mut().remove_default_ipv4_route();
    if let Some((_, Some(gateway))) = address {
        // And for one.
        let _ = interface.routes_mut().add_default_ipv4_route(gateway);
    }
}

fn instant(now: Duration) -> Instant {
    Instant::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}

fn duration(time: Duration) -> smoltcp::time::Duration {
    smoltcp::time::Duration::from_micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}
