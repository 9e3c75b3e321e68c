//! The whole way in one process: synthetic crashed memory ─▶ capture ─▶ line ─▶ receiver ─▶ records ─▶ compare.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;

use capture::{Budget, Crash, Link, Options, SendError, send};
use codec::Method;
use memory::{DumpLevel, PhysAddr, PhysMemory, ReadFault, ReadFaultKind};
use vmcore::elfcorehdr::{ElfCoreHdrError, Machine};
use vmcore::notes::push_note;
use vmcore::vmcoreinfo::VmcoreInfo;
use wire::{
    ANSWERS, Block, Cursor, Event, MetaKind, Receiver, Record, Records, Reply, Request, SessionEnd,
    SessionHeader, SessionId, UTSNAME_BYTES, Urgency,
};

#[path = "support/ticking.rs"]
mod ticking;

use ticking::Ticking;

const ELFCOREHDR_PA: u64 = 0x80_0000;
const NOTES_PA: u64 = 0x81_0000;
const BACKUP_PA: u64 = 0x82_0000;
const MEMORY_BYTES: usize = 0x90_0000;

/// Nine MiB of memory, of which some pages fault.
struct Synthetic {
    bytes: Vec<u8>,
    faults: BTreeMap<u64, ReadFaultKind>,
}

impl PhysMemory for Synthetic {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        let nowhere = ReadFault { pa, kind: ReadFaultKind::Access };
        let start = usize::try_from(pa.0).map_err(|_| nowhere)?;
        if let Some(&kind) = self.faults.get(&(pa.0 >> 12)) {
            return Err(ReadFault { pa, kind });
        }
        let end = start.checked_add(buf.len()).ok_or(nowhere)?;
        buf.copy_from_slice(self.bytes.get(start..end).ok_or(nowhere)?);
        Ok(())
    }
}

struct Load {
    p_paddr: u64,
    p_offset: u64,
    bytes: u64,
}

fn put(bytes: &mut [u8], at: u64, what: &[u8]) {
    let at = usize::try_from(at).unwrap();
    bytes[at..at + what.len()].copy_from_slice(what);
}

/// What the kernel says of itself: nothing that would lead into its memory.
const VMCOREINFO: &str = "OSRELEASE=6.1.0-test\nPAGESIZE=4096\nCRASHTIME=1700000000\n";

/// Memory with an elfcorehdr as kexec-tools leaves it: notes, a backup region, RAM that ends inside a page.
fn machine(loads: &[Load]) -> Synthetic {
    machine_with(loads, VMCOREINFO)
}

fn machine_with(loads: &[Load], vmcoreinfo: &str) -> Synthetic {
    let mut bytes = vec![0; MEMORY_BYTES];
    // Every third page is zero, every third one word, the others are anything.
    let mut state = 1u64;
    for (pfn, page) in bytes.chunks_mut(4096).enumerate() {
        for word in page.as_chunks_mut::<8>().0 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(pfn as u64);
            *word = match pfn % 3 {
                0 => [0; 8],
                1 => [0xcc; 8],
                _ => (state >> 20).to_le_bytes(),
            };
        }
    }
    let mut notes = Vec::new();
    push_note(b"CORE", 1, &[7; 336], &mut notes).unwrap();
    let mut info = Vec::new();
    push_note(b"VMCOREINFO", 0, vmcoreinfo.as_bytes(), &mut info).unwrap();
    put(&mut bytes, NOTES_PA, &[0; 0x3000]);
    put(&mut bytes, NOTES_PA, &notes);
    put(&mut bytes, NOTES_PA + 0x2000, &info);

    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    header.extend(4u16.to_le_bytes()); // ET_CORE
    header.extend(62u16.to_le_bytes()); // EM_X86_64
    header.extend(1u32.to_le_bytes());
    for word in [0u64, 64, 0] {
        header.extend(word.to_le_bytes()); // e_entry, e_phoff, e_shoff
    }
    header.extend(0u32.to_le_bytes());
    for half in [64, 56, u16::try_from(loads.len() + 3).unwrap(), 0, 0, 0] {
        header.extend(half.to_le_bytes());
    }
    let mut program_header = |p_type: u32, p_offset: u64, p_paddr: u64, size: u64| {
        header.extend(p_type.to_le_bytes());
        header.extend(7u32.to_le_bytes());
        for word in [p_offset, p_paddr | 0xffff_8880_0000_0000, p_paddr, size, size, 0] {
            header.extend(word.to_le_bytes());
        }
    };
    program_header(4, NOTES_PA, NOTES_PA, 0x400);
    program_header(4, NOTES_PA + 0x1000, NOTES_PA + 0x1000, 0x400); // a CPU that saved nothing
    program_header(4, NOTES_PA + 0x2000, NOTES_PA + 0x2000, 0x1000);
    for load in loads {
        program_header(1, load.p_offset, load.p_paddr, load.bytes);
    }
    put(&mut bytes, ELFCOREHDR_PA, &vec![0; 0x1_0000]);
    put(&mut bytes, ELFCOREHDR_PA, &header);
    Synthetic { bytes, faults: BTreeMap::new() }
}

