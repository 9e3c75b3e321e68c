//! The kernel image's own memory, as its page tables show it.

use core::ops::Range;

use vmcore::headers::Machine;
use vmcore::vmcoreinfo::VmcoreInfo;

use crate::paging::Mapping;
use crate::paging::x86_64::START_KERNEL_MAP;
use crate::{KernelSpace, Pfn, PhysMemory, VirtAddr};

/// Runs of frames that are remembered: the image has one to three.
const MAX_RUNS: usize = 8;

/// Steps of the walk over the image: it is mapped by 2 MiB, in places by 4 KiB.
const MAX_STEPS: usize = 16 * 1024;

/// What the kernel image's mapping has at most (`KERNEL_IMAGE_SIZE`, arch/x86/include/asm/page_64_types.h).
const MAX_IMAGE_BYTES: u64 = 1 << 30;

/// Frames of the kernel image that the kernel may write but not execute: .data, .bss, and between them what was needed
/// at boot only, and then given to the page allocator.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KernelImage {
    /// First frame and one past the last.
    data: [(u64, u64); MAX_RUNS],
}

impl KernelImage {
    /// Walks the image's mapping from `_stext` on. Where nothing is found, nothing is guarded.
    pub(super) fn find<M: PhysMemory>(info: &VmcoreInfo<'_>, kernel: &KernelSpace<M>) -> Self {
        let mut image = Self::default();
        let (Some(range), Some(page_shift)) = (mapped_range(info, kernel.machine()), info.page_shift())
        else {
            return image;
        };
        let is_data = |mapping: &Mapping| mapping.is_writable && !mapping.is_executable;
        let mut used = 0;
        for mapping in kernel.mappings(range.start, range.end).take(MAX_STEPS).flatten().filter(is_data) {
            let first = mapping.pa.pfn(page_shift).0;
            let end = first.saturating_add(mapping.bytes >> page_shift);
            match image.data.get_mut(..used).and_then(<[_]>::last_mut) {
                Some(last) if last.1 == first => last.1 = end,
                _ => {
                    let Some(next) = image.data.get_mut(used) else { break };
                    *next = (first, end);
                    used += 1;
                }
            }
        }
        image
    }

    /// Whether any of the `pages` from `first` on is the image's.
    pub(super) fn touches(&self, first: Pfn, pages: u64) -> bool {
        self.data.iter().any(|&(start, end)| start < first.0.saturating_add(pages) && first.0 < end)
    }

    /// Whether `pfn` is the image's.
    pub(super) fn contains(&self, pfn: Pfn) -> bool {
        self.touches(pfn, 1)
    }
}

/// The virtual addresses at which the image is mapped apart from all other memory.
fn mapped_range(info: &VmcoreInfo<'_>, machine: Machine) -> Option<Range<VirtAddr>> {
    let stext = info.symbol("_stext")?;
    match machine {
        Machine::X86_64 => {
            let bytes = info.number_u64("KERNEL_IMAGE_SIZE").unwrap_or(MAX_IMAGE_BYTES).min(MAX_IMAGE_BYTES);
            Some(VirtAddr(stext)..VirtAddr(START_KERNEL_MAP.checked_add(bytes)?))
        }
        Machine::Aarch64 | Machine::Arm => None,
    }
}
