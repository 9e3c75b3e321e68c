//! The image as the linker laid it out (linker/*.ld), by the names of its regions. All addresses are virtual, and
//! physical as well: the image is mapped one to one.

use core::ops::Range;

unsafe extern "C" {
    safe static image_start: u8;
    safe static text_end: u8;
    safe static rodata_end: u8;
    safe static data_end: u8;
    safe static stack_bottom: u8;
    safe static heap_start: u8;
    safe static heap_end: u8;
    safe static image_end: u8;
}

fn region(start: &'static u8, end: &'static u8) -> Range<usize> {
    // Only the addresses mean something.
    &raw const *start as usize..&raw const *end as usize
}

/// Everything, from the load address on.
pub(crate) fn image() -> Range<usize> {
    region(&image_start, &image_end)
}

/// Code.
pub(crate) fn text() -> Range<usize> {
    region(&image_start, &text_end)
}

/// Constants and relocations.
pub(crate) fn constants() -> Range<usize> {
    region(&text_end, &rodata_end)
}

/// Variables.
pub(crate) fn data() -> Range<usize> {
    region(&rodata_end, &data_end)
}

/// Stack and heap, behind the stack's guard page.
pub(crate) fn stack_and_heap() -> Range<usize> {
    region(&stack_bottom, &heap_end)
}

/// The heap.
pub(crate) fn heap() -> Range<usize> {
    region(&heap_start, &heap_end)
}
