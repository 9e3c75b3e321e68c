use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::fake::FakeMemory;
use crate::printk::KernelLog;

const PRB: u64 = 0xffff_0000;
const RING: u64 = 0xffff_1000;
const DESCS: u64 = 0xffff_2000;
const INFOS: u64 = 0xffff_4000;
const DATA: u64 = 0xffff_8000;

/// A kernel's ring buffer, with descriptors and blocks as the kernel would lay them.
struct Ring {
    memory: FakeMemory,
    count_bits: u32,
    size_bits: u32,
    /// Whether a block that ends exactly at the end of the ring is moved to its start, as by older kernels.
    wraps_early: bool,
    first_id: u64,
    next_id: u64,
    next_lpos: u64,
}

impl Ring {
    /// Starts at `first_id` and `lpos`.
    fn new(long_bytes: usize, first_id: u64, lpos: u64) -> Self {
        let mut memory = FakeMemory::with_longs(long_bytes);
        memory.write(PRB, &[0; 8]);
        memory.write_long(PRB, RING);
        for page in (RING..DATA + 0x1000).step_by(0x1000) {
            memory.write(page, &[0; 0x1000]);
        }
        let (count_bits, size_bits) = (4, 8);
        memory.write(RING, &u32::to_le_bytes(count_bits));
        memory.write_long(RING + 0x08, DESCS);
        memory.write_long(RING + 0x10, INFOS);
        memory.write(RING + 0x40, &u32::to_le_bytes(size_bits));
        memory.write_long(RING + 0x48, DATA);
        let wraps_early = true;
        let mut ring =
            Self { memory, count_bits, size_bits, wraps_early, first_id, next_id: first_id, next_lpos: lpos };
        ring.set_ids(first_id, first_id);
        ring
    }

    fn set_ids(&mut self, tail_id: u64, head_id: u64) {
        self.memory.write_long(RING + 0x18, head_id);
        self.memory.write_long(RING + 0x20, tail_id);
    }

    fn info(&self) -> String {
        let long = VirtMemory::long_bytes(&self.memory);
        format!(
            "SYMBOL(prb)={PRB:x}\n\
            OFFSET(printk_ringbuffer.desc_ring)=0\nOFFSET(printk_ringbuffer.text_data_ring)=64\n\
            OFFSET(prb_desc_ring.count_bits)=0\nOFFSET(prb_desc_ring.descs)=8\n\
            OFFSET(prb_desc_ring.infos)=16\nOFFSET(prb_desc_ring.head_id)=24\nOFFSET(prb_desc_ring.tail_id)=32\n\
            SIZE(prb_desc)={}\nOFFSET(prb_desc.state_var)=0\nOFFSET(prb_desc.text_blk_lpos)={long}\n\
            OFFSET(prb_data_blk_lpos.begin)=0\nOFFSET(prb_data_blk_lpos.next)={long}\n\
            SIZE(printk_info)=88\nOFFSET(printk_info.ts_nsec)=8\nOFFSET(printk_info.text_len)=16\n\
            OFFSET(printk_info.caller_id)=20\n\
            OFFSET(prb_data_ring.size_bits)=0\nOFFSET(prb_data_ring.data)=8\nOFFSET(atomic_long_t.counter)=0\n",
            3 * long,
        )
    }

    /// Writes a descriptor in `state`, its info, and no text.
    fn describe(&mut self, state: u64, begin: u64, next: u64, ts_nsec: u64, text_len: u16) -> u64 {
        let id = self.next_id;
        let long = VirtMemory::long_bytes(&self.memory) as u64;
        let index = id % (1 << self.count_bits);
        let desc = DESCS + index * 3 * long;
        self.memory.write_long(desc, state << (long * 8 - 2) | id);
        self.memory.write_long(desc + long, begin);
        self.memory.write_long(desc + 2 * long, next);
        let info = INFOS + index * 88;
        self.memory.write_u64(info + 8, ts_nsec);
        self.memory.write(info + 16, &text_len.to_le_bytes());
        self.memory.write(info + 20, &(id as u32 | 1 << 31).to_le_bytes());
        self.next_id = (id + 1) & id_mask(VirtMemory::long_bytes(&self.memory));
        self.set_ids(self.first_id, id);
        id
    }

