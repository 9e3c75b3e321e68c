//! The printk ring buffer, Linux 5.10 and later (kernel/printk/printk_ringbuffer.c).
//!
//! A ring of descriptors, each with an id that only ever grows, an info beside it (time, caller, length), and a block
//! of a ring of text. Logical positions (`lpos`) in the text ring only ever grow too; their low bits are the place.

use vmcore::le;
use vmcore::vmcoreinfo::VmcoreInfo;

use super::{Caller, Found, LogError, MAX_LOG_BYTES, RecordFault, at};
use crate::{VirtAddr, VirtMemory};

/// States of a descriptor (`enum desc_state`) whose record can be read.
const COMMITTED: u8 = 1;
const FINALIZED: u8 = 2;
/// And of one whose record is gone: its text has been written over.
const REUSABLE: u8 = 3;

/// Positions of a record without a text block have bit 0 set. This one, in both, is an empty line.
const EMPTY_LINE_LPOS: u64 = 3;

/// Descriptors believed: the kernel has one for each 32 bytes of text.
const MAX_COUNT_BITS: u32 = MAX_LOG_BYTES.ilog2() - 5;

/// Records' texts do not share a byte of the text ring. A damaged one may give up to so many times its size, then no more: the
/// log is sent before anything else.
const MAX_LAPS: u64 = 4;

/// Bytes believed of a descriptor and of an info: 24 and 88 so far.
const MAX_STRUCT_BYTES: usize = 256;

/// A ring buffer, read from its tail on.
#[derive(Clone, Debug)]
pub(super) struct RingBuffer {
    layout: Layout,
    long_bytes: usize,
    descs: VirtAddr,
    infos: VirtAddr,
    /// The number of descriptors is `1 << count_bits`.
    count_bits: u32,
    data: VirtAddr,
    /// The text ring has `1 << size_bits` bytes.
    size_bits: u32,
    next_id: u64,
    /// Descriptors still to be read.
    left: u64,
    /// Bytes of text that they may still have.
    text_left: u64,
}

/// Sizes and offsets of a descriptor and an info, from VMCOREINFO.
#[derive(Clone, Copy, Debug)]
struct Layout {
    desc_bytes: usize,
    state_var: usize,
    begin: usize,
    next: usize,
    info_bytes: usize,
    ts_nsec: usize,
    text_len: usize,
    caller_id: usize,
}

impl RingBuffer {
    pub(super) fn open(memory: &impl VirtMemory, info: &VmcoreInfo<'_>) -> Result<Self, LogError> {
        let layout = Layout::new(info)?;
        let offset = |name| info.offset(name).ok_or(LogError::MissingFact(name));
        let prb = VirtAddr(info.symbol("prb").ok_or(LogError::NoLog)?);
        let ringbuffer = memory.read_pointer(prb)?;

        let desc_ring = at(ringbuffer, offset("printk_ringbuffer.desc_ring")?);
        let count_bits = memory.read_u32(at(desc_ring, offset("prb_desc_ring.count_bits")?))?;
        if count_bits > MAX_COUNT_BITS {
            return Err(LogError::Absurd { what: "count_bits", value: count_bits.into() });
        }
        let counter = info.offset("atomic_long_t.counter").unwrap_or(0);
        let id_at = |name| Ok::<_, LogError>(at(at(desc_ring, offset(name)?), counter));
        let head_id = memory.read_long(id_at("prb_desc_ring.head_id")?)?;
        let tail_id = memory.read_long(id_at("prb_desc_ring.tail_id")?)?;

        let text_ring = at(ringbuffer, offset("printk_ringbuffer.text_data_ring")?);
        let size_bits = memory.read_u32(at(text_ring, offset("prb_data_ring.size_bits")?))?;
        if size_bits > MAX_LOG_BYTES.ilog2() {
            return Err(LogError::Absurd { what: "size_bits", value: size_bits.into() });
        }

        let long_bytes = memory.long_bytes();
        let id_mask = id_mask(long_bytes);
        let first_to_last = head_id.wrapping_sub(tail_id) & id_mask;
        // A tail too far behind is wrong; the head is where the newest records are.
        let left = first_to_last.saturating_add(1).min(1 << count_bits);
        Ok(Self {
            layout,
            long_bytes,
            descs: memory.read_pointer(at(desc_ring, offset("prb_desc_ring.descs")?))?,
            infos: memory.read_pointer(at(desc_ring, offset("prb_desc_ring.infos")?))?,
            count_bits,
            data: memory.read_pointer(at(text_ring, offset("prb_data_ring.data")?))?,
            size_bits,
            next_id: head_id.wrapping_sub(left - 1) & id_mask,
            left,
            text_left: MAX_LAPS << size_bits,
        })
    }

    /// The record of the next descriptor.
    pub(super) fn next(&mut self, memory: &impl VirtMemory) -> Option<Result<Found, RecordFault>> {
        self.left = self.left.checked_sub(1)?;
        let id = self.next_id;
        self.next_id = id.wrapping_add(1) & id_mask(self.long_bytes);
        let found = self.record(id, memory);
        let text_bytes = found.as_ref().map_or(0, |found| found.text_bytes.into());
        let Some(text_left) = self.text_left.checked_sub(text_bytes) else {
            return Some(Err(RecordFault::Damaged { id }));
        };
        self.text_left = text_left;
        Some(found)
    }

