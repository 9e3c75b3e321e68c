//! Watchdogs: told in time that all is well. None is turned on or off, and one that is off takes no harm.

use super::Registers;

/// What kind a watchdog is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// That of an i.MX (IMX6DQRM, chapter 70).
    Imx {
        /// It resets what is around the chip, too (`fsl,ext-reset-output`).
        resets_board: bool,
    },
    /// Arm's SP805 (DDI 0270).
    Sp805,
    /// Synopsys' DesignWare (DW_apb_wdt databook).
    DesignWare,
}

impl Kind {
    /// Bytes of its registers.
    #[must_use]
    pub const fn region_bytes(self) -> usize {
        match self {
            Self::Imx { .. } | Self::DesignWare => 0x10,
            Self::Sp805 => 0x1000,
        }
    }
}

impl core::fmt::Display for Kind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Imx { .. } => "imx2",
            Self::Sp805 => "sp805",
            Self::DesignWare => "dw",
        })
    }
}

/// Of an i.MX, of 16 bits each (70.7): control and service.
const WCR: usize = 0x0;
const WSR: usize = 0x2;
/// In WCR: enabled; no reset is asked for; what is outside is not told of one.
const WDE: u16 = 1 << 2;
const SRS: u16 = 1 << 4;
const WDA: u16 = 1 << 5;
/// What is to be written to WSR, in this order (70.5.1.1).
const SERVICE: [u16; 2] = [0x5555, 0xaaaa];
/// A reset is asked for more than once: the first time may be missed (erratum ERR004346).
const RESET_TRIES: usize = 3;

/// Of an SP805 (table 3-1): control, the register that reloads the counter, and the lock of all others.
const WDOG_CONTROL: usize = 0x008;
const WDOG_INT_CLR: usize = 0x00c;
const WDOG_LOCK: usize = 0xc00;
/// In WDOG_CONTROL: it counts, and resets the second time it ends.
const INTEN_AND_RESEN: u32 = 0b11;
const UNLOCK: u32 = 0x1acc_e551;
const LOCK: u32 = 1;

/// Of a DesignWare: control, and the register that restarts the counter if it is written this.
const WDT_CR: usize = 0x00;
const WDT_CRR: usize = 0x0c;
const RESTART: u32 = 0x76;
/// In WDT_CR.
const WDT_EN: u32 = 1;

/// A watchdog.
#[derive(Clone, Copy, Debug)]
pub struct Watchdog<R> {
    kind: Kind,
    registers: R,
}

impl<R: Registers<u16> + Registers<u32>> Watchdog<R> {
    /// One of this kind with these registers.
    pub const fn new(kind: Kind, registers: R) -> Self {
        Self { kind, registers }
    }

    /// Whether it is on, and resets the machine if it is not fed.
    pub fn is_on(&self) -> bool {
        let word = |offset| Registers::<u32>::get(&self.registers, offset);
        match self.kind {
            Kind::Imx { .. } => Registers::<u16>::get(&self.registers, WCR) & WDE != 0,
            Kind::Sp805 => word(WDOG_CONTROL) & INTEN_AND_RESEN == INTEN_AND_RESEN,
            Kind::DesignWare => word(WDT_CR) & WDT_EN != 0,
        }
    }

    /// Begins its time anew.
    pub fn feed(&mut self) {
        match self.kind {
            Kind::Imx { .. } => SERVICE.into_iter().for_each(|word| self.registers.set(WSR, word)),
            Kind::Sp805 => {
                let was_locked = Registers::<u32>::get(&self.registers, WDOG_LOCK) != 0;
                self.registers.set(WDOG_LOCK, UNLOCK);
                self.registers.set(WDOG_INT_CLR, 1_u32);
                if was_locked {
                    self.registers.set(WDOG_LOCK, LOCK);
                }
            }
            Kind::DesignWare => self.registers.set(WDT_CRR, RESTART),
        }
    }

