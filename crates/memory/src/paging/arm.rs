//! The tables of an arm kernel (Linux arch/arm/kernel/head.S), with short descriptors or, with LPAE, long ones.
//!
//! VMCOREINFO says at which virtual address they are, but not where the kernel lies in memory. They say it themselves:
//! among all places where they could be there is one with tables that map their own address to that place. (Those of a
//! process have the same entries, and so map it to where the kernel's are.)

use vmcore::vmcoreinfo::VmcoreInfo;

use super::PageTablesError;
use super::long::{self, AddressFormat, Variant};
use super::radix::{Format, walk};
use super::short;
use crate::{PhysAddr, PhysMemory, VirtAddr};

/// The kernel lies at a multiple of this from where it is linked (`ARM_PATCH_PHYS_VIRT`; 16 MiB before Linux 5.11).
const PHYS_OFFSET_ALIGN: u64 = 2 << 20;

/// Where RAM can begin: it does at 32 GiB on TI's Keystone 2 with LPAE. Without LPAE, nothing is above 4 GiB.
const PHYS_OFFSET_END_LPAE: u64 = 64 << 30;
const PHYS_OFFSET_END: u64 = 4 << 30;

/// The kernel's tables with short descriptors.
pub(super) fn short_of_kernel(
    memory: &impl PhysMemory,
    info: &VmcoreInfo<'_>,
) -> Result<short::PageTables, PageTablesError> {
    find(memory, info, PHYS_OFFSET_END, |root| short::PageTables { root })
}

/// The kernel's tables with long descriptors.
pub(super) fn long_of_kernel(
    memory: &impl PhysMemory,
    info: &VmcoreInfo<'_>,
) -> Result<long::PageTables, PageTablesError> {
    find(memory, info, PHYS_OFFSET_END_LPAE, |root| long::PageTables {
        root,
        variant: Variant::Arm,
        address: AddressFormat::Bits48,
        page_shift: 12,
        input_bits: u32::BITS,
        first: VirtAddr(0),
        last: VirtAddr(u32::MAX.into()),
    })
}

/// The tables at the first place where they map their own address, and that of the kernel's text, as the kernel does.
fn find<F: Format>(
    memory: &impl PhysMemory,
    info: &VmcoreInfo<'_>,
    end: u64,
    tables_at: impl Fn(PhysAddr) -> F,
) -> Result<F, PageTablesError> {
    let symbol = |name| info.symbol(name).filter(|va| u32::try_from(*va).is_ok()).map(VirtAddr);
    let root_va = symbol("swapper_pg_dir").ok_or(PageTablesError::MissingFact("SYMBOL(swapper_pg_dir)"))?;
    let text_va = symbol("_stext").unwrap_or(root_va);
    let first = root_va.0 % PHYS_OFFSET_ALIGN;
    for root in (first..end).step_by(usize::try_from(PHYS_OFFSET_ALIGN).unwrap_or(usize::MAX)) {
        let tables = tables_at(PhysAddr(root));
        let maps = |va: VirtAddr| {
            let place = walk(&tables, memory, va, |_, _| ()).ok()?.place_of(va)?.0;
            Some(place.0.wrapping_sub(root) == va.0.wrapping_sub(root_va.0))
        };
        if maps(root_va) == Some(true) && maps(text_va) == Some(true) {
            return Ok(tables);
        }
    }
    Err(PageTablesError::NotFound { root_va })
}
