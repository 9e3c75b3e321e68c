//! The kernel log of a dump, as `dmesg` prints it.

use std::io::{self, Write};

use memory::KernelSpace;
use memory::paging::PageTablesError;
use memory::printk::format::write_record;
use memory::printk::{KernelLog, LogError, RecordFault};

use crate::dump::{Dump, DumpMemory};

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

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Records written.
    pub written: u64,
    /// Records that are not in the dump, or damaged.
    pub lost: u64,
}

/// Writes the kernel log of `dump` to `out`. Of the machine's control characters only tabs get through.
///
/// # Errors
/// [`KernelLogError`], if the log cannot be found, or `out` cannot be written.
pub fn write(dump: &dyn Dump, out: &mut dyn Write) -> Result<Records, KernelLogError> {
    let facts = dump.facts();
    let info = facts.vmcoreinfo();
    let space = KernelSpace::new(DumpMemory::new(dump), facts.machine, &info)?;
    let mut log = KernelLog::open(&space, &info)?;
    let mut records = Records::default();
    let mut line = Vec::new();
    while let Some(record) = log.next_record() {
        match record {
            Ok(record) => {
                line.clear();
                write_record(&record, &mut |bytes| line.extend_from_slice(bytes));
                out.write_all(&line)?;
                records.written += 1;
            }
            // The kernel itself let it go.
            Err(RecordFault::Recycled { .. }) => {}
            Err(_) => records.lost += 1,
        }
    }
    out.flush()?;
    Ok(records)
}