fn ram() -> Vec<Load> {
    vec![
        Load { p_paddr: 0x1000, p_offset: BACKUP_PA, bytes: 0x9_ec00 - 0x1000 },
        Load { p_paddr: 0x10_0000, p_offset: 0x10_0000, bytes: 0x60_0123 },
        // The kernel image lies inside RAM.
        Load { p_paddr: 0x20_0000, p_offset: 0x20_0000, bytes: 0x10_0000 },
    ]
}

/// A line that takes an odd number of bytes at a time, and nothing every third time.
#[derive(Default)]
struct Line {
    sent: Vec<u8>,
    calls: usize,
    dead: bool,
}

impl Link for Line {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.calls += 1;
        let room = if self.dead || self.calls.is_multiple_of(3) { 0 } else { 13 };
        let now = &bytes[..bytes.len().min(room)];
        self.sent.extend_from_slice(now);
        now.len()
    }

    fn read(&mut self, _buf: &mut [u8]) -> usize {
        0
    }
}

#[derive(Default)]
struct Received {
    header: Option<SessionHeader>,
    end: Option<SessionEnd>,
    totals: SessionEnd,
    /// Physical address → bytes, by pages and parts of pages.
    memory: BTreeMap<u64, Vec<u8>>,
    holes: BTreeMap<u64, u8>,
    meta: BTreeMap<MetaKind, Vec<u8>>,
    text: Vec<u8>,
}

fn receive(line: &[u8]) -> Received {
    let mut all = Received::default();
    Receiver::new(1).push(line, |event| match event {
        Event::Session(_, header) => all.header = Some(header.clone()),
        Event::Block { encoded, .. } => {
            all.totals.blocks += 1;
            let block = Block::decode(encoded).unwrap();
            for record in Records::new(&block.raw, 12) {
                let located = record.unwrap();
                all.totals.count(&located.record, located.encoded);
                all.record(&located.record);
            }
        }
        Event::End(_, end) => all.end = Some(end),
        Event::Text(text) => all.text.extend_from_slice(text),
        Event::Restarted { .. } => panic!("nobody asked for it"),
        Event::Unknown(error) => panic!("{error}"),
    });
    all
}

impl Received {
    fn record(&mut self, record: &Record<'_>) {
        match *record {
            Record::Page { pfn, bytes } => drop(self.memory.insert(pfn << 12, bytes.to_vec())),
            Record::Fill { pfn, pages, word } => {
                for pfn in pfn..pfn + u64::from(pages) {
                    self.memory.insert(pfn << 12, word.to_le_bytes().repeat(512));
                }
            }
            Record::Hole { pfn, pages, reason } => {
                self.holes.extend((pfn..pfn + u64::from(pages)).map(|pfn| (pfn, reason)));
            }
            Record::Bytes { pa, bytes } => drop(self.memory.insert(pa, bytes.to_vec())),
            Record::Meta { kind, offset, total, bytes } => {
                let all = self.meta.entry(kind).or_insert_with(|| vec![0; total as usize]);
                put(all, u64::from(offset), bytes);
            }
        }
    }

