//! How fast a journal is read and its pages are found: bytes of the crashed machine's memory per second.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unreachable_pub)]

mod support;

use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rcapture::dump::{Dump, JournalDump};

/// Memory of the crashed machine; `support::MIX` says what is in it.
const BYTES: u64 = 2 << 30;

fn reassembly(criterion: &mut Criterion) {
    let journal = Arc::new(support::journal(BYTES));
    let mut group = criterion.benchmark_group("reassembly");
    group.throughput(Throughput::Bytes(BYTES)).sample_size(10);
    group.bench_function("journal", |bencher| {
        bencher.iter(|| {
            let dump = JournalDump::read(Path::new("journal"), journal.clone()).unwrap();
            assert!(dump.facts().is_complete);
        });
    });
    group.finish();
}

criterion_group!(benches, reassembly);
criterion_main!(benches);
