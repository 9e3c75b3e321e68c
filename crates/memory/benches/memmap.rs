//! How fast pages are told apart: 16 GiB of fragmented memory, all of whose struct pages have to be looked at.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use memory::{DumpLevel, PageClass, PageCounts, Pfn};
use support::{Crashed, Generation};

const PAGES: u64 = 16 << 30 >> 12;

fn count(crashed: &Crashed, level: DumpLevel) -> PageCounts {
    crashed.classifier(level).spans(Pfn(0), Pfn(PAGES)).sum()
}

fn memmap(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memmap");
    group.throughput(Throughput::Elements(PAGES)).sample_size(20);
    for generation in [Generation::Linux6_1, Generation::Linux6_12] {
        let crashed = Crashed::fragmented(generation, PAGES);
        let counts = count(&crashed, DumpLevel::ALL);
        assert!(
            counts.total() == PAGES
                && PageClass::ALL[..6].iter().all(|class| counts.of(*class) > PAGES / 100)
        );
        for level in [DumpLevel::SMALLEST, DumpLevel::ALL] {
            let id = BenchmarkId::new(format!("{generation:?}"), level.number());
            group.bench_function(id, |bencher| bencher.iter(|| count(black_box(&crashed), level)));
        }
    }
    group.finish();
}

criterion_group!(benches, memmap);
criterion_main!(benches);
