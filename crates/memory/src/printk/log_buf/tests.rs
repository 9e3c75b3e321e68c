use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::fake::FakeMemory;
use crate::printk::KernelLog;

const VARIABLES: u64 = 0x1000;
const DATA: u64 = 0x8000;
const BYTES: u64 = 256;

const INFO: &[u8] = b"SYMBOL(log_buf)=1000\nSYMBOL(log_buf_len)=1008\nSYMBOL(log_first_idx)=1010\n\
    SYMBOL(log_next_idx)=1018\nSIZE(printk_log)=16\nOFFSET(printk_log.ts_nsec)=0\nOFFSET(printk_log.len)=8\n\
    OFFSET(printk_log.text_len)=10\nOFFSET(printk_log.dict_len)=12\n";

/// A log buffer of 256 bytes that begins at offset `first`.
struct Log {
    memory: FakeMemory,
    next: u64,
}

impl Log {
    fn new(first: u32) -> Self {
        let mut memory = FakeMemory::with_longs(8);
        memory.write(VARIABLES, &[0; 0x100]);
        memory.write_u64(VARIABLES, DATA);
        memory.write_u64(VARIABLES + 8, BYTES);
        memory.write_u64(VARIABLES + 0x10, first.into());
        memory.write_u64(VARIABLES + 0x18, first.into());
        memory.write(DATA, &[0; BYTES as usize]);
        Self { memory, next: first.into() }
    }

    fn header(&mut self, at: u64, ts_nsec: u64, len: u16, text_len: u16) {
        self.memory.write_u64(DATA + at, ts_nsec);
        self.memory.write(DATA + at + 8, &len.to_le_bytes());
        self.memory.write(DATA + at + 10, &text_len.to_le_bytes());
    }

    /// Logs a text as the kernel does: an empty header where it wraps.
    fn log(&mut self, ts_nsec: u64, text: &[u8]) {
        let len = (16 + text.len() as u64).next_multiple_of(8);
        if self.next + len + 16 > BYTES {
            self.header(self.next, 0, 0, 0);
            self.next = 0;
        }
        self.header(self.next, ts_nsec, len as u16, text.len() as u16);
        self.memory.write(DATA + self.next + 16, text);
        self.next += len;
        self.memory.write_u64(VARIABLES + 0x18, self.next);
    }

    fn read(&self) -> Vec<Result<(u64, Vec<u8>), RecordFault>> {
        let mut log = KernelLog::open(&self.memory, &VmcoreInfo::new(INFO)).unwrap();
        let mut records = Vec::new();
        while let Some(record) = log.next_record() {
            records.push(record.map(|record| (record.ts_nsec, record.text.to_vec())));
        }
        records
    }
}

#[test]
fn records_come_in_their_order() {
    let mut log = Log::new(0);
    log.log(1, b"Linux version 4.19");
    log.log(2, b"");
    log.log(3, b"three\n");
    assert_eq!(
        log.read(),
        [Ok((1, b"Linux version 4.19".to_vec())), Ok((2, b"".to_vec())), Ok((3, b"three".to_vec()))]
    );
    assert_eq!(Log::new(64).read(), []);
}

#[test]
fn a_record_that_does_not_fit_before_the_end_is_at_the_start() {
    let mut log = Log::new(200);
    log.log(1, b"first");
    log.log(2, b"at the start of the buffer");
    log.log(3, b"last");
    let times: Vec<_> = log.read().into_iter().map(|record| record.unwrap().0).collect();
    assert_eq!(times, [1, 2, 3]);
}

#[test]
fn the_caller_is_read_where_the_kernel_keeps_it() {
    let mut log = Log::new(0);
    log.log(1, b"text");
    log.memory.write(DATA + 12, &0x8000_0003_u32.to_le_bytes());
    let mut info = INFO.to_vec();
    info.extend(b"OFFSET(printk_log.caller_id)=12\n");
    let mut with_caller = KernelLog::open(&log.memory, &VmcoreInfo::new(&info)).unwrap();
    assert_eq!(with_caller.next_record().unwrap().unwrap().caller, Some(Caller::Cpu(3)));
    let mut without = KernelLog::open(&log.memory, &VmcoreInfo::new(INFO)).unwrap();
    assert_eq!(without.next_record().unwrap().unwrap().caller, None);
}

#[test]
fn records_that_form_a_ring_end() {
    let mut log = Log::new(128);
    log.log(1, b"text");
    // Wraps, and wraps again.
    log.memory.write_u64(VARIABLES + 0x18, 100);
    log.header(152, 0, 0, 0);
    log.header(0, 2, 24, 8);
    log.header(24, 0, 0, 0);
    let records = log.read();
    assert_eq!(records.len(), 3);
    assert_eq!(records[2], Err(RecordFault::Damaged { id: 24 }));
}

#[test]
fn damaged_lengths_end_the_log_where_they_are() {
    for (len, text_len) in [(8, 4), (255, 4), (u16::MAX, 4)] {
        let mut log = Log::new(0);
        log.log(1, b"good");
        log.log(2, b"bad");
        log.log(3, b"not found");
        log.header(24, 2, len, text_len);
        assert_eq!(log.read(), [Ok((1, b"good".to_vec())), Err(RecordFault::Damaged { id: 24 })]);
    }
    let mut log = Log::new(0);
    log.log(1, b"text");
    log.header(0, 1, 24, u16::MAX);
    assert_eq!(log.read(), [Ok((1, b"text\0\0\0\0".to_vec()))], "no text is longer than its record");
}

#[test]
fn absurd_numbers_are_refused() {
    let open = |memory: &FakeMemory, info: &[u8]| {
        KernelLog::open(memory, &VmcoreInfo::new(info)).map(|_| ()).unwrap_err()
    };
    let mut log = Log::new(0);
    log.memory.write_u64(VARIABLES + 0x10, 300);
    assert_eq!(open(&log.memory, INFO), LogError::Absurd { what: "log_first_idx", value: 300 });
    log.memory.write_u64(VARIABLES + 8, 0xffff_ffff);
    assert_eq!(open(&log.memory, INFO), LogError::Absurd { what: "log_buf_len", value: 0xffff_ffff });
    assert_eq!(open(&log.memory, b"SYMBOL(log_buf)=1000\n"), LogError::MissingFact("SIZE(printk_log)"));
    log.memory.poisoned.insert(1);
    assert!(matches!(open(&log.memory, INFO), LogError::Unreadable(_)));
}

proptest! {
    #[test]
    fn what_was_logged_is_read(
        texts in prop::collection::vec("[ -~]{0,30}", 0..4), first in (0_u32..24).prop_map(|n| n * 8),
    ) {
        let mut log = Log::new(first);
        for (time, text) in (0..).zip(&texts) {
            log.log(time, text.as_bytes());
        }
        let read: Vec<_> = log.read().into_iter().map(|record| record.unwrap().1).collect();
        let logged: Vec<_> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        prop_assert_eq!(read, logged);
    }

    #[test]
    fn any_memory_is_read_in_bounds(
        bytes in prop::collection::vec(any::<u8>(), BYTES as usize), first in 0_u64..=BYTES, next in 0_u64..=BYTES,
    ) {
        let mut log = Log::new(0);
        log.memory.write(DATA, &bytes);
        log.memory.write_u64(VARIABLES + 0x10, first);
        log.memory.write_u64(VARIABLES + 0x18, next);
        prop_assert!(log.read().len() <= 2 * 256 / 16);
    }
}
