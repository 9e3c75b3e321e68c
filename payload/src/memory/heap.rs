//! The heap: a fixed region of the image.

use linked_list_allocator::LockedHeap;
use spin::Once;

use super::layout;

#[cfg_attr(target_os = "none", global_allocator)]
static HEAP: LockedHeap = LockedHeap::empty();
static READY: Once = Once::new();

/// Makes the heap usable; a second call does nothing.
pub(crate) fn start() {
    READY.call_once(|| {
        let region = layout::heap();
        // SAFETY: the linker set the region aside for this; `Once` lets it be given away one time only.
        unsafe { HEAP.lock().init(core::ptr::with_exposed_provenance_mut(region.start), region.len()) };
    });
}

/// Bytes in use and bytes in all.
pub(crate) fn usage() -> (usize, usize) {
    let heap = HEAP.lock();
    (heap.used(), heap.size())
}
