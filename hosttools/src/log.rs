//! The kernel log of a dump, as `dmesg` prints it.

use std::fmt;
use std::io::{self, Write};

use memory::KernelSpace;
use memory::paging::PageTablesError;
use memory::printk::format::write_record;
use memory::printk::{KernelLog, LogError, RecordFault};

use crate::dump::{Assembly, Dump, DumpMemory};

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum KernelLogError {
    /// VMCOREINFO does not tell where the page tables are.
    #[error("find the kernel's page tables")]
    PageTables(#[from] PageTablesError),
    /// The log cannot be found with them.
    #[error("find the kernel log")]
    Log(#[from] LogError),
    /// It cannot be written.
    #[error("write the kernel log")]
    Write(#[from] io::Error),
}

/// How much of the log was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// All but so many records, which are not in the dump, or damaged.
    Lacks(u64),
    /// What came of its text.
    Start {
        /// So many bytes.
        bytes: usize,
        /// Of so many.
        total: usize,
    },
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => write!(f, "the kernel log is whole"),
            Self::Lacks(records) => write!(f, "{records} records of the kernel log are not in the dump"),
            Self::Start { bytes, total } => {
                write!(f, "only the first {bytes} of {total} bytes of the kernel log came")
            }
        }
    }
}

/// Writes the kernel log of `dump` to `out`: the text that was sent, or else what its pages hold. Of the machine's control
/// characters only tabs get through.
///
/// # Errors
/// [`KernelLogError`], if the log cannot be found, or `out` cannot be written.
pub fn write(dump: &dyn Dump, out: &mut dyn Write) -> Result<Extent, KernelLogError> {
    let (text, total) = dump.session().map(Assembly::log).unwrap_or_default();
    if text.is_empty() {
        return write_records(dump, out);
    }
    if text.len() < total {
        let mut records = Vec::new();
        if let Ok(Extent::Whole) = write_records(dump, &mut records) {
            out.write_all(&records)?;
            return Ok(Extent::Whole);
        }
    }
    write_text(text, out)?;
    let bytes = text.len();
    Ok(if bytes == total { Extent::Whole } else { Extent::Start { bytes, total } })
}

/// Writes the log that the pages of `dump` hold.
fn write_records(dump: &dyn Dump, out: &mut dyn Write) -> Result<Extent, KernelLogError> {
    let facts = dump.facts();
    let info = facts.vmcoreinfo();
    let space = KernelSpace::new(DumpMemory::new(dump), facts.machine, &info)?;
    let mut log = KernelLog::open(&space, &info)?;
    let mut lost = 0;
    let mut line = Vec::new();
    while let Some(record) = log.next_record() {
        match record {
            Ok(record) => {
                line.clear();
                write_record(&record, &mut |bytes| line.extend_from_slice(bytes));
                out.write_all(&line)?;
            }
            // The kernel itself let it go.
            Err(RecordFault::Recycled { .. }) => {}
            Err(_) => lost += 1,
        }
    }
    out.flush()?;
    Ok(if lost == 0 { Extent::Whole } else { Extent::Lacks(lost) })
}

/// Writes text that came over a line. Whoever sent it should have escaped its control characters.
///
/// # Errors
/// Those of `out`.
pub(crate) fn write_text(text: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let is_plain = |byte: u8| !byte.is_ascii_control() || matches!(byte, b'\t' | b'\n');
    for run in text.chunk_by(|a, b| is_plain(*a) && is_plain(*b)) {
        match run {
            [byte] if !is_plain(*byte) => write!(out, "\\x{byte:02x}")?,
            plain => out.write_all(plain)?,
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_a_line_has_no_control_characters_that_a_terminal_obeys() {
        let mut out = Vec::new();
        write_text("[    0.1]\tgr\u{fc}n \x1b[2J\x07\nnext\r\n".as_bytes(), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "[    0.1]\tgr\u{fc}n \\x1b[2J\\x07\nnext\\x0d\n");
    }
}
