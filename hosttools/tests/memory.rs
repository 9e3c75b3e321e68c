//! What a session costs the receiver.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use codec::{CodecId, Filter};
use peak_alloc::PeakAlloc;
use rcapture::dump::Assembly;
use rcapture::index::Summary;
use wire::{BlockHeader, Cursor, Record, SessionHeader, SessionId};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Pages of a machine with 64 GiB.
const PAGES: u64 = 64 << 18;

/// Pages that a block is about.
const PAGES_OF_BLOCK: u64 = 80;

/// So much may a session hold, beside what every receiver does.
const MAX_SESSION_BYTES: usize = 4 << 20;

#[test]
fn a_session_of_a_machine_with_64_gib_holds_less_than_4_mib() {
    let header = SessionHeader {
        e_machine: 62,
        page_shift: 12,
        dump_level: 0,
        crash_time: 1,
        ram_pages: PAGES,
        utsname: [0; wire::UTSNAME_BYTES],
    };
    let directory = tempfile::tempdir().unwrap();
    let before = HEAP.current_usage();
    let mut assembly = Assembly::new(SessionId(1), header, directory.path());
    let page = [7; 4096];
    let mut number = 0;
    for first in (0..PAGES).step_by(usize::try_from(PAGES_OF_BLOCK).unwrap()) {
        let end = PAGES.min(first + PAGES_OF_BLOCK);
        let mut raw = Vec::new();
        for pfn in first..end {
            match pfn % 16 {
                0..2 => Record::Page { pfn, bytes: &page }.encode(&mut raw),
                // No two alike, so that no run is longer than a page.
                2..12 => Record::Fill { pfn, pages: 1, word: pfn }.encode(&mut raw),
                _ => {}
            }
        }
        let cursor = |position| Cursor { pass: 14, position };
        let header = BlockHeader {
            start: cursor(first),
            end: cursor(end),
            codec: CodecId::None,
            filter: Filter::None,
            raw_bytes: u32::try_from(raw.len()).unwrap(),
        };
        let encoded = [&header.encode()[..], &raw].concat();
        let summary = Summary::of(number, &encoded, 12).unwrap();
        let (generation, offset) = (number, u64::from(number));
        assembly.add((0, number), generation, offset, encoded.len(), Some(summary)).unwrap();
        number += 1;
    }
    assert_eq!((assembly.prefix(), assembly.pages()), (number, PAGES / 16 * 12));
    let held = HEAP.current_usage() - before;
    println!("{number} blocks: {} KiB", held >> 10);
    assert!(held < MAX_SESSION_BYTES, "{held} bytes");
}
