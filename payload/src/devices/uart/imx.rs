//! The UART of Freescale's i.MX from the i.MX21 on (IMX6DQRM, chapter 64).

use super::super::{Registers, Wait};
use super::{DEFAULT_BAUD, Device, OpenError};

/// Bytes of its registers.
pub const REGION_BYTES: usize = 0x1000;

/// Registers, by their offset (64.15); all are accessed as words of 32 bits.
const RECEIVED: usize = 0x00;
const TRANSMIT: usize = 0x40;
const UCR1: usize = 0x80;
const UCR2: usize = 0x84;
const UCR3: usize = 0x88;
const UCR4: usize = 0x8c;
const UFCR: usize = 0x90;
const USR1: usize = 0x94;
const USR2: usize = 0x98;
/// The bits' rate is the reference clock's by 16, times (UBIR + 1) / (UBMR + 1).
const UBIR: usize = 0xa4;
const UBMR: usize = 0xa8;

/// In RECEIVED: there was a byte.
const IS_BYTE: u32 = 1 << 15;
/// In UCR1: the UART is on.
const UARTEN: u32 = 1;
/// In UCR2: no reset, receiver and transmitter on, 8 bits, the other end's RTS ignored.
const SRST: u32 = 1;
const RXEN: u32 = 1 << 1;
const TXEN: u32 = 1 << 2;
const WS: u32 = 1 << 5;
const IRTS: u32 = 1 << 14;
const CTS: u32 = 1 << 12;
const ON: u32 = SRST | RXEN | TXEN | WS | IRTS | CTS;
/// In UCR3: no near match of a rate, inputs through the multiplexer; DSR, DCD and RI as after a reset.
const UCR3_PLAIN: u32 = 0x700 | 1 << 7 | 1 << 2;
/// In UCR4: as after a reset.
const UCR4_PLAIN: u32 = 0x8000;
/// In UFCR: from where on TRDY is set, that the reference clock is not divided, and from where on data counts as received.
const TRANSMIT_LEVEL: u32 = 16;
const UNDIVIDED: u32 = 0b101 << 7;
const UFCR_PLAIN: u32 = TRANSMIT_LEVEL << 10 | 1;
const RFDIV: u32 = 0b111 << 7;
/// Which end of the line it is.
const DCEDTE: u32 = 1 << 6;
/// In USR1: there are TRANSMIT_LEVEL bytes or less in the FIFO.
const TRDY: u32 = 1 << 13;
/// In USR2: the FIFO is empty, and so is what shifts bits out.
const TXFE: u32 = 1 << 14;
const TXDC: u32 = 1 << 3;

const FIFO_BYTES: usize = 32;

/// An initialised i.MX UART.
pub struct Imx<R> {
    registers: R,
    baud: u32,
}

impl<R: Registers> Imx<R> {
    /// Takes over the UART with these registers, at `baud` bits per second or those that it has. Without knowing the rate of
    /// its clock it keeps the divisor it has.
    ///
    /// # Errors
    /// If there is none, or its speed cannot be set.
    pub fn open(registers: R, hertz: Option<u32>, baud: Option<u32>, wait: Wait) -> Result<Self, OpenError> {
        let mut uart = Self { registers, baud: baud.unwrap_or(DEFAULT_BAUD) };
        let left = Rate::left_in(&uart.registers);
        if uart.registers.get(USR2) == u32::MAX {
            return Err(OpenError::Absent);
        }
        let current = hertz.and_then(|hertz| left.baud(hertz));
        let rate = match (hertz, baud.or(current)) {
            (Some(hertz), Some(baud)) => {
                uart.baud = baud;
                // What it has is kept if it is the same: a rounded number may not come out of a division again.
                let is_kept = current == Some(baud);
                let set = if is_kept { Some(left) } else { Rate::of(hertz, baud) };
                set.ok_or(OpenError::Baud(baud))?
            }
            (Some(hertz), None) => Rate::of(hertz, uart.baud).ok_or(OpenError::Baud(uart.baud))?,
            (None, _) if left.is_set() => left,
            (None, _) => return Err(OpenError::Baud(uart.baud)),
        };
        // Let the crashed kernel's last bytes out before anything is set.
        wait(&mut || uart.is_drained());
        let kept = uart.registers.get(UFCR) & DCEDTE;
        uart.registers.set(UCR1, 0);
        uart.registers.set(UCR2, 0);
        // Its state machines are reset within some cycles of its clock.
        wait(&mut || uart.registers.get(UCR2) & SRST != 0);
        uart.registers.set(UCR3, UCR3_PLAIN);
        uart.registers.set(UCR4, UCR4_PLAIN);
        uart.registers.set(UFCR, UFCR_PLAIN | rate.divider | kept);
        // In this order, and both (64.12.2).
        uart.registers.set(UBIR, rate.increment);
        uart.registers.set(UBMR, rate.modulator);
        uart.registers.set(UCR2, ON);
        uart.registers.set(UCR1, UARTEN);
        if uart.registers.get(UCR2) & ON != ON {
            return Err(OpenError::Absent);
        }
        Ok(uart)
    }
}

