//! Physical memory of a crashed machine.
//!
//! # Terms
//! - **[`PhysAddr`]**, **[`VirtAddr`]**, **[`Pfn`]**: addresses and page frame numbers of the *crashed* machine.
//! - **[`PhysMemory`]**: the only way to its bytes. They are copied out, never referenced, and reading may fail.
//! - **[`VirtMemory`]**: the same by the kernel's own virtual addresses; [`KernelSpace`] walks its page tables.
//! - **[`MemoryMap`]**: which physical ranges are RAM, and where each is read (the backup region lies elsewhere).
//!
//! # Flow
//! `vmcore::elfcorehdr` gives PT_LOAD segments ─▶ [`MemoryMap`] ─▶ [`PhysMemory`] ─▶ page tables ([`paging`]) ─▶
//! [`VirtMemory`] ─▶ kernel structures ([`printk`], [`memmap`]).
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::cast_possible_truncation, reason = "test data"))]

extern crate alloc;

mod addr;
mod crashed;
mod dump_level;
#[cfg(test)]
mod fake;
mod map;
pub mod memmap;
mod number;
pub mod paging;
mod phys;
pub mod printk;
mod virt;

pub use addr::{PAGE_SIZE, Pfn, PhysAddr, VirtAddr};
pub use crashed::CrashedMemory;
pub use dump_level::DumpLevel;
pub use map::{
    Extent, MAX_MAP_FAULTS, MAX_RANGES, MapFault, MemoryMap, PHYS_ADDR_END, PagePart, Pages, RamRange,
};
pub use memmap::{
    Classifier, ImagePart, ImageRun, KernelImage, MemMap, MemMapError, PageClass, PageCounts, SlabCaches,
    Span,
};
pub use number::parse_number;
pub use phys::{PhysMemory, ReadFault, ReadFaultKind};
pub use virt::{KernelSpace, Mappings, VirtFault, VirtMemory};
