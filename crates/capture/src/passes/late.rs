//! The late passes: predicates on a page. Each page of RAM belongs to exactly one of them.

use codec::Filter;
use memory::{ImagePart, KernelImage, PageClass, PageCounts, Pfn, PhysMemory, Span};
use vmcore::headers::Machine;
use wire::{Cursor, Pass};

use crate::dump::Dump;
use crate::pump::Interrupt;
use crate::ram::forbidden;
use crate::regions::Region;
use crate::{Clock, Link};

impl<M: PhysMemory, L: Link, C: Clock> Dump<'_, M, L, C> {
    /// Counts pages by class, and finds the regions that the late passes tell apart.
    pub(super) fn find_regions(&mut self) -> Result<(), Interrupt> {
        self.counts = PageCounts::default();
        self.regions.clear();
        for run in self.image.iter().flat_map(KernelImage::runs) {
            let region = match run.part {
                ImagePart::Data => Region::Data,
                ImagePart::ReadOnly => Region::ReadOnly,
                ImagePart::Text => Region::Text,
            };
            self.regions.add(run.first, run.end, region);
        }
        let mut at = Pfn(0);
        while let Some(first) = self.next_frame_of_ram(at) {
            let span = self.out.ram.classifier.span(first, Pfn(u64::MAX));
            let ram_pages = self.ram_pages_of(&span);
            self.counts += Span { pages: ram_pages, ..span };
            if let Some((first, end)) = self.out.ram.classifier.memmap_frames(first) {
                self.regions.add(first, end, Region::MemMap);
            }
            at = span.end();
            self.poll(Pass::Count)?;
        }
        Ok(())
    }

    /// Sends the pages from `first` on that belong to `pass`.
    pub(crate) fn late(&mut self, pass: Pass, first: Pfn) -> Result<(), Interrupt> {
        let mut at = first;
        while let Some(first) = self.next_frame_of_ram(at) {
            let (region, end) = self.regions.at(first);
            // Without a look at the memmap, which takes most of the time.
            let is_elsewhere = match pass {
                Pass::Image => region == Region::Other,
                _ => false,
            };
            if is_elsewhere {
                at = end;
                self.poll(pass)?;
                continue;
            }
            let span = self.out.ram.classifier.span(first, end);
            if pass_of(span.class, region) == pass {
                self.out.use_filter(self.filter_for(region))?;
                self.late_span(pass, &span)?;
            }
            at = span.end();
            self.poll(pass)?;
        }
        self.out.close_block()
    }

    /// Sends a span, or says that it must not be read, or leaves it out.
    fn late_span(&mut self, pass: Pass, span: &Span) -> Result<(), Interrupt> {
        let hole = forbidden(span.class);
        if hole.is_none() && !self.level.keeps(span.class) {
            return Ok(());
        }
        let crash = self.crash;
        let parts = crash.map.pages_from(span.first, crash.page_shift());
        for part in parts.take_while(|part| part.pfn < span.end()) {
            let cursor = |position| Cursor { pass: pass.number(), position };
            let (here, behind) = (cursor(part.pfn.0), cursor(part.pfn.0 + 1));
            match hole {
                Some(why) => self.out.hole(part.pfn.0, why, behind)?,
                None if self.early.contains(part.pfn) => {}
                None => self.out.page(&part, here, behind)?,
            }
            self.done_pages += 1;
            self.poll(pass)?;
        }
        Ok(())
    }

    /// The first frame from `pfn` on that has RAM.
    pub(super) fn next_frame_of_ram(&self, pfn: Pfn) -> Option<Pfn> {
        Some(self.crash.map.pages_from(pfn, self.crash.page_shift()).next()?.pfn)
    }

    /// What suits the pages of a region: the memmap is an array, whose neighbours are much alike.
    fn filter_for(&self, region: Region) -> Filter {
        match (region, self.struct_page_bytes, self.crash.core.machine) {
            (Region::MemMap, Some(bytes), _) => Filter::Delta(bytes),
            (Region::Text, _, Machine::X86_64) => Filter::X86,
            (Region::Text, _, Machine::Aarch64) => Filter::Arm64,
            (Region::Text, _, Machine::Arm) => Filter::Arm,
            _ => Filter::None,
        }
    }

    fn ram_pages_of(&self, span: &Span) -> u64 {
        let below_end = self.crash.ram_pages_below(span.end());
        below_end.saturating_sub(self.crash.ram_pages_below(span.first))
    }
}

/// The pass that sends a page.
fn pass_of(class: PageClass, region: Region) -> Pass {
    match (class, region) {
        (PageClass::Slab, _) => Pass::Slab,
        (PageClass::Kernel, Region::Other) => Pass::Kernel,
        (PageClass::Kernel, _) => Pass::Image,
        _ => Pass::Rest,
    }
}
