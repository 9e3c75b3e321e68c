//! The name of the crashed kernel and of its machine.

use memory::{KernelSpace, PhysMemory, VirtAddr, VirtMemory};
use wire::UTSNAME_BYTES;

use crate::Crash;

/// `init_uts_ns.name` of the crashed kernel; zeros if it cannot be read.
pub(crate) fn utsname(crash: &Crash, physical: &impl PhysMemory) -> [u8; UTSNAME_BYTES] {
    read(crash, physical).unwrap_or([0; UTSNAME_BYTES])
}

fn read(crash: &Crash, physical: &impl PhysMemory) -> Option<[u8; UTSNAME_BYTES]> {
    let info = crash.info();
    let kernel = KernelSpace::new(crash.memory(physical), crash.core.machine, &info).ok()?;
    let name_va = info.symbol("init_uts_ns")?.checked_add(info.offset("uts_namespace.name")?)?;
    let mut utsname = [0; UTSNAME_BYTES];
    kernel.read(VirtAddr(name_va), &mut utsname).ok()?;
    Some(utsname)
}
