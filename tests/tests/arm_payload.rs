//! The capture kernel of 32-bit Arm on a board that hands it nonsense. No kernel runs there before.
#![allow(missing_docs, reason = "tests")]

use end_to_end::nonsense::Victim;
use rcapture_qemu::Arch;

const VICTIM: Victim = Victim(Arch::Arm);

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn without_chosen_properties_it_says_so_and_resets() {
    VICTIM.without_chosen_properties_it_says_so_and_resets();
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn of_a_cut_tree_what_is_there_is_used() {
    VICTIM.of_a_cut_tree_what_is_there_is_used();
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn an_elfcorehdr_outside_ram_is_named() {
    VICTIM.an_elfcorehdr_outside_ram_is_named();
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn an_unknown_uart_is_named_on_the_one_there_is() {
    VICTIM.an_unknown_uart_is_named_on_the_one_there_is();
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn memory_that_is_not_there_is_a_hole_and_memory_told_twice_is_read_once() {
    VICTIM.memory_that_is_not_there_is_a_hole_and_memory_told_twice_is_read_once();
}
