//! Encrypted memory: what the crashed machine held cannot be read from here, only its cipher text.

use core::arch::x86_64::{__cpuid, __cpuid_count};

use x86_64::registers::model_specific::Msr;

/// CPUID leaf of the memory encryption features (AMD APM volume 3, E.4.17).
const AMD_MEMORY_ENCRYPTION: u32 = 0x8000_001f;
/// Which of them the guest runs under (AMD APM volume 2, 15.34.10).
const SEV_STATUS: u32 = 0xc001_0131;
/// CPUID leaf with the TDX module's signature (Intel TDX module ABI).
const TDX_SIGNATURE: u32 = 0x21;

/// Why memory cannot be read on this machine; `None`: it can.
pub(super) fn guest_encryption() -> Option<&'static str> {
    if __cpuid(0).eax >= TDX_SIGNATURE {
        let leaf = __cpuid_count(TDX_SIGNATURE, 0);
        if [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).as_flattened() == b"IntelTDX    " {
            return Some("the machine is a TDX guest");
        }
    }
    if __cpuid(0x8000_0000).eax >= AMD_MEMORY_ENCRYPTION && __cpuid(AMD_MEMORY_ENCRYPTION).eax & (1 << 1) != 0
    {
        // SAFETY: CPUID says SEV, and with it the register is there.
        let status = unsafe { Msr::new(SEV_STATUS).read() };
        if status & 1 != 0 {
            return Some("the machine is an SEV guest");
        }
    }
    None
}
