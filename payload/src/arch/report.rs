//! What the reports of all architectures' exceptions say alike.

use core::fmt;

use crate::memory::layout;

/// Characters of a register in hexadecimal.
pub(super) const DIGITS: usize = 2 * size_of::<usize>();

/// The line that says where in the image the program counter is.
pub(super) fn write_place(f: &mut fmt::Formatter<'_>, register: &str, address: usize) -> fmt::Result {
    let image = layout::image();
    let base = image.start;
    if image.contains(&address) {
        writeln!(f, "  {register} image+{:#x} (image at {base:#x})", address - base)
    } else {
        let width = DIGITS + "0x".len();
        writeln!(f, "  {register} {address:#0width$x}, outside the image at {base:#x}")
    }
}
