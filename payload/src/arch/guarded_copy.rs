//! Copying from memory that may fault: the instructions are in exceptions.s, and what a fault of theirs says, the architecture's
//! `exceptions` knows.

use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

use memory::ReadFaultKind;

use super::exceptions::Outcome;

unsafe extern "C" {
    safe static guarded_copy_access: u8;
    safe static guarded_copy_resume: u8;
    fn guarded_copy(to: *mut u8, from: *const u8, bytes: usize) -> Outcome;
}

/// An error of memory came between two instructions that had nothing to do with it: the copy under way is in doubt.
static ERROR_SEEN: AtomicBool = AtomicBool::new(false);

/// Copies `buf.len()` bytes from `from_va`, which may fault.
///
/// # Errors
/// How it faulted, and how many bytes were copied before.
pub(crate) fn copy_from(from_va: usize, buf: &mut [u8]) -> Result<(), (ReadFaultKind, usize)> {
    ERROR_SEEN.store(false, Ordering::Relaxed);
    let from = core::ptr::with_exposed_provenance(from_va);
    // SAFETY: the destination is a live `&mut [u8]` of that length. The source is only read, by instructions whose
    // faults come back as an outcome; that it is no Rust object is the caller's page tables' doing (memory/window.rs).
    let outcome = unsafe { guarded_copy(buf.as_mut_ptr(), from, buf.len()) };
    match outcome.fault() {
        None if ERROR_SEEN.load(Ordering::Relaxed) => Err((ReadFaultKind::MachineCheck, 0)),
        None => Ok(()),
        Some(kind) => Err((kind, buf.len().saturating_sub(outcome.bytes_left()))),
    }
}

/// Puts the copy under way in doubt.
pub(super) fn put_in_doubt() {
    ERROR_SEEN.store(true, Ordering::Relaxed);
}

/// Addresses of the only instructions that touch crashed memory. The end is where the copy goes on if one of them faults.
pub(super) fn instructions() -> Range<usize> {
    &raw const guarded_copy_access as usize..&raw const guarded_copy_resume as usize
}
