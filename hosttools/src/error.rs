//! What can go wrong, with the file, page or offset it went wrong at.

use std::io;
use std::path::{Path, PathBuf};

/// Why a dump could not be received, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{doing}: {path}")]
    Io {
        /// What failed, in a few words.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is in no format this program reads.
    #[error(
        "read dump: {path}: neither an ELF core, a kdump-compressed or flattened dump, a journal, nor a recording \
         of a line with an rcapture session"
    )]
    NotADump {
        /// The file.
        path: PathBuf,
    },
    /// The file begins like a dump, but cannot be one.
    #[error("read dump: {path}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A page of the dump cannot be read.
    #[error("read page frame {pfn:#x}: {what}")]
    Page {
        /// Its frame number.
        pfn: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The format cannot hold this dump.
    #[error("write {format}: {what}")]
    Unwritable {
        /// The output format.
        format: &'static str,
        /// What does not fit.
        what: String,
    },
    /// Another receiver writes this session's journal.
    #[error("receive: {path}: in use by another receiver of the same dump; stop one of them")]
    InUse {
        /// The journal.
        path: PathBuf,
    },
    /// A file system cannot be mounted on a directory.
    #[error("mount on {path}: {what}")]
    Mount {
        /// The directory.
        path: PathBuf,
        /// Why, and what to do.
        what: String,
    },
    /// What comes in is no line of a crashed machine.
    #[error("receive: {what}")]
    NotALine {
        /// What was seen instead, and what to do.
        what: String,
    },
}

impl Error {
    /// For `map_err`: `doing` failed on `path`.
    pub fn io(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.as_ref().to_owned(), source }
    }

    /// Whether the reader of a pipe has gone: nobody wants more.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}
