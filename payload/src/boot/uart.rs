//! Which UART a name of the kernel's means.

use capture::config::SerialRegisters;

/// A UART, and how its registers are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uart {
    /// A 16550 at eight I/O ports from this one on.
    Ports(u16),
    /// A 16550 whose registers are in memory.
    Ns16550 {
        /// Physical address of the first one.
        pa: u64,
        /// They are `1 << shift` bytes apart.
        shift: u8,
        /// Whether each is accessed as a word of 32 bits.
        is_word: bool,
        /// Of its clock, if that is known.
        hertz: Option<u32>,
    },
    /// An Arm PL011.
    Pl011 {
        /// Physical address of its registers.
        pa: u64,
        /// Of its clock, if that is known.
        hertz: Option<u32>,
        /// A generic UART (Arm SBSA, appendix B): the part of a PL011 that firmware has set up for good.
        is_fixed: bool,
    },
    /// That of an i.MX.
    Imx {
        /// Physical address of its registers.
        pa: u64,
        /// Of an i.MX6's clock controller, which starts its clock and knows the rate.
        clocks_pa: Option<u64>,
    },
}

impl Uart {
    /// The one whose registers are given by where they are in memory; `hertz`: of a 16550's clock, if that is known. `None`: they
    /// are given in another way.
    #[must_use]
    pub const fn in_memory(registers: SerialRegisters, hertz: Option<u32>) -> Option<Self> {
        match registers {
            SerialRegisters::Mmio(pa) => Some(Self::Ns16550 { pa, shift: 0, is_word: false, hertz }),
            SerialRegisters::Mmio32(pa) => Some(Self::Ns16550 { pa, shift: 2, is_word: true, hertz }),
            SerialRegisters::Pl011(pa) => Some(Self::Pl011 { pa, hertz: None, is_fixed: false }),
            SerialRegisters::Tty(_) | SerialRegisters::Port(_) => None,
        }
    }
}
