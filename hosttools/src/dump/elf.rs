//! An ELF vmcore as a dump.

use std::path::{Path, PathBuf};

use vmcore::elfcore::{ElfCore, INCOMPLETE};
use vmcore::elfcorehdr::LoadSegment;
use vmcore::notes::find_vmcoreinfo;
use vmcore::vmcoreinfo::VmcoreInfo;

use super::own_note::take_own_note;
use super::{Dump, Facts, PageReader, PageState, map_of};
use crate::Error;
use crate::file::ReadAt;
use crate::utsname;

/// Bytes believed of all notes together.
const MAX_NOTES_BYTES: u64 = 64 << 20;

/// Bytes of physical memory that lie together in the file.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    start: u64,
    end: u64,
    file_offset: u64,
    /// Where the file's bytes end; zeros follow up to `end` (p_filesz < p_memsz).
    file_end: u64,
}

/// An ELF vmcore as a dump.
pub struct ElfDump<F> {
    path: PathBuf,
    file: F,
    facts: Facts,
    /// Ascending, without overlaps.
    stretches: Vec<Stretch>,
}

impl<F: ReadAt + Send + Sync> ElfDump<F> {
    /// Reads the headers and notes of `file`, which errors call `path`.
    ///
    /// # Errors
    /// [`Error`], if it is no such file, or cannot be read.
    pub fn read(path: &Path, file: F) -> Result<Self, Error> {
        let io = |error| Error::io("read dump", path)(error);
        let damaged = |what: String| Error::Damaged { path: path.to_owned(), what };
        let mut read = |offset: u64, buf: &mut [u8]| file.read_exactly(offset, buf).is_ok();
        let core = ElfCore::read(&mut read).map_err(|error| damaged(error.to_string()))?;
        let file_bytes = file.length().map_err(io)?;
        let mut notes = Vec::new();
        for segment in &core.notes {
            let bytes = segment.p_filesz.min(file_bytes.saturating_sub(segment.p_offset));
            let bytes = bytes.min(MAX_NOTES_BYTES.saturating_sub(notes.len() as u64));
            let mut part = vec![0; usize::try_from(bytes).unwrap_or(0)];
            file.read_exactly(segment.p_offset, &mut part).map_err(io)?;
            notes.extend_from_slice(&part);
        }
        let info = VmcoreInfo::new(find_vmcoreinfo(&notes).unwrap_or_default());
        let is_whole = core
            .loads
            .iter()
            .all(|load| load.p_offset.checked_add(load.p_filesz).is_some_and(|end| end <= file_bytes));
        let mut facts = Facts {
            machine: core.machine,
            page_shift: info.page_shift().unwrap_or(12),
            utsname: utsname::of(core.machine, &info),
            crash_time: info.crash_time().unwrap_or(0),
            dump_level: 0,
            map: map_of(&core.loads),
            segments: core.loads.clone(),
            is_complete: core.e_flags & INCOMPLETE == 0 && is_whole && core.faults.is_empty(),
            pulled: 0,
            notes,
        };
        take_own_note(&mut facts);
        let stretches = stretches(&core.loads, file_bytes);
        Ok(Self { path: path.to_owned(), file, facts, stretches })
    }

    /// The stretch that holds `pa`, or else the next one.
    fn from(&self, pa: u64) -> &[Stretch] {
        let index = self.stretches.partition_point(|stretch| stretch.end <= pa);
        self.stretches.get(index..).unwrap_or_default()
    }

    /// Reads what a stretch has at `pa`.
    fn read_stretch(&self, stretch: &Stretch, pa: u64, to: &mut [u8]) -> Result<(), Error> {
        let offset = stretch.file_offset.saturating_add(pa.saturating_sub(stretch.start));
        self.file.read_exactly(offset, to).map_err(Error::io("read page", &self.path))
    }

    /// Whether all RAM of page `pfn` is in the file.
    fn has(&self, pfn: u64) -> bool {
        let shift = self.facts.page_shift;
        let page = pfn.checked_shl(shift).unwrap_or(u64::MAX);
        let mut parts = self
            .facts
            .map
            .pages_from(::memory::Pfn(pfn), shift)
            .take_while(|part| part.pfn.0 == pfn)
            .peekable();
        parts.peek().is_some()
            && parts.all(|part| {
                let (mut at, end) = (page + part.offset, page + part.offset + part.bytes);
                for stretch in self.from(at) {
                    if stretch.start > at || at >= end {
                        break;
                    }
                    at = stretch.end;
                }
                at >= end
            })
    }
}

impl<F: ReadAt + Send + Sync> Dump for ElfDump<F> {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn state_at(&self, pfn: u64) -> Result<(PageState, u64), Error> {
        let absent = if self.facts.is_complete { PageState::Excluded } else { PageState::Missing };
        let shift = self.facts.page_shift;
        let page = pfn.checked_shl(shift).unwrap_or(u64::MAX);
        let page_end = page.saturating_add(self.facts.page_bytes() as u64);
        // Whole pages of one stretch, or between two, are answered at once; the pages where they meet one by one.
        Ok(match self.from(page).first() {
            Some(stretch) if stretch.start <= page && stretch.end >= page_end => {
                (PageState::Data, (stretch.end >> shift).saturating_sub(pfn).max(1))
            }
            Some(stretch) if stretch.start >= page_end => {
                (absent, (stretch.start >> shift).saturating_sub(pfn).max(1))
            }
            None => (absent, u64::MAX - pfn),
            Some(_) if self.has(pfn) => (PageState::Data, 1),
            Some(_) => (absent, 1),
        })
    }

