//! Writing a dump as a vmcore.
//!
//! # Flow
//! [`each_run`](crate::dump::each_run) ─▶ batches of pages ─▶ worker threads read and compress ─▶ one writer, in the pages' order ─▶
//! file or stream. Headers are written last: what they say is known only then, and a file without them is no dump.

mod batches;
mod compress;
mod elf;
mod kdump;
mod progress;
mod sink;

use std::io::Write;
use std::path::Path;

pub use compress::Compression;
pub(crate) use elf::{Content, Layout, layout};
pub use progress::WriteBar;
use sink::{FileSink, FlattenedSink, Sink};
use vmcore::headers::Machine;

use crate::Error;
use crate::dump::Dump;
use crate::file::NewFile;

/// The format of a vmcore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// What most tools read: kdump-compressed, but of arm an ELF core. libkdumpfile, and so drgn, knows no kdump-compressed
    /// file of 32 bits.
    #[default]
    Auto,
    /// makedumpfile's kdump-compressed format.
    Kdump,
    /// An ELF core.
    Elf,
    /// Kdump-compressed, flattened: can be written to a pipe.
    Flattened,
}

/// How to write a vmcore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The format.
    pub format: Format,
    /// How its pages are compressed; an ELF core's are not.
    pub compression: Compression,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Pages with their bytes.
    pub pages: u64,
    /// Pages that belong into the dump and could not be had.
    pub lost: u64,
}

impl Written {
    /// Whether nothing is lacking.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.lost == 0
    }
}

/// Told how far the writing is: pages done, and pages in all.
pub type Progress<'a> = dyn FnMut(u64, u64) + 'a;

/// Writes `dump` to a file that gets its name `path` when it is whole.
///
/// # Errors
/// [`Error`], if it cannot be written, or the dump cannot be read.
pub fn to_file(
    dump: &dyn Dump,
    path: &Path,
    options: Options,
    progress: &mut Progress<'_>,
) -> Result<Written, Error> {
    let new = NewFile::create(path)?;
    let written = match options.format {
        Format::Flattened => flattened(dump, new.file(), path, options.compression, progress)?,
        Format::Auto | Format::Kdump | Format::Elf => {
            let mut sink = FileSink::new(new.file(), path);
            to_sink(dump, &mut sink, options, progress)?
        }
    };
    new.finish()?;
    Ok(written)
}

/// Writes `dump` flattened to `out`, which errors call `path`; it need not be able to seek.
///
/// # Errors
/// [`Error`], if it cannot be written, or the dump cannot be read.
pub fn flattened(
    dump: &dyn Dump,
    out: impl Write,
    path: &Path,
    compression: Compression,
    progress: &mut Progress<'_>,
) -> Result<Written, Error> {
    let mut sink = FlattenedSink::new(out, path)?;
    let options = Options { format: Format::Flattened, compression };
    to_sink(dump, &mut sink, options, progress)
}

fn to_sink(
    dump: &dyn Dump,
    sink: &mut dyn Sink,
    options: Options,
    progress: &mut Progress<'_>,
) -> Result<Written, Error> {
    let is_elf = match options.format {
        Format::Auto => dump.facts().machine == Machine::Arm,
        format => format == Format::Elf,
    };
    if is_elf {
        elf::write(dump, sink, progress)
    } else {
        kdump::write(dump, sink, options.compression, progress)
    }
}