    /// Every byte of RAM by the machine's own addresses, and nothing else.
    fn assert_is(&self, machine: &Synthetic, crash: &Crash) {
        let mut expected = BTreeMap::new();
        for part in crash.map.pages(12) {
            let pa = (part.pfn.0 << 12) + part.offset;
            let mut bytes = vec![0; usize::try_from(part.bytes).unwrap()];
            if crash.memory(machine).read(PhysAddr(pa), &mut bytes).is_ok() {
                expected.insert(pa, bytes);
            }
        }
        assert_eq!(self.memory.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (pa, bytes) in &self.memory {
            assert!(bytes == &expected[pa], "page at {pa:#x} differs");
        }
        assert_eq!(self.end, Some(self.totals));
    }
}

/// VMCOREINFO of a kernel whose page tables begin at [`PGD_PA`], and whose memmap is found through them.
const LEADING_NOWHERE: &str = "OSRELEASE=6.1.0-test\nPAGESIZE=4096\nCRASHTIME=1700000000\n\
    SYMBOL(swapper_pg_dir)=ffffffff80300000\nNUMBER(phys_base)=0\nSYMBOL(_stext)=ffffffff81000000\n\
    SYMBOL(mem_section)=ffff888000100000\nLENGTH(mem_section)=2048\nSIZE(mem_section)=16\n\
    OFFSET(mem_section.section_mem_map)=0\nNUMBER(SECTION_SIZE_BITS)=27\nNUMBER(MAX_PHYSMEM_BITS)=46\n\
    SIZE(page)=64\nOFFSET(page.flags)=0\nOFFSET(page._refcount)=52\nOFFSET(page.mapping)=24\n\
    OFFSET(page._mapcount)=48\nOFFSET(page.private)=40\nOFFSET(page.compound_head)=8\n\
    NUMBER(PG_slab)=9\nNUMBER(PG_lru)=4\nNUMBER(PG_private)=13\nNUMBER(PG_head_mask)=65536\n\
    NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\nLENGTH(zone.free_area)=11\n\
    SYMBOL(prb)=ffff888000200000\nSIZE(printk_ringbuffer)=80\n";

/// Where the page tables of [`LEADING_NOWHERE`] begin.
const PGD_PA: u64 = 0x30_0000;

/// A dump at level 31, of which every page that came has to be right.
fn dump_of_a_corrupted_guest(machine: &Synthetic) -> Received {
    let crash = Crash::read(ELFCOREHDR_PA, machine).unwrap();
    let mut line = Line::default();
    let options = Options { level: DumpLevel::SMALLEST, ..options(Method::None) };
    send(&crash, machine, &mut line, &Ticking::default(), options).unwrap();
    let received = receive(&line.sent);
    for (&pa, bytes) in &received.memory {
        let mut expected = vec![0; bytes.len()];
        crash.memory(machine).read(PhysAddr(pa), &mut expected).unwrap();
        assert!(*bytes == expected, "page at {pa:#x} differs");
    }
    received
}

fn pages_of(machine: &Synthetic) -> usize {
    Crash::read(ELFCOREHDR_PA, machine).unwrap().map.pages(12).count()
}

#[test]
fn a_kernel_that_says_nothing_of_itself_is_sent_whole() {
    for vmcoreinfo in
        ["", VMCOREINFO, "PAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff80300000\nNUMBER(phys_base)=0\n"]
    {
        let machine = machine_with(&ram(), vmcoreinfo);
        let received = dump_of_a_corrupted_guest(&machine);
        assert_eq!(received.memory.len(), pages_of(&machine));
        let text = String::from_utf8(received.text).unwrap();
        assert!(text.contains("every page is sent"), "{text}");
    }
}

#[test]
fn page_tables_and_a_memmap_that_lead_nowhere_cost_nothing_but_the_choice_of_pages() {
    let mut machine = machine_with(&ram(), LEADING_NOWHERE);
    put(&mut machine.bytes, PGD_PA, &[0; 4096]);
    let received = dump_of_a_corrupted_guest(&machine);
    assert_eq!(received.memory.len(), pages_of(&machine));
}

#[test]
fn page_tables_that_lead_to_themselves_have_an_end() {
    let mut machine = machine_with(&ram(), LEADING_NOWHERE);
    // Present, writable, and the table itself: every address is mapped to it.
    put(&mut machine.bytes, PGD_PA, &(PGD_PA | 3).to_le_bytes().repeat(512));
    dump_of_a_corrupted_guest(&machine);
}

/// A machine on which every address is mapped to the second 2 MiB, as one page.
fn machine_of_one_page(vmcoreinfo: &str) -> Synthetic {
    let mut machine = machine_with(&ram(), vmcoreinfo);
    let [pgd, pud, pmd] = [PGD_PA, PGD_PA + 0x1000, PGD_PA + 0x2000];
    put(&mut machine.bytes, pgd, &(pud | 3).to_le_bytes().repeat(512));
    put(&mut machine.bytes, pud, &(pmd | 3).to_le_bytes().repeat(512));
    put(&mut machine.bytes, pmd, &(ONE_PAGE_PA | 0x83).to_le_bytes().repeat(512));
    machine
}

const ONE_PAGE_PA: u64 = 0x40_0000;

#[test]
fn a_memmap_full_of_ones_is_no_reason_to_leave_anything_out() {
    let mut machine = machine_of_one_page(LEADING_NOWHERE);
    put(&mut machine.bytes, ONE_PAGE_PA, &vec![0xff; 0x20_0000]);
    let received = dump_of_a_corrupted_guest(&machine);
    assert_eq!(received.memory.len(), pages_of(&machine));
}

/// A ring of the kernel's log whose `prb` is at the begin of the one page, and the rest of it behind.
struct Ring {
    count_bits: u64,
    head_id: u64,
    tail_id: u64,
    size_bits: u64,
    /// Of each descriptor: its state and id, and where its text is.
    descriptor: fn(u64) -> [u64; 3],
}

/// So many descriptors are written.
const DESCRIPTORS: u64 = 64;

impl Ring {
    /// 64 records in a text ring of 64 KiB, each of which says it has nearly all of it.
    const PLAUSIBLE: Self = Self {
        count_bits: 6,
        head_id: DESCRIPTORS - 1,
        tail_id: 0,
        size_bits: 16,
        descriptor: |id| [2 << 62 | id, 0, 0xfff8],
    };

