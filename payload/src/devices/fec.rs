//! The Ethernet controller of an i.MX6, "FEC" (IMX6DQRM, chapter 23, "ENET"), with the descriptors of 8 bytes of its
//! predecessors.
//!
//! # Flow
//! [`Stopped::stop`]: what is known of address and connection is kept, and the controller lets memory alone ─▶
//! [`Stopped::start`] ─▶ [`Fec`], which is polled.

mod phy;
mod ring;
#[cfg(test)]
mod tests;

use super::{Registers, Wait};
use crate::net::{Card, MAX_FRAME_BYTES, Seen};
use phy::{Connection, Mdio};
use ring::{BUFFER_BYTES, RECEIVE_RING, Received, Ring, TRANSMIT_RING};
pub use ring::{DMA_BYTES, DmaMemory};

/// Bytes of its registers.
pub const REGION_BYTES: usize = 0x1000;

/// Registers, by their offset (23.6); all are accessed as words of 32 bits.
const EIR: usize = 0x004;
const EIMR: usize = 0x008;
const RDAR: usize = 0x010;
const TDAR: usize = 0x014;
const ECR: usize = 0x024;
const MSCR: usize = 0x044;
const RCR: usize = 0x084;
const TCR: usize = 0x0c4;
const PALR: usize = 0x0e4;
const PAUR: usize = 0x0e8;
/// The filters of addresses of groups: IAUR, IALR, GAUR, GALR.
const FILTERS: [usize; 4] = [0x118, 0x11c, 0x120, 0x124];
const TFWR: usize = 0x144;
const RDSR: usize = 0x180;
const TDSR: usize = 0x184;
const MRBR: usize = 0x188;

/// In ECR: being reset, on, 1000 Mbit/s, descriptors as this processor writes them.
const RESET: u32 = 1;
const ETHEREN: u32 = 1 << 1;
const SPEED: u32 = 1 << 5;
const DBSWP: u32 = 1 << 8;
/// In RCR: half duplex, the kind of connection to the transceiver, 10 Mbit/s on one that has two rates.
const DRT: u32 = 1 << 1;
const MII_MODE: u32 = 1 << 2;
const RGMII_EN: u32 = 1 << 6;
const RMII_MODE: u32 = 1 << 8;
const RMII_10T: u32 = 1 << 9;
/// Where the longest frame is said.
const MAX_FL_SHIFT: u32 = 16;
/// In TCR: full duplex.
const FDEN: u32 = 1 << 2;
/// In TFWR: a frame is sent once all of it is in the FIFO.
const STRFWD: u32 = 1 << 8;
/// In RDAR and TDAR: there are descriptors.
const ACTIVE: u32 = 1 << 24;
/// In PAUR, behind the address: the type of a pause frame.
const PAUSE_TYPE: u32 = 0x8808;
/// MSCR for a bus of 66 MHz: MDIO at 2.4 MHz.
const MDIO_66_MHZ: u32 = 13 << 1;
/// In MSCR: what Linux sets of it.
const MDIO_SPEED: u32 = 0x7fe;

/// A frame with its check sequence.
const CHECKED_FRAME_BYTES: u32 = 1518;
/// Shorter ones are filled up.
const MIN_FRAME_BYTES: usize = 60;

/// How the controller is connected to its transceiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interface {
    /// 4 bits at 25 MHz.
    #[default]
    Mii,
    /// 2 bits at 50 MHz.
    Rmii,
    /// 4 bits on both edges.
    Rgmii,
}

impl Interface {
    /// As a device tree's `phy-mode` says it; the delays of RGMII are set up in the transceiver.
    #[must_use]
    pub fn of_mode(mode: &[u8]) -> Self {
        match mode {
            b"rmii" => Self::Rmii,
            mode if mode.starts_with(b"rgmii") => Self::Rgmii,
            _ => Self::Mii,
        }
    }

    const fn of_register(rcr: u32) -> Self {
        if rcr & RGMII_EN != 0 {
            Self::Rgmii
        } else if rcr & RMII_MODE != 0 {
            Self::Rmii
        } else {
            Self::Mii
        }
    }

    const fn bits(self) -> u32 {
        match self {
            Self::Mii => 0,
            Self::Rmii => RMII_MODE,
            Self::Rgmii => RGMII_EN,
        }
    }
}

/// A controller that was reset, and leaves memory alone.
pub struct Stopped<R> {
    registers: R,
    mac: [u8; 6],
    interface: Interface,
    /// `None`: there is none, or its speed is not known.
    connection: Option<Connection>,
}

