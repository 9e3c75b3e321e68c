//! Which kind of dump a file is, by its first bytes.

use std::io;
use std::path::Path;

use super::{Dump, ElfDump, Flattened, JournalDump, KdumpDump, recording};
use crate::Error;
use crate::file::{self, ReadAt};
use crate::journal;

/// A kind of file, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A journal of `rcapture recv`.
    Journal,
    /// A kdump-compressed dump.
    Kdump,
    /// An ELF core.
    Elf,
    /// A flattened dump.
    Flattened,
}

impl Kind {
    /// What a person calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Journal => "a journal",
            Self::Kdump => "a kdump-compressed dump",
            Self::Elf => "an ELF file",
            Self::Flattened => "a flattened dump",
        }
    }
}

/// What begins with these bytes (at least 16 of them, if there are as many); `None`: a recording, or nothing we know.
#[must_use]
pub fn kind_of(start: &[u8]) -> Option<Kind> {
    if journal::is_journal(start) {
        Some(Kind::Journal)
    } else if start.starts_with(vmcore::kdump::SIGNATURE) {
        Some(Kind::Kdump)
    } else if start.starts_with(b"\x7fELF") {
        Some(Kind::Elf)
    } else if start.starts_with(b"makedumpfile\0") {
        Some(Kind::Flattened)
    } else {
        None
    }
}

/// Opens a dump of any kind.
///
/// # Errors
/// [`Error`], if it is none, or cannot be read.
pub fn open(path: &Path) -> Result<Box<dyn Dump>, Error> {
    let io = |error: io::Error| Error::io("read dump", path)(error);
    let file = file::open(path)?;
    if !file.metadata().map_err(io)?.is_file() {
        let what = "not a regular file; to receive from a line use `rcapture recv`".to_owned();
        return Err(Error::Damaged { path: path.to_owned(), what });
    }
    Ok(match start(&file).map_err(io)? {
        None => Box::new(recording::open(path)?),
        Some(Kind::Journal) => Box::new(JournalDump::open(path)?),
        Some(Kind::Kdump) => Box::new(KdumpDump::read(path, file)?),
        Some(Kind::Elf) => Box::new(ElfDump::read(path, file)?),
        Some(Kind::Flattened) => {
            let plain = Flattened::read(file).map_err(io)?;
            match start(&plain).map_err(io)? {
                Some(Kind::Kdump) => Box::new(KdumpDump::read(path, plain)?),
                Some(Kind::Elf) => Box::new(ElfDump::read(path, plain)?),
                _ => {
                    let what = "flattened, but of neither an ELF core nor a kdump-compressed dump".to_owned();
                    return Err(Error::Damaged { path: path.to_owned(), what });
                }
            }
        }
    })
}

fn start(file: &impl ReadAt) -> io::Result<Option<Kind>> {
    let mut start = [0; 16];
    let count = file.read_up_to(0, &mut start)?;
    Ok(kind_of(start.get(..count).unwrap_or_default()))
}