    fn machine(&self) -> Synthetic {
        let facts = include_str!("../../vmcore/tests/vmcoreinfo/debian-6.1-x86_64.txt");
        let ring_facts = facts.lines().filter(|line| line.contains("(pr") || line.contains("(atomic"));
        let ring_facts = ring_facts.filter(|line| !line.starts_with("SYMBOL")).collect::<Vec<_>>().join("\n");
        let mut machine = machine_of_one_page(&format!("{LEADING_NOWHERE}{ring_facts}\n"));
        let va = |offset: u64| 0xffff_8880_0020_0000 + offset;
        let (ring, descs, infos) = (0x1000, 0x2000, 0x4000);
        let mut put_words = |offset: u64, words: &[u64]| {
            put(
                &mut machine.bytes,
                ONE_PAGE_PA + offset,
                &words.iter().map(|w| w.to_le_bytes()).collect::<Vec<_>>().concat(),
            );
        };
        put_words(0, &[va(ring)]);
        put_words(ring, &[self.count_bits, va(descs), va(infos), self.head_id, self.tail_id, 0]);
        put_words(ring + 48, &[self.size_bits, va(0x1_0000), 0, 0]);
        for id in 0..DESCRIPTORS {
            put_words(descs + 24 * id, &(self.descriptor)(id));
            put_words(infos + 88 * id, &[id, id, 0xffff]);
        }
        machine
    }
}

#[test]
fn a_kernel_log_that_lies_costs_no_page() {
    let lies = [
        ("all of the text for each record", Ring::PLAUSIBLE),
        (
            "descriptors of other records",
            Ring { descriptor: |id| [2 << 62 | (id + 1), 0, 64], ..Ring::PLAUSIBLE },
        ),
        (
            "texts that end before they begin",
            Ring { descriptor: |id| [2 << 62 | id, 0xfff0, 8], ..Ring::PLAUSIBLE },
        ),
        (
            "texts at the end of all numbers",
            Ring { descriptor: |id| [2 << 62 | id, !7, !0x1_0007], ..Ring::PLAUSIBLE },
        ),
        ("a tail before the head", Ring { head_id: 3, tail_id: 60, ..Ring::PLAUSIBLE }),
        ("a million records", Ring { count_bits: 20, tail_id: 1 << 40, ..Ring::PLAUSIBLE }),
        ("more records than there can be", Ring { count_bits: 63, ..Ring::PLAUSIBLE }),
        ("more text than there can be", Ring { size_bits: 63, ..Ring::PLAUSIBLE }),
    ];
    for (lie, ring) in lies {
        let machine = ring.machine();
        let received = dump_of_a_corrupted_guest(&machine);
        assert_eq!(received.memory.len(), pages_of(&machine), "{lie}");
        assert_eq!(received.end, Some(received.totals), "{lie}");
        let text = String::from_utf8(received.text).unwrap();
        assert_eq!(
            text.contains("cannot be: it is sent with its pages"),
            lie.contains("can be"),
            "{lie}: {text}"
        );
        let log_bytes = received.meta.get(&MetaKind::Log).map_or(0, Vec::len);
        assert!(log_bytes < 16 << Ring::PLAUSIBLE.size_bits, "{lie}: {log_bytes} bytes of log");
    }
}

#[test]
fn a_budget_ends_a_dump_in_good_order() {
    let machine = machine(&ram());
    let crash = Crash::read(ELFCOREHDR_PA, &machine).unwrap();
    for budget in [
        Budget { bytes: Some(100_000), ..Budget::default() },
        Budget { time: Some(Duration::from_millis(200)), ..Budget::default() },
    ] {
        let mut line = Line::default();
        let options = Options { budget, ..options(Method::None) };
        send(&crash, &machine, &mut line, &Ticking::default(), options).unwrap();
        let received = receive(&line.sent);
        assert!(received.end.unwrap().is_cut);
        assert_eq!(received.end, Some(SessionEnd { is_cut: true, ..received.totals }));
        assert!((1..pages_of(&machine)).contains(&received.memory.len()), "{}", received.memory.len());
    }
}

fn options(method: Method) -> Options {
    Options {
        session: SessionId(7),
        encoder: method.encoder(),
        level: DumpLevel::ALL,
        budget: Budget::default(),
        needs_answers: false,
        serve: None,
    }
}

fn dump(machine: &Synthetic, method: Method) -> (Crash, Received) {
    let crash = Crash::read(ELFCOREHDR_PA, machine).unwrap();
    let mut line = Line::default();
    send(&crash, machine, &mut line, &Ticking::default(), options(method)).unwrap();
    (crash, receive(&line.sent))
}

#[test]
fn every_byte_of_ram_arrives_with_each_method() {
    let machine = machine(&ram());
    for method in Method::ALL {
        let (crash, received) = dump(&machine, method);
        received.assert_is(&machine, &crash);
        assert_eq!(received.holes, BTreeMap::new());
        let header = received.header.unwrap();
        assert_eq!((header.e_machine, header.crash_time), (Machine::X86_64.e_machine(), 1_700_000_000));
        assert_eq!(header.ram_pages, 0x9e + 0x601);
    }
}

#[test]
fn elfcorehdr_and_notes_arrive_without_the_zeros_behind_them() {
    let machine = machine(&ram());
    let (crash, received) = dump(&machine, Method::Deflate);
    assert_eq!(received.meta[&MetaKind::Elfcorehdr], crash.core.headers);
    let names: Vec<_> =
        vmcore::notes::Notes::new(&received.meta[&MetaKind::Notes]).map(|n| n.name.to_vec()).collect();
    assert_eq!(names, [b"CORE".to_vec(), b"VMCOREINFO".to_vec()]);
}

#[test]
fn the_first_block_is_on_the_line_before_memory_is_walked() {
    let machine = machine(&ram());
    let crash = Crash::read(ELFCOREHDR_PA, &machine).unwrap();
    let mut line = Line::default();
    send(&crash, &machine, &mut line, &Ticking::default(), options(Method::None)).unwrap();
    let early = receive(&line.sent[..4096]);
    assert!(early.meta.contains_key(&MetaKind::Notes) && early.memory.is_empty());
}

#[test]
fn pages_that_fault_are_holes_and_the_dump_goes_on() {
    let mut machine = machine(&ram());
    machine.faults = BTreeMap::from([
        (0x150, ReadFaultKind::MachineCheck),
        (0x151, ReadFaultKind::MachineCheck),
        (0x152, ReadFaultKind::Access),
        (0x700, ReadFaultKind::Access), // the page of which RAM has only a part
    ]);
    let (crash, received) = dump(&machine, Method::Deflate);
    received.assert_is(&machine, &crash);
    assert_eq!(received.holes, machine.faults.iter().map(|(&pfn, &kind)| (pfn, kind as u8)).collect());
    assert_eq!(received.end.unwrap().hole_pages, 4);
}

#[test]
fn notes_that_fault_cost_only_themselves() {
    let mut machine = machine(&ram());
    machine.faults.insert(NOTES_PA >> 12, ReadFaultKind::Access);
    let (crash, received) = dump(&machine, Method::Deflate);
    received.assert_is(&machine, &crash);
    assert!(vmcore::notes::find_vmcoreinfo(&received.meta[&MetaKind::Notes]).is_some());
}

#[test]
fn absurd_segments_are_named_on_the_line_and_the_others_are_dumped() {
    let mut loads = ram();
    loads.push(Load { p_paddr: u64::MAX - 0x1000, p_offset: 0x1000, bytes: 0x10_0000 });
    loads.push(Load { p_paddr: 1 << 60, p_offset: 1 << 60, bytes: 0x1000 });
    let machine = machine(&loads);
    let (crash, received) = dump(&machine, Method::Deflate);
    received.assert_is(&machine, &crash);
    let text = String::from_utf8(received.text).unwrap();
    assert!(text.contains("overflows the address space"), "{text}");
    assert!(text.contains("beyond physical memory"), "{text}");
}

#[test]
fn ram_that_does_not_answer_is_all_holes() {
    let machine = machine(&[Load { p_paddr: 0x1_0000_0000, p_offset: 0x1_0000_0000, bytes: 0x40_0000 }]);
    let (_, received) = dump(&machine, Method::Deflate);
    assert_eq!(received.holes.len(), 0x400);
    assert_eq!(received.end, Some(received.totals));
}

#[test]
fn without_an_elfcorehdr_there_is_an_error_that_says_where_it_was_sought() {
    let machine = machine(&ram());
    let nowhere = Crash::read(0x7000_0000, &machine).unwrap_err();
    assert_eq!(nowhere, ElfCoreHdrError::Unreadable { pa: 0x7000_0000 });
    let something_else = Crash::read(0x10_0000, &machine).unwrap_err();
    assert!(matches!(something_else, ElfCoreHdrError::Invalid { pa: 0x10_0000, .. }));
}

#[test]
fn page_sizes_that_are_believed_are_those_that_can_be_sent() {
    for page_shift in 0..64 {
        let text = format!("PAGESIZE={}\n", 1_u64 << page_shift);
        let header = SessionHeader {
            e_machine: 62,
            page_shift,
            dump_level: 0,
            crash_time: 0,
            ram_pages: 0,
            utsname: [0; UTSNAME_BYTES],
        };
        let sent = SessionHeader::decode(&header.encode()).map(|header| header.page_shift.into());
        assert_eq!(VmcoreInfo::new(text.as_bytes()).page_shift(), sent);
    }
}

/// A receiver that wants pages once, and says nothing else.
#[derive(Default)]
struct Asking {
    sent: Vec<u8>,
    says: Vec<u8>,
}

impl Link for Asking {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.sent.extend_from_slice(bytes);
        bytes.len()
    }

