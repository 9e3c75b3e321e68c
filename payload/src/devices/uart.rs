//! UARTs.

pub mod imx;
pub mod ns16550;
pub mod pl011;

/// Bits per second where neither the command line nor the port says.
pub const DEFAULT_BAUD: u32 = 115_200;

/// Why a UART cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Nothing answers there.
    #[error("no UART answers")]
    Absent,
    /// The bits per second cannot be had from the UART's clock.
    #[error("{0} bits per second cannot be set")]
    Baud(u32),
}

/// What every kind of UART can do, none of it with waiting.
pub trait Device: Send {
    /// Bits per second it is set to.
    fn baud(&self) -> u32;

    /// Bytes that it takes at least.
    fn room(&mut self) -> usize;

    /// Gives it bytes, as many as there is room for.
    fn put(&mut self, bytes: &[u8]);

    /// Whether the last bit is on the line.
    fn is_drained(&mut self) -> bool;

    /// A byte that has come in.
    fn take(&mut self) -> Option<u8>;
}
