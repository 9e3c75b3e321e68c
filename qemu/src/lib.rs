//! The lab: machines in QEMU that boot stock kernels and crash, serial lines with a rate and noise, and
//! crash(8) as judge of the dump. A library for tests, and the command `rcapture-qemu` for people and CI.
//!
//! # Words
//! - **Machine**: one QEMU process (a PC or an Arm board, TCG) that boots a stock Debian kernel into a small userland, loads
//!   the capture image with kexec and crashes.
//! - **Line**: what is between the machine's serial port and the receiver, a process of its own with a rate,
//!   latency, cuts and seeded noise.
//! - **Ether**: what is between the machine's network card and QEMU's user network, a process of its own that loses, holds
//!   back and doubles frames.
//! - **Truth**: the machine's memory as QEMU sees it, to compare a dump with page for page.
//! - **Judge**: another program that says what a dump is worth: crash(8) what is in it, makedumpfile which pages a
//!   dump level keeps.
//! - **Outcome**: passed, failed, lost the machine, tool missing, not supported: different things up to the exit code.
//!
//! # A run
//! 1. [`Lab::open`] finds the cache; [`Lab::kernel`], [`Lab::userland`], [`Lab::vmlinux`] and [`Lab::crash`]
//!    fetch what is not in it.
//! 2. [`Line::spawn`] makes the line; a receiver connects to [`Line::host_socket`].
//! 3. [`Machine::builder`] says what the machine is like; [`MachineBuilder::start`] starts it.
//! 4. [`Machine::wait_for_line_text`] follows it: `LAB: loaded`, `LAB: crashing`, the panic, the capture
//!    image's banner. Between, [`Machine::stop`], [`Machine::dump_truth`], [`Machine::snapshot`].
//! 5. [`Truth`] and [`Crash`] judge what the receiver wrote.
//!
//! Every wait has a deadline, and when one passes, the serial log is kept and named in the error.
//!
//! ```no_run
//! use std::path::Path;
//! use std::time::Duration;
//! use rcapture_qemu::{Lab, Line, LineOptions, Machine, Suite};
//!
//! let lab = Lab::open()?;
//! let line = Line::spawn(LineOptions { baud: Some(921_600), bit_errors: 1e-6, ..LineOptions::default() })?;
//! let mut machine = Machine::builder(lab.kernel(Suite::Bookworm)?, lab.userland()?)
//!     .capture_image("dist/x86_64/rcapture.bin")
//!     .line(&line)
//!     .start()?;
//! machine.wait_for_line_text("rcapture 0.1.0", Duration::from_secs(120))?;
//! machine.stop()?;
//! let truth = machine.dump_truth(Path::new("truth.elf"))?;
//! machine.cont()?;
//! # Ok::<(), rcapture_qemu::Error>(())
//! ```

mod arch;
mod archive;
mod boot_files;
mod control;
pub mod crash;
mod debugger;
mod drgn;
pub mod ether;
mod initramfs;
mod kdump;
mod lab;
pub mod line;
mod machine;
mod makedumpfile;
mod noise;
mod outcome;
mod process;
pub mod programs;
mod report;
mod root;
pub mod run;
mod truth;

pub use arch::Arch;
pub use boot_files::BootFiles;
pub use crash::{Crash, Said};
pub use debugger::Debugger;
pub use drgn::{CrashedTask, Drgn};
pub use ether::{Ether, EtherOptions};
pub use initramfs::{Loader, Trigger};
pub use kdump::Kdump;
pub use lab::{CrashKind, Flavour, Kernel, Lab, Mirror, Suite, Userland, make_crash_module};
pub use line::{Line, LineOptions};
pub use machine::{Machine, MachineBuilder, Serial};
pub use makedumpfile::Makedumpfile;
pub use outcome::{Error, Outcome, Result};
pub use report::{PageFlags, Report};
pub use truth::{PAGE_SIZE, Truth};
