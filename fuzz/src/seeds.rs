//! Inputs to begin with: small things that are right, so that the fuzzer needs only to break them.

mod memmap;
mod sender;

use vmcore::elfcore::NewElfCore;
use vmcore::elfcorehdr::{Class, LoadSegment, Machine};
use vmcore::flattened::{RecordHead, header};
use vmcore::kdump::{Abi, DumpHeader, Layout, PageDescriptor, SubHeader, Utsname, VERSION, status};
use vmcore::notes::{CORE_NAME, NT_PRSTATUS, VMCOREINFO_NAME, push_note};

use codec::{Effort, Filter, Filtering, Method};
use rcapture::dump::JournalDump;
use rcapture::{journal, write};
use wire::line::{Chunk, Deframer};
use wire::{
    Block, BlockHeader, Body, Cursor, Fragment, MetaKind, Record, Sender, SessionEnd, SessionHeader,
    SessionId,
};

use crate::crash::LOG_VA;

/// An input: target, name of its file, bytes.
pub type Seed = (&'static str, String, Vec<u8>);

const VMCOREINFO: &[u8] = b"OSRELEASE=6.1.0-28-cloud-amd64\nBUILD-ID=3b3e1d8ffb2a1c4c5ee21eb29fbc9a4a73e8ac6c\n\
    PAGESIZE=4096\nSYMBOL(init_uts_ns)=ffffffff9ee1a5c0\nOFFSET(page._mapcount)=48\nSIZE(page)=64\n\
    LENGTH(zone.free_area)=11\nNUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\nNUMBER(phys_base)=-146800640\n\
    NUMBER(kimage_voffset)=0xffff80007de00000\nKERNELOFFSET=1ca00000\nCONFIG_ARM_LPAE=y\nCRASHTIME=1763759526\n";

/// Of stock kernels.
const REAL_VMCOREINFO: [(&str, &[u8]); 2] = [
    ("debian-6.1", include_bytes!("../../crates/vmcore/tests/vmcoreinfo/debian-6.1-x86_64.txt")),
    ("debian-7.2", include_bytes!("../../crates/vmcore/tests/vmcoreinfo/debian-7.2-x86_64.txt")),
];

const DEVICE_TREES: [(&str, &[u8]); 3] = [
    ("qemu-7.2-virt", include_bytes!("../../payload/tests/device_trees/qemu-7.2-virt.dtb")),
    ("qemu-7.2-virt-armv7", include_bytes!("../../payload/tests/device_trees/qemu-7.2-virt-armv7.dtb")),
    ("imx6", include_bytes!("../../payload/tests/device_trees/imx6.dtb")),
];

/// A Fill, a Hole and Bytes, which begin with a call and a jump.
const RECORDS: &[u8] = b"\x02\x34\x12\0\0\0\0\0\xcc\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\
    \x03\x01\0\0\0\0\0\0\x02\0\0\0\x03\0\0\0\
    \x04\0\xfc\x09\0\0\0\0\0\x10\0\xe8\x10\x20\0\0\xe9\xf0\xff\xff\xff\0\0\0\0\0\0";

/// All of them.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |target, name: &str, bytes| seeds.push((target, name.to_owned(), bytes));
    for (name, class, machine) in [
        ("x86_64", Class::ELF64, Machine::X86_64),
        ("aarch64", Class::ELF64, Machine::Aarch64),
        ("arm", Class::ELF32, Machine::Arm),
    ] {
        // An elfcorehdr and a file's headers differ in what p_offset means; here the notes are in reach of both.
        let mut bytes = NewElfCore { class, machine, e_flags: 0, notes: &notes(), loads: &loads() }
            .encode()
            .expect("small");
        bytes.truncate(600);
        add("elfcorehdr", name, bytes.clone());
        add("elfcore", name, bytes);
    }
    for (name, tree) in DEVICE_TREES {
        add("device_tree", name, tree.to_vec());
    }
    add("elfcore", "pn_xnum", pn_xnum());
    add("elfcorehdr", "pn_xnum", pn_xnum());
    add("notes_vmcoreinfo", "notes", notes());
    add("notes_vmcoreinfo", "text", VMCOREINFO.to_vec());
    for (name, text) in REAL_VMCOREINFO {
        add("notes_vmcoreinfo", name, text.to_vec());
    }
    add("notes_vmcoreinfo", "empty_cpu", vec![0; 356]);
    for (name, abi, machine) in
        [("x86_64", Abi::Lp64, &b"x86_64"[..]), ("arm", Abi::Arm, b"armv7l"), ("i386", Abi::I386, b"i686")]
    {
        add("kdump_header", name, kdump(abi, machine));
    }
    let (line, journal) = session();
    let items = items(&line);
    add("session", "whole", items.concat());
    // Broken in the middle; then all of it again, as the sender of a session with the same header does.
    for part in [1, items.len() / 2, items.len() - 1] {
        add(
            "session",
            &format!("broken_{part}"),
            [&items[..part], &[vec![5, 0, 0]], &items].concat().concat(),
        );
    }
    add("frame_decoder", "session", line);
    for (name, options) in [
        ("zlib", write::Options { format: write::Format::Kdump, compression: write::Compression::Zlib }),
        (
            "stored",
            write::Options { format: write::Format::Flattened, compression: write::Compression::None },
        ),
        ("elf", write::Options { format: write::Format::Elf, compression: write::Compression::None }),
    ] {
        add("kdump_reader", name, vmcore(&journal, options));
    }
    add("journal", "answered", answered(&journal));
    add("journal", "session", journal);
    for (method, filter) in [
        (Method::None, Filter::Delta(64)),
        (Method::Lz4, Filter::Arm64),
        (Method::Lz4, Filter::Arm),
        (Method::Lz4, Filter::None),
        (Method::Deflate, Filter::X86),
        (Method::Lzma(Effort::Fast), Filter::Delta(64)),
        (Method::Lzma(Effort::Dense), Filter::X86),
    ] {
        let name = format!("{method}_{filter:?}").to_lowercase().replace([' ', '('], "_").replace(')', "");
        add("block", &name, block(RECORDS, method, filter));
    }
    add("flattened", "two_records", flattened());
    add("printk", "ring_buffer_64", ring_buffer(8));
    add("printk", "ring_buffer_32", ring_buffer(4));
    add("printk", "log_buf", log_buf());
    for (name, generation, kind) in memmap::SEEDS {
        add("memmap", name, memmap::memmap(generation, kind));
    }
    add("memmap", "arm", memmap::arm());
    for (name, talk) in sender::talks() {
        add("sender", name, talk);
    }
    for levels in [4, 5] {
        for leaf in 1..=3 {
            add("page_walk", &format!("x86_64_level_{leaf}_of_{levels}"), page_tables(levels, leaf));
        }
    }
    for (name, input) in arm_page_tables() {
        add("page_walk", name, input);
    }
    seeds
}