    fn reader(&self) -> Box<dyn PageReader + '_> {
        Box::new(ElfReader(self))
    }
}

struct ElfReader<'a, F>(&'a ElfDump<F>);

impl<F: ReadAt + Send + Sync> PageReader for ElfReader<'_, F> {
    fn read(&mut self, pfn: u64, page: &mut [u8]) -> Result<(), Error> {
        let dump = self.0;
        if !dump.has(pfn) {
            return Err(Error::Page { pfn, what: "not in the dump".to_owned() });
        }
        let page_start = pfn.checked_shl(dump.facts.page_shift).unwrap_or(u64::MAX);
        let page_end = page_start.saturating_add(page.len() as u64);
        page.fill(0);
        for stretch in dump.from(page_start) {
            let (start, end) = (stretch.start.max(page_start), stretch.file_end.min(page_end));
            if stretch.start >= page_end {
                break;
            }
            let in_page = usize::try_from(start - page_start).unwrap_or(usize::MAX);
            let bytes = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
            if let Some(to) = page.get_mut(in_page..).and_then(|rest| rest.get_mut(..bytes)) {
                dump.read_stretch(stretch, start, to)?;
            }
        }
        Ok(())
    }

    fn read_run(&mut self, first: u64, page_bytes: usize, pages: &mut [u8]) -> Result<(), Error> {
        let start = first.checked_shl(self.0.facts.page_shift).unwrap_or(u64::MAX);
        let end = start.saturating_add(pages.len() as u64);
        match self.0.from(start).first() {
            Some(stretch) if stretch.start <= start && end <= stretch.file_end => {
                self.0.read_stretch(stretch, start, pages)
            }
            _ => self.read_each(first, page_bytes, pages),
        }
    }
}

/// Where physical memory is in the file: of PT_LOADs that overlap (the kernel's image lies in RAM) that which begins
/// first; what lies behind the end of the file is not there.
fn stretches(loads: &[LoadSegment], file_bytes: u64) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = loads
        .iter()
        .filter_map(|load| {
            let file_end = load.p_offset.checked_add(load.p_filesz)?;
            let start = load.p_paddr;
            let here = load.p_filesz.min(file_bytes.saturating_sub(load.p_offset));
            // Zeros follow only what is there.
            let bytes = if file_end <= file_bytes { load.p_memsz.max(load.p_filesz) } else { here };
            let end = start.checked_add(bytes)?;
            Some(Stretch { start, end, file_offset: load.p_offset, file_end: start.checked_add(here)? })
        })
        .collect();
    all.sort_unstable_by_key(|stretch| (stretch.start, std::cmp::Reverse(stretch.file_end)));
    let mut covered = 0;
    all.retain_mut(|stretch| {
        if covered > stretch.start {
            stretch.file_offset = stretch.file_offset.saturating_add(covered - stretch.start);
            stretch.start = covered;
        }
        stretch.file_end = stretch.file_end.max(stretch.start);
        covered = covered.max(stretch.end);
        stretch.start < stretch.end
    });
    all
}

#[cfg(test)]
mod tests {
    use ::memory::{PhysAddr, PhysMemory, ReadFaultKind};
    use vmcore::elfcore::{NewElfCore, data_offset};
    use vmcore::headers::{Class, Machine};

    use super::*;
    use crate::dump::DumpMemory;

    const PAGE: u64 = 4096;

    /// RAM from page 1 on: five pages in one piece of the file, two in another, two of zeros that are not in it.
    fn dump() -> ElfDump<Vec<u8>> {
        let start = data_offset(Class::ELF64, 2, 0);
        let load = |pfn: u64, p_offset, p_filesz, p_memsz| LoadSegment {
            p_vaddr: 0,
            p_paddr: pfn * PAGE,
            p_offset,
            p_filesz,
            p_memsz,
        };
        let loads = [load(1, start + 2 * PAGE, 5 * PAGE, 5 * PAGE), load(6, start, 2 * PAGE, 4 * PAGE)];
        let new = NewElfCore {
            class: Class::ELF64,
            machine: Machine::X86_64,
            e_flags: 0,
            notes: &[],
            loads: &loads,
        };
        let mut file = new.encode().unwrap();
        file.resize(usize::try_from(start).unwrap(), 0);
        file.extend((0..7 * PAGE).map(|byte| u8::try_from((byte / 16 + byte / PAGE) % 251).unwrap()));
        ElfDump::read(Path::new("test"), file).unwrap()
    }

    #[test]
    fn memory_is_the_same_however_much_of_it_is_read_at_once() {
        let dump = dump();
        let memory = DumpMemory::new(&dump);
        let mut bytes = vec![0; 9 * PAGE as usize];
        for (at, byte) in (PAGE..).zip(&mut bytes) {
            memory.read(PhysAddr(at), std::slice::from_mut(byte)).unwrap();
        }
        assert!(bytes[..7 * PAGE as usize].chunks(16).any(|line| line[0] != 0));
        for start in [0, 1, 2 * PAGE, 3 * PAGE + 16, 4 * PAGE, 6 * PAGE] {
            let mut read = vec![0xee; (9 * PAGE - start) as usize];
            memory.read(PhysAddr(PAGE + start), &mut read).unwrap();
            assert!(read == bytes[start as usize..], "from {start:#x}");
        }
        let mut too_much = vec![0; 4 * PAGE as usize];
        let fault = memory.read(PhysAddr(8 * PAGE), &mut too_much).unwrap_err();
        assert_eq!((fault.pa, fault.kind), (PhysAddr(10 * PAGE), ReadFaultKind::NotRam));
    }
}
