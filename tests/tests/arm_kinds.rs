//! Linux 6.1 of 32-bit Arm crashes in other ways than by sysrq.
#![allow(missing_docs, reason = "tests")]

use end_to_end::Spec;
use end_to_end::kinds::is_dumped;
use rcapture_qemu::CrashKind;

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_null_dereference_is_dumped() {
    is_dumped(&Spec::sabrelite(), CrashKind::NullDereference);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_bug_is_dumped() {
    is_dumped(&Spec::arm(), CrashKind::Bug);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_panic_with_interrupts_off_is_dumped() {
    is_dumped(&Spec::arm(), CrashKind::PanicWithInterruptsOff);
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_null_dereference_in_an_interrupt_is_dumped() {
    is_dumped(&Spec::sabrelite(), CrashKind::NullDereferenceInInterrupt);
}
