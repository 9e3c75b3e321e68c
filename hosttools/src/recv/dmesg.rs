//! `vmcore-dmesg.txt`: the kernel log beside the vmcore, there as soon as it has come.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::dump::{Assembly, Dump};
use crate::file::NewFile;
use crate::log::{self, Extent, KernelLogError, write_text};

/// The file, and whether it is there.
pub(super) struct Dmesg {
    path: PathBuf,
    is_whole: bool,
}

impl Dmesg {
    pub(super) fn in_directory(directory: &Path) -> Self {
        Self { path: directory.join("vmcore-dmesg.txt"), is_whole: false }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file when the text has come whole; `true` at that moment. What fails now is tried again at the end.
    pub(super) fn look_at(&mut self, assembly: &Assembly) -> bool {
        let (text, total) = assembly.log();
        if self.is_whole || text.is_empty() || text.len() < total {
            return false;
        }
        self.is_whole = self.write(|out| Ok(write_text(text, out)?)).is_ok();
        self.is_whole
    }

    /// Nothing more comes: writes what there is, if it is not written yet. A dump without a log is a dump nevertheless.
    pub(super) fn finish(self, dump: &dyn Dump) -> Result<Extent, KernelLogError> {
        if self.is_whole {
            return Ok(Extent::Whole);
        }
        self.write(|out| {
            let extent = log::write(dump, out)?;
            if extent != Extent::Whole {
                writeln!(out, "[rcapture: {extent}]")?;
            }
            Ok(extent)
        })
    }

    fn write<T>(
        &self,
        content: impl FnOnce(&mut Vec<u8>) -> Result<T, KernelLogError>,
    ) -> Result<T, KernelLogError> {
        let mut text = Vec::new();
        let what = content(&mut text)?;
        let new = NewFile::create(&self.path).map_err(io::Error::other)?;
        new.file().write_all(&text)?;
        new.finish().map_err(io::Error::other)?;
        Ok(what)
    }
}
