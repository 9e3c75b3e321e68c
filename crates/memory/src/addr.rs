//! Addresses and page frame numbers as types of their own.

use core::fmt;

/// Page size of x86_64 in bytes. Other architectures carry theirs in VMCOREINFO (`PAGESIZE`).
pub const PAGE_SIZE: usize = 4096;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// `self + n`, or `None` past the end of 64 bits.
            #[must_use]
            pub fn checked_add(self, n: u64) -> Option<Self> {
                self.0.checked_add(n).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

number! {
    /// A physical address of the crashed machine.
    PhysAddr
}
number! {
    /// A virtual address of the crashed kernel.
    VirtAddr
}
number! {
    /// A page frame number: a physical address divided by the page size.
    Pfn
}

impl PhysAddr {
    /// The frame this address lies in, for pages of `1 << page_shift` bytes.
    #[must_use]
    pub fn pfn(self, page_shift: u32) -> Pfn {
        Pfn(self.0.checked_shr(page_shift).unwrap_or(0))
    }
}

impl Pfn {
    /// The address of the frame's first byte; `None` if it does not fit in 64 bits.
    #[must_use]
    pub fn start(self, page_shift: u32) -> Option<PhysAddr> {
        let pa = self.0.checked_shl(page_shift)?;
        (pa.checked_shr(page_shift) == Some(self.0)).then_some(PhysAddr(pa))
    }
}
