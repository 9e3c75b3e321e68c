//! Early passes that walk the kernel's page tables or its slabs: page tables, stacks, tasks.

use memory::paging::{WalkError, linear_map_offset};
use memory::{PageClass, Pfn, PhysAddr, PhysMemory, RamRange, SlabCaches, VirtAddr};
use vmcore::headers::Machine;
use wire::{Cursor, Pass};

use super::early::stack_bytes;
use crate::dump::Dump;
use crate::pump::Interrupt;
use crate::{Clock, Link};

/// Levels of page tables at most.
const MAX_LEVELS: usize = 5;

/// Pages of a stack at most.
const MAX_STACK_PAGES: usize = 16;

/// Steps of a walk over the kernel's address space, besides those that the size of RAM allows for. Tables that lead to
/// themselves would have no end.
const MIN_STEPS: u64 = 1 << 16;

/// Caches whose objects one needs to list the tasks of a machine.
const TASK_CACHES: &[&[u8]] = &[b"task_struct", b"pid", b"radix_tree_node", b"mm_struct", b"signal_cache"];

impl<M: PhysMemory, L: Link, C: Clock> Dump<'_, M, L, C> {
    /// [`Pass::PageTables`] from virtual page `first` on.
    pub(crate) fn page_tables(&mut self, first: u64) -> Result<(), Interrupt> {
        let Some(kernel) = self.kernel else { return Ok(()) };
        let page_shift = self.crash.page_shift();
        let span = kernel.tables().lowest_table_span();
        let mut at = kernel.tables().kernel_half().max(VirtAddr(first << page_shift));
        for _ in 0..self.steps(span >> page_shift) {
            let here = Cursor { pass: Pass::PageTables.number(), position: at.0 >> page_shift };
            let mut way = [None; MAX_LEVELS];
            let step = kernel.tables().walk_by(kernel.physical(), at, |level, entry| {
                if let Some(place) = way.get_mut(level as usize - 1) {
                    *place = Some(entry);
                }
            });
            for entry in way.into_iter().rev().flatten() {
                self.early_page(Pass::PageTables, entry.pfn(page_shift), here, |_| true)?;
            }
            let step = step.map_or_else(|error| unmapped(&error), |mapping| Some(mapping.bytes));
            let Some(next) = step.and_then(|bytes| next_address(at, bytes.max(span))) else { break };
            at = next;
        }
        self.out.close_block()
    }

    /// [`Pass::Stacks`] from virtual page `first` on. vmalloc maps a stack by pages, aligned to its size, and leaves the
    /// page behind it unmapped (kernel/fork.c, `alloc_thread_stack_node`).
    pub(crate) fn stacks(&mut self, first: u64) -> Result<(), Interrupt> {
        let Some(kernel) = self.kernel else { return Ok(()) };
        let page_shift = self.crash.page_shift();
        let stack_bytes = stack_bytes(kernel.machine(), page_shift);
        let stack_pages = usize::try_from(stack_bytes >> page_shift).unwrap_or(1);
        let direct_map = self.direct_map();
        let mut area = Area::default();
        let mut at = kernel.tables().kernel_half().max(VirtAddr(first << page_shift));
        for _ in 0..self.steps(1) {
            if let Some((start, end)) = direct_map
                && at >= start
                && at < end
            {
                at = end;
                continue;
            }
            let mapping = kernel.mapping(at);
            let page = mapping.ok().filter(|mapping| mapping.bytes == 1 << page_shift);
            match page {
                Some(page) => area.push(page.va, page.pa),
                None => {
                    let here = Cursor { pass: Pass::Stacks.number(), position: at.0 >> page_shift };
                    let is_aligned = area.start.0 & (stack_bytes - 1) == 0;
                    if area.pages == stack_pages && is_aligned {
                        for pa in area.frames.into_iter().take(stack_pages) {
                            self.early_page(Pass::Stacks, pa.pfn(page_shift), here, |_| true)?;
                        }
                    }
                    area = Area::default();
                }
            }
            let step = mapping.map_or_else(|error| unmapped(&error), |mapping| Some(mapping.bytes));
            let Some(next) = step.and_then(|bytes| next_address(at, bytes)) else { break };
            at = next;
            self.poll(Pass::Stacks)?;
        }
        self.out.close_block()
    }

    /// [`Pass::Tasks`] from frame `first` on.
    pub(crate) fn tasks(&mut self, first: Pfn) -> Result<(), Interrupt> {
        let mut caches = SlabCaches::new(TASK_CACHES);
        let mut at = first;
        while let Some(first) = self.next_frame_of_ram(at) {
            let span = self.out.ram.classifier.span(first, Pfn(u64::MAX));
            if span.class == PageClass::Slab {
                for pfn in (first.0..span.end().0).map(Pfn) {
                    // A request may have been answered since, whose page is elsewhere.
                    self.out.ram.class(pfn);
                    if self.out.ram.classifier.is_of(&mut caches, pfn) {
                        let here = Cursor { pass: Pass::Tasks.number(), position: pfn.0 };
                        self.early_page(Pass::Tasks, pfn, here, |class| class == PageClass::Slab)?;
                    }
                }
            }
            at = span.end();
            self.poll(Pass::Tasks)?;
        }
        self.out.close_block()
    }

    /// Steps that a walk may take: one for each `pages` of RAM, and some.
    fn steps(&self, pages: u64) -> u64 {
        (self.crash.ram_pages() / pages).saturating_mul(2).saturating_add(MIN_STEPS)
    }

    /// Where the kernel has all RAM mapped in one piece: no stack of vmalloc's is there. `None` on arm, which has most of it
    /// so, but its own image too.
    pub(super) fn direct_map(&self) -> Option<(VirtAddr, VirtAddr)> {
        let kernel = self.kernel?;
        let half = kernel.tables().kernel_half();
        let offset = match kernel.machine() {
            Machine::X86_64 => {
                // As the elfcorehdr tells.
                let is_plausible = |start: u64| VirtAddr(start) >= half && start.is_multiple_of(1 << 30);
                let starts = self.crash.core.loads.iter().map(|load| load.p_vaddr.wrapping_sub(load.p_paddr));
                starts.filter(|&start| is_plausible(start)).min()?
            }
            Machine::Aarch64 => linear_map_offset(kernel.machine(), &self.crash.info())?,
            Machine::Arm => return None,
        };
        let (start, end) = linear_range(kernel.machine(), offset, self.crash.map.ranges())?;
        (half <= start && start < end).then_some((start, end))
    }
}

