//! `struct new_utsname` of a crashed kernel, for dumps that do not carry it.

use vmcore::headers::Machine;
use vmcore::kdump::Utsname;
use vmcore::vmcoreinfo::VmcoreInfo;

/// What is known without it: the release by VMCOREINFO, and the architecture. Readers of kdump files need the latter.
#[must_use]
pub fn of(machine: Machine, info: &VmcoreInfo<'_>) -> [u8; wire::UTSNAME_BYTES] {
    let release = info.os_release().unwrap_or_default();
    Utsname::new([b"Linux", b"", release.as_bytes(), b"", machine.name().as_bytes(), b""]).to_bytes()
}
