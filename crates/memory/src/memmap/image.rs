//! The kernel image's own memory, as its page tables show it.

use vmcore::headers::Machine;
use vmcore::vmcoreinfo::VmcoreInfo;

use crate::paging::Mapping;
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

/// By so much arm maps its image, and all that is mapped with it.
const ARM_SECTION_BYTES: u64 = 1 << 20;

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
        let (Some(place), Some(page_shift)) = (Place::of(info, kernel.machine()), info.page_shift()) else {
            return image;
        };
        let mut used = 0;
        let mut mapped_end = place.start;
        for step in kernel.mappings(place.start, place.end).take(MAX_STEPS) {
            let mapping = match step {
                // What vmalloc maps lies behind the image, and is not the image's.
                Ok(mapping) if !place.has(&mapping) => break,
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

/// Where the image is mapped.
struct Place {
    start: VirtAddr,
    end: VirtAddr,
    /// What its virtual addresses are above the physical ones, where other mappings may follow.
    offset: Option<u64>,
}

impl Place {
    fn of(info: &VmcoreInfo<'_>, machine: Machine) -> Option<Self> {
        let start = VirtAddr(info.symbol("_stext")?);
        Some(match machine {
            Machine::X86_64 => {
                let bytes =
                    info.number_u64("KERNEL_IMAGE_SIZE").unwrap_or(MAX_IMAGE_BYTES).min(MAX_IMAGE_BYTES);
                Self { start, end: VirtAddr(START_KERNEL_MAP.checked_add(bytes)?), offset: None }
            }
            // Among what vmalloc maps.
            Machine::Aarch64 => Self {
                start,
                end: VirtAddr(start.0.saturating_add(MAX_IMAGE_BYTES)),
                offset: Some(info.number_u64("kimage_voffset")?),
            },
            // All other memory follows in the same mapping: the image reaches as far as the last symbol that is told.
            Machine::Arm => {
                let last = last_symbol(info).min(start.0.saturating_add(MAX_IMAGE_BYTES));
                Self { start, end: VirtAddr(last | (ARM_SECTION_BYTES - 1)), offset: None }
            }
        })
    }

    fn has(&self, mapping: &Mapping) -> bool {
        self.offset.is_none_or(|offset| mapping.va.0.wrapping_sub(mapping.pa.0) == offset)
    }
}

/// The highest address of those that VMCOREINFO tells.
fn last_symbol(info: &VmcoreInfo<'_>) -> u64 {
    let names = info.entries().filter_map(|(key, _)| key.strip_prefix(b"SYMBOL(")?.strip_suffix(b")"));
    let addresses = names.filter_map(|name| info.symbol(str::from_utf8(name).ok()?));
    addresses.max().unwrap_or(0)
}
