//! How C lays out the structures of the format on the dumped machine.

use alloc::vec::Vec;

use crate::headers::Machine;
use crate::le;

/// The C ABI of the dumped machine, as far as the structures depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Abi {
    /// `long` of 8 bytes: x86_64, arm64.
    Lp64,
    /// `long` of 4 bytes, `off_t` aligned to 8 (EABI).
    Arm,
    /// `long` of 4 bytes, `off_t` aligned to 4.
    I386,
}

impl Abi {
    /// The ABI of a machine.
    #[must_use]
    pub const fn of(machine: Machine) -> Self {
        match machine {
            Machine::X86_64 | Machine::Aarch64 => Self::Lp64,
            Machine::Arm => Self::Arm,
        }
    }

    /// The ABI of a machine by its name in `struct new_utsname`.
    #[must_use]
    pub fn of_uts_machine(machine: &[u8]) -> Option<Self> {
        match machine {
            b"x86_64" | b"aarch64" => Some(Self::Lp64),
            [b'i', b'3'..=b'6', b'8', b'6'] => Some(Self::I386),
            _ if machine.starts_with(b"arm") => Some(Self::Arm),
            _ => None,
        }
    }

    const fn long_bytes(self) -> usize {
        match self {
            Self::Lp64 => 8,
            Self::Arm | Self::I386 => 4,
        }
    }

    /// Alignment of `off_t` and `unsigned long long`.
    const fn u64_align(self) -> usize {
        match self {
            Self::Lp64 | Self::Arm => 8,
            Self::I386 => 4,
        }
    }
}

/// Writes the members of a C structure, with the padding before each.
pub(super) struct StructWriter {
    abi: Abi,
    bytes: Vec<u8>,
}

impl StructWriter {
    pub(super) const fn new(abi: Abi) -> Self {
        Self { abi, bytes: Vec::new() }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes(&value.to_le_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.u32(value.cast_unsigned());
    }

    /// A member of type `long`: with 4 bytes, the low half of `value`, as makedumpfile stores it.
    pub(super) fn long(&mut self, value: u64) {
        let long_bytes = self.abi.long_bytes();
        self.align(long_bytes);
        let bytes = value.to_le_bytes();
        self.bytes(bytes.get(..long_bytes).unwrap_or(&bytes));
    }

    /// A member of type `off_t` or `unsigned long long`.
    pub(super) fn u64(&mut self, value: u64) {
        self.align(self.abi.u64_align());
        self.bytes(&value.to_le_bytes());
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn align(&mut self, align: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(align), 0);
    }
}

/// Reads the members of a C structure, in their order.
pub(super) struct StructReader<'a> {
    abi: Abi,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> StructReader<'a> {
    pub(super) const fn new(abi: Abi, bytes: &'a [u8]) -> Self {
        Self { abi, bytes, at: 0 }
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.member(1, N, le::array_at)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.member(4, 4, le::u32_at)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.u32().map(u32::cast_signed)
    }

    pub(super) fn long(&mut self) -> Option<u64> {
        let long_bytes = self.abi.long_bytes();
        self.member(long_bytes, long_bytes, |bytes, at| le::long_at(bytes, at, long_bytes))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.member(self.abi.u64_align(), 8, le::u64_at)
    }

    fn member<T>(
        &mut self,
        align: usize,
        bytes: usize,
        read: impl Fn(&[u8], usize) -> Option<T>,
    ) -> Option<T> {
        let at = self.at.checked_next_multiple_of(align)?;
        self.at = at.checked_add(bytes)?;
        read(self.bytes, at)
    }
}
