//! An ELF core.
//!
//! Pages that the dump does not have lie in no PT_LOAD, so that reading them is an error instead of zeros. PT_LOADs of
//! the crashed kernel that overlap (its image lies in RAM) share the bytes in the file.

mod layout;

pub(crate) use layout::{Content, Layout};

use layout::{Pages, Plan, Stretch};

use super::sink::{Nowhere, Sink};
use super::{Progress, Written};
use crate::Error;
use crate::dump::{Dump, PageReader, PageState, fill};
use crate::pipeline;

/// Bytes read at once by a worker.
const PIECE_BYTES: u64 = 1 << 20;

/// Writes `dump`. What is kept meanwhile are some 100 bytes for each PT_LOAD.
pub(super) fn write(
    dump: &dyn Dump,
    sink: &mut dyn Sink,
    progress: &mut Progress<'_>,
) -> Result<Written, Error> {
    let pages = Pages::of(dump)?;
    let layout = place(dump, &pages, sink, progress)?;
    sink.write_at(0, layout.head())?;
    sink.finish(layout.bytes())?;
    Ok(Written { pages: pages.total, lost: pages.lost })
}

/// The layout of the file that [`write`] makes of `dump`. If zero pages are left out the dump is read for it.
///
/// # Errors
/// [`Error`], if no ELF core can hold it, or it cannot be read.
pub(crate) fn layout(dump: &dyn Dump) -> Result<Layout, Error> {
    let pages = Pages::of(dump)?;
    let plan = Plan::new(dump.facts(), &pages.stretches)?;
    if plan.leaves_zeros() {
        return place(dump, &pages, &mut Nowhere, &mut |_, _| {});
    }
    let mut placed = plan.placed();
    pages.stretches.iter().for_each(|stretch| placed.put_unread(*stretch));
    plan.finish(placed, pages.lost == 0, &mut Nowhere)
}

/// Reads all pages, and puts them where they belong.
fn place(
    dump: &dyn Dump,
    pages: &Pages,
    sink: &mut dyn Sink,
    progress: &mut Progress<'_>,
) -> Result<Layout, Error> {
    let facts = dump.facts();
    let page_bytes = facts.page_bytes() as u64;
    let plan = Plan::new(facts, &pages.stretches)?;
    let mut placed = plan.placed();
    let mut done = 0;
    let new_reader = || {
        let mut reader = Reader { dump, pages: dump.reader(), page: vec![0; facts.page_bytes()] };
        move |piece: Stretch| reader.read(&piece).map(|bytes| (piece, bytes))
    };
    pipeline::in_order(pieces(&pages.stretches), new_reader, |read: Result<(Stretch, Vec<u8>), Error>| {
        let (piece, bytes) = read?;
        placed.put(piece.start, &bytes, sink)?;
        done += (bytes.len() as u64).div_ceil(page_bytes);
        progress(done.min(pages.total), pages.total);
        Ok(())
    })?;
    plan.finish(placed, pages.lost == 0, sink)
}

/// Cuts stretches in pieces for workers.
fn pieces(stretches: &[Stretch]) -> impl Iterator<Item = Stretch> {
    stretches.iter().flat_map(|stretch| {
        let mut rest = *stretch;
        std::iter::from_fn(move || {
            // Cut where memory's addresses are round, so that no page is read twice.
            let cut = (rest.start / PIECE_BYTES + 1).saturating_mul(PIECE_BYTES).min(rest.end);
            let piece = Stretch { end: cut, ..rest };
            rest.start = cut;
            (piece.start < piece.end).then_some(piece)
        })
    })
}

/// What a worker thread reads with.
struct Reader<'a> {
    dump: &'a dyn Dump,
    pages: Box<dyn PageReader + 'a>,
    page: Vec<u8>,
}

