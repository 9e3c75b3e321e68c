//! Dump levels of aarch64's kernels.
#![allow(missing_docs, reason = "tests")]

use end_to_end::levels::Guest;
use end_to_end::{Spec, is_left_to_full};
use rcapture_qemu::Suite;

fn guest(suite: Suite) -> Guest {
    Guest::crash(Spec { suite, ..Spec::aarch64() })
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn linux_6_1_is_dumped_at_every_level_as_makedumpfile_does_it() {
    guest(Suite::Bookworm).every_level_is_as_with_makedumpfile();
}

/// makedumpfile does not know this kernel, and not the next.
#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn linux_6_12_is_dumped_by_what_the_kernel_said_of_its_pages() {
    if !is_left_to_full() {
        guest(Suite::Trixie).levels_are_what_the_kernel_said();
    }
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn linux_7_2_is_dumped_by_what_the_kernel_said_of_its_pages() {
    if !is_left_to_full() {
        guest(Suite::Sid).levels_are_what_the_kernel_said();
    }
}
