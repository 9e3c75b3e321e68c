//! What the machine wrote to its serial port so far, read from QEMU's log of it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use memchr::memmem;

use crate::outcome::{IoContext, Result};

/// Reads a growing log and finds text in it.
#[derive(Debug)]
pub(crate) struct Console {
    path: PathBuf,
    file: File,
    /// Read but not yet passed over by a search.
    unsearched: Vec<u8>,
}

impl Console {
    /// Reads what is written to `path` from now on. It is made if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = File::options().read(true).append(true).create(true).open(path).on("open", path)?;
        file.seek(SeekFrom::End(0)).on("seek in", path)?;
        Ok(Self { path: path.to_owned(), file, unsearched: Vec::new() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether `text` came after the end of the last text found.
    pub(crate) fn find(&mut self, text: &[u8]) -> Result<bool> {
        let mut chunk = vec![0; 1 << 16];
        loop {
            if let Some(at) = memmem::find(&self.unsearched, text) {
                self.unsearched.drain(..at + text.len());
                return Ok(true);
            }
            // What may be the beginning of the text stays.
            let done = self.unsearched.len().saturating_sub(text.len().saturating_sub(1));
            self.unsearched.drain(..done);
            let read = self.file.read(&mut chunk).on("read", &self.path)?;
            if read == 0 {
                return Ok(false);
            }
            self.unsearched.extend(chunk.iter().take(read));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn text_is_found_across_writes_and_in_order() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        let mut console = Console::open(log.path()).unwrap();
        log.write_all(b"LAB: init\nLAB: lo").unwrap();
        assert!(console.find(b"LAB: init").unwrap());
        assert!(!console.find(b"LAB: loaded").unwrap());
        log.write_all(b"aded\nKernel panic").unwrap();
        assert!(console.find(b"LAB: loaded").unwrap());
        assert!(!console.find(b"LAB: init").unwrap(), "what was passed is not found again");
    }
}