impl Reader<'_> {
    fn read(&mut self, piece: &Stretch) -> Result<Vec<u8>, Error> {
        let page_bytes = self.page.len() as u64;
        let mut bytes = Vec::with_capacity(usize::try_from(piece.end - piece.start).unwrap_or(0));
        let mut at = piece.start;
        while at < piece.end {
            let pfn = at / page_bytes;
            match self.dump.state_at(pfn)?.0 {
                PageState::Filled(word) => fill(&mut self.page, word),
                _ => self.pages.read(pfn, &mut self.page)?,
            }
            let from = usize::try_from(at % page_bytes).unwrap_or(0);
            let end = (pfn + 1).saturating_mul(page_bytes).min(piece.end);
            let count = usize::try_from(end - at).unwrap_or(0);
            bytes.extend_from_slice(self.page.get(from..from + count).unwrap_or_default());
            at = end;
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use vmcore::elfcorehdr::LoadSegment;
    use vmcore::headers::Machine;

    use super::*;
    use crate::dump::{Facts, map_of};
    use crate::write::{self, Format, Options};

    const PAGE: usize = 4096;

    /// Two ranges of RAM that begin and end inside pages, of which some pages are lacking, and many are zero.
    struct Sparse(Facts);

    impl Sparse {
        fn new(dump_level: u8) -> Self {
            let load = |p_paddr, p_memsz| LoadSegment {
                p_vaddr: 0xffff_8880_0000_0000 + p_paddr,
                p_paddr,
                p_offset: 0,
                p_filesz: p_memsz,
                p_memsz,
            };
            let segments =
                vec![load(0x40_0000, 0x1_0000), load(0x1000, 0x9_e123), load(0x10_0e00, 0x50_0000)];
            Self(Facts {
                machine: Machine::X86_64,
                page_shift: 12,
                utsname: [0; wire::UTSNAME_BYTES],
                crash_time: 1,
                dump_level,
                map: map_of(&segments),
                segments,
                notes: Vec::new(),
                is_complete: true,
                pulled: 0,
            })
        }

        fn is_zero(pfn: u64) -> bool {
            (0x110..0x118).contains(&pfn) || (0x180..0x300).contains(&pfn) || pfn > 0x4ff
        }
    }

    impl Dump for Sparse {
        fn facts(&self) -> &Facts {
            &self.0
        }

        fn state_at(&self, pfn: u64) -> Result<(PageState, u64), Error> {
            let state = match pfn {
                0x20..0x30 => PageState::Excluded,
                0x330 => PageState::Hole(3),
                0x1a0 => PageState::Filled(0),
                _ => PageState::Data,
            };
            Ok((state, 1))
        }

        fn reader(&self) -> Box<dyn PageReader + '_> {
            Box::new(self)
        }
    }

    impl PageReader for &Sparse {
        fn read(&mut self, pfn: u64, page: &mut [u8]) -> Result<(), Error> {
            let byte = if Sparse::is_zero(pfn) { 0 } else { pfn.to_le_bytes()[0] | 1 };
            page.fill(byte);
            Ok(())
        }
    }

    /// The file that a layout tells of.
    fn read_by(layout: &Layout, dump: &dyn Dump) -> Vec<u8> {
        let mut out = Vec::new();
        let mut page = vec![0; PAGE];
        loop {
            match layout.at(out.len() as u64) {
                Content::Head(head) => out.extend_from_slice(head),
                Content::Gap(zeros) => out.resize(out.len() + usize::try_from(zeros).unwrap(), 0),
                Content::Memory { pa, bytes } => {
                    dump.reader().read(pa >> 12, &mut page).unwrap();
                    let rest = &page[usize::try_from(pa % 4096).unwrap()..];
                    out.extend(rest.iter().take(usize::try_from(bytes).unwrap()));
                }
                Content::End => return out,
            }
        }
    }

    #[test]
    fn the_layout_that_is_asked_for_is_that_of_the_file_which_is_written() {
        let directory = tempfile::tempdir().unwrap();
        for dump_level in [0, 1] {
            let dump = Sparse::new(dump_level);
            let path = directory.path().join(format!("level {dump_level}"));
            let options = Options { format: Format::Elf, ..Options::default() };
            write::to_file(&dump, &path, options, &mut |_, _| {}).unwrap();
            let layout = layout(&dump).unwrap();
            let written = std::fs::read(&path).unwrap();
            assert_eq!(layout.bytes(), written.len() as u64);
            assert!(read_by(&layout, &dump) == written, "dump level {dump_level}");
        }
    }

    #[test]
    fn a_layout_of_all_ram_is_that_of_a_dump_which_lacks_nothing() {
        struct Whole(Sparse);
        impl Dump for Whole {
            fn facts(&self) -> &Facts {
                self.0.facts()
            }
            fn state_at(&self, pfn: u64) -> Result<(PageState, u64), Error> {
                Ok((PageState::Data, 0x1000 - pfn))
            }
            fn reader(&self) -> Box<dyn PageReader + '_> {
                self.0.reader()
            }
        }
        let whole = Whole(Sparse::new(0));
        let of_dump = layout(&whole).unwrap();
        let of_ram = Layout::of_ram(whole.facts()).unwrap();
        assert_eq!(of_ram.head(), of_dump.head());
        assert!(read_by(&of_ram, &whole) == read_by(&of_dump, &whole));
        // Who tells of PT_LOADs that overlap everything, again and again, is not believed.
        let mut absurd = Sparse::new(0).0;
        let everything = LoadSegment { p_paddr: 0, p_memsz: u64::MAX, ..absurd.segments[0] };
        absurd.segments = vec![everything; 600_000];
        assert!(matches!(Layout::of_ram(&absurd), Err(Error::Unwritable { .. })));
        // What zeros a page has is not known before it comes.
        let of_ram = Layout::of_ram(Sparse::new(31).facts()).unwrap();
        assert_eq!(of_ram.bytes(), of_dump.bytes());
    }
}
