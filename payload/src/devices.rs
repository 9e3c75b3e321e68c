//! Devices as their registers are to be read and written, whatever these are: memory in the capture kernel, in a test what
//! the test needs.

pub mod fec;
pub mod gpt;
pub mod imx6;
pub mod long_count;
pub mod uart;
pub mod watchdog;

#[cfg(test)]
mod fake;

/// Registers of a device, by their offset in bytes. `W`: as how wide a word each is read and written.
pub trait Registers<W = u32> {
    /// Reads a register.
    fn get(&self, offset: usize) -> W;

    /// Writes a register.
    fn set(&mut self, offset: usize, value: W);
}

/// Waits until something is done, or for as long as a device is waited for; says whether it is done.
pub type Wait = fn(&mut dyn FnMut() -> bool) -> bool;