    fn record(&self, id: u64, memory: &impl VirtMemory) -> Result<Found, RecordFault> {
        let Self { layout, long_bytes, .. } = *self;
        let damaged = RecordFault::Damaged { id };
        let index = id & ((1 << self.count_bits) - 1);
        let read = |array, bytes: usize, buf: &mut [u8; MAX_STRUCT_BYTES]| {
            let buf = buf.get_mut(..bytes).unwrap_or_default();
            memory
                .read(at(array, index * bytes as u64), buf)
                .map_err(|fault| RecordFault::Unreadable { id, fault })
        };

        let mut desc = [0; MAX_STRUCT_BYTES];
        read(self.descs, layout.desc_bytes, &mut desc)?;
        let long = |offset| le::long_at(&desc, offset, long_bytes).ok_or(damaged);
        let (state, state_id) = split_state(long(layout.state_var)?, long_bytes);
        match state {
            REUSABLE => return Err(RecordFault::Recycled { id }),
            COMMITTED | FINALIZED if state_id == id => {}
            _ => return Err(RecordFault::NotWritten { id, state }),
        }
        let (begin, next) = (long(layout.begin)?, long(layout.next)?);

        let mut info = [0; MAX_STRUCT_BYTES];
        read(self.infos, layout.info_bytes, &mut info)?;
        let ts_nsec = le::u64_at(&info, layout.ts_nsec).ok_or(damaged)?;
        let text_len = le::u16_at(&info, layout.text_len).ok_or(damaged)?;
        let caller_id = le::u32_at(&info, layout.caller_id).ok_or(damaged)?;

        let (text_va, text_bytes) = match (begin, next) {
            (EMPTY_LINE_LPOS, EMPTY_LINE_LPOS) => (self.data, 0),
            _ if begin & next & 1 != 0 => return Err(RecordFault::NoText { id }),
            _ => self.text_block(begin, next).ok_or(damaged)?,
        };
        Ok(Found {
            id,
            ts_nsec,
            caller: Some(Caller::from_id(caller_id)),
            text_va,
            text_bytes: u16::try_from(text_bytes).unwrap_or(u16::MAX).min(text_len),
        })
    }

    /// Where the text between two positions is, and its bytes: a long, the block's id, comes before it.
    ///
    /// A block that would cross the end of the ring begins at its start instead. One that ends exactly there does not
    /// cross it: older kernels move such a block too, and then `next` lies behind it.
    fn text_block(&self, begin: u64, next: u64) -> Option<(VirtAddr, u64)> {
        let size = 1_u64 << self.size_bits;
        // Positions wrap around like the longs they are.
        let position_mask = if self.long_bytes == 8 { u64::MAX } else { u64::from(u32::MAX) };
        let block_bytes = next.wrapping_sub(begin) & position_mask;
        if block_bytes == 0 || block_bytes > size.checked_mul(2)? {
            return None;
        }
        let lap = |position: u64| (position & position_mask) >> self.size_bits;
        let is_wrapped = lap(begin) != lap(next.wrapping_sub(1));
        let place = |position| position & (size - 1);
        let (start, block_bytes) = if is_wrapped { (0, place(next)) } else { (place(begin), block_bytes) };
        let id_bytes = self.long_bytes as u64;
        let text_bytes = block_bytes.min(size).checked_sub(id_bytes)?;
        Some((at(self.data, start.checked_add(id_bytes)?), text_bytes))
    }
}

impl Layout {
    fn new(info: &VmcoreInfo<'_>) -> Result<Self, LogError> {
        let small = |what, value: Option<u64>| {
            let value = value.ok_or(LogError::MissingFact(what))?;
            let small = usize::try_from(value).ok().filter(|value| *value <= MAX_STRUCT_BYTES);
            small.ok_or(LogError::Absurd { what, value })
        };
        let offset = |name| small(name, info.offset(name));
        let lpos = offset("prb_desc.text_blk_lpos")?;
        let counter = small("atomic_long_t.counter", info.offset("atomic_long_t.counter").or(Some(0)))?;
        Ok(Self {
            desc_bytes: small("SIZE(prb_desc)", info.size("prb_desc"))?,
            state_var: offset("prb_desc.state_var")? + counter,
            begin: lpos + offset("prb_data_blk_lpos.begin")?,
            next: lpos + offset("prb_data_blk_lpos.next")?,
            info_bytes: small("SIZE(printk_info)", info.size("printk_info"))?,
            ts_nsec: offset("printk_info.ts_nsec")?,
            text_len: offset("printk_info.text_len")?,
            caller_id: offset("printk_info.caller_id")?,
        })
    }
}

/// The two top bits of a descriptor's long are its state, the others its id.
fn split_state(state_var: u64, long_bytes: usize) -> (u8, u64) {
    let state = (state_var & !id_mask(long_bytes)) >> id_mask(long_bytes).trailing_ones();
    (u8::try_from(state).unwrap_or(u8::MAX), state_var & id_mask(long_bytes))
}

const fn id_mask(long_bytes: usize) -> u64 {
    if long_bytes == 8 { u64::MAX >> 2 } else { (u32::MAX >> 2) as u64 }
}

#[cfg(test)]
mod tests;
