//! Early passes that begin at the CPUs' crash notes: their stacks, and their per-CPU data.

use alloc::vec::Vec;

use memory::{ImagePart, PageClass, Pfn, PhysAddr, PhysMemory, VirtAddr, VirtMemory as _};
use vmcore::elfcorehdr::Machine;
use vmcore::notes::{NT_PRSTATUS, Notes, find_vmcoreinfo};
use vmcore::prstatus::PrStatus;
use wire::{Cursor, Pass};

use crate::crash::read_notes;
use crate::dump::Dump;
use crate::pump::Interrupt;
use crate::regions::Region;
use crate::{Clock, Link};

/// Around its crash notes a CPU has its other per-CPU data: the kernel allocates these in units of at most so many bytes,
/// aligned to that (`PMD_SIZE`, arch/x86/kernel/setup_percpu.c).
const PER_CPU_BYTES: u64 = 2 << 20;

/// Pages of text sent for one stack at most.
const MAX_CODE_PAGES: usize = 64;

impl<M: PhysMemory, L: Link, C: Clock> Dump<'_, M, L, C> {
    /// [`Pass::CpuStacks`].
    pub(crate) fn cpu_stacks(&mut self) -> Result<(), Interrupt> {
        let stack_bytes = stack_bytes(self.crash.core.machine, self.crash.page_shift());
        let mut buffer = Vec::new();
        for (cpu, segment) in (0..).zip(&self.crash.core.notes) {
            let notes = Notes::new(read_notes(segment, self.physical, &mut buffer));
            let machine = self.crash.core.machine;
            let statuses = notes.filter(|note| note.n_type == NT_PRSTATUS);
            for status in statuses.filter_map(|note| PrStatus::parse(machine, note.desc)) {
                // The stack grows down to `sp`: what is above it comes first.
                let stack = VirtAddr(status.sp & !(stack_bytes - 1));
                let (below, above) = (stack.0..status.sp, status.sp..stack.0.saturating_add(stack_bytes));
                for range in [above, below] {
                    self.early_range(Pass::CpuStacks, cpu, VirtAddr(range.start), VirtAddr(range.end))?;
                }
                self.code_of_stack(cpu, &status, stack_bytes - (status.sp - stack.0))?;
            }
        }
        self.out.close_block()
    }

    /// [`Pass::PerCpu`].
    pub(crate) fn per_cpu(&mut self, first_cpu: u64) -> Result<(), Interrupt> {
        let crash = self.crash;
        let page_shift = crash.page_shift();
        let mut buffer = Vec::new();
        let mut before = None;
        for (cpu, segment) in (0..).zip(&crash.core.notes).filter(|&(cpu, _)| cpu >= first_cpu) {
            let start = PhysAddr(segment.p_offset & !(PER_CPU_BYTES - 1));
            let is_cpu = find_vmcoreinfo(read_notes(segment, self.physical, &mut buffer)).is_none();
            if !is_cpu || before == Some(start) {
                continue;
            }
            before = Some(start);
            let frames =
                start.pfn(page_shift).0..PhysAddr(start.0.saturating_add(PER_CPU_BYTES)).pfn(page_shift).0;
            for pfn in frames.map(Pfn) {
                if self.regions.at(pfn).0 == Region::Other {
                    let here = Cursor { pass: Pass::PerCpu.number(), position: cpu };
                    self.early_page(Pass::PerCpu, pfn, here, |class| class == PageClass::Kernel)?;
                }
            }
        }
        self.out.close_block()
    }

    /// Sends the text that a CPU's registers lead to, and its stack's `bytes` from `sp` on: unwinders look at it.
    fn code_of_stack(&mut self, cpu: u64, status: &PrStatus, bytes: u64) -> Result<(), Interrupt> {
        let (Some(kernel), Some(image)) = (self.kernel, self.image) else { return Ok(()) };
        let here = Cursor { pass: Pass::CpuStacks.number(), position: cpu };
        let mut left = MAX_CODE_PAGES;
        let registers = status.registers.iter().map(|(_, word)| VirtAddr(word));
        let on_stack = (0..bytes).step_by(kernel.long_bytes()).filter_map(|offset| {
            VirtAddr(status.sp).checked_add(offset).and_then(|at| kernel.read_pointer(at).ok())
        });
        let signature = self.crash.info().number_u64("KERNELPACMASK").unwrap_or(0);
        for address in registers.chain(on_stack) {
            let address = unsigned_address(address, signature);
            let place = kernel.mapping(address).ok().and_then(|mapping| mapping.place_of(address));
            let Some((pa, _)) = place else { continue };
            let pfn = pa.pfn(self.crash.page_shift());
            if left > 0 && image.part_of(pfn) == Some(ImagePart::Text) && !self.early.contains(pfn) {
                self.early_page(Pass::CpuStacks, pfn, here, |_| true)?;
                left -= 1;
            }
        }
        Ok(())
    }

    /// Sends the pages that virtual memory from `start` up to `end` is mapped to.
    fn early_range(
        &mut self,
        pass: Pass,
        position: u64,
        start: VirtAddr,
        end: VirtAddr,
    ) -> Result<(), Interrupt> {
        let page_shift = self.crash.page_shift();
        let page_bytes = 1 << page_shift;
        let mut at = VirtAddr(start.0 & !(page_bytes - 1));
        while at < end {
            let pa = self.kernel.as_ref().and_then(|kernel| kernel.mapping(at).ok()?.place_of(at));
            if let Some((pa, _)) = pa {
                let here = Cursor { pass: pass.number(), position };
                self.early_page(pass, pa.pfn(page_shift), here, |_| true)?;
            }
            let Some(next) = at.checked_add(page_bytes) else { break };
            at = next;
        }
        Ok(())
    }

    /// Sends a page that no early pass has sent, if the dump level keeps it and `is_wanted` its class. The cursor stays
    /// `at`.
    pub(super) fn early_page(
        &mut self,
        pass: Pass,
        pfn: Pfn,
        at: Cursor,
        is_wanted: impl Fn(PageClass) -> bool,
    ) -> Result<(), Interrupt> {
        self.poll(pass)?;
        if self.early.contains(pfn) {
            return Ok(());
        }
        let class = self.out.ram.class(pfn);
        if !self.level.keeps(class) || !is_wanted(class) {
            return Ok(());
        }
        for part in self.out.ram.parts(pfn) {
            self.out.page(&part, at, at)?;
            self.early.insert(pfn);
        }
        Ok(())
    }
}

/// A return address without its signature (aarch64, pointer authentication): those bits are ones in the kernel's half, which
/// bit 55 tells.
const fn unsigned_address(address: VirtAddr, signature: u64) -> VirtAddr {
    const IS_KERNEL: u64 = 1 << 55;
    if address.0 & IS_KERNEL == 0 { address } else { VirtAddr(address.0 | signature) }
}

/// Bytes of a kernel stack, and what it is aligned to (`THREAD_SIZE`, arch/*/include/asm/): on aarch64 a page at least.
pub(super) const fn stack_bytes(machine: Machine, page_shift: u32) -> u64 {
    match machine {
        Machine::Aarch64 if page_shift > 14 => 1 << page_shift,
        Machine::X86_64 | Machine::Aarch64 => 16 << 10,
        Machine::Arm => 8 << 10,
    }
}