/// The frames of a line as the target `session` reads them.
fn items(line: &[u8]) -> Vec<Vec<u8>> {
    let mut items = Vec::new();
    let mut deframer = Deframer::new();
    deframer.push(line, |chunk| {
        let Chunk::Frame(frame) = chunk else { return };
        let (kind, bytes) = match frame.body {
            Body::Session(payload) => (0, payload.to_vec()),
            Body::End(payload) => (1, payload.to_vec()),
            Body::KeepAlive => (2, Vec::new()),
            Body::Fragment(Fragment { block, bytes, count: 1, .. }) => {
                (3, [&block.to_le_bytes()[..], bytes].concat())
            }
            Body::Fragment(Fragment { block, generation, index, count, bytes, .. }) => {
                let numbers = [block.to_le_bytes(), generation.to_le_bytes()].concat();
                (4, [&[index, count][..], &numbers, bytes].concat())
            }
        };
        let length = u16::try_from(bytes.len()).expect("a frame");
        items.push([&[kind][..], &length.to_le_bytes(), &bytes].concat());
    });
    items
}

/// A small session: as it goes over a line, and its journal.
fn session() -> (Vec<u8>, Vec<u8>) {
    let load = |p_paddr, bytes| LoadSegment {
        p_paddr,
        p_offset: p_paddr,
        p_filesz: bytes,
        p_memsz: bytes,
        p_vaddr: p_paddr,
    };
    let loads = [load(0x1000, 0x3c00), load(0x8000, 0x3000)];
    let new =
        NewElfCore { class: Class::ELF64, machine: Machine::X86_64, e_flags: 0, notes: &[], loads: &loads };
    let mut elfcorehdr = new.encode().expect("small");
    elfcorehdr.truncate(64 + 3 * 56);
    let notes = notes();
    let page: Vec<u8> = (0..4096_u32).flat_map(|n| u8::try_from(n % 7)).collect();
    let whole = |bytes: &[u8]| u32::try_from(bytes.len()).expect("small");
    let mut raw = Vec::new();
    let mut end = SessionEnd { blocks: 1, ..SessionEnd::default() };
    for record in [
        Record::Meta { kind: MetaKind::Elfcorehdr, offset: 0, total: whole(&elfcorehdr), bytes: &elfcorehdr },
        Record::Meta { kind: MetaKind::Notes, offset: 0, total: whole(&notes), bytes: &notes },
        Record::Fill { pfn: 1, pages: 2, word: 0 },
        Record::Page { pfn: 3, bytes: &page },
        Record::Bytes { pa: 0x4000, bytes: &page[..0xc00] },
        Record::Fill { pfn: 8, pages: 1, word: 0xcccc },
        Record::Hole { pfn: 9, pages: 2, reason: 3 },
    ] {
        let start = raw.len();
        record.encode(&mut raw);
        end.count(&record, &raw[start..]);
    }
    let encoded = block(&raw, Method::Deflate, Filter::None);

    let header = SessionHeader {
        e_machine: 62,
        page_shift: 12,
        dump_level: 0,
        crash_time: 1_763_759_526,
        ram_pages: 7,
        utsname: Utsname::new([b"Linux", b"node", b"6.1.0", b"#1", b"x86_64", b""]).to_bytes(),
    };
    let mut writer = journal::Writer::new(Vec::new()).expect("memory");
    writer.session(SessionId(7), &header).expect("memory");
    writer.block(0, 0, wire::generation(&encoded), &encoded).expect("memory");
    writer.end(&end).expect("memory");

    (line(&header, &encoded, &end), writer.into_inner())
}

