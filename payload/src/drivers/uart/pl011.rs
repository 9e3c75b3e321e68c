//! Arm's PL011 (DDI 0183), and the part of it that is a generic UART (SBSA, appendix B).

use super::{DEFAULT_BAUD, Device, UartError, wait_until};
use crate::memory::paging;

/// Registers, by their offset (DDI 0183, table 3-1); all are accessed as words of 32 bits.
const DATA: usize = 0x00;
const FLAGS: usize = 0x18;
const INTEGER_DIVISOR: usize = 0x24;
const FRACTIONAL_DIVISOR: usize = 0x28;
const LINE_CONTROL: usize = 0x2c;
const CONTROL: usize = 0x30;
const INTERRUPT_MASK: usize = 0x38;
const DMA_CONTROL: usize = 0x48;
const REGION_BYTES: usize = 0x1000;

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
pub(super) struct Pl011 {
    base: usize,
    baud: u32,
}

impl Pl011 {
    /// Takes over the UART with registers at `pa`, at `baud` bits per second or those that it has. Without knowing the rate of
    /// its clock it stays as it is; so does one that `is_fixed`.
    ///
    /// # Errors
    /// If there is none, or its speed cannot be set.
    pub(super) fn open(
        pa: u64,
        hertz: Option<u32>,
        is_fixed: bool,
        baud: Option<u32>,
    ) -> Result<Self, UartError> {
        let mut uart =
            Self { base: paging::map_device(pa, REGION_BYTES)?, baud: baud.unwrap_or(DEFAULT_BAUD) };
        if uart.get(FLAGS) == u32::MAX {
            return Err(UartError::Absent);
        }
        // Let the crashed kernel's last bytes out before anything is set.
        wait_until(|| uart.is_drained());
        uart.set(INTERRUPT_MASK, 0);
        if is_fixed {
            return Ok(uart);
        }
        let kept = uart.get(CONTROL) & RTS_AND_DTR;
        let divisor = match (hertz, baud) {
            (Some(hertz), Some(baud)) => Some(divisor(hertz, baud).ok_or(UartError::Baud(baud))?),
            (Some(hertz), None) => {
                let divisor = uart.get(INTEGER_DIVISOR) << 6 | uart.get(FRACTIONAL_DIVISOR) & 0x3f;
                uart.baud = current_baud(hertz, divisor).unwrap_or(DEFAULT_BAUD);
                None
            }
            (None, _) => None,
        };
        uart.set(CONTROL, 0);
        uart.set(DMA_CONTROL, 0);
        if let Some(divisor) = divisor {
            uart.set(INTEGER_DIVISOR, divisor >> 6);
            uart.set(FRACTIONAL_DIVISOR, divisor & 0x3f);
        }
        // The divisor counts from here on (3.3.6).
        uart.set(LINE_CONTROL, EIGHT_BITS_AND_FIFOS);
        uart.set(CONTROL, ON | kept);
        if uart.get(CONTROL) & ALL != ON | kept {
            return Err(UartError::Absent);
        }
        Ok(uart)
    }

    fn get(&self, offset: usize) -> u32 {
        // SAFETY: `open` has mapped all registers, uncached; they are aligned as their device is.
        unsafe { core::ptr::with_exposed_provenance::<u32>(self.base + offset).read_volatile() }
    }

    fn set(&mut self, offset: usize, value: u32) {
        // SAFETY: as above; nobody else uses the device: the crashed kernel is gone, and there is one Uart.
        unsafe { core::ptr::with_exposed_provenance_mut::<u32>(self.base + offset).write_volatile(value) }
    }
}

impl Device for Pl011 {
    fn baud(&self) -> u32 {
        self.baud
    }

    fn room(&mut self) -> usize {
        match self.get(FLAGS) {
            flags if flags & TRANSMIT_EMPTY != 0 => FIFO_BYTES,
            flags if flags & TRANSMIT_FULL == 0 => 1,
            _ => 0,
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.set(DATA, (*byte).into());
        }
    }

    fn is_drained(&mut self) -> bool {
        self.get(FLAGS) & BUSY == 0
    }

    fn take(&mut self) -> Option<u8> {
        let [byte, ..] = (self.get(FLAGS) & RECEIVE_EMPTY == 0).then(|| self.get(DATA))?.to_le_bytes();
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
