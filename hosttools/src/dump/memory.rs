//! A dump as the crashed machine's physical memory.

use std::cell::RefCell;
use std::ops::Range;

use ::memory::{PhysAddr, PhysMemory, ReadFault, ReadFaultKind};

use super::{Dump, PageReader, PageState, fill};

/// Physical memory of the machine a dump was made of. Keeps the page it read last.
pub struct DumpMemory<'a> {
    dump: &'a dyn Dump,
    last: RefCell<Last<'a>>,
}

struct Last<'a> {
    reader: Box<dyn PageReader + 'a>,
    pfn: Option<u64>,
    page: Vec<u8>,
    /// The frames that were looked at last, and what became of all of them.
    run: Range<u64>,
    state: PageState,
}

impl<'a> DumpMemory<'a> {
    /// The memory that `dump` holds.
    #[must_use]
    pub fn new(dump: &'a dyn Dump) -> Self {
        let page = vec![0; dump.facts().page_bytes()];
        Self {
            dump,
            last: RefCell::new(Last {
                reader: dump.reader(),
                pfn: None,
                page,
                run: 0..0,
                state: PageState::Missing,
            }),
        }
    }

    /// Reads as many whole pages as `buf` has room for and the dump has together. How many bytes these are: 0 if there are
    /// fewer than two.
    fn read_pages(&self, last: &mut Last<'a>, pa: PhysAddr, buf: &mut [u8]) -> Result<usize, ReadFaultKind> {
        let facts = self.dump.facts();
        let page_bytes = facts.page_bytes();
        if buf.len() < 2 * page_bytes || !pa.0.is_multiple_of(page_bytes as u64) {
            return Ok(0);
        }
        let pfn = pa.pfn(facts.page_shift).0;
        self.look_up(last, pfn)?;
        let left = usize::try_from(last.run.end - pfn).unwrap_or(usize::MAX);
        let bytes = left.min(buf.len() / page_bytes) * page_bytes;
        let is_ram = facts.map.contains_all(pa, bytes as u64);
        match buf.get_mut(..bytes) {
            Some(pages) if last.state == PageState::Data && is_ram => {
                let read = last.reader.read_run(pfn, page_bytes, pages);
                read.map(|()| bytes).map_err(|_| ReadFaultKind::NotInDump)
            }
            _ => Ok(0),
        }
    }

    /// Finds the run of pages that `pfn` is in.
    fn look_up(&self, last: &mut Last<'a>, pfn: u64) -> Result<(), ReadFaultKind> {
        if !last.run.contains(&pfn) {
            let (state, pages) = self.dump.state_at(pfn).map_err(|_| ReadFaultKind::NotInDump)?;
            (last.run, last.state) = (pfn..pfn.saturating_add(pages), state);
        }
        Ok(())
    }

    fn load(&self, last: &mut Last<'a>, pfn: u64) -> Result<(), ReadFaultKind> {
        if last.pfn == Some(pfn) {
            return Ok(());
        }
        last.pfn = None;
        self.look_up(last, pfn)?;
        match last.state {
            PageState::Data => last.reader.read(pfn, &mut last.page).map_err(|_| ReadFaultKind::NotInDump)?,
            PageState::Filled(word) => fill(&mut last.page, word),
            PageState::Hole(reason) => return Err(fault_kind(reason)),
            PageState::Missing | PageState::Excluded => return Err(ReadFaultKind::NotInDump),
        }
        last.pfn = Some(pfn);
        Ok(())
    }
}

/// The reason of a hole.
fn fault_kind(number: u8) -> ReadFaultKind {
    use ReadFaultKind::{Access, HwPoison, MachineCheck, NotInDump, Offline};
    let kinds = [Access, MachineCheck, HwPoison, Offline];
    kinds.into_iter().find(|&kind| kind as u8 == number).unwrap_or(NotInDump)
}

impl PhysMemory for DumpMemory<'_> {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        let facts = self.dump.facts();
        let mut last = self.last.borrow_mut();
        let mut at = pa;
        let mut rest = buf;
        while !rest.is_empty() {
            let fault = |kind| ReadFault { pa: at, kind };
            if !facts.map.contains(at) {
                return Err(fault(ReadFaultKind::NotRam));
            }
            // A run that fails is read page by page: the fault is that of the first page that cannot be read.
            let mut count = self.read_pages(&mut last, at, rest).unwrap_or(0);
            if count == 0 {
                self.load(&mut last, at.pfn(facts.page_shift).0).map_err(fault)?;
                let in_page = usize::try_from(at.0 % facts.page_bytes() as u64).unwrap_or(0);
                let from = last.page.get(in_page..).unwrap_or_default();
                count = from.len().min(rest.len());
                let now = rest.get_mut(..count).unwrap_or_default();
                now.copy_from_slice(from.get(..count).unwrap_or_default());
            }
            let (_, later) = rest.split_at_mut(count);
            at = at.checked_add(count as u64).ok_or_else(|| fault(ReadFaultKind::NotRam))?;
            rest = later;
        }
        Ok(())
    }
}