/// The journal, and behind it answers to requests: one that goes by what it says it is about, one that does not.
fn answered(journal: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    Record::Fill { pfn: 9, pages: 1, word: 1 }.encode(&mut raw);
    Record::Hole { pfn: 10, pages: 1, reason: 5 }.encode(&mut raw);
    let mut writer = journal::Writer::go_on(journal.to_vec(), journal.len() as u64);
    for (number, end) in [(0, 11), (1, 10)] {
        let place = |position| Cursor { pass: 0, position };
        let header = BlockHeader {
            start: place(9),
            end: place(end),
            codec: Method::None.codec(),
            filter: Filter::None,
            raw_bytes: u32::try_from(raw.len()).expect("small"),
        };
        let encoded = [&header.encode()[..], &raw].concat();
        writer.block(wire::ANSWERS, number, wire::generation(&encoded), &encoded).expect("memory");
    }
    writer.into_inner()
}

/// The session's block.
fn block(raw: &[u8], method: Method, filter: Filter) -> Vec<u8> {
    let header = BlockHeader {
        start: Cursor::START,
        end: Cursor { pass: 2, position: 11 },
        codec: method.codec(),
        filter,
        raw_bytes: u32::try_from(raw.len()).expect("small"),
    };
    let mut encoded = header.encode().to_vec();
    let (mut filtering, mut encoder) = (Filtering::new(filter), method.encoder());
    encoded.reserve(codec::max_encoded_bytes(raw.len()));
    encoder.begin();
    for piece in raw.to_vec().chunks_mut(codec::PIECE_BYTES) {
        encoder.write(filtering.push(piece), &mut encoded).expect("room enough");
    }
    encoder.write(filtering.finish(), &mut encoded).expect("room enough");
    encoder.finish(&mut encoded).expect("room enough");
    assert!(Block::decode(&encoded).is_ok_and(|block| block.raw == raw));
    encoded
}

