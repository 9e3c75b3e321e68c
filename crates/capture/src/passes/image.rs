//! Early passes over the kernel image: its data, and constants that it wrote itself.

use alloc::vec;
use core::ops::Range;

use memory::{ImagePart, Pfn, PhysMemory, VirtAddr};
use wire::{Cursor, Pass};

use crate::dump::Dump;
use crate::pump::Interrupt;
use crate::{Clock, Link};

/// How `linux_banner` begins.
const BANNER: &[u8] = b"Linux version ";

/// Constants of the boot lie so near each other: `__per_cpu_offset` has 16 pages, of which most are of CPUs that are not
/// there.
const NEAR_PAGES: u64 = 32;

impl<M: PhysMemory, L: Link, C: Clock> Dump<'_, M, L, C> {
    /// [`Pass::Data`] from frame `first` on.
    pub(crate) fn data(&mut self, first: Pfn) -> Result<(), Interrupt> {
        let Some(image) = self.image else { return Ok(()) };
        let page_shift = self.crash.page_shift();
        let mut page = vec![0; 1 << page_shift];
        for run in image.runs().filter(|run| run.part == ImagePart::Data && run.end > first) {
            for pfn in (run.first.max(first).0..run.end.0).map(Pfn) {
                let pa = pfn.start(page_shift);
                let is_read = pa.is_some_and(|pa| self.out.ram.memory.read(pa, &mut page).is_ok());
                if !is_read || !is_table_of_places(&page) {
                    let here = Cursor { pass: Pass::Data.number(), position: pfn.0 };
                    self.early_page(Pass::Data, pfn, here, |_| true)?;
                }
            }
        }
        self.out.close_block()
    }

    /// [`Pass::Constants`] from frame `first` on. What the linker made constant has no address of the direct map in it; what
    /// the kernel found out at boot (`__ro_after_init`: where its memory is mapped, for one) has. It lies together.
    pub(crate) fn constants(&mut self, first: Pfn) -> Result<(), Interrupt> {
        let Some(image) = self.image else { return Ok(()) };
        let direct_map = self.direct_map();
        let page_shift = self.crash.page_shift();
        let mut page = vec![0; 1 << page_shift];
        for run in image.runs().filter(|run| run.part == ImagePart::ReadOnly && run.end > first) {
            // Frames from here on have not been sent, but would be if there is another address near by.
            let start = run.first.max(first).0;
            let mut pending = start;
            let mut last_address = None;
            for pfn in start..run.end.0 {
                let pa = Pfn(pfn).start(page_shift);
                let is_read = pa.is_some_and(|pa| self.out.ram.memory.read(pa, &mut page).is_ok());
                if is_read && has_address_in(&page, direct_map) {
                    let is_near = last_address.is_some_and(|last| pfn - last <= NEAR_PAGES);
                    self.constant_pages(if is_near { pending } else { pfn }..pfn + 1)?;
                    (last_address, pending) = (Some(pfn), pfn + 1);
                } else if is_read && has_banner(&page) {
                    self.constant_pages(pfn..pfn + 1)?;
                }
                self.poll(Pass::Constants)?;
            }
        }
        self.out.close_block()
    }

    fn constant_pages(&mut self, frames: Range<u64>) -> Result<(), Interrupt> {
        for pfn in frames {
            let here = Cursor { pass: Pass::Constants.number(), position: pfn };
            self.early_page(Pass::Constants, Pfn(pfn), here, |_| true)?;
        }
        Ok(())
    }
}

/// Whether a page is one of the unwinder's (`.orc_unwind_ip`, arch/x86/kernel/vmlinux.lds.S): for each piece of code its
/// distance from the entry itself, in the order of the code. They are a quarter of the image's data, and constant.
fn is_table_of_places(page: &[u8]) -> bool {
    let entries = page.as_chunks::<4>().0.iter().map(|entry| i64::from(i32::from_le_bytes(*entry)));
    let places = (0..).step_by(4).zip(entries).map(|(at, distance): (i64, i64)| at + distance);
    places.clone().zip(places.skip(1)).all(|(place, next)| place < next)
        && page.first_chunk::<4>() != page.last_chunk::<4>()
}

/// Whether a page has the kernel's name (`linux_banner`, init/version.c), by which tools see that a vmlinux is its own.
fn has_banner(page: &[u8]) -> bool {
    page.windows(BANNER.len()).any(|bytes| bytes == BANNER)
}

fn has_address_in(page: &[u8], range: Option<(VirtAddr, VirtAddr)>) -> bool {
    let Some((start, end)) = range else { return false };
    let words = page.as_chunks::<8>().0.iter().map(|word| VirtAddr(u64::from_le_bytes(*word)));
    words.into_iter().any(|word| word >= start && word < end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn page_of(entry: impl Fn(i32) -> i32) -> Vec<u8> {
        (0..1024).flat_map(|index| entry(index).to_le_bytes()).collect()
    }

    #[test]
    fn the_tables_of_the_unwinder_are_told_from_data() {
        // Code of 7 bytes for each entry, 16 MiB below.
        assert!(is_table_of_places(&page_of(|index| -0x100_0000 + 7 * index - 4 * index)));
        assert!(!is_table_of_places(&page_of(|_| 0)));
        assert!(!is_table_of_places(&page_of(|_| 0x0c0c_0c0c)));
        assert!(!is_table_of_places(&page_of(|index| index % 100)));
        assert!(!is_table_of_places(&page_of(|index| if index % 2 == 0 { 0x1234_5678 } else { -1 })));
    }

    #[test]
    fn a_page_with_an_address_of_the_direct_map_was_written_at_boot() {
        let direct_map = Some((VirtAddr(0xffff_8880_0000_0000), VirtAddr(0xffff_8881_0000_0000)));
        let mut page = vec![0; 4096];
        assert!(!has_address_in(&page, direct_map));
        page[64..72].copy_from_slice(&0xffff_8880_1234_5000_u64.to_le_bytes());
        assert!(has_address_in(&page, direct_map));
        assert!(!has_address_in(&page, None));
    }
}
