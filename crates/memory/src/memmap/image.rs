//! The kernel image's own memory, as its page tables show it.

use core::ops::Range;

use vmcore::headers::Machine;
use vmcore::vmcoreinfo::VmcoreInfo;

use crate::paging::x86_64::START_KERNEL_MAP;
use crate::{KernelSpace, Pfn, PhysMemory, VirtAddr};

/// Runs of frames that are remembered: the image has three to six.
const MAX_RUNS: usize = 16;

/// Fewer frames than these between data are data too. Real text is longer; what was needed at boot only may by now hold a
/// module's text, and then a few frames of it, or dozens of single ones, may not be written.
const MIN_TEXT_PAGES: u64 = 512;

/// Steps of the walk over the image: it is mapped by 2 MiB, in places by 4 KiB.
const MAX_STEPS: usize = 16 * 1024;

/// Bytes between parts of the image that are not mapped, at most: what was needed at boot only may be unmapped then. A
/// longer hole is the end; walking all of it would take as long as the image.
const MAX_HOLE_BYTES: u64 = 64 << 20;

/// What the kernel image's mapping has at most (`KERNEL_IMAGE_SIZE`, arch/x86/include/asm/page_64_types.h).
const MAX_IMAGE_BYTES: u64 = 1 << 30;

/// Frames of the kernel image.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelImage {
    runs: [ImageRun; MAX_RUNS],
}

/// Neighbouring frames of the kernel image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageRun {
    /// The first frame.
    pub first: Pfn,
    /// One past the last frame.
    pub end: Pfn,
    /// What they hold.
    pub part: ImagePart,
}

/// What a part of the kernel image holds, told from what its page tables allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImagePart {
    /// The kernel may write but not execute it: .data, .bss, and between them what was needed at boot only, and then given
    /// to the page allocator.
    Data,
    /// It may neither write nor execute it: constants, and what became constant at the end of boot.
    ReadOnly,
    /// It may execute it.
    #[default]
    Text,
}

impl ImageRun {
    fn is_followed_by(&self, next: &Self) -> bool {
        self.end == next.first
    }

    /// Whether it is a short piece between two of data.
    fn is_in_data(&self, before: &Self, behind: &Self) -> bool {
        let is_short = self.end.0.saturating_sub(self.first.0) < MIN_TEXT_PAGES;
        is_short
            && before.part == ImagePart::Data
            && behind.part == ImagePart::Data
            && self.is_followed_by(behind)
    }
}

impl KernelImage {
    /// Walks the image's mapping from `_stext` on. Where nothing is found, nothing is guarded.
    pub(super) fn find<M: PhysMemory>(info: &VmcoreInfo<'_>, kernel: &KernelSpace<M>) -> Self {
        let mut image = Self::default();
        let (Some(range), Some(page_shift)) = (mapped_range(info, kernel.machine()), info.page_shift())
        else {
            return image;
        };
        let mut used = 0;
        let mut mapped_end = range.start;
        for step in kernel.mappings(range.start, range.end).take(MAX_STEPS) {
            let mapping = match step {
                Ok(mapping) => mapping,
                Err(error) if error.va().0.saturating_sub(mapped_end.0) < MAX_HOLE_BYTES => continue,
                Err(_) => break,
            };
            mapped_end = VirtAddr(mapping.va.0.saturating_add(mapping.bytes));
            let first = mapping.pa.pfn(page_shift);
            let end = Pfn(first.0.saturating_add(mapping.bytes >> page_shift));
            let part = match (mapping.is_executable, mapping.is_writable) {
                (true, _) => ImagePart::Text,
                (false, true) => ImagePart::Data,
                (false, false) => ImagePart::ReadOnly,
            };
            let run = ImageRun { first, end, part };
            match image.runs.get_mut(..used).unwrap_or_default() {
                [.., last] if last.is_followed_by(&run) && last.part == part => last.end = end,
                [.., data, gap] if data.is_followed_by(gap) && gap.is_in_data(data, &run) => {
                    data.end = end;
                    *gap = ImageRun::default();
                    used -= 1;
                }
                _ => {
                    let Some(next) = image.runs.get_mut(used) else { break };
                    *next = run;
                    used += 1;
                }
            }
        }
        image
    }

    /// Its frames.
    pub fn runs(&self) -> impl Iterator<Item = &ImageRun> {
        self.runs.iter().filter(|run| run.first < run.end)
    }

    /// What the image has at `pfn`; `None` if it is not the image's.
    #[must_use]
    pub fn part_of(&self, pfn: Pfn) -> Option<ImagePart> {
        self.runs().find(|run| run.first <= pfn && pfn < run.end).map(|run| run.part)
    }

    /// Whether any of the `pages` from `first` on is data of the image.
    pub(super) fn has_data_in(&self, first: Pfn, pages: u64) -> bool {
        let end = first.0.saturating_add(pages);
        self.runs().any(|run| run.part == ImagePart::Data && run.first.0 < end && first < run.end)
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
