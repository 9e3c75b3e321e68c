//! A session of a machine with memory like a kernel's: a third zero, a third small numbers, the rest anything.

use codec::CodecId;
use rcapture::journal::Writer;
use vmcore::elfcore::NewElfCore;
use vmcore::elfcorehdr::{Class, LoadSegment, Machine};
use wire::{BlockHeader, Cursor, MetaKind, Record, SessionEnd, SessionHeader, SessionId, UTSNAME_BYTES};

const PAGE: usize = 4096;
/// Pages in a block, as the capture kernel makes them.
const BLOCK_PAGES: u64 = 15;

/// The bytes of page `pfn`, but for zero pages.
fn page(pfn: u64) -> Vec<u8> {
    let mut state = pfn | 1;
    let shift = if pfn % 3 == 1 { 60 } else { 40 };
    (0..PAGE / 8)
        .flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> shift).to_le_bytes()
        })
        .collect()
}

/// The journal of a session with `bytes` of memory.
pub fn journal(bytes: u64) -> Vec<u8> {
    let pages = bytes / PAGE as u64;
    let mut writer = Writer::new(Vec::new()).unwrap();
    let header = SessionHeader {
        e_machine: 62,
        page_shift: 12,
        dump_level: 0,
        crash_time: 1_700_000_000,
        ram_pages: pages,
        utsname: [0; UTSNAME_BYTES],
    };
    writer.session(SessionId(1), &header).unwrap();
    let mut end = SessionEnd::default();
    let mut raw = Vec::new();
    let load = LoadSegment { p_filesz: bytes, p_memsz: bytes, ..LoadSegment::default() };
    let mut elfcorehdr =
        NewElfCore { class: Class::ELF64, machine: Machine::X86_64, e_flags: 0, notes: &[], loads: &[load] }
            .encode()
            .unwrap();
    elfcorehdr.truncate(64 + 2 * 56);
    let total = u32::try_from(elfcorehdr.len()).unwrap();
    push(
        &Record::Meta { kind: MetaKind::Elfcorehdr, offset: 0, total, bytes: &elfcorehdr },
        &mut raw,
        &mut end,
    );
    close(&mut raw, &mut end, &mut writer);
    for pfn in 0..pages {
        if pfn % 3 == 0 {
            push(&Record::Fill { pfn, pages: 1, word: 0 }, &mut raw, &mut end);
        } else {
            push(&Record::Page { pfn, bytes: &page(pfn) }, &mut raw, &mut end);
        }
        if pfn % BLOCK_PAGES == BLOCK_PAGES - 1 {
            close(&mut raw, &mut end, &mut writer);
        }
    }
    close(&mut raw, &mut end, &mut writer);
    writer.end(&end).unwrap();
    writer.into_inner()
}

fn push(record: &Record<'_>, raw: &mut Vec<u8>, end: &mut SessionEnd) {
    let start = raw.len();
    record.encode(raw);
    end.count(record, &raw[start..]);
}

fn close(raw: &mut Vec<u8>, end: &mut SessionEnd, writer: &mut Writer<Vec<u8>>) {
    if raw.is_empty() {
        return;
    }
    let raw_bytes = u32::try_from(raw.len()).unwrap();
    let header = BlockHeader { start: Cursor::START, end: Cursor::START, codec: CodecId::Deflate, raw_bytes };
    let mut encoded = header.encode().to_vec();
    encoded.reserve(codec::max_encoded_bytes(raw.len()));
    let mut encoder = CodecId::Deflate.encoder();
    encoder.begin();
    encoder.write(raw, &mut encoded).unwrap();
    encoder.finish(&mut encoded).unwrap();
    writer.block(0, end.blocks, wire::generation(&encoded), &encoded).unwrap();
    end.blocks += 1;
    raw.clear();
}