/// From where to where the direct map goes in which physical address 0 would be at `offset`. On x86_64 that is its begin
/// (`PAGE_OFFSET`): the kernel keeps it as a constant, by which tools find everything else.
fn linear_range(machine: Machine, offset: u64, ranges: &[RamRange]) -> Option<(VirtAddr, VirtAddr)> {
    let (first, last) = (ranges.first()?, ranges.last()?);
    let va = |pa: PhysAddr| VirtAddr(offset.wrapping_add(pa.0));
    let start = if machine == Machine::X86_64 { VirtAddr(offset) } else { va(first.start) };
    Some((start, va(last.end)))
}

/// Pages that are mapped one behind the other.
#[derive(Clone, Copy, Default)]
struct Area {
    start: VirtAddr,
    pages: usize,
    frames: [PhysAddr; MAX_STACK_PAGES],
}

impl Area {
    fn push(&mut self, va: VirtAddr, pa: PhysAddr) {
        if self.pages == 0 {
            self.start = va;
        }
        if let Some(frame) = self.frames.get_mut(self.pages) {
            *frame = pa;
        }
        self.pages += 1;
    }
}

/// How much is not mapped around the address where a walk ended.
fn unmapped(error: &WalkError) -> Option<u64> {
    match *error {
        WalkError::NotMapped { span, .. } | WalkError::Unreadable { span, .. } => Some(span),
        WalkError::NotCanonical { .. } => None,
    }
}

/// The address behind the `bytes`, a power of two, that `at` lies in.
fn next_address(at: VirtAddr, bytes: u64) -> Option<VirtAddr> {
    VirtAddr(at.0 & !(bytes - 1)).checked_add(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_direct_map_begins_where_the_kernel_says_that_it_does() {
        let range =
            |start, end| RamRange { start: PhysAddr(start), end: PhysAddr(end), read_at: PhysAddr(start) };
        // No RAM is at 0, but page_offset_base has this value.
        let offset = 0xff11_0000_4000_0000;
        let of_x86 =
            linear_range(Machine::X86_64, offset, &[range(0x1000, 0x9_f000), range(0x10_0000, 1 << 30)]);
        assert_eq!(of_x86, Some((VirtAddr(offset), VirtAddr(offset + (1 << 30)))));
        // PAGE_OFFSET is where RAM begins: 0 would be below it.
        let offset = 0xffff_0000_0000_0000_u64.wrapping_sub(1 << 30);
        let of_aarch64 = linear_range(Machine::Aarch64, offset, &[range(1 << 30, 2 << 30)]);
        assert_eq!(of_aarch64, Some((VirtAddr(0xffff << 48), VirtAddr((0xffff << 48) + (1 << 30)))));
        assert_eq!(linear_range(Machine::X86_64, offset, &[]), None);
    }
}