/// A session on a line, with text around it.
fn line(header: &SessionHeader, encoded: &[u8], end: &SessionEnd) -> Vec<u8> {
    let mut sender = Sender::new(SessionId(7), header.clone());
    sender.text("Kernel panic");
    sender.push(encoded, Cursor { pass: 2, position: 11 });
    sender.end(end);
    let mut line = b"login: ".to_vec();
    let mut now = std::time::Duration::ZERO;
    for _ in 0..200 {
        let pending = sender.pending(now).to_vec();
        line.extend_from_slice(&pending);
        sender.advance(pending.len());
        now += std::time::Duration::from_millis(100);
    }
    line
}

/// The session's dump as a file.
fn vmcore(journal: &[u8], options: write::Options) -> Vec<u8> {
    let dump = JournalDump::read(std::path::Path::new("seed"), std::sync::Arc::new(journal.to_vec()))
        .expect("a journal");
    let directory = std::env::temp_dir().join(format!("rcapture-seed-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a temporary directory");
    // Tests ask for the seeds at the same time.
    let path = directory.join(format!("{:?}", std::thread::current().id()));
    write::to_file(&dump, &path, options, &mut |_, _| {}).expect("room on disk");
    let bytes = std::fs::read(&path).expect("just written");
    std::fs::remove_file(&path).expect("just written");
    bytes
}

fn loads() -> Vec<LoadSegment> {
    let load = |p_paddr: u64, p_offset, bytes| LoadSegment {
        p_vaddr: 0xc000_0000 + p_paddr,
        p_paddr,
        p_offset,
        p_filesz: bytes,
        p_memsz: bytes,
    };
    vec![
        load(0x1000, 0x33f0_0000, 0x9ec00),
        load(0x10_0000, 0x10_0000, 0x2ff0_0000),
        load(0x20_0000, 0x20_0000, 0x1000),
    ]
}

fn notes() -> Vec<u8> {
    let mut notes = Vec::new();
    push_note(CORE_NAME, NT_PRSTATUS, &[0x11; 336], &mut notes).expect("small");
    push_note(VMCOREINFO_NAME, 0, VMCOREINFO, &mut notes).expect("small");
    notes
}

/// A header whose number of program headers is in section header 0.
fn pn_xnum() -> Vec<u8> {
    let core =
        NewElfCore { class: Class::ELF64, machine: Machine::X86_64, e_flags: 0, notes: b"", loads: &loads() };
    let mut bytes = core.encode().expect("small");
    bytes.truncate(64 + 4 * 56);
    let e_shoff = bytes.len() as u64;
    bytes[40..48].copy_from_slice(&e_shoff.to_le_bytes());
    bytes[56..58].copy_from_slice(&[0xff, 0xff]);
    bytes.extend([0; 64]);
    let sh_info = bytes.len() - 20;
    bytes[sh_info] = 4;
    bytes
}

fn kdump(abi: Abi, machine: &[u8]) -> Vec<u8> {
    let layout = Layout::plan(abi, 4096, 100, 1024).expect("small");
    let header = DumpHeader {
        header_version: VERSION,
        utsname: Utsname::new([b"Linux", b"node", b"6.1.0", b"#1 SMP", machine, b"(none)"]),
        timestamp_sec: 1_763_759_526,
        timestamp_usec: 0,
        status: status::ZLIB,
        block_size: 4096,
        sub_hdr_size: layout.sub_hdr_size(),
        bitmap_blocks: layout.bitmap_blocks(),
        max_mapnr: 1024,
        total_ram_blocks: 0,
        device_blocks: 0,
        written_blocks: 0,
        current_cpu: 0,
        nr_cpus: 2,
    };
    let sub_header = SubHeader {
        dump_level: 31,
        offset_note: layout.notes_offset(abi),
        size_note: 100,
        max_mapnr_64: 1024,
        ..SubHeader::default()
    };
    let mut bytes = vec![0; layout.descriptors_offset() as usize];
    let header = header.encode(abi);
    bytes[..header.len()].copy_from_slice(&header);
    let sub_header = sub_header.encode(abi);
    bytes[4096..][..sub_header.len()].copy_from_slice(&sub_header);
    let descriptor = PageDescriptor { offset: 0x8000, size: 100, flags: status::ZLIB, page_flags: 0 };
    bytes.extend(descriptor.encode());
    bytes
}

fn flattened() -> Vec<u8> {
    let mut bytes = header()[..32].to_vec();
    for (offset, data) in [(0x1000, &b"data"[..]), (0, b"KDUMP   ")] {
        let head = RecordHead::Data { offset, bytes: data.len() as u64 };
        bytes.extend(head.encode().expect("small"));
        bytes.extend(data);
    }
    bytes.extend(RecordHead::End.encode().expect("the end can be written"));
    bytes
}

/// An input of the target `printk`.
fn log(is_32_bit: bool, text: &str, memory: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::from(is_32_bit)];
    bytes.extend(u16::try_from(text.len()).expect("small").to_le_bytes());
    bytes.extend(text.bytes());
    bytes.extend(memory);
    bytes
}

