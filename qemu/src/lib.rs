//! The lab: machines in QEMU that boot stock kernels and crash, serial lines with a rate and noise, and
//! crash(8) as judge of the dump.

pub mod crash;
mod initramfs;
mod lab;
pub mod line;
mod machine;
mod outcome;
mod process;
mod root;
mod truth;

pub use crash::Crash;
pub use initramfs::{Loader, Trigger};
pub use lab::{Kernel, Lab, Mirror, Suite, Userland};
pub use line::{Line, LineOptions};
pub use machine::{Machine, MachineBuilder, Serial};
pub use outcome::{Error, Outcome, Result};
pub use truth::{PAGE_SIZE, Truth};
