//! What the end-to-end tests have in common: a machine that crashes in the lab, its dump, and the truth to compare with.
//!
//! # Flow
//! [`Spec::crash`] ─▶ a stopped machine at the banner, and its memory as QEMU sees it ─▶ [`Crashed::receive`] ─▶ a
//! directory with the vmcore ─▶ [`compare`] page for page. [`write_full`] makes of a vmcore that lacks pages one that has
//! them all, for whoever filters and judges it: [`KeptPages`], [`PageUse`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a test's own machinery: it ends the test"
)]

pub mod bare;
mod compare;
pub mod drgn;
mod full;
pub mod gdb;
mod kept;
pub mod kinds;
pub mod levels;
mod mounted;
pub mod network;
pub mod nonsense;
mod page_use;
pub mod replay;
mod same;
mod snapshot;
mod spec;
pub mod target;
#[path = "../../payload/tests/support/tree.rs"]
mod tree;
mod whole;

pub use compare::{Comparison, compare};
pub use full::write_full;
pub use kept::{Frames, KeptPages};
pub use mounted::Mounted;
pub use page_use::{Disagreements, PageUse};
pub use same::SameVmcore;
pub use snapshot::Snapshot;
pub use spec::{Crashed, Received, Receiver, Spec, free_port, info, rcapture};
pub use whole::Whole;

use std::time::Duration;

use codec::{Effort, Method};

/// Boot and panic, on a machine with two busy cores and no KVM.
pub const BOOT: Duration = Duration::from_secs(240);

/// A whole dump.
pub const DUMP: Duration = Duration::from_secs(600);

/// crash(8) reads a dump: in three minutes, if it has to be emulated and has a processor for itself.
pub const CRASH: Duration = Duration::from_secs(900);

/// How the capture kernel compresses for a line of 115200.
pub const SLOW_LINE: Method = Method::Lzma(Effort::Dense);

/// What a driver of virtio's network cards on a PCI bus needs, in the order of insertion (Linux 6.1).
pub const CARD_MODULES: [&str; 8] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
];

/// How the capture kernel's banner begins.
pub const BANNER: &str = concat!("rcapture ", env!("CARGO_PKG_VERSION"));

/// Whether the long way was asked for.
#[must_use]
pub fn is_full() -> bool {
    std::env::var("RCAPTURE_TEST_FULL").is_ok_and(|value| value == "1")
}

/// Whether the test that asks is for `--full` only, and that was not given; then it is said.
#[must_use]
pub fn is_left_to_full() -> bool {
    if !is_full() {
        println!("outcome: not run: only with --full");
    }
    !is_full()
}
