//! A UART: bytes go into its FIFO without waiting, or with a limit.

mod ns16550;

use alloc::boxed::Box;

use rcapture_payload::boot::Uart as Place;
use rcapture_payload::devices::imx6::{self, Clocks};
use rcapture_payload::devices::uart::imx::{self, Imx};
use rcapture_payload::devices::uart::ns16550::PC_HERTZ;
use rcapture_payload::devices::uart::pl011::{self, Pl011};
use rcapture_payload::devices::uart::{Device, OpenError};

use super::mmio::Mmio;
use super::watchdog;
use crate::arch::clock::{patience_ticks, ticks};
use crate::memory::paging;
use ns16550::{ByteRegisters, Ns16550};

/// Why a UART cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UartError {
    /// The machine has none of that name.
    #[error("no such UART")]
    Unknown,
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its registers cannot be mapped.
    #[error(transparent)]
    Unmappable(#[from] paging::CannotMap),
}

/// An initialised UART: 8 bits, no parity, 1 stop bit, FIFOs on, no interrupts.
pub(crate) struct Uart {
    device: Box<dyn Device>,
    /// Bytes the transmitter takes before it need be asked again.
    room: usize,
    /// It did not take a byte for as long as a device is waited for: it is not waited for again until it does.
    is_stuck: bool,
}

impl Uart {
    /// Initialises the UART at `place`, for `baud` bits per second or those that the crashed kernel set.
    ///
    /// # Errors
    /// If there is none, or its speed cannot be set.
    pub(crate) fn open(place: Place, baud: Option<u32>) -> Result<Self, UartError> {
        let device: Box<dyn Device> = match place {
            Place::Ports(first) => {
                Box::new(Ns16550::open(ByteRegisters::at_ports(first)?, Some(PC_HERTZ), baud)?)
            }
            Place::Ns16550 { pa, shift, is_word, hertz } => {
                Box::new(Ns16550::open(ByteRegisters::in_memory(pa, shift, is_word)?, hertz, baud)?)
            }
            Place::Pl011 { pa, hertz, is_fixed } => {
                let registers = Mmio::map(pa, pl011::REGION_BYTES)?;
                Box::new(Pl011::open(registers, hertz, is_fixed, baud, wait_until)?)
            }
            Place::Imx { pa, clocks_pa } => {
                let hertz = match clocks_pa {
                    Some(pa) => Some(Clocks::new(Mmio::map(pa, imx6::REGION_BYTES)?).start_uarts()),
                    None => None,
                };
                Box::new(Imx::open(Mmio::map(pa, imx::REGION_BYTES)?, hertz, baud, wait_until)?)
            }
        };
        Ok(Self { device, room: 0, is_stuck: false })
    }

    /// Bits per second it is set to.
    pub(crate) fn baud(&self) -> u32 {
        self.device.baud()
    }

    /// Bytes that can be written now without waiting.
    pub(crate) fn room(&mut self) -> usize {
        if self.room == 0 {
            self.room = self.device.room();
            self.is_stuck &= self.room == 0;
        }
        self.room
    }

    /// Writes as much of `bytes` as goes without waiting; returns how much. A line may take long over what the pipeline makes of
    /// memory between two looks at the clock: so this feeds the watchdogs, too.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        watchdog::feed_if_due();
        let count = bytes.len().min(self.room());
        self.device.put(bytes.get(..count).unwrap_or_default());
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
            } else if self.is_stuck || ticks().saturating_sub(since) > patience_ticks() {
                self.is_stuck = true;
                return;
            }
        }
    }

    /// Waits until the last bit is on the line, or the UART proves stuck.
    pub(crate) fn drain(&mut self) {
        if !self.is_stuck {
            wait_until(&mut || self.device.is_drained());
        }
    }

    /// A byte that has come in.
    pub(crate) fn read_byte(&mut self) -> Option<u8> {
        self.device.take()
    }
}

/// Waits as long as a device is waited for; says whether it is done.
pub(super) fn wait_until(is_done: &mut dyn FnMut() -> bool) -> bool {
    let start = ticks();
    loop {
        if is_done() {
            return true;
        }
        watchdog::feed_if_due();
        if ticks().saturating_sub(start) >= patience_ticks() {
            return false;
        }
        core::hint::spin_loop();
    }
}
