//! The crashed kernel's own account of its page frames: its array of `struct page`, the memmap.
//!
//! # Terms
//! - **struct page**: what the kernel knows of one frame: free, page cache, memory of a process, … It lies in virtual
//!   memory, and is read there: hugetlb's vmemmap optimisation lets many of them share a frame.
//! - **Compound page**: `1 << order` frames used as one, aligned to their size. The first is its *head*, the others are
//!   *tails*; the order is in the second. A free *block* of the buddy allocator has its order in the first.
//! - **[`PageClass`]**: what a frame is used for, as far as a [`DumpLevel`] asks.
//!
//! # Flow
//! VMCOREINFO, page tables ─▶ [`MemMap`] (where struct pages are, what is in them) ─▶ [`Classifier`] ─▶ [`Span`]s.
//!
//! In doubt a page is [`Kernel`](PageClass::Kernel), which every dump keeps: if it has no struct page, if that cannot be
//! read or contradicts itself. Which classes there are and how each kernel says them: `docs/dump-levels.md`.
//!
//! [`DumpLevel`]: crate::DumpLevel

mod array;
mod classifier;
mod image;
mod layout;
mod slab;

use core::iter::Sum;
use core::ops::AddAssign;

use vmcore::vmcoreinfo::VmcoreInfo;

use crate::{KernelSpace, Pfn, PhysMemory, VirtFault, VirtMemory};
use array::PageArray;
pub use classifier::Classifier;
pub use image::{ImagePart, ImageRun, KernelImage};
use layout::PageLayout;
pub use slab::SlabCaches;

/// Frames that are looked at together, aligned to their number: a power of two.
const REGION_PAGES: usize = 512;

/// What a page frame is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageClass {
    /// By the kernel; or nobody can tell.
    Kernel,
    /// By the kernel's slab allocator.
    Slab,
    /// Page cache that can be read again from its file or from swap.
    Cache,
    /// Page cache to which a file system has attached data of its own.
    CachePrivate,
    /// Memory of processes: anonymous or hugetlb.
    User,
    /// By nobody.
    Free,
    /// Damaged memory: never read.
    HwPoison,
    /// Memory that was given back to the hypervisor (balloon, virtio-mem): never read.
    Offline,
}

impl PageClass {
    /// Every class, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Kernel,
        Self::Slab,
        Self::Cache,
        Self::CachePrivate,
        Self::User,
        Self::Free,
        Self::HwPoison,
        Self::Offline,
    ];

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Slab => "slab",
            Self::Cache => "cache",
            Self::CachePrivate => "private cache",
            Self::User => "user",
            Self::Free => "free",
            Self::HwPoison => "hwpoison",
            Self::Offline => "offline",
        }
    }
}

/// Neighbouring page frames of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first frame.
    pub first: Pfn,
    /// How many frames.
    pub pages: u64,
    /// What all of them are.
    pub class: PageClass,
}

impl Span {
    /// One past its last frame.
    #[must_use]
    pub const fn end(&self) -> Pfn {
        Pfn(self.first.0.saturating_add(self.pages))
    }
}

/// Pages of each class, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageCounts {
    pages: [u64; PageClass::ALL.len()],
}

impl PageCounts {
    /// Pages of `class`.
    #[must_use]
    pub fn of(&self, class: PageClass) -> u64 {
        self.pages.get(class as usize).copied().unwrap_or(0)
    }

    /// Pages of all classes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.pages.iter().fold(0, |total, pages| total.saturating_add(*pages))
    }
}

impl AddAssign<Span> for PageCounts {
    fn add_assign(&mut self, span: Span) {
        if let Some(pages) = self.pages.get_mut(span.class as usize) {
            *pages = pages.saturating_add(span.pages);
        }
    }
}

impl Sum<Span> for PageCounts {
    fn sum<I: Iterator<Item = Span>>(spans: I) -> Self {
        let mut counts = Self::default();
        spans.for_each(|span| counts += span);
        counts
    }
}

/// Why the memmap cannot be used; then every page counts as [`PageClass::Kernel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemMapError {
    /// VMCOREINFO lacks this.
    #[error("VMCOREINFO has no {0}")]
    MissingFact(&'static str),
    /// VMCOREINFO says something that cannot be.
    #[error("VMCOREINFO has {what} of {value:#x}")]
    Absurd {
        /// Which fact.
        what: &'static str,
        /// What it says.
        value: u64,
    },
    /// A structure on the way to the memmap cannot be read.
    #[error("the memmap cannot be found: {0}")]
    Unreadable(#[from] VirtFault),
}

/// Where struct pages are and what is in them: facts of some hundred bytes, however much memory there is.
#[derive(Clone, Copy, Debug)]
pub struct MemMap {
    array: PageArray,
    layout: PageLayout,
    image: KernelImage,
}

impl MemMap {
    /// The memmap that VMCOREINFO tells of.
    ///
    /// # Errors
    /// [`MemMapError`] if it does not.
    pub fn find<M: PhysMemory>(info: &VmcoreInfo<'_>, kernel: &KernelSpace<M>) -> Result<Self, MemMapError> {
        let layout = PageLayout::new(info, kernel.long_bytes())?;
        Ok(Self {
            array: PageArray::find(info, kernel, layout.page_bytes)?,
            layout,
            image: KernelImage::find(info, kernel),
        })
    }

    /// The kernel image.
    #[must_use]
    pub const fn image(&self) -> &KernelImage {
        &self.image
    }
}

/// A fact that has to be there.
fn required(what: &'static str, fact: Option<u64>) -> Result<u64, MemMapError> {
    fact.ok_or(MemMapError::MissingFact(what))
}