impl<R: Registers + Send> Device for Imx<R> {
    fn baud(&self) -> u32 {
        self.baud
    }

    fn room(&mut self) -> usize {
        if self.registers.get(USR2) & TXFE != 0 {
            return FIFO_BYTES;
        }
        if self.registers.get(USR1) & TRDY != 0 { FIFO_BYTES - TRANSMIT_LEVEL as usize } else { 0 }
    }

    fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.registers.set(TRANSMIT, (*byte).into());
        }
    }

    fn is_drained(&mut self) -> bool {
        Imx::is_drained(self)
    }

    fn take(&mut self) -> Option<u8> {
        let received = self.registers.get(RECEIVED);
        let [byte, ..] = received.to_le_bytes();
        (received & IS_BYTE != 0).then_some(byte)
    }
}

impl<R: Registers> Imx<R> {
    fn is_drained(&self) -> bool {
        self.registers.get(USR2) & (TXFE | TXDC) == TXFE | TXDC
    }
}

/// Of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    /// UFCR.RFDIV, in its place.
    divider: u32,
    /// UBIR and UBMR.
    increment: u32,
    modulator: u32,
}

impl Rate {
    fn left_in(registers: &impl Registers) -> Self {
        Self {
            divider: registers.get(UFCR) & RFDIV,
            increment: registers.get(UBIR) & 0xffff,
            modulator: registers.get(UBMR) & 0xffff,
        }
    }

    /// Whether it is not what stands there after a reset.
    const fn is_set(self) -> bool {
        self.modulator > 0
    }

    /// From the clock as it is. Of all fractions that give the rate, the finest.
    fn of(hertz: u32, baud: u32) -> Option<Self> {
        let (hertz, sixteenths) = (u64::from(hertz), u64::from(baud).checked_mul(16)?);
        // The clock is to be the faster one (64.5).
        if sixteenths == 0 || sixteenths > hertz {
            return None;
        }
        let increment = sixteenths * 0x1_0000 / hertz;
        let modulator = (hertz * increment + sixteenths / 2) / sixteenths;
        let last = |count: u64| u32::try_from(count.checked_sub(1)?).ok().filter(|last| *last <= 0xffff);
        Some(Self { divider: UNDIVIDED, increment: last(increment)?, modulator: last(modulator)? })
    }

