//! Arm's PL011 (DDI 0183), and the part of it that is a generic UART (SBSA, appendix B).

use super::super::{Registers, Wait};
use super::{DEFAULT_BAUD, Device, OpenError};

/// Bytes of its registers.
pub const REGION_BYTES: usize = 0x1000;

/// Registers, by their offset (DDI 0183, table 3-1); all are accessed as words of 32 bits.
const DATA: usize = 0x00;
const FLAGS: usize = 0x18;
const INTEGER_DIVISOR: usize = 0x24;
const FRACTIONAL_DIVISOR: usize = 0x28;
const LINE_CONTROL: usize = 0x2c;
const CONTROL: usize = 0x30;
const INTERRUPT_MASK: usize = 0x38;
const DMA_CONTROL: usize = 0x48;

/// In FLAGS.
const BUSY: u32 = 1 << 3;
const RECEIVE_EMPTY: u32 = 1 << 4;
const TRANSMIT_FULL: u32 = 1 << 5;
const TRANSMIT_EMPTY: u32 = 1 << 7;
/// In LINE_CONTROL: 8 bits, FIFOs.
const EIGHT_BITS_AND_FIFOS: u32 = 0b11 << 5 | 1 << 4;
/// In CONTROL: the UART, its transmitter and its receiver are on. RTS and DTR stay.
const ON: u32 = 1 | 1 << 8 | 1 << 9;
const ALL: u32 = ON | 1 << 10 | 1 << 11;
const RTS_AND_DTR: u32 = 1 << 10 | 1 << 11;

/// The smallest FIFO there is, which is not asked for its size.
const FIFO_BYTES: usize = 16;

/// An initialised PL011.
pub struct Pl011<R> {
    registers: R,
    baud: u32,
}

impl<R: Registers> Pl011<R> {
    /// Takes over the UART with these registers, at `baud` bits per second or those that it has. Without knowing the rate of
    /// its clock it stays as it is; so does one that `is_fixed`.
    ///
    /// # Errors
    /// If there is none, or its speed cannot be set.
    pub fn open(
        registers: R,
        hertz: Option<u32>,
        is_fixed: bool,
        baud: Option<u32>,
        wait: Wait,
    ) -> Result<Self, OpenError> {
        let mut uart = Self { registers, baud: baud.unwrap_or(DEFAULT_BAUD) };
        if uart.registers.get(FLAGS) == u32::MAX {
            return Err(OpenError::Absent);
        }
        // Let the crashed kernel's last bytes out before anything is set.
        wait(&mut || uart.registers.get(FLAGS) & BUSY == 0);
        let registers = &mut uart.registers;
        registers.set(INTERRUPT_MASK, 0);
        if is_fixed {
            return Ok(uart);
        }
        let kept = registers.get(CONTROL) & RTS_AND_DTR;
        let divisor = match (hertz, baud) {
            (Some(hertz), Some(baud)) => Some(divisor(hertz, baud).ok_or(OpenError::Baud(baud))?),
            (Some(hertz), None) => {
                let divisor = registers.get(INTEGER_DIVISOR) << 6 | registers.get(FRACTIONAL_DIVISOR) & 0x3f;
                uart.baud = current_baud(hertz, divisor).unwrap_or(DEFAULT_BAUD);
                None
            }
            (None, _) => None,
        };
        registers.set(CONTROL, 0);
        registers.set(DMA_CONTROL, 0);
        if let Some(divisor) = divisor {
            registers.set(INTEGER_DIVISOR, divisor >> 6);
            registers.set(FRACTIONAL_DIVISOR, divisor & 0x3f);
        }
        // The divisor counts from here on (3.3.6).
        registers.set(LINE_CONTROL, EIGHT_BITS_AND_FIFOS);
        registers.set(CONTROL, ON | kept);
        if registers.get(CONTROL) & ALL != ON | kept {
            return Err(OpenError::Absent);
        }
        Ok(uart)
    }
}

impl<R: Registers + Send> Device for Pl011<R> {
    fn baud(&self) -> u32 {
        self.baud
    }

    fn room(&mut self) -> usize {
        match self.registers.get(FLAGS) {
            flags if flags & TRANSMIT_EMPTY != 0 => FIFO_BYTES,
            flags if flags & TRANSMIT_FULL == 0 => 1,
            _ => 0,
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.registers.set(DATA, (*byte).into());
        }
    }

    fn is_drained(&mut self) -> bool {
        self.registers.get(FLAGS) & BUSY == 0
    }

    fn take(&mut self) -> Option<u8> {
        let [byte, ..] =
            (self.registers.get(FLAGS) & RECEIVE_EMPTY == 0).then(|| self.registers.get(DATA))?.to_le_bytes();
        Some(byte)
    }
}

/// What a bit's sixteenth is of the clock, in 64ths (3.3.6).
fn divisor(hertz: u32, baud: u32) -> Option<u32> {
    let baud = u64::from(baud);
    let divisor = (u64::from(hertz) * 4 + baud / 2).checked_div(baud)?;
    u32::try_from(divisor).ok().filter(|divisor| (1 << 6..1 << 22).contains(divisor))
}

/// The inverse.
fn current_baud(hertz: u32, divisor: u32) -> Option<u32> {
    let baud = (u64::from(hertz) * 4).checked_div(divisor.into())?;
    u32::try_from(baud).ok()
}

#[cfg(test)]
mod tests {
    use super::super::super::fake::{Fake, wait};
    use super::*;

    const HERTZ: u32 = 24_000_000;

    fn open(registers: &Fake<u32>, hertz: Option<u32>, is_fixed: bool, baud: Option<u32>) -> Option<u32> {
        Pl011::open(registers.clone(), hertz, is_fixed, baud, wait).map(|uart| uart.baud).ok()
    }

    #[test]
    fn it_is_set_to_the_speed_that_is_asked_for() {
        let registers = Fake::new(&[]);
        assert_eq!(open(&registers, Some(HERTZ), false, Some(115_200)), Some(115_200));
        // 24 MHz by 16 by 115200 is 13 and one 64th.
        assert_eq!((registers.value(INTEGER_DIVISOR), registers.value(FRACTIONAL_DIVISOR)), (13, 1));
        assert_eq!(registers.value(CONTROL), ON);
    }

    #[test]
    fn without_a_speed_or_a_clock_its_divisor_stays() {
        let registers = Fake::new(&[(INTEGER_DIVISOR, 13), (FRACTIONAL_DIVISOR, 1)]);
        assert_eq!(open(&registers, Some(HERTZ), false, None), Some(115_246));
        assert_eq!(open(&registers, None, false, Some(9600)), Some(9600));
        assert!(registers.writes().iter().all(|(offset, _)| ![INTEGER_DIVISOR, 0x28].contains(offset)));
    }

    #[test]
    fn one_that_firmware_has_set_up_loses_its_interrupts_only() {
        let registers = Fake::new(&[]);
        assert_eq!(open(&registers, Some(HERTZ), true, Some(9600)), Some(9600));
        assert_eq!(registers.writes(), [(INTERRUPT_MASK, 0)]);
    }

    #[test]
    fn where_nothing_answers_there_is_none() {
        assert_eq!(open(&Fake::new(&[(FLAGS, u32::MAX)]), None, false, None), None);
        assert_eq!(open(&Fake::new(&[]).on_write(|_, _, _| None), None, false, None), None);
        assert_eq!(open(&Fake::new(&[]), Some(1000), false, Some(115_200)), None, "of too slow a clock");
    }
}
