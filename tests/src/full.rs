//! A vmcore with all of the machine's memory, without waiting for a serial line.

use std::path::Path;

use rcapture::Error;
use rcapture::dump::{self, Dump, Facts, PageReader, PageState};
use rcapture::write::{self, Format, Options};
use rcapture_qemu::Truth;

/// What `vmcore` says about the machine, with the memory that QEMU saw.
struct FullDump<'a> {
    facts: Facts,
    truth: &'a Truth,
}

impl Dump for FullDump<'_> {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn state_at(&self, _: u64) -> Result<(PageState, u64), Error> {
        Ok((PageState::Data, 1 << 20))
    }

    fn reader(&self) -> Box<dyn PageReader + '_> {
        Box::new(TruthReader(self.truth))
    }
}

struct TruthReader<'a>(&'a Truth);

impl PageReader for TruthReader<'_> {
    fn read(&mut self, pfn: u64, page: &mut [u8]) -> Result<(), Error> {
        page.copy_from_slice(&self.0.page(pfn).unwrap());
        Ok(())
    }
}

/// Writes to `path` an ELF vmcore with what `vmcore` says about the machine, and every page of RAM as `truth` has it.
pub fn write_full(vmcore: &Path, truth: &Truth, path: &Path) {
    let facts = Facts { dump_level: 0, is_complete: true, ..dump::open(vmcore).unwrap().facts().clone() };
    let options = Options { format: Format::Elf, ..Options::default() };
    let written = write::to_file(&FullDump { facts, truth }, path, options, &mut |_, _| ()).unwrap();
    assert!(written.is_whole(), "{written:?}");
}
