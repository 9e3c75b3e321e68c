//! A 16550-compatible UART, by the `uart_16550` crate, on I/O ports or in memory.

use capture::config::{SerialLink, SerialRegisters};
use uart_16550::backend::Backend;
use uart_16550::spec::registers::{LCR, LSR, MCR, offsets};
use uart_16550::spec::{CLK_FREQUENCY_HZ, FIFO_SIZE};
use uart_16550::{BaudRate, Config, Uart16550};
use x86_64::instructions::port::Port;

use crate::arch::clock::{PATIENCE_TICKS, ticks};
use crate::arch::paging;

/// Bits per second where neither the command line nor the port says.
const DEFAULT_BAUD: u32 = 115_200;

/// Bytes of its registers in memory: eight, at most four bytes apart.
const REGISTERS_BYTES: usize = 8 * 4;

/// Why a UART cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UartError {
    /// Nothing answers there.
    #[error("no 16550 UART answers")]
    Absent,
    /// The bits per second cannot be had from the UART's clock.
    #[error("{0} bits per second cannot be set")]
    Baud(u32),
    /// Its registers cannot be mapped.
    #[error(transparent)]
    Unmappable(#[from] paging::CannotMap),
}

/// An initialised UART: 8 bits, no parity, 1 stop bit, FIFOs on, no interrupts.
pub(crate) struct Uart {
    device: Uart16550<Registers>,
    /// Bytes the transmitter takes before it need be asked again.
    room: usize,
    /// It did not take a byte for [`PATIENCE_TICKS`]: it is not waited for again until it does.
    is_stuck: bool,
}

impl Uart {
    /// Initialises the UART `link` names.
    ///
    /// # Errors
    /// If there is none, or its speed cannot be set.
    pub(crate) fn open(link: SerialLink) -> Result<Self, UartError> {
        let mut registers = Registers::at(link.registers)?;
        // All ones is what an empty bus reads as; no UART has all of these bits set.
        if registers.get(offsets::LSR) == 0xff {
            return Err(UartError::Absent);
        }
        // Let the crashed kernel's last bytes out before the FIFO is reset; bounded, it may be stuck.
        let start = ticks();
        while registers.get(offsets::LSR) & LSR::TRANSMITTER_EMPTY.bits() == 0
            && ticks().saturating_sub(start) < PATIENCE_TICKS
        {
            core::hint::spin_loop();
        }
        let baud = link.baud.unwrap_or_else(|| registers.current_baud().unwrap_or(DEFAULT_BAUD));
        registers.is_initialising = true;
        // SAFETY: `Registers` reads and writes the eight registers of the device the user named, which nobody else
        // uses: the crashed kernel is gone, and there is one Uart (drivers/console.rs).
        let mut device = unsafe { Uart16550::new_with_backend(registers) };
        device.init(Config { baud_rate: BaudRate::from_integer(baud), ..Config::DEFAULT }).map_err(
            |error| match error {
                uart_16550::InitError::InvalidBaudRate(_) => UartError::Baud(baud),
                _ => UartError::Absent,
            },
        )?;
        // SAFETY: register accesses of the backend stay as they are.
        device.backend_mut().is_initialising = false;
        Ok(Self { device, room: 0, is_stuck: false })
    }

    /// Bits per second it is set to.
    pub(crate) fn baud(&self) -> u32 {
        self.device.config().baud_rate.to_integer()
    }

    /// Bytes that can be written now without waiting.
    pub(crate) fn room(&mut self) -> usize {
        if self.room == 0 && self.device.ready_to_send().is_ok() {
            // The holding register is empty, and with it the whole FIFO.
            self.room = if self.device.fifo_enabled() { FIFO_SIZE } else { 1 };
            self.is_stuck = false;
        }
        self.room
    }

