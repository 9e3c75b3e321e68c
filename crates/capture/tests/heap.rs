//! What a dump takes of the heap: no more than the capture kernel has, however large the machine.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod support;

use std::cell::Cell;
use std::time::Duration;

use capture::{Budget, Clock, Crash, HEAP_BESIDE_ENCODER_BYTES, Link, Options, send};
use codec::{Effort, Method};
use memory::{DumpLevel, PhysAddr, PhysMemory, ReadFault};
use peak_alloc::PeakAlloc;
use support::elfcorehdr;
use wire::{Cursor, Reply, Request, SessionId, Urgency};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The linker's scripts, which say how large the heap is, and whether it has room for every method.
const LINKER_SCRIPTS: [(&str, bool); 3] = [
    (include_str!("../../../linker/x86_64.ld"), true),
    (include_str!("../../../linker/aarch64.ld"), true),
    // Code of 32-bit Arm needs more of the stack.
    (include_str!("../../../linker/arm.ld"), false),
];

/// The one that takes most.
const LARGEST: Method = Method::Lzma(Effort::Dense);

/// What of the heap is left to the machine: its elfcorehdr and notes, read twice, and what lies between two allocations.
const SPARE_BYTES: usize = 96 * 1024;

/// On the line: more than the sender keeps.
const MOST_BYTES: u64 = 512 * 1024;

/// So many are made by who floods.
const MOST_REQUESTS: u32 = 100_000;

/// What whoever runs the test may take meanwhile.
const HARNESS_BYTES: usize = 16 * 1024;

const ELFCOREHDR_PA: u64 = 1 << 50;

/// RAM from 0 on: numbers, as kernel objects have them, and every fourth page noise. Above it, its elfcorehdr.
struct Machine {
    elfcorehdr: Vec<u8>,
}

impl PhysMemory for Machine {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        if let Some(offset) = pa.0.checked_sub(ELFCOREHDR_PA) {
            let offset = usize::try_from(offset).unwrap();
            buf.copy_from_slice(&self.elfcorehdr[offset..offset + buf.len()]);
            return Ok(());
        }
        for (word, word_pa) in buf.chunks_mut(8).zip((pa.0..).step_by(8)) {
            let noise = word_pa.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(word_pa | 1);
            let value = if word_pa >> 12 & 3 == 3 { noise } else { (word_pa / 24) & 0xffff };
            word.copy_from_slice(&value.to_le_bytes()[..word.len()]);
        }
        Ok(())
    }
}

/// Takes whatever is sent, as slowly as time passes. Whoever is at its other end may want all of the machine at once, and
/// acknowledges nothing.
struct Line<'a> {
    written: u64,
    clock: &'a Time,
    is_flooded: bool,
    number: u32,
}

struct Time(Cell<Duration>);

impl Clock for Time {
    fn now(&self) -> Duration {
        self.0.get()
    }
}

impl Link for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> usize {
        let carried = u64::try_from(self.clock.now().as_millis() * 11_520 / 1000).unwrap();
        let count = bytes.len().min(usize::try_from(carried - self.written).unwrap());
        self.written += count as u64;
        count
    }

    fn read(&mut self, buf: &mut [u8]) -> usize {
        let is_time = (self.clock.now().as_micros() / 500).is_multiple_of(2);
        self.clock.0.set(self.clock.now() + Duration::from_micros(500));
        if !self.is_flooded || !is_time || self.number == MOST_REQUESTS {
            return 0;
        }
        // Now and then it is another one, for whom all begins anew.
        let receiver = u8::try_from(1 + self.number / 20_000).unwrap();
        let reply = if self.number.is_multiple_of(20_000) {
            Reply::Resume { receiver, next_block: 0, cursor: Cursor::START }
        } else {
            let (number, first_pfn) = (self.number, u64::from(self.number) * 16);
            Reply::Request {
                receiver,
                request: Request { number, urgency: Urgency::Now, first_pfn, pages: 16 },
            }
        };
        self.number += 1;
        let mut line = Vec::with_capacity(64);
        reply.encode(SessionId(7), &mut line);
        buf[..line.len()].copy_from_slice(&line);
        line.len()
    }
}

/// The most that is taken at any time of a dump with `method` that ends after [`MOST_BYTES`] on the line.
fn most_bytes(method: Method, ram_bytes: u64, is_flooded: bool) -> usize {
    let machine = Machine { elfcorehdr: elfcorehdr(ram_bytes) };
    let clock = Time(Cell::default());
    let mut line = Line { written: 0, clock: &clock, is_flooded, number: 0 };
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let crash = Crash::read(ELFCOREHDR_PA, &machine).unwrap();
    let options = Options {
        session: SessionId(7),
        encoder: method.encoder(),
        level: DumpLevel::ALL,
        budget: Budget { bytes: Some(MOST_BYTES), ..Budget::default() },
        needs_answers: false,
        serve: None,
    };
    let end = send(&crash, &machine, &mut line, &clock, options).unwrap();
    assert!(end.is_cut && line.written > MOST_BYTES);
    HEAP.peak_usage() - before
}

fn heap_bytes(script: &str) -> usize {
    let size = script.lines().find_map(|line| line.strip_prefix("HEAP_BYTES = ")).unwrap();
    size.trim_end_matches("K;").parse::<usize>().unwrap() * 1024
}

/// What `method`'s encoder takes of it.
fn encoder_bytes(method: Method) -> usize {
    let before = HEAP.current_usage();
    let _encoder = method.encoder();
    HEAP.current_usage() - before
}

// One test: the heap is everybody's.
#[test]
fn a_dump_takes_no_more_than_the_heap_however_large_the_machine() {
    for method in Method::ALL {
        let [small, large] = [64 << 20, 64 << 40].map(|ram_bytes| most_bytes(method, ram_bytes, false));
        assert!(small.abs_diff(large) <= HARNESS_BYTES, "{method}: {small} and {large}");
        let flooded = most_bytes(method, 64 << 30, true);
        assert!(flooded.abs_diff(small) <= HARNESS_BYTES, "{method}: {small}, and {flooded} when flooded");
        // An encoder that leaves less than this is not taken: the next smaller one is.
        let beside = large - encoder_bytes(method);
        assert!(beside <= HEAP_BESIDE_ENCODER_BYTES, "{method}: {beside}");
        for (script, has_room_for_all) in LINKER_SCRIPTS {
            let heap = heap_bytes(script);
            let fits = large + SPARE_BYTES <= heap;
            assert!(fits || method == LARGEST && !has_room_for_all, "{method}: {large} of {heap}");
        }
        println!("{method}: {large} bytes");
    }
}
