//! How fast a vmcore is written from a journal: bytes of the crashed machine's memory per second.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unreachable_pub)]

mod support;

use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rcapture::dump::JournalDump;
use rcapture::write::{self, Compression, Format, Options};

/// Memory of the crashed machine; `support::MIX` says what is in it.
const BYTES: u64 = 2 << 30;

fn kdump_write(criterion: &mut Criterion) {
    let journal = Arc::new(support::journal(BYTES));
    let dump = JournalDump::read(Path::new("journal"), journal).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vmcore");
    let mut group = criterion.benchmark_group("kdump_write");
    group.throughput(Throughput::Bytes(BYTES)).sample_size(10);
    for (name, format, compression) in [
        ("kdump-zlib", Format::Kdump, Compression::Zlib),
        ("kdump-zstd", Format::Kdump, Compression::Zstd),
        ("kdump-none", Format::Kdump, Compression::None),
        ("elf", Format::Elf, Compression::None),
    ] {
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            let options = Options { format, compression };
            bencher.iter(|| write::to_file(&dump, &path, options, &mut |_, _| {}).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, kdump_write);
criterion_main!(benches);
