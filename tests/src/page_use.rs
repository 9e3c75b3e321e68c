//! What a page is used for, as the kernel that crashed said itself, and as a dump says by leaving it out.

use std::collections::BTreeMap;
use std::fmt;

use rcapture_qemu::{PageFlags, Report};

use crate::kept::{Frames, KeptPages};

/// What dump levels tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PageUse {
    /// Page cache: left out with bit 2 (and 4).
    Cache,
    /// Page cache with private data: left out with bit 4.
    CachePrivate,
    /// Memory of processes: left out with bit 8.
    User,
    /// Free: left out with bit 16.
    Free,
    /// Always left out: poisoned, or given to the host.
    GivenUp,
    /// Never left out.
    Kernel,
    /// Left out with several bits that do not go together.
    Contradiction,
}

impl PageUse {
    /// Every use there is.
    pub const ALL: [Self; 6] =
        [Self::Cache, Self::CachePrivate, Self::User, Self::Free, Self::GivenUp, Self::Kernel];

    /// What the kernel says: makedumpfile's rules, for the flags that the kernel exports for any page.
    #[must_use]
    pub fn by_flags(flags: PageFlags) -> Self {
        if flags.has(PageFlags::OFFLINE) {
            Self::GivenUp
        } else if flags.has(PageFlags::BUDDY) {
            Self::Free
        } else if flags.has(PageFlags::HWPOISON) {
            Self::GivenUp
        } else if flags.has(PageFlags::SLAB) {
            Self::Kernel
        } else if flags.has(PageFlags::ANON) || flags.has(PageFlags::HUGE) {
            Self::User
        } else if flags.has(PageFlags::LRU) {
            if flags.has(PageFlags::PRIVATE) { Self::CachePrivate } else { Self::Cache }
        } else {
            Self::Kernel
        }
    }

    /// What `kept`, by dump level, says of `pfn`: levels 0, 2, 4, 8 and 16 must be there.
    #[must_use]
    pub fn by_levels(kept: &BTreeMap<u8, KeptPages>, pfn: u64) -> Self {
        let is_left_out = |level| !kept[&level].kept.0.contains(&pfn);
        match [0, 2, 4, 8, 16].map(is_left_out) {
            [false, false, false, false, false] => Self::Kernel,
            [false, true, true, false, false] => Self::Cache,
            [false, false, true, false, false] => Self::CachePrivate,
            [false, false, false, true, false] => Self::User,
            [false, false, false, false, true] => Self::Free,
            [true, true, true, true, true] => Self::GivenUp,
            _ => Self::Contradiction,
        }
    }
}

/// Pages of which the kernel and a dump say different things: by what the kernel says and what the dump says.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Disagreements(pub BTreeMap<(PageUse, PageUse), Frames>);

impl Disagreements {
    /// Compares `report` with what dumps of several levels say of the pages of RAM.
    #[must_use]
    pub fn between(report: &Report, kept: &BTreeMap<u8, KeptPages>) -> Self {
        let mut found: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        for &pfn in &kept[&0].ram.0 {
            let said = PageUse::by_flags(report.flags(pfn));
            let dumped = PageUse::by_levels(kept, pfn);
            if said != dumped {
                found.entry((said, dumped)).or_default().push(pfn);
            }
        }
        Self(found.into_iter().map(|(uses, frames)| (uses, frames.into_iter().collect())).collect())
    }
}

impl fmt::Debug for Disagreements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((said, dumped), frames) in &self.0 {
            writeln!(f, "{said:?} to the kernel, {dumped:?} to us: {frames:?}")?;
        }
        Ok(())
    }
}
