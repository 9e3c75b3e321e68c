//! `struct new_utsname` of a crashed kernel, for dumps that do not carry it, or carry another machine's.

use vmcore::headers::Machine;
use vmcore::kdump::Utsname;
use vmcore::vmcoreinfo::VmcoreInfo;

/// What stands for a string that is not known: libkdumpfile, and so drgn, takes a structure without a version for damaged,
/// and then does not know the architecture.
const UNKNOWN: &[u8] = b"unknown";

/// What is known without it: the release by VMCOREINFO, and the architecture. Readers of kdump files need the latter.
#[must_use]
pub fn of(machine: Machine, info: &VmcoreInfo<'_>) -> [u8; wire::UTSNAME_BYTES] {
    let release = info.os_release().map_or(UNKNOWN, str::as_bytes);
    Utsname::new([b"Linux", b"", release, UNKNOWN, machine.name().as_bytes(), b""]).to_bytes()
}

/// What the crashed kernel `said`, or what is known without it if it said nothing. If it names another architecture than
/// `machine`, the name is not kept: readers of kdump files go by it.
#[must_use]
pub fn of_machine(
    said: &[u8; wire::UTSNAME_BYTES],
    machine: Machine,
    info: &VmcoreInfo<'_>,
) -> [u8; wire::UTSNAME_BYTES] {
    let utsname = Utsname::from_bytes(said);
    let name = utsname.machine();
    if name.is_empty() {
        return of(machine, info);
    }
    // UTS_MACHINE; on arm the kind of processor (setup_processor in arch/arm/kernel/setup.c).
    let is_right = match machine {
        Machine::X86_64 => name == b"x86_64",
        Machine::Aarch64 => name == b"aarch64",
        Machine::Arm => name.starts_with(b"arm"),
    };
    if is_right {
        return *said;
    }
    let [sysname, nodename, release, version, _, domainname] = utsname.strings();
    Utsname::new([sysname, nodename, release, version, machine.name().as_bytes(), domainname]).to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(machine: &[u8]) -> [u8; wire::UTSNAME_BYTES] {
        Utsname::new([b"Linux", b"board", b"6.1", b"#1", machine, b"(none)"]).to_bytes()
    }

    #[test]
    fn what_the_crashed_kernel_said_stays_but_for_the_name_of_another_machine() {
        let info = VmcoreInfo::new(b"OSRELEASE=6.1.0-test\n");
        let (x86, arm) = (Machine::X86_64, Machine::Arm);
        for (machine, name) in [(x86, &b"x86_64"[..]), (arm, b"armv7l"), (arm, b"armv5tel")] {
            assert_eq!(of_machine(&said(name), machine, &info), said(name));
        }
        for name in [&b"aarch64"[..], b"i686", b"x86_64\x01", b"\x01", &[b'a'; 64]] {
            assert_eq!(of_machine(&said(name), x86, &info), said(b"x86_64"));
        }
        assert_eq!(of_machine(&said(b"x86_64"), Machine::Aarch64, &info), said(b"aarch64"));
        assert_eq!(of_machine(&said(b""), x86, &info), of(x86, &info));
    }

    #[test]
    fn no_string_that_readers_look_at_is_empty() {
        let utsname = Utsname::from_bytes(&of(Machine::Aarch64, &VmcoreInfo::new(b"")));
        let strings = [&b"Linux"[..], b"", b"unknown", b"unknown", b"aarch64", b""];
        assert_eq!(utsname.strings(), strings);
    }

    #[test]
    fn strings_without_an_end_do_not_run_into_each_other() {
        let info = VmcoreInfo::new(b"");
        let utsname = Utsname::from_bytes(&of_machine(&[b'a'; wire::UTSNAME_BYTES], Machine::X86_64, &info));
        assert_eq!((utsname.machine(), utsname.nodename().len()), (&b"x86_64"[..], 64));
    }
}
