//! What the guest says of its pages right before it crashes.

use std::fs;
use std::path::Path;

use crate::outcome::{Error, IoContext, Result};

/// Bytes of a page's word in /proc/kpageflags.
const WORD_BYTES: usize = 8;

/// The guest's own view of its memory: text of /proc, and the flags of every page.
///
/// A page may change between its flags being read and the crash: whoever compares has to allow for that.
#[derive(Clone, Debug)]
pub struct Report {
    /// /proc/meminfo, /proc/buddyinfo and /proc/zoneinfo.
    pub text: String,
    flags: Vec<PageFlags>,
}

/// A page's word in /proc/kpageflags (kernel: include/uapi/linux/kernel-page-flags.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageFlags(pub u64);

impl PageFlags {
    /// On a list of pages that may be reclaimed.
    pub const LRU: Self = Self(1 << 5);
    /// Of the slab allocator.
    pub const SLAB: Self = Self(1 << 7);
    /// Free, and in the buddy allocator's lists.
    pub const BUDDY: Self = Self(1 << 10);
    /// Mapped into a process.
    pub const MMAP: Self = Self(1 << 11);
    /// Anonymous memory.
    pub const ANON: Self = Self(1 << 12);
    /// In the swap cache.
    pub const SWAPCACHE: Self = Self(1 << 13);
    /// Goes to swap when it is reclaimed: anonymous memory, tmpfs.
    pub const SWAPBACKED: Self = Self(1 << 14);
    /// First of several pages that are one.
    pub const COMPOUND_HEAD: Self = Self(1 << 15);
    /// One of several pages that are one, but not the first.
    pub const COMPOUND_TAIL: Self = Self(1 << 16);
    /// Of hugetlbfs.
    pub const HUGE: Self = Self(1 << 17);
    /// Its memory is broken.
    pub const HWPOISON: Self = Self(1 << 19);
    /// No page frame is there.
    pub const NOPAGE: Self = Self(1 << 20);
    /// Of a transparent huge page.
    pub const THP: Self = Self(1 << 22);
    /// Given to the host, or taken offline.
    pub const OFFLINE: Self = Self(1 << 23);
    /// A page table.
    pub const PGTABLE: Self = Self(1 << 26);
    /// Never given to the allocator, or taken from it for good.
    pub const RESERVED: Self = Self(1 << 32);
    /// A file system keeps something of its own for it: buffer heads.
    pub const PRIVATE: Self = Self(1 << 35);

    /// Whether it has any of `flags`.
    #[must_use]
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }
}

impl Report {
    /// Reads what a guest wrote to the file that [`report`](crate::MachineBuilder::report) named.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is not whole.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).on("read", path)?;
        let malformed = |what: &str| Error::malformed(path, format!("not a whole report: {what}"));
        let end =
            bytes.iter().position(|&byte| byte == 0).ok_or_else(|| malformed("nothing behind its text"))?;
        let (text, words) = bytes.split_at(end);
        let (words, rest) = words.get(1..).unwrap_or_default().as_chunks::<WORD_BYTES>();
        if words.is_empty() || !rest.is_empty() {
            return Err(malformed("its last word is cut"));
        }
        Ok(Self {
            text: String::from_utf8_lossy(text).into_owned(),
            flags: words.iter().map(|word| PageFlags(u64::from_le_bytes(*word))).collect(),
        })
    }

    /// The flags of page `pfn`; of one that the machine does not have: [`PageFlags::NOPAGE`].
    #[must_use]
    pub fn flags(&self, pfn: u64) -> PageFlags {
        usize::try_from(pfn)
            .ok()
            .and_then(|index| self.flags.get(index))
            .copied()
            .unwrap_or(PageFlags::NOPAGE)
    }

    /// The number behind `name` in /proc/meminfo: KiB, or pages of hugetlbfs.
    #[must_use]
    pub fn meminfo(&self, name: &str) -> Option<u64> {
        let numbers = self.text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        numbers.filter_map(|numbers| numbers.split_whitespace().next()?.parse().ok()).next()
    }

    /// How many free blocks there are, by their order: the sums of /proc/buddyinfo.
    #[must_use]
    pub fn free_blocks(&self) -> Vec<u64> {
        let mut sums = Vec::new();
        for line in self.text.lines().filter(|line| line.starts_with("Node ")) {
            // `Node 0, zone  NAME` and the numbers; /proc/zoneinfo has such a line without any.
            let counts = line.split_whitespace().skip(4).filter_map(|count| count.parse::<u64>().ok());
            for (order, count) in counts.enumerate() {
                match sums.get_mut(order) {
                    Some(sum) => *sum += count,
                    None => sums.push(count),
                }
            }
        }
        sums
    }

    /// How many free pages the CPUs keep for themselves, by /proc/zoneinfo.
    #[must_use]
    pub fn free_pages_of_cpus(&self) -> u64 {
        let counts = self.text.lines().filter_map(|line| line.trim().strip_prefix("count:"));
        counts.filter_map(|count| count.trim().parse::<u64>().ok()).sum()
    }

    /// How many frames there are flags for.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.flags.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_report_is_its_text_and_a_word_for_each_page() {
        let words: Vec<u8> =
            [1_u64 << 10, (1 << 12) | (1 << 5)].iter().flat_map(|it| it.to_le_bytes()).collect();
        let written = file(&[b"MemTotal: 1 kB\n\0", &*words].concat());
        let report = Report::read(written.path()).unwrap();
        assert_eq!(report.text, "MemTotal: 1 kB\n");
        assert_eq!(report.frames(), 2);
        assert!(report.flags(0).has(PageFlags::BUDDY));
        assert!(report.flags(1).has(PageFlags::ANON) && !report.flags(1).has(PageFlags::BUDDY));
        assert_eq!(report.flags(2), PageFlags::NOPAGE);
    }

    #[test]
    fn its_text_tells_what_kinds_of_memory_there_are() {
        let text = "MemTotal:   441804 kB\nAnonHugePages:     18432 kB\nHugePages_Free:        2\n\
                    Node 0, zone      DMA      0      1 \nNode 0, zone    DMA32   1192    414 \n\
                    Node 0, zone    DMA32\n  pages free     3840\n              count:    44\n              count: 84\n\0\
                    12345678";
        let report = Report::read(file(text.as_bytes()).path()).unwrap();
        assert_eq!(report.meminfo("AnonHugePages"), Some(18432));
        assert_eq!(report.meminfo("HugePages_Free"), Some(2));
        assert_eq!(report.meminfo("HugePages"), None);
        assert_eq!(report.free_blocks(), [1192, 415]);
        assert_eq!(report.free_pages_of_cpus(), 128);
    }

    #[test]
    fn a_report_that_ends_early_is_refused() {
        for cut in [&b"text"[..], b"text\0", b"text\0\x01\x02\x03"] {
            let cut = file(cut);
            assert!(matches!(Report::read(cut.path()), Err(Error::Malformed { .. })));
        }
    }
}
