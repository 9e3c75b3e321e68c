//! How fast blocks become line bytes (CRC, COBS) and line bytes become blocks again (framing, reassembly).
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wire::line::{Chunk, Deframer};
use wire::{Cursor, Event, MAX_FRAME_BYTES, Receiver, Sender, SessionHeader, SessionId, UTSNAME_BYTES};

const BLOCKS: u64 = 64;
/// A compressed block of kernel memory, about.
const BLOCK_BYTES: usize = 12 * 1024;

/// Bytes as compression leaves them: every value, zeros too.
fn block() -> Vec<u8> {
    let mut state = 1_u32;
    let words = (0..BLOCK_BYTES / 4).map(|_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    });
    words.flatten().collect()
}

fn sender() -> Sender {
    let header = SessionHeader {
        e_machine: 62,
        page_shift: 12,
        dump_level: 0,
        crash_time: 0,
        ram_pages: 1 << 20,
        utsname: [0; UTSNAME_BYTES],
    };
    Sender::new(SessionId(1), header)
}

/// All blocks as they go over the line. Time stands still: the header comes once.
fn send(block: &[u8], line: &mut Vec<u8>) {
    let mut sender = sender();
    for number in 0..BLOCKS {
        while !sender.has_room() {
            write(&mut sender, line);
        }
        sender.push(black_box(block), Cursor { pass: 2, position: number + 1 });
    }
    while write(&mut sender, line) {}
}

/// One frame; whether there was one.
fn write(sender: &mut Sender, line: &mut Vec<u8>) -> bool {
    let pending = sender.pending(Duration::ZERO);
    let count = pending.len();
    line.extend_from_slice(pending);
    sender.advance(count);
    count != 0
}

fn line(criterion: &mut Criterion) {
    let block = block();
    let mut sent = Vec::new();
    send(&block, &mut sent);

    let mut group = criterion.benchmark_group("wire");
    group.throughput(Throughput::Bytes(BLOCKS * BLOCK_BYTES as u64));
    group.bench_function("send (fragments, CRC, COBS)", |bencher| {
        let mut out = Vec::with_capacity(sent.len());
        bencher.iter(|| {
            out.clear();
            send(&block, &mut out);
        });
    });
    group.bench_function("receive (COBS, CRC, reassembly)", |bencher| {
        bencher.iter(|| {
            let mut receiver = Receiver::new(1);
            let mut blocks = 0;
            receiver
                .push(black_box(&sent), |event| blocks += u64::from(matches!(event, Event::Block { .. })));
            assert_eq!(blocks, BLOCKS);
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("line");
    let frame = block.get(..MAX_FRAME_BYTES).unwrap();
    group.throughput(Throughput::Bytes(MAX_FRAME_BYTES as u64));
    group.bench_function("code one frame (COBS)", |bencher| {
        let mut out = Vec::new();
        bencher.iter(|| {
            out.clear();
            wire::line::encode(black_box(frame), &mut out);
        });
    });
    group.throughput(Throughput::Bytes(sent.len() as u64));
    group.bench_function("find frames (COBS, CRC)", |bencher| {
        let mut deframer = Deframer::new();
        bencher.iter(|| {
            let mut frames = 0;
            deframer.push(black_box(&sent), |chunk| frames += u64::from(matches!(chunk, Chunk::Frame(_))));
            assert!(frames > BLOCKS);
        });
    });
    group.finish();
}

criterion_group!(benches, line);
criterion_main!(benches);
