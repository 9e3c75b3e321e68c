//! The stack of exceptions' handlers, and registers in their report.

use core::arch::global_asm;
use core::fmt;

use crate::arch::report::DIGITS;

/// Enough for the report, which formats straight into the UART.
const STACK_BYTES: usize = 16 * 1024;

global_asm!(
    ".section .bss.exception_stack, \"aw\", %nobits",
    ".balign 16",
    ".skip {bytes}",
    ".globl exception_stack_top",
    "exception_stack_top:",
    ".text",
    bytes = const STACK_BYTES,
);

/// Lines of four registers, from number 0 on.
pub(crate) fn write_registers(f: &mut fmt::Formatter<'_>, letter: char, registers: &[usize]) -> fmt::Result {
    for (first, row) in registers.chunks(4).enumerate() {
        for (value, number) in row.iter().zip(first * 4..) {
            write!(f, "  {letter}{number:<2} {value:0DIGITS$x}")?;
        }
        writeln!(f)?;
    }
    Ok(())
}