    /// Resets the machine, soon; `false`: its kind cannot. Should it miss that, its time of half a second begins.
    /// `of_all`: the chip and the board, whatever the device tree says.
    pub fn reset(&mut self, of_all: bool) -> bool {
        let Kind::Imx { resets_board } = self.kind else { return false };
        let other = if resets_board { SRS } else { WDA };
        for _ in 0..RESET_TRIES {
            self.registers.set(WCR, if of_all { WDE } else { WDE | other });
        }
        SERVICE.into_iter().for_each(|word| self.registers.set(WSR, word));
        true
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// Both widths, in one order.
    #[derive(Default)]
    struct Fake {
        values: Vec<(usize, u32)>,
        writes: Vec<(usize, u8, u32)>,
    }

    impl Fake {
        fn value(&self, offset: usize) -> u32 {
            self.values.iter().find(|(at, _)| *at == offset).map_or(0, |(_, value)| *value)
        }
    }

    impl Registers<u16> for Fake {
        fn get(&self, offset: usize) -> u16 {
            u16::try_from(self.value(offset)).unwrap()
        }

        fn set(&mut self, offset: usize, value: u16) {
            self.writes.push((offset, 16, value.into()));
        }
    }

    impl Registers<u32> for Fake {
        fn get(&self, offset: usize) -> u32 {
            self.value(offset)
        }

        fn set(&mut self, offset: usize, value: u32) {
            self.writes.push((offset, 32, value));
        }
    }

    const IMX: Kind = Kind::Imx { resets_board: false };

    fn fed(kind: Kind, values: &[(usize, u32)]) -> Vec<(usize, u8, u32)> {
        let mut watchdog = Watchdog::new(kind, Fake { values: values.to_vec(), writes: Vec::new() });
        watchdog.feed();
        watchdog.registers.writes
    }

    #[test]
    fn each_kind_is_fed_in_its_own_way() {
        assert_eq!(fed(IMX, &[]), [(2, 16, 0x5555), (2, 16, 0xaaaa)]);
        assert_eq!(fed(Kind::DesignWare, &[]), [(0xc, 32, 0x76)]);
    }

    #[test]
    fn a_locked_one_is_locked_again_and_an_open_one_stays_open() {
        assert_eq!(
            fed(Kind::Sp805, &[(WDOG_LOCK, 1)]),
            [(0xc00, 32, 0x1acc_e551), (0xc, 32, 1), (0xc00, 32, 1)]
        );
        assert_eq!(fed(Kind::Sp805, &[]), [(0xc00, 32, 0x1acc_e551), (0xc, 32, 1)]);
    }

    #[test]
    fn whether_it_is_on_is_seen_without_a_write() {
        for (kind, offset, off, on) in
            [(IMX, 0, 0xff30, 0xff34), (Kind::Sp805, 8, 0b01, 0b11), (Kind::DesignWare, 0, 0x1a, 0x1b)]
        {
            let with =
                |value| Watchdog::new(kind, Fake { values: [(offset, value)].to_vec(), writes: Vec::new() });
            assert_eq!((with(off).is_on(), with(on).is_on()), (false, true), "{kind}");
            assert_eq!(with(on).registers.writes, []);
        }
    }

    #[test]
    fn the_one_of_an_imx_resets_the_chip_or_the_board_or_both() {
        let trials = [(false, false, 0x24), (true, false, 0x14), (false, true, 0x4), (true, true, 0x4)];
        for (resets_board, of_all, control) in trials {
            let mut watchdog = Watchdog::new(Kind::Imx { resets_board }, Fake::default());
            assert!(watchdog.reset(of_all));
            let writes = watchdog.registers.writes;
            assert_eq!(writes[..3], [(0, 16, control); 3]);
            assert_eq!(writes[3..], [(2, 16, 0x5555), (2, 16, 0xaaaa)]);
        }
        for kind in [Kind::Sp805, Kind::DesignWare] {
            let mut watchdog = Watchdog::new(kind, Fake::default());
            assert!(!watchdog.reset(true) && watchdog.registers.writes.is_empty());
        }
    }
}