/// Memory to be written at offsets.
struct Image(Vec<u8>);

impl Image {
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..][..bytes.len()].copy_from_slice(bytes);
    }

    fn put_long(&mut self, offset: usize, long_bytes: usize, value: u64) {
        self.put(offset, &value.to_le_bytes()[..long_bytes]);
    }
}

/// Four descriptors and 128 bytes of text; the second block is moved to the ring's start.
fn ring_buffer(long: usize) -> Vec<u8> {
    const RING: usize = 0x10;
    const DESCS: usize = 0x80;
    const INFOS: usize = 0x100;
    const DATA: usize = 0x280;
    let va = |offset: usize| LOG_VA + offset as u64;
    let mut image = Image(vec![0; 0x300]);
    image.put_long(0, long, va(RING));
    image.put(RING, &2_u32.to_le_bytes());
    image.put_long(RING + 8, long, va(DESCS));
    image.put_long(RING + 16, long, va(INFOS));
    image.put_long(RING + 24, long, 2); // head_id
    image.put_long(RING + 32, long, 0); // tail_id
    image.put(RING + 64, &7_u32.to_le_bytes());
    image.put_long(RING + 72, long, va(DATA));
    let records: [(u64, u64, &[u8]); 3] =
        [(64, 96, b"Linux version 6.12.0"), (96, 168, b"a text of\ntwo lines, moved"), (3, 3, b"")];
    for (id, (begin, next, text)) in records.into_iter().enumerate() {
        let desc = DESCS + id * 3 * long;
        image.put_long(desc, long, 2 << (long * 8 - 2) | id as u64);
        image.put_long(desc + long, long, begin);
        image.put_long(desc + 2 * long, long, next);
        let info = INFOS + id * 88;
        image.put(info + 8, &(id as u64 * 1_000_000).to_le_bytes());
        image.put(info + 16, &(text.len() as u16).to_le_bytes());
        let place = if begin / 128 == (next - 1) / 128 { begin as usize % 128 } else { 0 };
        if begin != 3 {
            image.put(DATA + place + long, text);
        }
    }
    let text = format!(
        "SYMBOL(prb)={LOG_VA:x}\n\
        OFFSET(printk_ringbuffer.desc_ring)=0\nOFFSET(printk_ringbuffer.text_data_ring)=64\n\
        OFFSET(prb_desc_ring.count_bits)=0\nOFFSET(prb_desc_ring.descs)=8\nOFFSET(prb_desc_ring.infos)=16\n\
        OFFSET(prb_desc_ring.head_id)=24\nOFFSET(prb_desc_ring.tail_id)=32\n\
        SIZE(prb_desc)={}\nOFFSET(prb_desc.state_var)=0\nOFFSET(prb_desc.text_blk_lpos)={long}\n\
        OFFSET(prb_data_blk_lpos.begin)=0\nOFFSET(prb_data_blk_lpos.next)={long}\n\
        SIZE(printk_info)=88\nOFFSET(printk_info.ts_nsec)=8\nOFFSET(printk_info.text_len)=16\n\
        OFFSET(printk_info.caller_id)=20\nOFFSET(prb_data_ring.size_bits)=0\nOFFSET(prb_data_ring.data)=8\n",
        3 * long
    );
    log(long == 4, &text, &image.0)
}