impl<R: Registers> Stopped<R> {
    /// Resets the controller with these registers, whose clock is on. `mac` and `interface`: what the firmware says, which counts
    /// where the crashed kernel has set nothing.
    ///
    /// `None`: it does not answer its reset.
    pub fn stop(mut registers: R, mac: Option<[u8; 6]>, interface: Interface, wait: Wait) -> Option<Self> {
        let [ecr, rcr, tcr, mscr] = [ECR, RCR, TCR, MSCR].map(|offset| registers.get(offset));
        let left_mac = mac_of(registers.get(PALR), registers.get(PAUR));
        let was_on = ecr & ETHEREN != 0;
        registers.set(EIMR, 0);
        // From here on it touches no memory (23.4.6).
        registers.set(ECR, ecr & !ETHEREN);
        registers.set(ECR, RESET);
        if !wait(&mut || registers.get(ECR) & (RESET | ETHEREN) == 0) {
            return None;
        }
        registers.set(MSCR, if mscr & MDIO_SPEED == 0 { MDIO_66_MHZ } else { mscr & MDIO_SPEED });
        let connection = match Mdio::find(&mut registers, wait) {
            Some(mut phy) => phy.connection(),
            // A switch, say: it is as the crashed kernel has set it.
            None => was_on.then_some(Connection {
                megabits: match (ecr & SPEED, rcr & RMII_10T) {
                    (0, 0) => 100,
                    (0, _) => 10,
                    _ => 1000,
                },
                is_duplex: tcr & FDEN != 0,
            }),
        };
        Some(Self {
            registers,
            mac: left_mac.or(mac).unwrap_or(NO_BODYS),
            interface: if was_on { Interface::of_register(rcr) } else { interface },
            connection,
        })
    }

    /// What is to be seen of it.
    pub const fn seen(&self) -> Seen {
        Seen { mac: self.mac, has_carrier: self.connection.is_some(), is_behind_iommu: false }
    }

    /// Starts it. `memory` has [`DMA_BYTES`] and is nobody else's any more.
    pub fn start<M: DmaMemory>(self, memory: M) -> Fec<R, M> {
        let Self { mut registers, mac, interface, connection } = self;
        let Connection { megabits, is_duplex } = connection.unwrap_or_default();
        let ring = Ring::new(memory);
        let [a, b, c, d, e, f] = mac;
        let rcr = CHECKED_FRAME_BYTES << MAX_FL_SHIFT
            | MII_MODE
            | interface.bits()
            | if megabits == 10 { RMII_10T } else { 0 }
            | if is_duplex { 0 } else { DRT };
        for (offset, value) in [
            (EIR, u32::MAX),
            (PALR, u32::from_be_bytes([a, b, c, d])),
            (PAUR, u32::from_be_bytes([e, f, 0, 0]) | PAUSE_TYPE),
            (RCR, rcr),
            (TCR, if is_duplex { FDEN } else { 0 }),
            (TFWR, STRFWD),
            (MRBR, BUFFER_BYTES),
            (RDSR, ring.pa(RECEIVE_RING)),
            (TDSR, ring.pa(TRANSMIT_RING)),
        ] {
            registers.set(offset, value);
        }
        for filter in FILTERS {
            registers.set(filter, 0);
        }
        registers.set(ECR, ETHEREN | DBSWP | if megabits == 1000 { SPEED } else { 0 });
        registers.set(RDAR, ACTIVE);
        Fec { registers, ring, mac, is_behind: false }
    }
}

/// Of who has none: one that is given locally.
const NO_BODYS: [u8; 6] = [0x02, 0, 0, 0, 0xfe, 0xc0];

/// The address in the registers, if there is one.
fn mac_of(palr: u32, paur: u32) -> Option<[u8; 6]> {
    let ([a, b, c, d], [e, f, ..]) = (palr.to_be_bytes(), paur.to_be_bytes());
    let mac = [a, b, c, d, e, f];
    is_one(mac).then_some(mac)
}

/// Whether it is the address of one card.
#[must_use]
pub fn is_one(mac: [u8; 6]) -> bool {
    let [first, ..] = mac;
    mac != [0; 6] && first & 1 == 0
}

/// The controller, at work.
pub struct Fec<R, M> {
    registers: R,
    ring: Ring<M>,
    mac: [u8; 6],
    /// Whether it does not know of all frames yet.
    is_behind: bool,
}

impl<R: Registers, M: DmaMemory> Card for Fec<R, M> {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn receive(&mut self, frame: &mut [u8; MAX_FRAME_BYTES]) -> Option<usize> {
        loop {
            let received = self.ring.receive(frame)?;
            self.ring.publish();
            self.registers.set(RDAR, ACTIVE);
            if let Received::Frame(length) = received {
                return Some(length);
            }
        }
    }

    fn can_transmit(&mut self) -> bool {
        self.ring.collect();
        if self.ring.is_full() {
            self.flush();
            self.ring.collect();
        }
        // It may have gone to sleep just as a frame was added (erratum ERR006358).
        if self.ring.is_sending() && !self.is_behind && self.registers.get(TDAR) == 0 {
            self.registers.set(TDAR, ACTIVE);
        }
        !self.ring.is_full()
    }

    fn transmit(&mut self, frame: &[u8]) {
        self.is_behind |= self.ring.transmit(frame);
    }

    fn flush(&mut self) {
        if core::mem::take(&mut self.is_behind) {
            self.ring.publish();
            self.registers.set(TDAR, ACTIVE);
        }
    }
}
