//! A session of a machine with memory like that of a guest that has just booted: [`MIX`].

use codec::{CodecId, Method};
use rcapture::journal::Writer;
use vmcore::elfcore::NewElfCore;
use vmcore::elfcorehdr::{Class, LoadSegment, Machine};
use wire::{BlockHeader, Cursor, MetaKind, Record, SessionEnd, SessionHeader, SessionId, UTSNAME_BYTES};

const PAGE: usize = 4096;

/// Pages of the same kind lie together, so many of them: a sixteenth of what the page allocator hands out at most.
const REGION_PAGES: u64 = 64;

/// Of a hundred regions, so many are zero (never used, or freed and cleared), of one repeated word (poison), of small
/// numbers and pointers (kernel data, heaps; deflate makes them half as large), of text (logs, scripts; a quarter), and of
/// bytes that do not compress (page cache of compressed files).
pub const MIX: [(Kind, u64); 5] =
    [(Kind::Zero, 80), (Kind::Poison, 3), (Kind::Pointers, 8), (Kind::Text, 5), (Kind::Random, 4)];

/// What a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Zero,
    Poison,
    Pointers,
    Text,
    Random,
}

/// What page `pfn` holds.
fn kind(pfn: u64) -> Kind {
    // Multiplicative hashing (Knuth, 6.4): regions of a kind are spread over memory.
    let mut place = ((pfn / REGION_PAGES).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 100;
    for (kind, share) in MIX {
        if place < share {
            return kind;
        }
        place -= share;
    }
    Kind::Zero
}

/// The bytes of a page of this kind.
fn page(kind: Kind, pfn: u64) -> Vec<u8> {
    const WORDS: [&str; 8] =
        ["kernel: ", "usb 1-1: ", "systemd", "[    0.", "error", " = 0x", "\n", "device "];
    let mut state = pfn | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 20
    };
    let mut page = Vec::with_capacity(PAGE + 16);
    while page.len() < PAGE {
        let random = next();
        match kind {
            Kind::Zero | Kind::Poison => page.push(0),
            Kind::Pointers => page.extend_from_slice(
                &match random % 4 {
                    0 => 0xffff_8880_0000_0000 | (random & 0xff_ffc0),
                    1 => random & 0xfff,
                    _ => 0,
                }
                .to_le_bytes(),
            ),
            Kind::Text => {
                page.extend_from_slice(WORDS[usize::try_from(random % 8).unwrap()].as_bytes());
                page.push(b'0' + u8::try_from(next() % 10).unwrap());
            }
            Kind::Random => page.extend_from_slice(&random.to_le_bytes()[..4]),
        }
    }
    page.truncate(PAGE);
    page
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
    let mut pfn = 0;
    while pfn < pages {
        let kind = kind(pfn);
        if matches!(kind, Kind::Zero | Kind::Poison) {
            let word = if kind == Kind::Zero { 0 } else { 0xcccc_cccc_cccc_cccc };
            let run = (pfn..pages).take_while(|&next| self::kind(next) == kind).count() as u64;
            let record = Record::Fill { pfn, pages: u32::try_from(run).unwrap(), word };
            push(&record, &mut raw, &mut end);
            pfn += run;
        } else {
            push(&Record::Page { pfn, bytes: &page(kind, pfn) }, &mut raw, &mut end);
            pfn += 1;
        }
        if raw.len() > codec::BLOCK_BYTES - 2 * PAGE {
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
    let header = BlockHeader {
        start: Cursor::START,
        end: Cursor::START,
        codec: CodecId::Deflate,
        filter: codec::Filter::None,
        raw_bytes,
    };
    let mut encoded = header.encode().to_vec();
    encoded.reserve(codec::max_encoded_bytes(raw.len()));
    let mut encoder = Method::Deflate.encoder();
    encoder.begin();
    encoder.write(raw, &mut encoded).unwrap();
    encoder.finish(&mut encoded).unwrap();
    writer.block(0, end.blocks, wire::generation(&encoded), &encoded).unwrap();
    end.blocks += 1;
    raw.clear();
}
