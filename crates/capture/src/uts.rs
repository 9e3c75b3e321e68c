//! The name of the crashed kernel and of its machine.

use memory::PhysMemory;
use wire::UTSNAME_BYTES;

use crate::Crash;

/// `init_uts_ns.name` of the crashed kernel; zeros if it cannot be read.
pub(crate) fn utsname(_crash: &Crash, _physical: &impl PhysMemory) -> [u8; UTSNAME_BYTES] {
    [0; UTSNAME_BYTES]
}
