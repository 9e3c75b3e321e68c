//! Linux 6.1 of x86_64 crashes in other ways than by sysrq.
#![allow(missing_docs, reason = "tests")]

use end_to_end::kinds::is_dumped;
use end_to_end::{Spec, is_left_to_full};
use rcapture_qemu::CrashKind;

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_null_dereference_is_dumped() {
    if !is_left_to_full() {
        is_dumped(&Spec::default(), CrashKind::NullDereference);
    }
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_bug_is_dumped() {
    if !is_left_to_full() {
        is_dumped(&Spec::default(), CrashKind::Bug);
    }
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_panic_with_interrupts_off_is_dumped() {
    if !is_left_to_full() {
        is_dumped(&Spec::default(), CrashKind::PanicWithInterruptsOff);
    }
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_null_dereference_in_an_interrupt_is_dumped() {
    if !is_left_to_full() {
        is_dumped(&Spec::default(), CrashKind::NullDereferenceInInterrupt);
    }
}
