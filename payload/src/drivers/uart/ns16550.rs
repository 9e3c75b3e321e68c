//! A 16550-compatible UART, by the `uart_16550` crate, on I/O ports or in memory.

use rcapture_payload::devices::Registers;
use rcapture_payload::devices::uart::ns16550::{PC_HERTZ, baud, current_divisor, divisor, set_line_control};
use rcapture_payload::devices::uart::{DEFAULT_BAUD, Device, OpenError};
use uart_16550::backend::Backend;
use uart_16550::spec::FIFO_SIZE;
use uart_16550::spec::registers::{LSR, MCR, offsets};
use uart_16550::{BaudRate, Config, Uart16550};

use super::{UartError, wait_until};
use crate::arch::ports::DevicePorts;
use crate::drivers::mmio::Mmio;

/// An initialised 16550: 8 bits, no parity, 1 stop bit, FIFOs on, no interrupts.
pub(super) struct Ns16550 {
    device: Uart16550<Initialising>,
}

impl Ns16550 {
    /// Takes over the UART whose registers these are, at `wanted` bits per second or those that it has. Without knowing the rate
    /// of its clock it keeps the divisor it has.
    ///
    /// # Errors
    /// If there is none, or its speed cannot be set.
    pub(super) fn open(
        mut registers: ByteRegisters,
        hertz: Option<u32>,
        wanted: Option<u32>,
    ) -> Result<Self, OpenError> {
        // All ones is what an empty bus reads as; no UART has all of these bits set.
        if registers.get(offsets::LSR) == 0xff {
            return Err(OpenError::Absent);
        }
        // Let the crashed kernel's last bytes out before the FIFO is reset.
        wait_until(&mut || registers.get(offsets::LSR) & LSR::TRANSMITTER_EMPTY.bits() != 0);
        let left = current_divisor(&mut registers);
        let bits = wanted.or_else(|| baud(hertz?, left)).unwrap_or(DEFAULT_BAUD);
        let divisor = match (hertz, wanted) {
            (Some(hertz), Some(_)) => divisor(hertz, bits),
            (Some(_), None) | (None, _) if left > 0 => Some(left),
            (hertz, _) => divisor(hertz.unwrap_or(PC_HERTZ), bits),
        }
        .ok_or(OpenError::Baud(bits))?;
        // The crate wants a clock that divides evenly.
        let frequency = bits.saturating_mul(16).saturating_mul(divisor.into());
        let registers = Initialising { registers, is_initialising: true };
        // SAFETY: `Registers` reads and writes the eight registers of the device the user named, which nobody else
        // uses: the crashed kernel is gone, and there is one Uart (drivers/console.rs).
        let mut device = unsafe { Uart16550::new_with_backend(registers) };
        let config = Config { frequency, baud_rate: BaudRate::from_integer(bits), ..Config::DEFAULT };
        device.init(config).map_err(|error| match error {
            uart_16550::InitError::InvalidBaudRate(_) => OpenError::Baud(bits),
            _ => OpenError::Absent,
        })?;
        // SAFETY: register accesses of the backend stay as they are.
        device.backend_mut().is_initialising = false;
        Ok(Self { device })
    }
}

impl Device for Ns16550 {
    fn baud(&self) -> u32 {
        self.device.config().baud_rate.to_integer()
    }

    fn room(&mut self) -> usize {
        if self.device.ready_to_send().is_err() {
            return 0;
        }
        // The holding register is empty, and with it the whole FIFO.
        if self.device.fifo_enabled() { FIFO_SIZE } else { 1 }
    }

    fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.device.backend_mut().registers.set(offsets::DATA, *byte);
        }
    }

    fn is_drained(&mut self) -> bool {
        self.device.lsr().contains(LSR::TRANSMITTER_EMPTY)
    }

    fn take(&mut self) -> Option<u8> {
        self.device.try_receive_byte().ok()
    }
}

/// The eight registers of a UART, each by its number.
pub(super) enum ByteRegisters {
    Ports(DevicePorts),
    Memory { registers: Mmio, shift: u8, is_word: bool },
}

impl ByteRegisters {
    /// # Errors
    /// If this machine has no ports there.
    pub(super) fn at_ports(first: u16) -> Result<Self, UartError> {
        // SAFETY: it is the UART that the user named, which nobody else drives any more, and which writes to no memory.
        let ports = unsafe { DevicePorts::new(first) };
        Ok(Self::Ports(ports.ok_or(OpenError::Absent)?))
    }

    /// `1 << shift` bytes apart.
    pub(super) fn in_memory(pa: u64, shift: u8, is_word: bool) -> Result<Self, UartError> {
        // Words are aligned as their addresses are.
        let is_word = is_word && shift >= 2;
        Ok(Self::Memory { registers: Mmio::map(pa, 8 << shift)?, shift, is_word })
    }
}

impl Registers<u8> for ByteRegisters {
    fn get(&self, offset: usize) -> u8 {
        let index = offset % 8;
        match self {
            #[expect(clippy::cast_possible_truncation, reason = "below 8")]
            Self::Ports(ports) => ports.read_u8(index as u8),
            Self::Memory { registers, shift, is_word: true } => {
                let word: u32 = registers.get(index << shift);
                let [byte, ..] = word.to_le_bytes();
                byte
            }
            Self::Memory { registers, shift, is_word: false } => registers.get(index << shift),
        }
    }

    fn set(&mut self, offset: usize, value: u8) {
        let index = offset % 8;
        match self {
            #[expect(clippy::cast_possible_truncation, reason = "below 8")]
            Self::Ports(ports) => ports.write_u8(index as u8, value),
            Self::Memory { registers, shift, is_word: true } => {
                registers.set(index << *shift, u32::from(value));
            }
            Self::Memory { registers, shift, is_word: false } => registers.set(index << *shift, value),
        }
    }
}

/// As the crate sees them.
struct Initialising {
    registers: ByteRegisters,
    /// The driver's `init` waits for an empty transmitter without end; meanwhile a stuck one is said to be empty.
    is_initialising: bool,
}

impl Backend for Initialising {
    unsafe fn read(&mut self, register_offset: u8) -> u8 {
        let value = self.registers.get(register_offset.into());
        if self.is_initialising && usize::from(register_offset) == offsets::LSR {
            return value | LSR::TRANSMITTER_EMPTY.bits();
        }
        value
    }

    unsafe fn write(&mut self, register_offset: u8, value: u8) {
        match usize::from(register_offset) {
            // No interrupts here, and none for whoever comes next.
            offsets::MCR => self.registers.set(offsets::MCR, value & !MCR::OUT_2_INT_ENABLE.bits()),
            offsets::LCR => set_line_control(&mut self.registers, value),
            offset => self.registers.set(offset, value),
        }
    }
}