/// Two records, the second at the start of the buffer.
fn log_buf() -> Vec<u8> {
    const DATA: usize = 0x20;
    let mut image = Image(vec![0; DATA + 128]);
    image.put_long(0, 8, LOG_VA + DATA as u64);
    image.put(8, &128_u32.to_le_bytes());
    image.put(12, &64_u32.to_le_bytes()); // log_first_idx
    image.put(16, &24_u32.to_le_bytes()); // log_next_idx
    for (offset, text) in [(64, &b"Linux version 4.19.0"[..]), (0, b"wrapped")] {
        image.put(DATA + offset, &1_000_u64.to_le_bytes());
        image.put(DATA + offset + 8, &((16 + text.len()).next_multiple_of(8) as u16).to_le_bytes());
        image.put(DATA + offset + 10, &(text.len() as u16).to_le_bytes());
        image.put(DATA + offset + 16, text);
    }
    let text = format!(
        "SYMBOL(log_buf)={LOG_VA:x}\nSYMBOL(log_buf_len)={:x}\nSYMBOL(log_first_idx)={:x}\n\
        SYMBOL(log_next_idx)={:x}\nSIZE(printk_log)=16\nOFFSET(printk_log.ts_nsec)=0\n\
        OFFSET(printk_log.len)=8\nOFFSET(printk_log.text_len)=10\nOFFSET(printk_log.caller_id)=12\n",
        LOG_VA + 8,
        LOG_VA + 12,
        LOG_VA + 16,
    );
    log(false, &text, &image.0)
}

/// Tables one behind the other, from the top one at 0 to the one with the leaf, that map one block to address 0.
fn page_tables(levels: usize, leaf_level: usize) -> Vec<u8> {
    const LARGE: u64 = 1 << 7;
    let va: u64 = 0xffff_ffff_8123_4567;
    let mut image = Image(vec![0; (levels - leaf_level + 1) * 4096]);
    for (table, level) in (leaf_level..=levels).rev().enumerate() {
        let index = (va >> (12 + 9 * (level - 1))) as usize & 511;
        let entry = match level {
            1 => 3,
            level if level == leaf_level => 3 | LARGE,
            _ => (table as u64 + 1) << 12 | 3,
        };
        image.put_long(table * 4096 + index * 8, 8, entry);
    }
    walk(usize::from(levels == 5), va, image)
}

/// A single table at address 0, as the processors of arm and aarch64 have it, that leads to itself on each level but the
/// lowest, where it maps a page to address 0. With its name, and number in `crash::WALKED`.
fn arm_page_tables() -> Vec<(&'static str, Vec<u8>)> {
    // A valid entry, of a table or of a page; accessed.
    const ENTRY: u64 = 0x403;
    let long = |kind, va: u64, shifts: &[u32]| {
        let mut image = Image(vec![0; 0x100]);
        for shift in shifts {
            image.put_long((va >> shift & 7) as usize * 8, 8, ENTRY);
        }
        walk(kind, va | 0x234, image)
    };
    // Each level's index is another one. On arm it is where the kernel's tables are, so that they map themselves.
    let mut short = Image(vec![0; 0x3004]);
    short.put_long(0x3000, 4, 0b01);
    short.put_long(0, 4, 0x45e);
    vec![
        ("aarch64_4k_48", long(2, u64::MAX << 48 | 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12, &[39, 30, 21, 12])),
        ("aarch64_4k_52", long(3, u64::MAX << 52 | 1 << 48 | 2 << 39 | 3 << 30, &[48, 39, 30, 21])),
        ("aarch64_16k_47", long(4, u64::MAX << 47 | 1 << 36 | 2 << 25 | 3 << 14, &[36, 25, 14])),
        ("aarch64_64k_52", long(5, u64::MAX << 52 | 1 << 42 | 2 << 29 | 3 << 16, &[42, 29, 16])),
        ("arm_short", walk(6, 0xc000_0234, short)),
        ("arm_lpae", long(7, 0xc000_0000, &[30, 21, 12])),
    ]
}

