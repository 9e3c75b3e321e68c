//! The ELF header a crashed kernel prepares for its capture kernel: where RAM is and where the crash notes are.

/// A PT_LOAD program header of the elfcorehdr, in ELF's own names (gABI, "Program Header").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadSegment {
    /// Kernel virtual address of the range's start in the crashed kernel; may be meaningless (HIGHMEM).
    pub p_vaddr: u64,
    /// Physical address, as the crashed kernel knew it.
    pub p_paddr: u64,
    /// Where the bytes are now: physical address to read at.
    pub p_offset: u64,
    /// Bytes to read.
    pub p_filesz: u64,
    /// Bytes of memory.
    pub p_memsz: u64,
}
