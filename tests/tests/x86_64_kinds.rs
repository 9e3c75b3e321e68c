//! Linux 6.1 of x86_64 crashes while it handles an interrupt. Other ways are in the matrix.
#![allow(missing_docs, reason = "tests")]

use end_to_end::kinds::is_dumped;
use end_to_end::{Spec, is_left_to_full};
use rcapture_qemu::CrashKind;

#[test]
#[ignore = "needs QEMU: cargo xtask test --full"]
fn a_null_dereference_in_an_interrupt_is_dumped() {
    if !is_left_to_full() {
        is_dumped(&Spec::default(), CrashKind::NullDereferenceInInterrupt);
    }
}
