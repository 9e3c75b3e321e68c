//! makedumpfile's dump levels: which classes of pages a dump leaves out.

use crate::{PageClass, PageCounts};

/// What a dump leaves out, in makedumpfile's bits and with its meaning (`-d`): a sum of [`ZERO`](Self::ZERO),
/// [`CACHE`](Self::CACHE), [`CACHE_PRIVATE`](Self::CACHE_PRIVATE), [`USER`](Self::USER) and [`FREE`](Self::FREE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DumpLevel(u8);

impl DumpLevel {
    /// Pages whose every byte is zero. What they are is seen when they are read.
    pub const ZERO: u8 = 1;
    /// Page cache without private data.
    pub const CACHE: u8 = 2;
    /// All of the page cache: with private data, and without.
    pub const CACHE_PRIVATE: u8 = 4;
    /// Memory of processes: anonymous and hugetlb pages.
    pub const USER: u8 = 8;
    /// Free pages.
    pub const FREE: u8 = 16;

    /// Keeps everything that can be read.
    pub const ALL: Self = Self(0);
    /// Leaves out all that can be left out.
    pub const SMALLEST: Self = Self(31);

    /// The level of a number from 0 to 31.
    #[must_use]
    pub const fn new(level: u8) -> Option<Self> {
        if level <= Self::SMALLEST.0 { Some(Self(level)) } else { None }
    }

    /// Its number, 0 to 31.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether a dump has the pages of `class` (but those full of zeros, if it leaves these out).
    #[must_use]
    pub const fn keeps(self, class: PageClass) -> bool {
        let left_out_by = match class {
            PageClass::Kernel | PageClass::Slab => return true,
            PageClass::HwPoison | PageClass::Offline => return false,
            PageClass::Cache => Self::CACHE | Self::CACHE_PRIVATE,
            PageClass::CachePrivate => Self::CACHE_PRIVATE,
            PageClass::User => Self::USER,
            PageClass::Free => Self::FREE,
        };
        self.0 & left_out_by == 0
    }

    /// How many of the pages counted a dump has.
    #[must_use]
    pub fn kept_pages(self, counts: &PageCounts) -> u64 {
        let kept = PageClass::ALL.into_iter().filter(|&class| self.keeps(class));
        kept.fold(0, |sum, class| sum.saturating_add(counts.of(class)))
    }

    /// Whether a dump has pages full of zeros.
    #[must_use]
    pub const fn keeps_zero(self) -> bool {
        self.0 & Self::ZERO == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PageClass::{Cache, CachePrivate, Free, HwPoison, Kernel, Offline, Slab, User};

    #[test]
    fn each_bit_leaves_out_what_it_does_for_makedumpfile() {
        // makedumpfile(8), the table of -d; hwpoison and offline pages are never read.
        for (level, left_out) in [
            (0, &[][..]),
            (1, &[]),
            (2, &[Cache]),
            (4, &[Cache, CachePrivate]),
            (8, &[User]),
            (16, &[Free]),
            (31, &[Cache, CachePrivate, User, Free]),
        ] {
            let dump_level = DumpLevel::new(level).unwrap();
            assert_eq!(dump_level.keeps_zero(), level & 1 == 0);
            for class in [Kernel, Slab, Cache, CachePrivate, User, Free] {
                assert_eq!(dump_level.keeps(class), !left_out.contains(&class), "{level}: {class:?}");
            }
            assert!(!dump_level.keeps(HwPoison) && !dump_level.keeps(Offline));
        }
    }

    #[test]
    fn there_are_32_levels() {
        assert_eq!((0..=u8::MAX).filter_map(DumpLevel::new).count(), 32);
        assert_eq!(DumpLevel::new(31), Some(DumpLevel::SMALLEST));
        assert_eq!(DumpLevel::default(), DumpLevel::ALL);
    }
}
