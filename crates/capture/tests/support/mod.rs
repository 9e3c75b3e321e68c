//! What tests of the pipeline have in common.

/// The elfcorehdr of a machine with RAM from 0 on, and nothing else.
pub(crate) fn elfcorehdr(ram_bytes: u64) -> Vec<u8> {
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    header.extend([4, 0, 62, 0, 1, 0, 0, 0]); // ET_CORE, EM_X86_64
    header.extend([0u64, 64, 0].map(u64::to_le_bytes).concat()); // e_entry, e_phoff, e_shoff
    header.extend([0u8; 4]);
    header.extend([64u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    header.extend([1u32, 7].map(u32::to_le_bytes).concat()); // PT_LOAD
    header.extend([0u64, 0, 0, ram_bytes, ram_bytes, 0].map(u64::to_le_bytes).concat());
    header
}
