//! Where the struct page of a frame is (Linux mm/sparse.c, include/linux/mmzone.h).
//!
//! SPARSEMEM divides memory into sections; each has an array of struct pages, found by way of `mem_section`. With
//! VMEMMAP these arrays lie one behind the other in virtual memory, which changes nothing here: every section says where
//! its own is. FLATMEM has one array for all memory.

use vmcore::headers::Machine;
use vmcore::vmcoreinfo::VmcoreInfo;

use super::{MemMapError, REGION_PAGES, required};
use crate::virt::Lookaside;
use crate::{KernelSpace, Pfn, PhysMemory, VirtAddr, VirtMemory};

/// Flags in the low bits of `section_mem_map` (include/linux/mmzone.h): the section exists, has struct pages, is online.
const SECTION_MARKED_PRESENT: u64 = 1 << 0;
const SECTION_HAS_MEM_MAP: u64 = 1 << 1;
const SECTION_IS_ONLINE: u64 = 1 << 2;
/// Kernels have added flags over time. They fit below what section_mem_map is aligned to, a page.
const SECTION_FLAGS: u64 = 0xfff;

/// Bytes believed of a `struct mem_section`: 16 or 32 so far.
const MAX_SECTION_BYTES: u64 = 256;

/// How struct pages are found.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageArray {
    page_bytes: u64,
    /// Addresses are this wide: they wrap around like the kernel's `unsigned long`.
    address_mask: u64,
    model: Model,
}

#[derive(Clone, Copy, Debug)]
enum Model {
    Sparse(Sections),
    Flat { node_mem_map: VirtAddr, node_start_pfn: u64, node_spanned_pages: u64 },
}

/// `mem_section`: with SPARSEMEM_EXTREME an array of pointers to pages full of sections, else an array of sections.
#[derive(Clone, Copy, Debug)]
struct Sections {
    mem_section: VirtAddr,
    section_bytes: u64,
    section_mem_map: u64,
    /// A section has `1 << section_shift` frames.
    section_shift: u32,
    /// Sections there can be at most.
    count: u64,
    /// Sections that a pointer leads to; `None` if they are in the array itself.
    per_root: Option<u64>,
}

/// The section that was asked for last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastSection(Option<(u64, Option<VirtAddr>)>);

impl PageArray {
    pub(super) fn find<M: PhysMemory>(
        info: &VmcoreInfo<'_>,
        kernel: &KernelSpace<M>,
        page_bytes: usize,
    ) -> Result<Self, MemMapError> {
        let long_bytes = kernel.long_bytes();
        Ok(Self {
            page_bytes: page_bytes as u64,
            address_mask: if long_bytes == 4 { u32::MAX.into() } else { u64::MAX },
            model: match info.symbol("mem_section") {
                Some(mem_section) => Model::Sparse(Sections::find(info, kernel, VirtAddr(mem_section))?),
                None => flat(info, kernel)?,
            },
        })
    }

    /// Where the struct page of `pfn` is; `None` if it has none. Those behind it follow, to the end of its region.
    pub(super) fn place_of<M: PhysMemory>(
        &self,
        kernel: &KernelSpace<M>,
        lookaside: &mut Lookaside,
        last: &mut LastSection,
        pfn: Pfn,
    ) -> Option<VirtAddr> {
        let (base, index) = match &self.model {
            Model::Sparse(sections) => {
                let number = pfn.0 >> sections.section_shift;
                let base = match last.0 {
                    Some((found, base)) if found == number => base,
                    _ => {
                        let base = sections.mem_map(kernel, lookaside, number);
                        *last = LastSection(Some((number, base)));
                        base
                    }
                };
                // section_mem_map is where the struct page of frame 0 would be.
                (base?, pfn.0)
            }
            Model::Flat { node_mem_map, node_start_pfn, node_spanned_pages } => {
                // The array begins where the largest free block could that the node begins in.
                let region = pfn.0 & !(REGION_PAGES as u64 - 1);
                let node_end = node_start_pfn.saturating_add(*node_spanned_pages);
                let is_touched =
                    region < node_end && *node_start_pfn < region.saturating_add(REGION_PAGES as u64);
                (*node_mem_map, is_touched.then_some(pfn.0.wrapping_sub(*node_start_pfn))?)
            }
        };
        let offset = index.wrapping_mul(self.page_bytes);
        Some(VirtAddr(base.0.wrapping_add(offset) & self.address_mask))
    }
}

