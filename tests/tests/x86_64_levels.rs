//! Dump levels of x86_64's kernels.
#![allow(missing_docs, reason = "tests")]

use end_to_end::Spec;
use end_to_end::levels::Guest;
use rcapture_qemu::Suite;

/// Each codec on one of them. On an emulated processor LZMA takes minutes.
fn guest(suite: Suite, compress: &'static str) -> Guest {
    Guest::crash(Spec { suite, compress, ..Spec::default() })
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn linux_5_10_is_dumped_at_every_level_as_makedumpfile_does_it() {
    guest(Suite::Bullseye, "lz4").every_level_is_as_with_makedumpfile();
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn linux_6_1_is_dumped_at_every_level_as_makedumpfile_does_it() {
    guest(Suite::Bookworm, "auto").every_level_is_as_with_makedumpfile();
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn linux_6_12_is_dumped_at_every_level_as_makedumpfile_does_it() {
    guest(Suite::Trixie, "deflate").every_level_is_as_with_makedumpfile();
}

/// makedumpfile does not know this kernel.
#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn linux_7_2_is_dumped_by_what_the_kernel_said_of_its_pages() {
    guest(Suite::Sid, "deflate").levels_are_what_the_kernel_said();
}