    /// Writes as much of `bytes` as goes without waiting; returns how much.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        for byte in bytes.iter().take(count) {
            self.device.backend_mut().set(offsets::DATA, *byte);
        }
        self.room -= count;
        count
    }

    /// Writes all of `bytes`, waiting for a UART that works; what a stuck one does not take is lost.
    pub(crate) fn write_all(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        let mut since = ticks();
        while !rest.is_empty() {
            let written = self.write(rest);
            if written > 0 {
                rest = rest.get(written..).unwrap_or_default();
                since = ticks();
            } else if self.is_stuck || ticks().saturating_sub(since) > PATIENCE_TICKS {
                self.is_stuck = true;
                return;
            }
        }
    }

    /// Waits until the last bit is on the line, or the UART proves stuck.
    pub(crate) fn drain(&mut self) {
        let start = ticks();
        while !self.device.lsr().contains(LSR::TRANSMITTER_EMPTY) {
            if self.is_stuck || ticks().saturating_sub(start) > PATIENCE_TICKS {
                return;
            }
        }
    }

    /// A byte that has come in.
    pub(crate) fn read_byte(&mut self) -> Option<u8> {
        self.device.try_receive_byte().ok()
    }
}

/// The eight registers of a UART.
struct Registers {
    place: Place,
    /// The driver's `init` waits for an empty transmitter without end; meanwhile a stuck one is said to be empty.
    is_initialising: bool,
}

#[derive(Clone, Copy)]
enum Place {
    Ports(u16),
    Bytes(usize),
    Words(usize),
}

impl Registers {
    fn at(registers: SerialRegisters) -> Result<Self, UartError> {
        let place = match registers {
            SerialRegisters::Port(port) => Place::Ports(port),
            SerialRegisters::Mmio(pa) => Place::Bytes(paging::map_device(pa, REGISTERS_BYTES)?),
            SerialRegisters::Mmio32(pa) => Place::Words(paging::map_device(pa, REGISTERS_BYTES)?),
        };
        Ok(Self { place, is_initialising: false })
    }

    /// `offset` is one of [`offsets`].
    fn get(&mut self, offset: usize) -> u8 {
        let index = offset % 8;
        match self.place {
            #[expect(clippy::cast_possible_truncation, reason = "below 8")]
            // SAFETY: one of the eight ports of the UART the user named; config.rs keeps them within 16 bits.
            Place::Ports(base) => unsafe { Port::new(base + index as u16).read() },
            // SAFETY: `map_device` maps the page of the registers, uncached; config.rs aligns them to words.
            Place::Bytes(base) => unsafe {
                core::ptr::with_exposed_provenance::<u8>(base + index).read_volatile()
            },
            #[expect(clippy::cast_possible_truncation, reason = "a register has 8 bits")]
            // SAFETY: as above.
            Place::Words(base) => unsafe {
                core::ptr::with_exposed_provenance::<u32>(base + index * 4).read_volatile() as u8
            },
        }
    }

    /// `offset` is one of [`offsets`].
    fn set(&mut self, offset: usize, value: u8) {
        let index = offset % 8;
        match self.place {
            #[expect(clippy::cast_possible_truncation, reason = "below 8")]
            // SAFETY: as in `get`.
            Place::Ports(base) => unsafe { Port::new(base + index as u16).write(value) },
            // SAFETY: as in `get`.
            Place::Bytes(base) => unsafe {
                core::ptr::with_exposed_provenance_mut::<u8>(base + index).write_volatile(value);
            },
            // SAFETY: as in `get`.
            Place::Words(base) => unsafe {
                core::ptr::with_exposed_provenance_mut::<u32>(base + index * 4).write_volatile(value.into());
            },
        }
    }

    /// What the divisor latch says, as the crashed kernel set it.
    fn current_baud(&mut self) -> Option<u32> {
        let line_control = self.get(offsets::LCR);
        self.set(offsets::LCR, line_control | LCR::DLAB.bits());
        let divisor = u16::from_le_bytes([self.get(offsets::DLL), self.get(offsets::DLM)]);
        self.set(offsets::LCR, line_control);
        (CLK_FREQUENCY_HZ / 16).checked_div(divisor.into())
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
