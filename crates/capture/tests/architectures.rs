//! Dumps of arm and aarch64, from an elfcorehdr as kexec leaves it there to the records that arrive.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    missing_docs
)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use board::{AARCH64_TEXT, ARM_TEXT, Memory, STACK};
use capture::{Budget, Clock, Crash, Link, Options, send};
use codec::Method;
use kernel::arm;
use memory::{DumpLevel, PhysAddr, PhysMemory, ReadFault};
use ticking::Ticking;
use vmcore::headers::{Class, Machine};
use wire::{Block, Event, MetaKind, Receiver, Record, Records, SessionHeader, SessionId};

#[path = "support/board.rs"]
mod board;
#[path = "../../memory/tests/support/mod.rs"]
mod kernel;
#[path = "support/ticking.rs"]
mod ticking;

#[derive(Default)]
struct Line(Vec<u8>);

impl Link for Line {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.0.extend_from_slice(bytes);
        bytes.len()
    }

    fn read(&mut self, _buf: &mut [u8]) -> usize {
        0
    }
}

#[derive(Default)]
struct Received {
    header: Option<SessionHeader>,
    /// Frames in the order in which they came, and their bytes.
    order: Vec<u64>,
    pages: BTreeMap<u64, Vec<u8>>,
    log: Vec<u8>,
    text: String,
}

fn dump(memory: &Memory, level: DumpLevel) -> (Crash, Received) {
    let crash = Crash::read(memory.elfcorehdr_pa, memory).unwrap();
    let mut line = Line::default();
    let encoder = Method::Deflate.encoder();
    let options = Options {
        session: SessionId(7),
        encoder,
        level,
        budget: Budget::default(),
        needs_answers: false,
        serve: None,
    };
    send(&crash, memory, &mut line, &Ticking::default(), options).unwrap();
    let mut received = Received::default();
    Receiver::new(1).push(&line.0, |event| match event {
        Event::Session(_, header) => received.header = Some(header.clone()),
        Event::Block { encoded, .. } => {
            for record in Records::new(&Block::decode(encoded).unwrap().raw, 12) {
                received.record(&record.unwrap().record);
            }
        }
        Event::Text(text) => received.text.push_str(&String::from_utf8_lossy(text)),
        Event::End(..) => {}
        Event::Restarted { .. } | Event::Unknown(_) => panic!("nothing is lost"),
    });
    (crash, received)
}

impl Received {
    fn record(&mut self, record: &Record<'_>) {
        let mut page = |pfn, bytes| {
            self.order.push(pfn);
            assert_eq!(self.pages.insert(pfn, bytes), None, "no page comes twice");
        };
        match *record {
            Record::Page { pfn, bytes } => page(pfn, bytes.to_vec()),
            Record::Fill { pfn, pages, word } => {
                (pfn..pfn + u64::from(pages)).for_each(|pfn| page(pfn, word.to_le_bytes().repeat(512)));
            }
            // Without an answer it comes again at the end.
            Record::Meta { kind: MetaKind::Log, offset, bytes, .. } if self.log.len() == offset as usize => {
                self.log.extend_from_slice(bytes);
            }
            Record::Meta { .. } => {}
            Record::Hole { .. } | Record::Bytes { .. } => panic!("all of RAM is there, in whole pages"),
        }
    }
}

#[test]
fn a_dump_of_arm_or_aarch64_has_the_pages_of_its_level() {
    for memory in [Memory::arm(), Memory::aarch64()] {
        let machine = memory.crashed.machine;
        for level in [DumpLevel::ALL, DumpLevel::SMALLEST] {
            let (crash, received) = dump(&memory, level);
            assert_eq!(received.header.as_ref().unwrap().e_machine, machine.e_machine());
            let first = memory.crashed.ram.start >> 12;
            let classes = arm::expected(memory.crashed.ram.bytes.len() as u64 >> 12);
            let kept = (first..).zip(classes).filter(|(_, class)| level.keeps(*class)).map(|(pfn, _)| pfn);
            assert!(received.pages.keys().copied().eq(kept), "{machine:?}: {}", received.text);
            for (pfn, page) in &received.pages {
                let mut expected = vec![0; 4096];
                memory.read(PhysAddr(pfn << 12), &mut expected).unwrap();
                assert!(*page == expected, "{machine:?}: page {pfn:#x}");
            }
            let bogus_segments = if machine == Machine::Aarch64 { 1 } else { 0 };
            assert_eq!(crash.faults().count(), bogus_segments);
        }
    }
}

/// Memory, and a clock that knows how much of it was read since it was looked at last.
struct Watched<'a> {
    memory: &'a Memory,
    read_bytes: Cell<usize>,
    most_bytes: Cell<usize>,
    ticking: Ticking,
}

impl PhysMemory for Watched<'_> {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        // However little it is, it takes its time.
        self.read_bytes.set(self.read_bytes.get() + buf.len().max(64));
        self.memory.read(pa, buf)
    }
}

impl Clock for Watched<'_> {
    fn now(&self) -> Duration {
        self.most_bytes.set(self.most_bytes.get().max(self.read_bytes.take()));
        self.ticking.now()
    }
}

#[test]
fn the_clock_is_looked_at_so_often_that_whoever_feeds_a_watchdog_then_is_in_time() {
    let mut without_tables = Memory::arm();
    let at = without_tables.crashed.info.find("SYMBOL(swapper_pg_dir)=").unwrap() + 23;
    without_tables.crashed.info.replace_range(at..at + 8, "c0abc000");
    let without_tables = Memory::new(without_tables.crashed, arm::ARM_OFFSET, Class::ELF32, &[]);
    for memory in [Memory::arm(), Memory::aarch64(), without_tables] {
        for level in [DumpLevel::ALL, DumpLevel::SMALLEST] {
            let (read_bytes, most_bytes, ticking) = Default::default();
            let watched = Watched { memory: &memory, read_bytes, most_bytes, ticking };
            let crash = Crash::read(memory.elfcorehdr_pa, &watched).unwrap();
            let encoder = Method::Deflate.encoder();
            let options = Options {
                session: SessionId(7),
                encoder,
                level,
                budget: Budget::default(),
                needs_answers: false,
                serve: None,
            };
            send(&crash, &watched, &mut Line::default(), &watched, options).unwrap();
            // A hundredth of a second of a processor that reads 100 MB/s; half a second is the least a watchdog waits.
            assert!(watched.most_bytes.get() <= 1 << 20, "{}", watched.most_bytes.get());
        }
    }
}

#[test]
fn name_log_and_stack_of_arm_or_aarch64_and_the_text_it_returns_to_come_first() {
    for memory in [Memory::arm(), Memory::aarch64()] {
        let machine = memory.crashed.machine;
        let (_, received) = dump(&memory, DumpLevel::ALL);
        let header = received.header.unwrap();
        assert_eq!((header.uts(1), header.uts(4)), ("board", machine.name()));
        assert_eq!(
            String::from_utf8(received.log).unwrap(),
            "[   12.345678] Kernel panic - not syncing: test\n"
        );
        // The stack is 8 KiB on arm, 16 KiB on aarch64.
        let stack = (memory.crashed.ram.start + STACK) >> 12;
        let (pages, text) = if machine == Machine::Arm { (2, ARM_TEXT) } else { (4, AARCH64_TEXT) };
        let first: Vec<u64> = received.order[..pages].to_vec();
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(stack..stack + pages as u64), "{machine:?}: {first:x?}");
        assert_eq!(
            received.order[pages],
            (memory.crashed.ram.start + text) >> 12,
            "{machine:?}: what it returns to"
        );
    }
}
