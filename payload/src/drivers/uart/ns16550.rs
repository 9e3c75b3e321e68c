//! A 16550-compatible UART, by the `uart_16550` crate, on I/O ports or in memory.

use uart_16550::backend::Backend;
use uart_16550::spec::registers::{LCR, LSR, MCR, offsets};
use uart_16550::spec::{CLK_FREQUENCY_HZ, FIFO_SIZE};
use uart_16550::{BaudRate, Config, Uart16550};

use super::{DEFAULT_BAUD, Device, UartError, wait_until};
use crate::arch::ports::DevicePorts;
use crate::memory::paging;

/// An initialised 16550: 8 bits, no parity, 1 stop bit, FIFOs on, no interrupts.
pub(super) struct Ns16550 {
    device: Uart16550<Registers>,
}

impl Ns16550 {
    /// Takes over the UART whose registers these are, at `baud` bits per second or those that it has.
    ///
    /// # Errors
    /// If there is none, or its speed cannot be set.
    pub(super) fn open(
        mut registers: Registers,
        hertz: Option<u32>,
        baud: Option<u32>,
    ) -> Result<Self, UartError> {
        // All ones is what an empty bus reads as; no UART has all of these bits set.
        if registers.get(offsets::LSR) == 0xff {
            return Err(UartError::Absent);
        }
        // Let the crashed kernel's last bytes out before the FIFO is reset.
        wait_until(|| registers.get(offsets::LSR) & LSR::TRANSMITTER_EMPTY.bits() != 0);
        let hertz = hertz.unwrap_or(CLK_FREQUENCY_HZ);
        let baud = baud.unwrap_or_else(|| registers.current_baud(hertz).unwrap_or(DEFAULT_BAUD));
        registers.is_initialising = true;
        // SAFETY: `Registers` reads and writes the eight registers of the device the user named, which nobody else
        // uses: the crashed kernel is gone, and there is one Uart (drivers/console.rs).
        let mut device = unsafe { Uart16550::new_with_backend(registers) };
        let config = Config { frequency: hertz, baud_rate: BaudRate::from_integer(baud), ..Config::DEFAULT };
        device.init(config).map_err(|error| match error {
            uart_16550::InitError::InvalidBaudRate(_) => UartError::Baud(baud),
            _ => UartError::Absent,
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
            self.device.backend_mut().set(offsets::DATA, *byte);
        }
    }

    fn is_drained(&mut self) -> bool {
        self.device.lsr().contains(LSR::TRANSMITTER_EMPTY)
    }

    fn take(&mut self) -> Option<u8> {
        self.device.try_receive_byte().ok()
    }
}

/// The eight registers of a UART.
pub(super) struct Registers {
    place: Place,
    /// The driver's `init` waits for an empty transmitter without end; meanwhile a stuck one is said to be empty.
    is_initialising: bool,
}

enum Place {
    Ports(DevicePorts),
    Memory { base: usize, shift: u8, is_word: bool },
}

impl Registers {
    /// # Errors
    /// If this machine has no ports there.
    pub(super) fn at_ports(first: u16) -> Result<Self, UartError> {
        // SAFETY: it is the UART that the user named, which nobody else drives any more, and which writes to no memory.
        let ports = unsafe { DevicePorts::new(first) }.ok_or(UartError::Absent)?;
        Ok(Self { place: Place::Ports(ports), is_initialising: false })
    }

    /// `1 << shift` bytes apart.
    pub(super) fn in_memory(pa: u64, shift: u8, is_word: bool) -> Result<Self, UartError> {
        // Words are aligned as their addresses are.
        let is_word = is_word && shift >= 2;
        let base = paging::map_device(pa, 8 << shift)?;
        Ok(Self { place: Place::Memory { base, shift, is_word }, is_initialising: false })
    }

    /// `offset` is one of [`offsets`].
    fn get(&mut self, offset: usize) -> u8 {
        let index = offset % 8;
        match &self.place {
            #[expect(clippy::cast_possible_truncation, reason = "below 8")]
            Place::Ports(ports) => ports.read_u8(index as u8),
            #[expect(clippy::cast_possible_truncation, reason = "a register has 8 bits")]
            // SAFETY: `map_device` maps the pages of the registers, uncached; config.rs and the device tree align them to
            // words.
            Place::Memory { base, shift, is_word: true } => unsafe {
                core::ptr::with_exposed_provenance::<u32>(base + (index << shift)).read_volatile() as u8
            },
            // SAFETY: as above.
            Place::Memory { base, shift, is_word: false } => unsafe {
                core::ptr::with_exposed_provenance::<u8>(base + (index << shift)).read_volatile()
            },
        }
    }

    /// `offset` is one of [`offsets`].
    fn set(&mut self, offset: usize, value: u8) {
        let index = offset % 8;
        match &self.place {
            #[expect(clippy::cast_possible_truncation, reason = "below 8")]
            Place::Ports(ports) => ports.write_u8(index as u8, value),
            // SAFETY: as in `get`.
            Place::Memory { base, shift, is_word: true } => unsafe {
                core::ptr::with_exposed_provenance_mut::<u32>(base + (index << shift))
                    .write_volatile(value.into());
            },
            // SAFETY: as in `get`.
            Place::Memory { base, shift, is_word: false } => unsafe {
                core::ptr::with_exposed_provenance_mut::<u8>(base + (index << shift)).write_volatile(value);
            },
        }
    }

    /// What the divisor latch says, as the crashed kernel set it.
    fn current_baud(&mut self, hertz: u32) -> Option<u32> {
        let line_control = self.get(offsets::LCR);
        self.set(offsets::LCR, line_control | LCR::DLAB.bits());
        let divisor = u16::from_le_bytes([self.get(offsets::DLL), self.get(offsets::DLM)]);
        self.set(offsets::LCR, line_control);
        (hertz / 16).checked_div(divisor.into())
    }
}

impl Backend for Registers {
    unsafe fn read(&mut self, register_offset: u8) -> u8 {
        let value = self.get(register_offset.into());
        if self.is_initialising && usize::from(register_offset) == offsets::LSR {
            return value | LSR::TRANSMITTER_EMPTY.bits();
        }
        value
    }

    unsafe fn write(&mut self, register_offset: u8, value: u8) {
        let value = if usize::from(register_offset) == offsets::MCR {
            // No interrupts here, and none for whoever comes next.
            value & !MCR::OUT_2_INT_ENABLE.bits()
        } else {
            value
        };
        self.set(register_offset.into(), value);
    }
}