    /// Bits per second, rounded to hundreds, as people choose them; `None`: it is not set.
    fn baud(self, hertz: u32) -> Option<u32> {
        let divider = match self.divider >> 7 {
            0b110 => 7,
            code => 6_u32.checked_sub(code)?,
        };
        let fraction = u64::from(self.increment) + 1;
        let bits = u64::from(hertz) * fraction / (u64::from(divider) * 16 * (u64::from(self.modulator) + 1));
        let rounded = (bits + 50) / 100 * 100;
        self.is_set().then(|| u32::try_from(rounded).ok()).flatten().filter(|baud| *baud > 0)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::super::super::fake::{Fake, wait};
    use super::*;

    const HERTZ: u32 = 80_000_000;
    /// An idle UART: FIFO empty, nothing on its way.
    const IDLE: (usize, u32) = (USR2, TXFE | TXDC);

    /// As Linux leaves UART1, which it knows and does not use.
    fn unused() -> Fake<u32> {
        Fake::new(&[(UCR1, 0), (UCR2, 5), (UFCR, 0x801), IDLE]).on_write(reset)
    }

    /// As Linux leaves its console at 115200: by 7, 126 / 781.
    fn console() -> Fake<u32> {
        let rate = [(UFCR, 0x0b01), (UBIR, 125), (UBMR, 780)];
        Fake::new(&[&[(UCR1, 1), (UCR2, 0x4027), IDLE][..], &rate].concat()).on_write(reset)
    }

    /// The reset ends itself.
    #[expect(clippy::unnecessary_wraps, reason = "some writes are not kept")]
    fn reset(_: &mut alloc::collections::BTreeMap<usize, u32>, offset: usize, value: u32) -> Option<u32> {
        Some(if offset == UCR2 { value | SRST } else { value })
    }

    fn open(registers: &Fake<u32>, hertz: Option<u32>, baud: Option<u32>) -> Result<u32, OpenError> {
        Imx::open(registers.clone(), hertz, baud, wait).map(|uart| uart.baud)
    }

    /// Bits per second, by the registers.
    fn bits(registers: &Fake<u32>) -> f64 {
        let divider = [6, 5, 4, 3, 2, 1, 7][(registers.value(UFCR) >> 7 & 7) as usize];
        let fraction = f64::from(registers.value(UBIR) + 1) / f64::from(registers.value(UBMR) + 1);
        f64::from(HERTZ) / f64::from(divider) / 16.0 * fraction
    }

    #[test]
    fn a_uart_that_linux_left_off_is_turned_on_at_the_speed_that_is_asked_for() {
        for baud in [300, 9600, 115_200, 460_800, 921_600, 1_000_000, 3_000_000, 4_000_000, 5_000_000] {
            let registers = unused();
            assert_eq!(open(&registers, Some(HERTZ), Some(baud)), Ok(baud));
            assert_eq!((registers.value(UCR1), registers.value(UCR2)), (UARTEN, ON), "{baud}");
            let wrong = (bits(&registers) / f64::from(baud) - 1.0).abs();
            assert!(wrong < 0.001, "{baud}: {}", bits(&registers));
        }
    }

    #[test]
    fn without_a_speed_the_console_keeps_its_own() {
        let registers = console();
        let before = bits(&registers);
        assert_eq!(open(&registers, Some(HERTZ), None), Ok(115_200));
        assert!((bits(&registers) - before).abs() < 1.0);
        assert_eq!(open(&unused(), Some(HERTZ), None), Ok(DEFAULT_BAUD), "there is none to keep");
    }

    #[test]
    fn with_an_unknown_clock_the_divisor_stays_as_it_was_left() {
        let registers = console();
        assert_eq!(open(&registers, None, Some(115_200)), Ok(115_200));
        let rate = [UFCR, UBIR, UBMR].map(|offset| registers.value(offset));
        assert_eq!((rate[0] & RFDIV, rate[1], rate[2]), (0x0b01 & RFDIV, 125, 780));
        assert_eq!(open(&unused(), None, Some(9600)), Err(OpenError::Baud(9600)), "nobody has set any");
    }

    #[test]
    fn a_speed_that_the_clock_is_too_slow_for_is_refused() {
        for baud in [0, 1, 5_000_001, u32::MAX] {
            assert_eq!(open(&unused(), Some(HERTZ), Some(baud)), Err(OpenError::Baud(baud)));
        }
        assert_eq!(open(&unused(), Some(0), Some(9600)), Err(OpenError::Baud(9600)));
    }

    #[test]
    fn where_nothing_answers_there_is_no_uart() {
        let nothing = Fake::new(&[]).on_write(|_, _, _| None);
        assert_eq!(open(&nothing, Some(HERTZ), Some(9600)).err(), Some(OpenError::Absent));
        let ones = Fake::new(&[(USR2, u32::MAX)]);
        assert_eq!(open(&ones, Some(HERTZ), Some(9600)).err(), Some(OpenError::Absent));
    }

    #[test]
    fn a_uart_that_never_drains_is_taken_over_all_the_same() {
        let registers = console();
        registers.put(USR2, 0);
        assert_eq!(open(&registers, Some(HERTZ), Some(115_200)), Ok(115_200));
    }

    #[test]
    fn it_takes_what_its_fifo_has_room_for_and_gives_what_came() {
        let registers = unused();
        let mut uart = Imx::open(registers.clone(), Some(HERTZ), Some(115_200), wait).unwrap();
        let room = |uart: &mut Imx<_>, empty, ready| {
            registers.put(USR2, empty);
            registers.put(USR1, ready);
            uart.room()
        };
        assert_eq!(room(&mut uart, TXFE | TXDC, TRDY), 32);
        assert_eq!(room(&mut uart, 0, TRDY), 16);
        assert_eq!(room(&mut uart, 0, 0), 0);
        assert!(!Device::is_drained(&mut uart));
        uart.put(b"ab");
        let written: Vec<_> =
            registers.writes().into_iter().filter(|(offset, _)| *offset == TRANSMIT).collect();
        assert_eq!(written, [(TRANSMIT, 0x61), (TRANSMIT, 0x62)]);
        assert_eq!(uart.take(), None);
        registers.put(RECEIVED, IS_BYTE | 0x7f);
        assert_eq!(uart.take(), Some(0x7f));
    }
}
