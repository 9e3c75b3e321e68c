//! How fast a block of memory is compressed and decompressed.
//!
//! The memory is synthetic, because nobody's real memory belongs into a repository: two kinds of pages between which
//! real ones lie. `CODEC_BENCH_PAGES=FILE` adds the first MiB of a file of yours.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use codec::{Encoder, Filter, Filtering, Method, PIECE_BYTES, decode, max_encoded_bytes};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const BLOCK_BYTES: usize = 64 * 1024;
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

fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let mut samples = vec![("objects", objects()), ("noise", noise())];
    if let Some(path) = std::env::var_os("CODEC_BENCH_PAGES") {
        let mut pages = std::fs::read(path).unwrap();
        pages.truncate(1 << 20);
        samples.push(("pages", pages));
    }
    samples
}

fn blocks(criterion: &mut Criterion) {
    for method in Method::ALL {
        let mut group = criterion.benchmark_group(format!("codec/{method}"));
        for (kind, raw) in samples() {
            group.throughput(Throughput::Bytes(raw.len() as u64));
            let mut encoder = method.encoder();
            let mut blocks = Vec::new();
            group.bench_with_input(BenchmarkId::new("encode", kind), &raw, |bencher, raw| {
                bencher.iter(|| {
                    blocks = raw
                        .chunks(BLOCK_BYTES)
                        .map(|block| encode(&mut *encoder, black_box(block)))
                        .collect();
                });
            });
            group.bench_with_input(BenchmarkId::new("decode", kind), &blocks, |bencher, blocks| {
                bencher.iter(|| {
                    for (encoded, raw) in blocks.iter().zip(raw.chunks(BLOCK_BYTES)) {
                        black_box(decode(encoder.id(), black_box(encoded), raw.len()).unwrap());
                    }
                });
            });
        }
        group.finish();
    }
}

fn encode(encoder: &mut dyn Encoder, raw: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(max_encoded_bytes(BLOCK_BYTES));
    encoder.begin();
    for piece in raw.chunks(PIECE_BYTES) {
        encoder.write(piece, &mut encoded).unwrap();
    }
    encoder.finish(&mut encoded).unwrap();
    encoded
}

fn filters(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("filter");
    group.throughput(Throughput::Bytes(BLOCK_BYTES as u64));
    for filter in [Filter::X86, Filter::Arm64, Filter::Arm, Filter::Delta(64)] {
        group.bench_function(format!("{filter:?}"), |bencher| {
            let mut raw = objects();
            bencher.iter(|| {
                let mut filtering = Filtering::new(filter);
                for piece in raw.chunks_mut(PIECE_BYTES) {
                    black_box(filtering.push(piece));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, blocks, filters);
criterion_main!(benches);
