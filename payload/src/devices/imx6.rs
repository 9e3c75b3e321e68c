//! The clocks of an i.MX6 (IMX6DQRM, chapter 18): those of devices that the crashed kernel may not have used are off, and
//! a look at the registers of such a device stops the bus.

use super::Registers;

/// Bytes of its registers.
pub const REGION_BYTES: usize = 0x1000;

/// Registers, by their offset (18.6).
const CSCDR1: usize = 0x24;
const CCGR1: usize = 0x6c;
const CCGR5: usize = 0x7c;

/// In CSCDR1: the UARTs' divisor less one, and, on the QuadPlus, that they run on the crystal.
const UART_CLK_PODF: u32 = 0x3f;
const UART_CLK_SEL: u32 = 1 << 6;
/// PLL3 by six, and the crystal.
const PLL3_80M_HERTZ: u32 = 80_000_000;
const CRYSTAL_HERTZ: u32 = 24_000_000;

/// Gates: two bits each, both set for "always on" (18.6.23).
const ENET: u32 = 0b11 << 10;
const TIMER: u32 = 0b1111 << 20;
const UARTS: u32 = 0b1111 << 24;

/// The clock controller.
pub struct Clocks<R> {
    registers: R,
}

impl<R: Registers> Clocks<R> {
    /// With these registers, which always answer.
    pub const fn new(registers: R) -> Self {
        Self { registers }
    }

    /// Turns the UARTs' clocks on; returns hertz of the one that bits are made of.
    pub fn start_uarts(&mut self) -> u32 {
        self.start(CCGR5, UARTS);
        let setting = self.registers.get(CSCDR1);
        let root = if setting & UART_CLK_SEL == 0 { PLL3_80M_HERTZ } else { CRYSTAL_HERTZ };
        root / ((setting & UART_CLK_PODF) + 1)
    }

    /// Turns the Ethernet's clock on.
    pub fn start_ethernet(&mut self) {
        self.start(CCGR1, ENET);
    }

    /// Turns the general-purpose timer's clocks on.
    pub fn start_timer(&mut self) {
        self.start(CCGR1, TIMER);
    }

    fn start(&mut self, offset: usize, gates: u32) {
        let open = self.registers.get(offset);
        if open & gates != gates {
            self.registers.set(offset, open | gates);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_turned_on_and_the_others_stay_as_they_are() {
        let registers = Fake::new(&[(CCGR1, 0x1), (CCGR5, 0x3000_0003)]);
        let mut clocks = Clocks::new(registers.clone());
        clocks.start_ethernet();
        clocks.start_uarts();
        clocks.start_uarts();
        clocks.start_timer();
        assert_eq!(registers.writes(), [(CCGR1, 0xc01), (CCGR5, 0x3f00_0003), (CCGR1, 0xf0_0c01)]);
    }

    #[test]
    fn the_uarts_rate_is_what_its_divisor_says() {
        for (setting, hertz) in
            [(0x0049_0b00, 80_000_000), (0x0049_0b01, 40_000_000), (0x40, 24_000_000), (0x3f, 1_250_000)]
        {
            let registers = Fake::new(&[(CSCDR1, setting)]);
            assert_eq!(Clocks::new(registers).start_uarts(), hertz, "{setting:#x}");
        }
    }
}