impl Sections {
    fn find<M: PhysMemory>(
        info: &VmcoreInfo<'_>,
        kernel: &KernelSpace<M>,
        mem_section: VirtAddr,
    ) -> Result<Self, MemMapError> {
        let absurd = |what, value| MemMapError::Absurd { what, value };
        let page_shift = page_shift(info)?;
        let section_bytes = required("SIZE(mem_section)", info.size("mem_section"))?;
        if section_bytes == 0 || section_bytes > MAX_SECTION_BYTES {
            return Err(absurd("SIZE(mem_section)", section_bytes));
        }
        let section_mem_map =
            required("OFFSET(mem_section.section_mem_map)", info.offset("mem_section.section_mem_map"))?;
        if section_mem_map >= section_bytes {
            return Err(absurd("OFFSET(mem_section.section_mem_map)", section_mem_map));
        }
        let length = required("LENGTH(mem_section)", info.length("mem_section"))?;
        let bits = section_size_bits(info, kernel.machine())?;
        let section_shift = u32::try_from(bits).ok().and_then(|bits| bits.checked_sub(page_shift));
        let section_shift = section_shift.filter(|shift| (REGION_PAGES.ilog2()..=52).contains(shift));
        let section_shift = section_shift.ok_or(absurd("NUMBER(SECTION_SIZE_BITS)", bits))?;

        // A root is a page of sections.
        let per_root = (1_u64 << page_shift) / section_bytes;
        let is_extreme = match info.number("MAX_PHYSMEM_BITS").and_then(|bits| u32::try_from(bits).ok()) {
            Some(max_bits) => {
                let sections = 1_u64.checked_shl(max_bits.saturating_sub(page_shift + section_shift));
                sections != Some(length)
            }
            // Only 32-bit architectures choose SPARSEMEM_STATIC.
            None => kernel.long_bytes() == 8,
        };
        Ok(Self {
            mem_section,
            section_bytes,
            section_mem_map,
            section_shift,
            count: if is_extreme { length.saturating_mul(per_root) } else { length },
            per_root: is_extreme.then_some(per_root),
        })
    }

    /// Where the struct page of frame 0 would be, if the array of section `number` went that far down.
    fn mem_map<M: PhysMemory>(
        &self,
        kernel: &KernelSpace<M>,
        lookaside: &mut Lookaside,
        number: u64,
    ) -> Option<VirtAddr> {
        if number >= self.count {
            return None;
        }
        let (array, index) = match self.per_root {
            None => (self.mem_section, number),
            Some(per_root) => {
                let root = self.mem_section.checked_add((number / per_root) * kernel.long_bytes() as u64)?;
                let array = VirtAddr(lookaside.read_long(kernel, root).ok()?);
                ((array.0 != 0).then_some(array)?, number % per_root)
            }
        };
        let offset = index.checked_mul(self.section_bytes)?.checked_add(self.section_mem_map)?;
        let mem_map = lookaside.read_long(kernel, array.checked_add(offset)?).ok()?;
        // The struct pages of a section that is offline are not kept up.
        let needed = SECTION_MARKED_PRESENT | SECTION_HAS_MEM_MAP | SECTION_IS_ONLINE;
        (mem_map & needed == needed).then_some(VirtAddr(mem_map & !SECTION_FLAGS))
    }
}

/// Where FLATMEM has its array: `contig_page_data.node_mem_map`.
fn flat<M: PhysMemory>(info: &VmcoreInfo<'_>, kernel: &KernelSpace<M>) -> Result<Model, MemMapError> {
    let node = VirtAddr(required("SYMBOL(mem_section)", info.symbol("contig_page_data"))?);
    let member = |what, offset: Option<u64>| {
        let offset = required(what, offset)?;
        node.checked_add(offset).ok_or(MemMapError::Absurd { what, value: offset })
    };
    let read = |what, name| Ok::<_, MemMapError>(kernel.read_long(member(what, info.offset(name))?)?);
    Ok(Model::Flat {
        node_mem_map: VirtAddr(read("OFFSET(pglist_data.node_mem_map)", "pglist_data.node_mem_map")?),
        node_start_pfn: read("OFFSET(pglist_data.node_start_pfn)", "pglist_data.node_start_pfn")?,
        node_spanned_pages: read("OFFSET(pglist_data.node_spanned_pages)", "pglist_data.node_spanned_pages")?,
    })
}

fn page_shift(info: &VmcoreInfo<'_>) -> Result<u32, MemMapError> {
    info.page_shift().ok_or(MemMapError::MissingFact("PAGESIZE"))
}

/// `NUMBER(SECTION_SIZE_BITS)`. Kernels before 5.13 do not tell it, but where it was backported.
fn section_size_bits(info: &VmcoreInfo<'_>, machine: Machine) -> Result<u64, MemMapError> {
    let missing = MemMapError::MissingFact("NUMBER(SECTION_SIZE_BITS)");
    match (info.number_u64("SECTION_SIZE_BITS"), machine) {
        (Some(bits), _) => Ok(bits),
        (None, Machine::X86_64) => Ok(27), // arch/x86/include/asm/sparsemem.h
        // arch/arm64/include/asm/sparsemem.h, until 5.11.
        (None, Machine::Aarch64) => Ok(30),
        // It differs from one SoC to the other.
        (None, Machine::Arm) => Err(missing),
    }
}