    fn read(&mut self, buf: &mut [u8]) -> usize {
        let count = buf.len().min(self.says.len());
        buf[..count].copy_from_slice(&self.says[..count]);
        self.says.drain(..count).count()
    }
}

/// The answer to a request for these frames, from a kernel with such pages.
fn answer(machine: &Synthetic, page_shift: u32, first_pfn: u64, pages: u8) -> Received {
    let crash = Crash::read(ELFCOREHDR_PA, machine).unwrap();
    assert_eq!(crash.page_shift(), page_shift);
    let mut line = Asking::default();
    Reply::Resume { receiver: 1, next_block: 0, cursor: Cursor::START }.encode(SessionId(7), &mut line.says);
    let request = Request { number: 5, urgency: Urgency::Now, first_pfn, pages };
    Reply::Request { receiver: 1, request }.encode(SessionId(7), &mut line.says);
    let budget = Budget { time: Some(Duration::from_millis(100)), ..Budget::default() };
    send(&crash, machine, &mut line, &Ticking::default(), Options { budget, ..options(Method::Deflate) })
        .unwrap();
    let mut answer = None;
    Receiver::new(1).push(&line.sent, |event| {
        let Event::Block { stream: ANSWERS, number: 5, encoded, .. } = event else { return };
        let block = Block::decode(encoded).unwrap();
        let mut received = Received::default();
        for record in Records::new(&block.raw, page_shift) {
            match record.unwrap().record {
                Record::Page { pfn, bytes } => {
                    drop(received.memory.insert(pfn << page_shift, bytes.to_vec()))
                }
                Record::Fill { pfn, pages: 1, word } => {
                    received
                        .memory
                        .insert(pfn << page_shift, word.to_le_bytes().repeat(1 << page_shift >> 3));
                }
                other => received.record(&other),
            }
        }
        answer = Some(received);
    });
    answer.unwrap()
}

