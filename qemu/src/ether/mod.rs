//! An Ethernet with faults, between a machine's network card and QEMU's user network.
//!
//! The Ethernet is a process of its own (`rcapture-qemu ether`) that takes frames from QEMU at one end and gives them back
//! to it at the other: QEMU's user network (slirp) answers by DHCP, and connects to what listens on this machine as
//! 10.0.2.2. So the machine's TCP meets one that is not ours, and real sockets behind it.
//!
//! What happens to the frames is decided without I/O in two channels, one for each direction, that know the cuts and the
//! seeded faults. Each end is a unix socket for datagrams, a frame each (`-netdev dgram`, QEMU 7.2).

mod channel;
mod options;
mod process;
mod segments;
mod simulator;

pub use channel::Counters;
pub use options::EtherOptions;
pub use process::Ether;
pub use simulator::{Report, simulate};
