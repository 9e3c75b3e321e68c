//! How fast a block of memory is compressed and decompressed.
//!
//! The memory is synthetic, because nobody's real memory belongs into a repository: two kinds of pages between which
//! real ones lie.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use codec::{CodecId, decode, max_encoded_bytes};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const BLOCK_BYTES: usize = 64 * 1024;
/// What the sender feeds the encoder at a time.
const PIECE_BYTES: usize = 4096;

/// Kernel objects: rows of pointers that differ in their low bytes, small counters, a name, and zeros.
fn objects() -> Vec<u8> {
    let mut state = 1_u32;
    let mut bytes = Vec::with_capacity(BLOCK_BYTES);
    while bytes.len() < BLOCK_BYTES {
        let number = next(&mut state);
        let pointer = 0xffff_8880_0000_0000_u64 | u64::from(number & 0x0fff_ffc0);
        bytes.extend_from_slice(&pointer.to_le_bytes());
        bytes.extend_from_slice(&(pointer + 0x40).to_le_bytes());
        bytes.extend_from_slice(&u64::from(number & 0xff).to_le_bytes());
        bytes.extend_from_slice(b"kworker/0:1H\0\0\0\0");
        bytes.extend_from_slice(&[0; 88]);
    }
    bytes.truncate(BLOCK_BYTES);
    bytes
}

/// What does not compress: keys, compressed files in the page cache.
fn noise() -> Vec<u8> {
    let mut state = 1_u32;
    let words = (0..BLOCK_BYTES / 4).map(|_| next(&mut state).to_le_bytes());
    words.flatten().collect()
}

/// xorshift32 (Marsaglia, 2003).
fn next(state: &mut u32) -> u32 {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    *state
}

fn blocks(criterion: &mut Criterion) {
    for codec in [CodecId::Deflate, CodecId::None] {
        let mut group = criterion.benchmark_group(format!("codec/{codec:?}"));
        group.throughput(Throughput::Bytes(BLOCK_BYTES as u64));
        for (kind, raw) in [("objects", objects()), ("noise", noise())] {
            let mut encoder = codec.encoder();
            let mut encoded = Vec::with_capacity(max_encoded_bytes(BLOCK_BYTES));
            group.bench_with_input(BenchmarkId::new("encode", kind), &raw, |bencher, raw| {
                bencher.iter(|| {
                    encoded.clear();
                    encoder.begin();
                    for piece in raw.chunks(PIECE_BYTES) {
                        encoder.write(black_box(piece), &mut encoded).unwrap();
                    }
                    encoder.finish(&mut encoded).unwrap();
                });
            });
            group.bench_with_input(BenchmarkId::new("decode", kind), &encoded, |bencher, encoded| {
                bencher.iter(|| decode(codec, black_box(encoded), BLOCK_BYTES).unwrap());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, blocks);
criterion_main!(benches);