#[test]
fn pages_of_any_size_are_answered_and_what_of_one_is_ram() {
    for page_shift in [12, 14, 16] {
        let vmcoreinfo = format!("PAGESIZE={}\n", 1 << page_shift);
        let mut machine = machine_with(&ram(), &vmcoreinfo);
        // One that is one word all over, and one that is nearly so.
        put(&mut machine.bytes, 0x40_0000, &[7; 0x2_0000]);
        put(&mut machine.bytes, 0x41_fff0, &[8]);
        let damaged = 0x45_1000 >> 12;
        machine.faults = BTreeMap::from([(damaged, ReadFaultKind::MachineCheck)]);
        let frame = |pa: u64| pa >> page_shift;
        let page_bytes = 1_u64 << page_shift;
        // The end of RAM, the hole before 1 MiB, and where nothing is.
        let wanted = [0x40_0000, 0x41_0000, 0x45_0000, 0x70_0123, 0x9_e000, 0x9_f000, 0xc00_0000];
        let crash = Crash::read(ELFCOREHDR_PA, &machine).unwrap();
        for pa in wanted {
            let answer = answer(&machine, page_shift, frame(pa), 1);
            let page = frame(pa) << page_shift..(frame(pa) << page_shift) + page_bytes;
            let is_damaged = page.contains(&0x45_1000);
            let found: Vec<u64> = page.clone().filter(|pa| crash.map.contains(PhysAddr(*pa))).collect();
            let told: Vec<u64> =
                answer.memory.iter().flat_map(|(pa, bytes)| *pa..*pa + bytes.len() as u64).collect();
            if is_damaged || found.is_empty() {
                let why = if is_damaged { ReadFaultKind::MachineCheck } else { ReadFaultKind::NotRam };
                assert_eq!(answer.holes, BTreeMap::from([(frame(pa), why as u8)]), "{pa:#x}");
                continue;
            }
            assert!(told == found, "{pa:#x} of pages of {page_bytes}");
            assert_eq!(answer.holes, BTreeMap::new(), "{pa:#x}");
            for (pa, bytes) in &answer.memory {
                let mut expected = vec![0; bytes.len()];
                crash.memory(&machine).read(PhysAddr(*pa), &mut expected).unwrap();
                assert!(*bytes == expected, "{pa:#x} of pages of {page_bytes}");
            }
        }
        // As many as there may be.
        let most = u8::try_from(0x1_0000 >> page_shift).unwrap();
        let answer = answer(&machine, page_shift, frame(0x60_0000), most);
        assert_eq!(answer.memory.values().map(Vec::len).sum::<usize>(), 0x1_0000);
    }
}

#[test]
fn a_dead_link_is_given_up_after_a_stated_time() {
    let machine = machine(&ram());
    let crash = Crash::read(ELFCOREHDR_PA, &machine).unwrap();
    let mut line = Line { dead: true, ..Line::default() };
    let result = send(&crash, &machine, &mut line, &Ticking::default(), options(Method::None));
    assert!(matches!(result, Err(SendError::Link(_))));
}

#[test]
fn encrypted_memory_is_refused() {
    let mut machine = machine(&ram());
    let mut info = Vec::new();
    push_note(b"VMCOREINFO", 0, b"NUMBER(sme_mask)=140737488355328\n", &mut info).unwrap();
    put(&mut machine.bytes, NOTES_PA + 0x2000, &info);
    let crash = Crash::read(ELFCOREHDR_PA, &machine).unwrap();
    let result = send(&crash, &machine, &mut Line::default(), &Ticking::default(), options(Method::None));
    assert_eq!(result, Err(SendError::Encrypted(1 << 47)));
}