    /// Logs a text as the kernel does.
    fn log(&mut self, ts_nsec: u64, text: &[u8]) -> u64 {
        let long = VirtMemory::long_bytes(&self.memory) as u64;
        let size = 1 << self.size_bits;
        let block = (long + text.len() as u64).next_multiple_of(long);
        let begin = self.next_lpos;
        let mut next = begin.wrapping_add(block);
        let last = if self.wraps_early { next } else { next.wrapping_sub(1) };
        let mut place = begin % size;
        if begin >> self.size_bits != last >> self.size_bits {
            place = 0;
            next = (last >> self.size_bits << self.size_bits).wrapping_add(block);
        }
        if long == 4 {
            next &= 0xffff_ffff;
        }
        self.next_lpos = next;
        self.memory.write_long(DATA + place, self.next_id);
        self.memory.write(DATA + place + long, text);
        self.describe(FINALIZED.into(), begin, next, ts_nsec, text.len() as u16)
    }

    fn read(&self) -> Vec<Result<(u64, Vec<u8>), RecordFault>> {
        let info = self.info();
        let mut log = KernelLog::open(&self.memory, &VmcoreInfo::new(info.as_bytes())).unwrap();
        let mut records = Vec::new();
        while let Some(record) = log.next_record() {
            records.push(record.map(|record| (record.ts_nsec, record.text.to_vec())));
        }
        records
    }
}

#[test]
fn records_come_in_their_order_with_time_and_caller() {
    for long_bytes in [4, 8] {
        let mut ring = Ring::new(long_bytes, 100, 0);
        ring.log(1, b"Linux version 6.12");
        ring.log(2_000, b"two\nlines");
        assert_eq!(
            ring.read(),
            [Ok((1, b"Linux version 6.12".to_vec())), Ok((2_000, b"two\nlines".to_vec()))]
        );
        let info = ring.info();
        let mut log = KernelLog::open(&ring.memory, &VmcoreInfo::new(info.as_bytes())).unwrap();
        assert_eq!(log.next_record().unwrap().unwrap().caller, Some(Caller::Cpu(100)));
    }
}

#[test]
fn a_block_that_would_cross_the_end_of_the_ring_is_at_its_start() {
    let mut ring = Ring::new(8, 0, 256 - 32);
    ring.log(1, b"this text is longer than 24 bytes");
    ring.log(2, b"after");
    assert_eq!(
        ring.read(),
        [Ok((1, b"this text is longer than 24 bytes".to_vec())), Ok((2, b"after".to_vec()))]
    );
}

#[test]
fn a_block_that_ends_with_the_ring_is_read_on_old_and_new_kernels() {
    for wraps_early in [true, false] {
        let mut ring = Ring::new(8, 0, 256 - 32);
        ring.wraps_early = wraps_early;
        ring.log(1, b"exactly 24 bytes of text");
        assert_eq!(ring.next_lpos, if wraps_early { 256 + 32 } else { 256 });
        ring.log(2, b"after");
        assert_eq!(ring.read(), [Ok((1, b"exactly 24 bytes of text".to_vec())), Ok((2, b"after".to_vec()))]);
    }
}

#[test]
fn empty_lines_stay_and_lost_texts_are_reported() {
    let mut ring = Ring::new(8, 0, 0);
    ring.describe(2, 3, 3, 7, 0);
    let lost = ring.describe(2, 1, 1, 8, 20);
    assert_eq!(ring.read(), [Ok((7, vec![])), Err(RecordFault::NoText { id: lost })]);
}

#[test]
fn what_is_not_written_is_reported_and_what_is_committed_is_read() {
    let mut ring = Ring::new(8, 0, 0);
    ring.log(1, b"final");
    ring.log(2, b"committed");
    ring.memory.write_u64(DESCS + 24, 1 << 62 | 1);
    let reserved = ring.describe(0, 0, 0, 0, 0);
    let reusable = ring.describe(3, 0, 0, 0, 0);
    ring.log(3, b"id of another lap");
    ring.memory.write_u64(DESCS + 4 * 24, 2 << 62 | 20);
    assert_eq!(
        ring.read(),
        [
            Ok((1, b"final".to_vec())),
            Ok((2, b"committed".to_vec())),
            Err(RecordFault::NotWritten { id: reserved, state: 0 }),
            Err(RecordFault::Recycled { id: reusable }),
            Err(RecordFault::NotWritten { id: 4, state: 2 }),
        ]
    );
}

#[test]
fn ids_and_positions_wrap_around_like_longs() {
    for (long_bytes, last_id, last_lpos) in
        [(8, u64::MAX >> 2, 0_u64.wrapping_sub(24)), (4, u64::from(u32::MAX >> 2), 0xffff_ffe8)]
    {
        let mut ring = Ring::new(long_bytes, last_id, last_lpos);
        ring.log(1, b"before");
        ring.log(2, b"a text across the end of positions");
        ring.log(3, b"after");
        let texts: Vec<_> = ring.read().into_iter().map(|record| record.unwrap().1).collect();
        assert_eq!(texts, [&b"before"[..], b"a text across the end of positions", b"after"]);
    }
}

