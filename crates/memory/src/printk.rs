//! The kernel log, read from the crashed kernel's memory.
//!
//! # Terms
//! - **record**: one `printk`: a time, who called, a text of one or more lines.
//! - **ring buffer**: what holds the records since Linux 5.10, descriptors and text apart ([`ring_buffer`]).
//! - **log_buf**: what held them from 3.5 to 5.9, one behind the other ([`log_buf`]).
//!
//! # Flow
//! VMCOREINFO ─▶ [`KernelLog::open`] ─▶ [`KernelLog::next_record`], oldest first ─▶ [`format::write_record`].
//!
//! Each step reads one record and returns, whether there was one or not, so that whoever asks can do other things in
//! between. The number of steps is bounded by the kernel's own buffer, and that by [`MAX_LOG_BYTES`].

pub mod format;
pub mod log_buf;
pub mod ring_buffer;

use alloc::vec::Vec;

use vmcore::vmcoreinfo::VmcoreInfo;

use crate::{VirtAddr, VirtFault, VirtMemory};

/// The largest log buffer that is believed: `log_buf_len=` of 512 MiB.
pub const MAX_LOG_BYTES: u64 = 1 << 29;

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Nanoseconds since boot.
    pub ts_nsec: u64,
    /// Who called, if the kernel keeps that: 0 and [`Caller::Thread`] 0 look alike where it does not.
    pub caller: Option<Caller>,
    /// The text, without a newline at its end. Bytes of the crashed kernel: anything.
    pub text: &'a [u8],
}

/// Who called printk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A task, by its thread id.
    Thread(u32),
    /// A CPU, outside of any task.
    Cpu(u32),
}

impl Caller {
    /// From `caller_id`: bit 31 tells a CPU.
    const fn from_id(caller_id: u32) -> Self {
        const CPU: u32 = 1 << 31;
        match caller_id & CPU {
            0 => Self::Thread(caller_id),
            _ => Self::Cpu(caller_id & !CPU),
        }
    }
}

/// Why there is no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// VMCOREINFO knows no log buffer of Linux 3.5 or later.
    #[error("VMCOREINFO has no log buffer: neither SYMBOL(prb) nor SYMBOL(log_buf)")]
    NoLog,
    /// VMCOREINFO lacks this.
    #[error("VMCOREINFO does not describe the log buffer: no {0}")]
    MissingFact(&'static str),
    /// A number of the log buffer cannot be true.
    #[error("the kernel log's {what} of {value:#x} cannot be")]
    Absurd {
        /// Which number.
        what: &'static str,
        /// What it says.
        value: u64,
    },
    /// The structure that describes the log buffer cannot be read.
    #[error("kernel log: {0}")]
    Unreadable(#[from] VirtFault),
}

/// A record that is not there, or not whole; the others are.
///
/// [`Recycled`](Self::Recycled) is no loss: a ring that has gone round has thousands of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// The kernel has made room for newer ones with it.
    #[error("log record {id:#x} has made room for newer ones")]
    Recycled {
        /// Its id.
        id: u64,
    },
    /// Its descriptor is not that of a written record: it was being written, or is damaged.
    #[error("log record {id:#x} is not written (state {state})")]
    NotWritten {
        /// Its id.
        id: u64,
        /// State of its descriptor.
        state: u8,
    },
    /// It has no text: there was no room for it.
    #[error("log record {id:#x} has lost its text")]
    NoText {
        /// Its id.
        id: u64,
    },
    /// Its place or length cannot be true. In a log_buf the records behind it cannot be found either.
    #[error("log record {id:#x} is damaged")]
    Damaged {
        /// Its id; in a log_buf, its offset.
        id: u64,
    },
    /// It cannot be read.
    #[error("log record {id:#x}: {fault}")]
    Unreadable {
        /// Its id; in a log_buf, its offset.
        id: u64,
        /// Why not.
        fault: VirtFault,
    },
    /// No memory for its text.
    #[error("log record {id:#x}: no memory for {bytes} bytes of text")]
    OutOfMemory {
        /// Its id; in a log_buf, its offset.
        id: u64,
        /// Bytes of its text.
        bytes: usize,
    },
}

/// The log of a crashed kernel.
#[derive(Clone, Debug)]
pub struct KernelLog<V> {
    memory: V,
    records: Records,
    /// The text of the record last read.
    text: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Records {
    RingBuffer(ring_buffer::RingBuffer),
    LogBuf(log_buf::LogBuf),
}

/// A record before its text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    id: u64,
    ts_nsec: u64,
    caller: Option<Caller>,
    text_va: VirtAddr,
    text_bytes: u16,
}

impl<V: VirtMemory> KernelLog<V> {
    /// Finds the log buffer that VMCOREINFO tells of.
    ///
    /// # Errors
    /// [`LogError`] if there is none that we know, or it cannot be read.
    pub fn open(memory: V, info: &VmcoreInfo<'_>) -> Result<Self, LogError> {
        let records = if info.symbol("prb").is_some() {
            Records::RingBuffer(ring_buffer::RingBuffer::open(&memory, info)?)
        } else if info.symbol("log_buf").is_some() {
            Records::LogBuf(log_buf::LogBuf::open(&memory, info)?)
        } else {
            return Err(LogError::NoLog);
        };
        Ok(Self { memory, records, text: Vec::new() })
    }

    /// The next record, oldest first, or why there is none at its place; `None` at the end.
    pub fn next_record(&mut self) -> Option<Result<Record<'_>, RecordFault>> {
        let found = match &mut self.records {
            Records::RingBuffer(ring) => ring.next(&self.memory)?,
            Records::LogBuf(log_buf) => log_buf.next(&self.memory)?,
        };
        Some(found.and_then(|found| self.with_text(found)))
    }

    /// Reads the text of a record that was found.
    fn with_text(&mut self, found: Found) -> Result<Record<'_>, RecordFault> {
        let Found { id, ts_nsec, caller, text_va, text_bytes } = found;
        let bytes = usize::from(text_bytes);
        self.text.clear();
        self.text.try_reserve(bytes).map_err(|_| RecordFault::OutOfMemory { id, bytes })?;
        self.text.resize(bytes, 0);
        self.memory.read(text_va, &mut self.text).map_err(|fault| RecordFault::Unreadable { id, fault })?;
        let text = self.text.strip_suffix(b"\n").unwrap_or(&self.text);
        Ok(Record { ts_nsec, caller, text })
    }
}

/// The address of a member; the end of the address space, where nothing can be read, if it lies beyond.
fn at(base: VirtAddr, offset: u64) -> VirtAddr {
    VirtAddr(base.0.saturating_add(offset))
}
