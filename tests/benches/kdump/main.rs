//! rcapture beside Linux's kdump with makedumpfile: from the panic to what one wants to know of it, over a network and a serial
//! line, and the memory that has to be reserved. By turns, on the same machines. Needs the lab, the images and `rcapture`:
//! `cargo xtask image`, and `$RCAPTURE_QEMU` naming the program `rcapture-qemu`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "a benchmark")]

#[path = "../support/mod.rs"]
mod support;

mod course;
mod mount;
mod network;
mod ours;
mod plot;
mod reservation;
mod serial;
mod theirs;

use end_to_end::Spec;
use rcapture_qemu::Arch;

fn main() {
    if support::is_chosen("kdump.network") {
        network::measure();
    }
    if support::is_chosen("kdump.serial") {
        serial::measure();
    }
    if support::is_chosen("kdump.reservation") {
        reservation::measure();
    }
}

/// The machine of an architecture that is compared.
fn machine(arch: Arch, memory_mib: u32) -> Spec {
    let usual = match arch {
        Arch::X86_64 => Spec::default(),
        Arch::Aarch64 => Spec::aarch64(),
        Arch::Arm => Spec::arm(),
    };
    Spec { memory_mib, dump_level: 31, ..usual }
}

/// What is reserved for kdump, enough for any of these machines (`kdump.reservation` says what would do).
const fn kdump_reservation(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 | Arch::Aarch64 => "256M",
        // More is not granted where there are 512 MiB.
        Arch::Arm => "128M",
    }
}