#[test]
fn no_more_records_are_read_than_there_are_descriptors() {
    let mut ring = Ring::new(8, 0, 0);
    for number in 0..20 {
        ring.log(number, b"x");
    }
    ring.set_ids(u64::MAX >> 3, 19);
    let times: Vec<_> = ring.read().into_iter().map(|record| record.unwrap().0).collect();
    assert_eq!(times, (4..20).collect::<Vec<_>>());
}

#[test]
fn an_unreadable_page_of_text_costs_only_its_records() {
    let mut ring = Ring::new(8, 0, 0);
    ring.log(1, b"text");
    ring.describe(2, 3, 3, 2, 0);
    ring.memory.poisoned.insert(DATA >> 12);
    let records = ring.read();
    assert!(matches!(records[0], Err(RecordFault::Unreadable { id: 0, .. })), "{records:?}");
    assert_eq!(records[1], Ok((2, vec![])));
}

#[test]
fn absurd_numbers_are_refused() {
    let ring = Ring::new(8, 0, 0);
    let open = |memory: &FakeMemory, info: &str| {
        KernelLog::open(memory, &VmcoreInfo::new(info.as_bytes())).map(|_| ()).unwrap_err()
    };
    let mut huge = ring.memory.clone();
    huge.write(RING, &[0xff; 4]);
    assert_eq!(open(&huge, &ring.info()), LogError::Absurd { what: "count_bits", value: 0xffff_ffff });
    let mut huge = ring.memory.clone();
    huge.write(RING + 0x40, &[30, 0, 0, 0]);
    assert_eq!(open(&huge, &ring.info()), LogError::Absurd { what: "size_bits", value: 30 });
    let info = ring.info().replace("SIZE(prb_desc)=24", "SIZE(prb_desc)=99999");
    assert_eq!(open(&ring.memory, &info), LogError::Absurd { what: "SIZE(prb_desc)", value: 99999 });
    let info = ring.info().replace("OFFSET(prb_data_ring.data)", "X");
    assert_eq!(open(&ring.memory, &info), LogError::MissingFact("prb_data_ring.data"));
    assert_eq!(open(&ring.memory, "OSRELEASE=2.6.32\n"), LogError::NoLog);
}

proptest! {
    #[test]
    fn what_was_logged_last_is_read(
        texts in prop::collection::vec("[ -~]{0,40}", 1..40), first_id in 0_u64..1 << 40, lpos in 0_u64..1 << 20,
        wraps_early: bool,
    ) {
        let mut ring = Ring::new(8, first_id, lpos * 8);
        ring.wraps_early = wraps_early;
        for (time, text) in (0..).zip(&texts) {
            ring.log(time, text.as_bytes());
        }
        // The kernel would have moved the tail; here descriptors are written over. Texts of the last records that fit
        // in the ring together are whole.
        let records = ring.read();
        prop_assert_eq!(records.len(), texts.len().min(16));
        let mut room = 256;
        for (record, text) in records.iter().rev().zip(texts.iter().rev()) {
            room -= 2 * 56; // A block, and what may be left empty at the ring's end.
            if room < 0 {
                break;
            }
            prop_assert_eq!(&record.as_ref().unwrap().1, text.as_bytes());
        }
    }

    #[test]
    fn any_memory_is_read_in_bounds(
        damage in prop::collection::vec((0_u64..0x4000, any::<u64>()), 0..40), long_bytes in prop::sample::select(vec![4_usize, 8]),
    ) {
        let mut ring = Ring::new(long_bytes, 0, 0);
        for time in 0..10 {
            ring.log(time, b"some text of a record");
        }
        for (offset, value) in damage {
            // Descriptors and infos; now and then the description of the ring.
            let base = if offset < 0x40 { RING } else { DESCS - 0x40 };
            ring.memory.write_u64(base + offset, value);
        }
        let info = ring.info();
        if let Ok(mut log) = KernelLog::open(&ring.memory, &VmcoreInfo::new(info.as_bytes())) {
            let mut records = 0;
            while let Some(record) = log.next_record() {
                records += 1;
                if let Ok(record) = record {
                    prop_assert!(record.text.len() <= 256);
                }
                if records > 1000 {
                    break; // count_bits itself was damaged.
                }
            }
        }
    }
}
