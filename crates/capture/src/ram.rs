//! The crashed machine's memory as a dump reads it: what is RAM, what it is used for, what it holds.

use memory::{Classifier, CrashedMemory, PageClass, PagePart, Pfn, PhysMemory, ReadFaultKind};

use crate::Crash;

/// RAM, by page frames.
pub(crate) struct Ram<'a, M: PhysMemory> {
    pub(crate) crash: &'a Crash,
    pub(crate) memory: CrashedMemory<'a, &'a M>,
    pub(crate) classifier: Classifier<CrashedMemory<'a, &'a M>>,
}

impl<'a, M: PhysMemory> Ram<'a, M> {
    /// The parts of a page frame that are RAM.
    pub(crate) fn parts(&self, pfn: Pfn) -> impl Iterator<Item = PagePart> + use<'a, M> {
        let crash = self.crash;
        crash.map.pages_from(pfn, crash.page_shift()).take_while(move |part| part.pfn == pfn)
    }

    /// The class of one page frame.
    pub(crate) fn class(&mut self, pfn: Pfn) -> PageClass {
        self.classifier.span(pfn, Pfn(pfn.0.saturating_add(1))).class
    }

    /// Why a page must not be read, whatever the dump level says of it: what that leaves out may have damaged pages in it that
    /// its class does not tell of.
    pub(crate) fn forbidden(&mut self, pfn: Pfn) -> Option<ReadFaultKind> {
        forbidden(self.class(pfn))
            .or_else(|| self.classifier.is_poisoned(pfn).then_some(ReadFaultKind::HwPoison))
    }
}

/// Why a page of this class must not be read, whoever wants it.
pub(crate) const fn forbidden(class: PageClass) -> Option<ReadFaultKind> {
    match class {
        PageClass::HwPoison => Some(ReadFaultKind::HwPoison),
        PageClass::Offline => Some(ReadFaultKind::Offline),
        _ => None,
    }
}
