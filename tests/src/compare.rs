//! A dump against the truth, page for page.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use memory::{PhysAddr, PhysMemory};
use rcapture::dump::{self, DumpMemory};
use rcapture_qemu::Truth;

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Pages, or parts of them, that are equal.
    pub equal: u64,
    /// Physical addresses of those that differ.
    pub different: Vec<u64>,
    /// Physical addresses of RAM that the dump does not have.
    pub absent: Vec<u64>,
    /// Kernel memory of the machine that the dump does not describe as RAM.
    pub not_in_the_map: u64,
}

impl Comparison {
    /// The dump has every page, as it was.
    ///
    /// # Panics
    /// If it lacks one, or has another.
    pub fn assert_every_page(&self) {
        assert!(self.different.is_empty() && self.absent.is_empty(), "{self}");
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |addresses: &[u64]| {
            addresses.iter().take(40).map(|address| format!("{address:#x}")).collect::<Vec<_>>().join(" ")
        };
        write!(
            f,
            "{} equal, {} different ({}), {} absent ({}), {} bytes of the machine are not RAM to the dump",
            self.equal,
            self.different.len(),
            list(&self.different),
            self.absent.len(),
            list(&self.absent),
            self.not_in_the_map
        )
    }
}

/// Compares every page of every RAM range of the dump with the truth. `excepted` physical ranges are left out.
#[must_use]
pub fn compare(vmcore: &Path, truth: &Truth, excepted: &[Range<u64>]) -> Comparison {
    let dump = dump::open(vmcore).unwrap();
    let memory = DumpMemory::new(&*dump);
    let facts = dump.facts();
    let mut found = Comparison::default();
    let (mut is, mut should) = (vec![0; 4096], vec![0; 4096]);
    for part in facts.map.pages(facts.page_shift) {
        let pa = (part.pfn.0 << facts.page_shift) + part.offset;
        if excepted.iter().any(|range| range.contains(&pa)) {
            continue;
        }
        let length = usize::try_from(part.bytes).unwrap();
        truth.read(pa, &mut should[..length]).unwrap();
        if memory.read(PhysAddr(pa), &mut is[..length]).is_err() {
            found.absent.push(pa);
        } else if is[..length] == should[..length] {
            found.equal += 1;
        } else {
            found.different.push(pa);
        }
    }
    let of_the_machine: u64 = truth.ranges().map(|range| range.end - range.start).sum();
    found.not_in_the_map = of_the_machine.saturating_sub(facts.map.total_bytes());
    found
}
