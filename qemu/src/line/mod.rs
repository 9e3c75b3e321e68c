//! A serial line with a rate and with faults, between a machine and a receiver.
//!
//! The line is a process of its own (`rcapture-qemu line`), because a UART in QEMU whose other end is not
//! read stops the whole machine, monitor included: whatever the test does, the line goes on reading at its
//! rate. It never pushes back on the target. What the host does not take is lost as on a wire; only at full
//! speed it is buffered, up to a stated bound.
//!
//! What happens to the bytes is decided without I/O in two channels, one for each direction, that know the
//! rate, the latency, the cuts and the seeded faults, down to the bits of the receiving UART.

mod channel;
mod endpoint;
mod options;
mod process;
mod simulator;
mod uart;

pub use channel::Counters;
pub use endpoint::Endpoint;
pub use options::{CutWindow, LineOptions};
pub use process::Line;
pub use simulator::{Report, simulate};
