//! The log buffer of Linux 3.5 to 5.9 (kernel/printk/printk.c): records one behind the other in a ring of bytes, each
//! a `struct printk_log` (before 3.11: `struct log`) followed by its text.

use vmcore::le;
use vmcore::vmcoreinfo::VmcoreInfo;

use super::{Caller, Found, LogError, MAX_LOG_BYTES, RecordFault, at};
use crate::{VirtAddr, VirtMemory};

/// Bytes believed of `struct printk_log`: 16, 24 with the caller.
const MAX_HEADER_BYTES: usize = 256;

/// A log buffer, read from its first record on.
#[derive(Clone, Debug)]
pub(super) struct LogBuf {
    layout: Layout,
    data: VirtAddr,
    bytes: u64,
    /// Offset of the next record.
    at: u64,
    /// Offset behind the newest record.
    end: u64,
    /// Whether the records from the buffer's start on have been reached; that happens once.
    is_wrapped: bool,
}

/// Size and offsets of `struct printk_log`, from VMCOREINFO.
#[derive(Clone, Copy, Debug)]
struct Layout {
    header_bytes: usize,
    ts_nsec: usize,
    len: usize,
    text_len: usize,
    /// Only with CONFIG_PRINTK_CALLER.
    caller_id: Option<usize>,
}

impl LogBuf {
    pub(super) fn open(memory: &impl VirtMemory, info: &VmcoreInfo<'_>) -> Result<Self, LogError> {
        let layout = Layout::new(info)?;
        let symbol = |name| info.symbol(name).map(VirtAddr).ok_or(LogError::MissingFact(name));
        let data = memory.read_pointer(symbol("log_buf")?)?;
        let bytes = u64::from(memory.read_u32(symbol("log_buf_len")?)?);
        if bytes > MAX_LOG_BYTES {
            return Err(LogError::Absurd { what: "log_buf_len", value: bytes });
        }
        let index = |name| {
            let value = u64::from(memory.read_u32(symbol(name)?)?);
            if value > bytes { Err(LogError::Absurd { what: name, value }) } else { Ok(value) }
        };
        let (at, end) = (index("log_first_idx")?, index("log_next_idx")?);
        Ok(Self { layout, data, bytes, at, end, is_wrapped: at <= end })
    }

    /// The next record. Offsets only grow, but for the one wrap, so that records which form a ring end too.
    pub(super) fn next(&mut self, memory: &impl VirtMemory) -> Option<Result<Found, RecordFault>> {
        if self.is_wrapped && self.at >= self.end {
            return None;
        }
        Some(self.record(memory).inspect_err(|_| {
            // Where the next record begins only this one knows.
            (self.is_wrapped, self.end) = (true, 0);
        }))
    }

    fn record(&mut self, memory: &impl VirtMemory) -> Result<Found, RecordFault> {
        let mut header = [0; MAX_HEADER_BYTES];
        let mut id = self.at;
        let mut len = self.header(memory, id, &mut header)?;
        if len == 0 && !self.is_wrapped {
            // A record of no length: what would follow did not fit before the end of the buffer.
            self.is_wrapped = true;
            id = 0;
            len = self.header(memory, id, &mut header)?;
        }
        let damaged = RecordFault::Damaged { id };
        let header_bytes = self.layout.header_bytes as u64;
        let next = id.checked_add(u64::from(len)).filter(|next| *next <= self.bytes).ok_or(damaged)?;
        let room = u64::from(len).checked_sub(header_bytes).ok_or(damaged)?;
        let text_len = le::u16_at(&header, self.layout.text_len).ok_or(damaged)?;
        let caller_id = self.layout.caller_id.and_then(|offset| le::u32_at(&header, offset));
        self.at = next;
        Ok(Found {
            id,
            ts_nsec: le::u64_at(&header, self.layout.ts_nsec).ok_or(damaged)?,
            caller: caller_id.map(Caller::from_id),
            text_va: at(at(self.data, id), header_bytes),
            text_bytes: u16::try_from(room).unwrap_or(u16::MAX).min(text_len),
        })
    }

    /// Reads the header at an offset, and gives its `len`.
    fn header(
        &self,
        memory: &impl VirtMemory,
        id: u64,
        header: &mut [u8; MAX_HEADER_BYTES],
    ) -> Result<u16, RecordFault> {
        let buf = header.get_mut(..self.layout.header_bytes).unwrap_or_default();
        let end = id.saturating_add(self.layout.header_bytes as u64);
        if end > self.bytes {
            return Err(RecordFault::Damaged { id });
        }
        memory.read(at(self.data, id), buf).map_err(|fault| RecordFault::Unreadable { id, fault })?;
        le::u16_at(header, self.layout.len).ok_or(RecordFault::Damaged { id })
    }
}

impl Layout {
    fn new(info: &VmcoreInfo<'_>) -> Result<Self, LogError> {
        let small = |what, value: u64| {
            let small = usize::try_from(value).ok().filter(|value| *value <= MAX_HEADER_BYTES);
            small.ok_or(LogError::Absurd { what, value })
        };
        let offset = |name, old_name| {
            let value = info.offset(name).or_else(|| info.offset(old_name));
            small(name, value.ok_or(LogError::MissingFact(name))?)
        };
        let size = info.size("printk_log").or_else(|| info.size("log"));
        let header_bytes = small("SIZE(printk_log)", size.ok_or(LogError::MissingFact("SIZE(printk_log)"))?)?;
        if header_bytes == 0 {
            return Err(LogError::Absurd { what: "SIZE(printk_log)", value: 0 });
        }
        Ok(Self {
            header_bytes,
            ts_nsec: offset("printk_log.ts_nsec", "log.ts_nsec")?,
            len: offset("printk_log.len", "log.len")?,
            text_len: offset("printk_log.text_len", "log.text_len")?,
            caller_id: offset("printk_log.caller_id", "log.caller_id").ok(),
        })
    }
}

#[cfg(test)]
mod tests;
