//! The transceiver, by its management registers (IEEE 802.3, clause 22).

use super::super::{Registers, Wait};
use super::EIR;

/// The register a transfer is made by, and the event that ends it (IMX6DQRM 23.6).
const MMFR: usize = 0x040;
const MII_EVENT: u32 = 1 << 23;
/// In MMFR: start, read, turnaround.
const READ: u32 = 0b01 << 30 | 0b10 << 28 | 0b10 << 16;

/// Management registers (22.2.4): control, status, identifier, abilities of this end and of the other.
const CONTROL: u8 = 0;
const STATUS: u8 = 1;
const IDENTIFIER: u8 = 2;
const ADVERTISED: u8 = 4;
const PARTNERS: u8 = 5;
/// Of a gigabit: what this end and the other can.
const GIGABIT_CONTROL: u8 = 9;
const GIGABIT_STATUS: u8 = 10;

/// In CONTROL: speeds, negotiation, full duplex.
const CONTROL_1000: u16 = 1 << 6;
const CONTROL_DUPLEX: u16 = 1 << 8;
const NEGOTIATES: u16 = 1 << 12;
const CONTROL_100: u16 = 1 << 13;
/// In STATUS: connected, and that there are registers of a gigabit.
const LINK: u16 = 1 << 2;
const EXTENDED: u16 = 1 << 8;

/// Abilities, the best first: their bit in ADVERTISED and PARTNERS, and what they are.
const ABILITIES: [(u16, Connection); 4] = [
    (1 << 8, Connection { megabits: 100, is_duplex: true }),
    (1 << 7, Connection { megabits: 100, is_duplex: false }),
    (1 << 6, Connection { megabits: 10, is_duplex: true }),
    (1 << 5, Connection { megabits: 10, is_duplex: false }),
];
/// The same of a gigabit: the bit in `GIGABIT_CONTROL`; in `GIGABIT_STATUS` it is two places higher.
const GIGABIT: [(u16, Connection); 2] = [
    (1 << 9, Connection { megabits: 1000, is_duplex: true }),
    (1 << 8, Connection { megabits: 1000, is_duplex: false }),
];

/// What both ends agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) megabits: u32,
    pub(super) is_duplex: bool,
}

impl Default for Connection {
    fn default() -> Self {
        Self { megabits: 100, is_duplex: true }
    }
}

/// A transceiver at the controller's management bus.
pub(super) struct Mdio<'a, R> {
    registers: &'a mut R,
    wait: Wait,
    address: u8,
}

impl<'a, R: Registers> Mdio<'a, R> {
    /// The first that answers.
    pub(super) fn find(registers: &'a mut R, wait: Wait) -> Option<Self> {
        let mut phy = Self { registers, wait, address: 0 };
        for address in 0..32 {
            phy.address = address;
            // The bus itself does not work: nobody else is waited for.
            if !matches!(phy.read(IDENTIFIER)?, 0 | u16::MAX) {
                return Some(phy);
            }
        }
        None
    }

    fn read(&mut self, register: u8) -> Option<u16> {
        self.registers.set(EIR, MII_EVENT);
        self.registers.set(MMFR, READ | u32::from(self.address) << 23 | u32::from(register) << 18);
        if !(self.wait)(&mut || self.registers.get(EIR) & MII_EVENT != 0) {
            return None;
        }
        let [low, high, ..] = self.registers.get(MMFR).to_le_bytes();
        Some(u16::from_le_bytes([low, high]))
    }

    /// How it is connected; `None`: it is not.
    pub(super) fn connection(&mut self) -> Option<Connection> {
        // It says first that the connection was lost once, then what is (22.2.4.2.13).
        self.read(STATUS)?;
        let status = self.read(STATUS)?;
        if status & LINK == 0 {
            return None;
        }
        let control = self.read(CONTROL)?;
        if control & NEGOTIATES == 0 {
            let megabits = match (control & CONTROL_1000, control & CONTROL_100) {
                (0, 0) => 10,
                (0, _) => 100,
                _ => 1000,
            };
            return Some(Connection { megabits, is_duplex: control & CONTROL_DUPLEX != 0 });
        }
        let gigabit = match status & EXTENDED {
            0 => 0,
            _ => self.read(GIGABIT_CONTROL)? & self.read(GIGABIT_STATUS)? >> 2,
        };
        let common = self.read(ADVERTISED)? & self.read(PARTNERS)?;
        let best = |abilities: &[(u16, Connection)], common: u16| {
            abilities.iter().find(|(bit, _)| common & bit != 0).map(|(_, connection)| *connection)
        };
        // One that does not say what it can is taken for the usual.
        Some(best(&GIGABIT, gigabit).or_else(|| best(&ABILITIES, common)).unwrap_or_default())
    }
}