/// An input of the target `page_walk`.
fn walk(kind: usize, va: u64, image: Image) -> Vec<u8> {
    let mut bytes = vec![kind as u8];
    bytes.extend(va.to_le_bytes());
    bytes.extend(image.0);
    bytes
}

/// A seed that is refused at once gives the fuzzer nothing to go by.
#[cfg(test)]
mod tests {
    use memory::printk::KernelLog;
    use memory::{
        Classifier, DumpLevel, KernelSpace, MemMap, PageClass, PageCounts, Pfn, PhysAddr, VirtAddr,
    };
    use vmcore::elfcorehdr::ElfCoreHdr;
    use vmcore::vmcoreinfo::VmcoreInfo;

    use super::*;
    use crate::crash::{ELFCOREHDR_PA, WALKED, machine_of, split};
    use crate::sender::Driver;
    use crate::slice_memory::SliceMemory;

    fn of(target: &str) -> impl Iterator<Item = Vec<u8>> {
        seeds().into_iter().filter(move |seed| seed.0 == target).map(|(_, _, bytes)| bytes)
    }

    #[test]
    fn elfcorehdrs_have_their_segments() {
        for bytes in of("elfcorehdr") {
            let memory = SliceMemory { start: ELFCOREHDR_PA, bytes: &bytes, long_bytes: 8 };
            let core = ElfCoreHdr::read(ELFCOREHDR_PA, &mut |pa, buf| memory.copy(pa, buf)).unwrap();
            assert_eq!((core.loads, core.faults), (loads(), vec![]));
        }
    }

    #[test]
    fn talks_come_to_their_end() {
        let finished = of("sender").map(|bytes| Driver::run(&bytes).sender.is_finished());
        let expected = [true, true, true, true, false, false, false, false, false, false, false, true];
        assert_eq!(finished.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn logs_have_their_texts() {
        let mut logs = Vec::new();
        for bytes in of("printk") {
            let (text, image) = split(&bytes[1..]).unwrap();
            let long_bytes = if bytes[0] == 0 { 8 } else { 4 };
            let memory = SliceMemory { start: LOG_VA, bytes: image, long_bytes };
            let mut log = KernelLog::open(memory, &VmcoreInfo::new(text)).unwrap();
            while let Some(record) = log.next_record() {
                logs.push(String::from_utf8(record.unwrap().text.to_vec()).unwrap());
            }
        }
        let ring = ["Linux version 6.12.0", "a text of\ntwo lines, moved", ""];
        assert_eq!(logs, [&ring[..], &ring, &["Linux version 4.19.0", "wrapped"]].concat());
    }

    #[test]
    fn page_tables_map_an_address() {
        for bytes in of("page_walk") {
            let (machine, text) = WALKED[usize::from(bytes[0])];
            let memory = SliceMemory { start: 0, bytes: &bytes[9..], long_bytes: 8 };
            let space = KernelSpace::new(memory, machine, &VmcoreInfo::new(text.as_bytes())).unwrap();
            let va = VirtAddr(u64::from_le_bytes(bytes[1..9].try_into().unwrap()));
            assert_eq!(space.mapping(va).unwrap().pa, PhysAddr(0), "{machine:?} {va}");
        }
    }

    #[test]
    fn memmaps_have_pages_of_every_class() {
        for bytes in of("memmap") {
            let (text, image) = split(&bytes[8..]).unwrap();
            let memory = SliceMemory { start: 0, bytes: image, long_bytes: 8 };
            let info = VmcoreInfo::new(text);
            let kernel = KernelSpace::new(memory, machine_of(&info), &info).unwrap();
            let memmap = MemMap::find(&info, &kernel).unwrap();
            let mut classifier = Classifier::new(Some((memmap, kernel)), DumpLevel::ALL);
            let counts: PageCounts = classifier.spans(Pfn(0), Pfn(64)).sum();
            let counts = PageClass::ALL.map(|class| counts.of(class));
            assert_eq!(counts, [18, 5, 3, 1, 24, 12, 0, 1]);
        }
    }
}
