//! Dumps of arm and aarch64, from an elfcorehdr as kexec leaves it there to the records that arrive.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    missing_docs
)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use capture::{Budget, Clock, Crash, Link, Options, send};
use codec::Method;
use kernel::arm::{self, Crashed};
use memory::{DumpLevel, PhysAddr, PhysMemory, ReadFault};
use ticking::Ticking;
use vmcore::headers::{Class, CoreHeader, Machine, ProgramHeader, ehdr_bytes, push_program_header};
use vmcore::kdump::Utsname;
use vmcore::notes::{CORE_NAME, NT_PRSTATUS, VMCOREINFO_NAME, push_note};
use wire::{Block, Event, MetaKind, Receiver, Record, Records, SessionHeader, SessionId};

#[path = "../../memory/tests/support/mod.rs"]
mod kernel;
#[path = "support/ticking.rs"]
mod ticking;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

/// Where, from the start of RAM, the test puts the kernel's name, its log, and a stack: frames of the kernel's.
const UTSNAME: u64 = 0x64_0000;
const LOG: u64 = 0x65_0000;
const STACK: u64 = 0x66_0000;
/// Text that the stack returns to: on arm, on aarch64.
const ARM_TEXT: u64 = 0x10_3004;
const AARCH64_TEXT: u64 = arm::IMAGE - arm::AARCH64_RAM + 0x3004;

/// A crashed machine, and its reservation behind its RAM.
struct Memory {
    crashed: Crashed,
    elfcorehdr_pa: u64,
    reserved: Vec<u8>,
}

impl PhysMemory for Memory {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        let offset = pa.0.checked_sub(self.elfcorehdr_pa).map(|offset| offset as usize);
        match offset.and_then(|offset| self.reserved.get(offset..)?.get(..buf.len())) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => self.crashed.ram.read(pa, buf),
        }
    }
}

impl Memory {
    /// `linear` is what addresses of the linear map are above the physical ones; `loads` come before the PT_LOAD of RAM.
    fn new(mut crashed: Crashed, linear: u64, class: Class, loads: &[ProgramHeader]) -> Self {
        let machine = crashed.machine;
        let start = crashed.ram.start;
        let bytes = crashed.ram.bytes.len() as u64;
        let va = |offset: u64| linear.wrapping_add(start + offset);
        let utsname = Utsname::new([b"Linux", b"board", b"6.1.0", b"#1", machine.name().as_bytes(), b""]);
        crashed.ram.put(start + UTSNAME, &utsname.to_bytes());
        log(&mut crashed, start + LOG, linear);
        let return_address = match machine {
            Machine::Arm => va(ARM_TEXT),
            // Signed: `autiasp` takes these bits away again.
            _ => (start + AARCH64_TEXT + arm::KIMAGE_VOFFSET) & !(0x5a << 48),
        };
        crashed.ram.put(start + STACK + 0x200, &return_address.to_le_bytes()[..machine.long_bytes()]);
        crashed.info += &format!(
            "NUMBER(KERNELPACMASK)=0x7f000000000000\nSYMBOL(init_uts_ns)={:x}\nOFFSET(uts_namespace.name)=0\nCRASHTIME=1700000000\n",
            va(UTSNAME)
        );

        let mut reserved = vec![0; 0x4000];
        let elfcorehdr_pa = start + bytes + (1 << 20);
        let mut header = Vec::new();
        let e_phnum = loads.len() as u16 + 3;
        CoreHeader { class, machine, e_flags: 0, e_phoff: ehdr_bytes(class) as u64, e_shoff: 0, e_phnum }
            .encode(&mut header)
            .unwrap();
        let segment = |p_type, pa, p_vaddr, bytes| ProgramHeader {
            p_type,
            p_flags: 7,
            p_offset: pa,
            p_vaddr,
            p_paddr: pa,
            p_filesz: bytes,
            p_memsz: bytes,
            p_align: 0,
        };
        let notes = segment(PT_NOTE, elfcorehdr_pa + 0x1000, 0, 0x400);
        let info = segment(PT_NOTE, elfcorehdr_pa + 0x2000, 0, 0x1800);
        let ram = segment(PT_LOAD, start, va(0) & (u64::MAX >> (64 - 8 * machine.long_bytes())), bytes);
        for load in [notes, info].iter().chain(loads).chain([&ram]) {
            push_program_header(class, load, &mut header).unwrap();
        }
        reserved[..header.len()].copy_from_slice(&header);
        for (offset, name, n_type, desc) in [
            (0x1000, CORE_NAME, NT_PRSTATUS, prstatus(machine, va(STACK + 0x100))),
            (0x2000, VMCOREINFO_NAME, 0, crashed.info.clone().into_bytes()),
        ] {
            let mut note = Vec::new();
            push_note(name, n_type, &desc, &mut note).unwrap();
            reserved[offset..offset + note.len()].copy_from_slice(&note);
        }
        Self { crashed, elfcorehdr_pa, reserved }
    }

    fn arm() -> Self {
        Self::new(arm::arm(arm::MIX), arm::ARM_OFFSET, Class::ELF32, &[])
    }

    fn aarch64() -> Self {
        // As kexec-tools 2.0.25 writes it with Linux 6.1.
        let bogus = ProgramHeader {
            p_type: PT_LOAD,
            p_flags: 7,
            p_offset: 0x3d8a_1f00_0000,
            p_vaddr: u64::MAX,
            p_paddr: 0x3d8a_1f00_0000,
            p_filesz: 0xffff_c276_22ca_0000,
            p_memsz: 0xffff_c276_22ca_0000,
            p_align: 0,
        };
        let linear = arm::LINEAR_MAP - arm::AARCH64_RAM;
        Self::new(arm::aarch64(arm::MIX), linear, Class::ELF64, &[bogus])
    }
}

fn prstatus(machine: Machine, sp: u64) -> Vec<u8> {
    let (mut desc, sp_at) = match machine {
        Machine::Arm => (vec![0; 148], 72 + 13 * 4),
        _ => (vec![0; 392], 112 + 31 * 8),
    };
    let long_bytes = machine.long_bytes();
    desc[sp_at..sp_at + long_bytes].copy_from_slice(&sp.to_le_bytes()[..long_bytes]);
    desc
}

/// A ring buffer with one record.
fn log(crashed: &mut Crashed, pa: u64, linear: u64) {
    const TEXT: &[u8] = b"Kernel panic - not syncing: test";
    let long = crashed.machine.long_bytes() as u64;
    let va = |offset: u64| linear.wrapping_add(pa + offset);
    let (descs, infos, text) = (0x100, 0x200, 0x300);
    let longs = [
        (0, va(0x10)), // prb
        (0x18, va(descs)),
        (0x20, va(infos)),
        (0x48, va(text)),
        // Descriptor 0, finalized; its text ends at a multiple of a long.
        (descs, 2 << (long * 8 - 2)),
        (descs + 2 * long, (TEXT.len() as u64).next_multiple_of(8) + 8),
    ];
    for (offset, value) in longs {
        crashed.ram.put(pa + offset, &value.to_le_bytes()[..long as usize]);
    }
    crashed.ram.put_u32(pa + 0x40, 8); // size_bits
    crashed.ram.put_u64(pa + infos, 12_345_678_000);
    crashed.ram.put(pa + infos + 16, &(TEXT.len() as u16).to_le_bytes());
    crashed.ram.put(pa + text + long, TEXT);
    crashed.info += &format!(
        "SYMBOL(prb)={:x}\nOFFSET(printk_ringbuffer.desc_ring)=0\nOFFSET(printk_ringbuffer.text_data_ring)=48\n\
        OFFSET(prb_desc_ring.count_bits)=0\nOFFSET(prb_desc_ring.descs)=8\nOFFSET(prb_desc_ring.infos)=16\n\
        OFFSET(prb_desc_ring.head_id)=24\nOFFSET(prb_desc_ring.tail_id)=32\nSIZE(prb_desc)={}\n\
        OFFSET(prb_desc.state_var)=0\nOFFSET(prb_desc.text_blk_lpos)={long}\nOFFSET(prb_data_blk_lpos.begin)=0\n\
        OFFSET(prb_data_blk_lpos.next)={long}\nSIZE(printk_info)=88\nOFFSET(printk_info.ts_nsec)=0\n\
        OFFSET(printk_info.text_len)=16\nOFFSET(printk_info.caller_id)=20\nOFFSET(prb_data_ring.size_bits)=0\n\
        OFFSET(prb_data_ring.data)=8\n",
        va(0),
        3 * long
    );
}

#[derive(Default)]
struct Line(Vec<u8>);

impl Link for Line {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.0.extend_from_slice(bytes);
        bytes.len()
    }

    fn read(&mut self, _buf: &mut [u8]) -> usize {
        0
    }
}

#[derive(Default)]
struct Received {
    header: Option<SessionHeader>,
    /// Frames in the order in which they came, and their bytes.
    order: Vec<u64>,
    pages: BTreeMap<u64, Vec<u8>>,
    log: Vec<u8>,
    text: String,
}

fn dump(memory: &Memory, level: DumpLevel) -> (Crash, Received) {
    let crash = Crash::read(memory.elfcorehdr_pa, memory).unwrap();
    let mut line = Line::default();
    let encoder = Method::Deflate.encoder();
    let options =
        Options { session: SessionId(7), encoder, level, budget: Budget::default(), needs_answers: false };
    send(&crash, memory, &mut line, &Ticking::default(), options).unwrap();
    let mut received = Received::default();
    Receiver::new(1).push(&line.0, |event| match event {
        Event::Session(_, header) => received.header = Some(header.clone()),
        Event::Block { encoded, .. } => {
            for record in Records::new(&Block::decode(encoded).unwrap().raw, 12) {
                received.record(&record.unwrap().record);
            }
        }
        Event::Text(text) => received.text.push_str(&String::from_utf8_lossy(text)),
        Event::End(..) => {}
        Event::Restarted { .. } | Event::Unknown(_) => panic!("nothing is lost"),
    });
    (crash, received)
}

impl Received {
    fn record(&mut self, record: &Record<'_>) {
        let mut page = |pfn, bytes| {
            self.order.push(pfn);
            assert_eq!(self.pages.insert(pfn, bytes), None, "no page comes twice");
        };
        match *record {
            Record::Page { pfn, bytes } => page(pfn, bytes.to_vec()),
            Record::Fill { pfn, pages, word } => {
                (pfn..pfn + u64::from(pages)).for_each(|pfn| page(pfn, word.to_le_bytes().repeat(512)));
            }
            // Without an answer it comes again at the end.
            Record::Meta { kind: MetaKind::Log, offset, bytes, .. } if self.log.len() == offset as usize => {
                self.log.extend_from_slice(bytes);
            }
            Record::Meta { .. } => {}
            Record::Hole { .. } | Record::Bytes { .. } => panic!("all of RAM is there, in whole pages"),
        }
    }
}

#[test]
fn a_dump_of_arm_or_aarch64_has_the_pages_of_its_level() {
    for memory in [Memory::arm(), Memory::aarch64()] {
        let machine = memory.crashed.machine;
        for level in [DumpLevel::ALL, DumpLevel::SMALLEST] {
            let (crash, received) = dump(&memory, level);
            assert_eq!(received.header.as_ref().unwrap().e_machine, machine.e_machine());
            let first = memory.crashed.ram.start >> 12;
            let classes = arm::expected(memory.crashed.ram.bytes.len() as u64 >> 12);
            let kept = (first..).zip(classes).filter(|(_, class)| level.keeps(*class)).map(|(pfn, _)| pfn);
            assert!(received.pages.keys().copied().eq(kept), "{machine:?}: {}", received.text);
            for (pfn, page) in &received.pages {
                let mut expected = vec![0; 4096];
                memory.read(PhysAddr(pfn << 12), &mut expected).unwrap();
                assert!(*page == expected, "{machine:?}: page {pfn:#x}");
            }
            let bogus_segments = if machine == Machine::Aarch64 { 1 } else { 0 };
            assert_eq!(crash.faults().count(), bogus_segments);
        }
    }
}

/// Memory, and a clock that knows how much of it was read since it was looked at last.
struct Watched<'a> {
    memory: &'a Memory,
    read_bytes: Cell<usize>,
    most_bytes: Cell<usize>,
    ticking: Ticking,
}

impl PhysMemory for Watched<'_> {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        // However little it is, it takes its time.
        self.read_bytes.set(self.read_bytes.get() + buf.len().max(64));
        self.memory.read(pa, buf)
    }
}

impl Clock for Watched<'_> {
    fn now(&self) -> Duration {
        self.most_bytes.set(self.most_bytes.get().max(self.read_bytes.take()));
        self.ticking.now()
    }
}

#[test]
fn the_clock_is_looked_at_so_often_that_whoever_feeds_a_watchdog_then_is_in_time() {
    let mut without_tables = Memory::arm();
    let at = without_tables.crashed.info.find("SYMBOL(swapper_pg_dir)=").unwrap() + 23;
    without_tables.crashed.info.replace_range(at..at + 8, "c0abc000");
    let without_tables = Memory::new(without_tables.crashed, arm::ARM_OFFSET, Class::ELF32, &[]);
    for memory in [Memory::arm(), Memory::aarch64(), without_tables] {
        for level in [DumpLevel::ALL, DumpLevel::SMALLEST] {
            let (read_bytes, most_bytes, ticking) = Default::default();
            let watched = Watched { memory: &memory, read_bytes, most_bytes, ticking };
            let crash = Crash::read(memory.elfcorehdr_pa, &watched).unwrap();
            let encoder = Method::Deflate.encoder();
            let options = Options {
                session: SessionId(7),
                encoder,
                level,
                budget: Budget::default(),
                needs_answers: false,
            };
            send(&crash, &watched, &mut Line::default(), &watched, options).unwrap();
            // A hundredth of a second of a processor that reads 100 MB/s; half a second is the least a watchdog waits.
            assert!(watched.most_bytes.get() <= 1 << 20, "{}", watched.most_bytes.get());
        }
    }
}

#[test]
fn name_log_and_stack_of_arm_or_aarch64_and_the_text_it_returns_to_come_first() {
    for memory in [Memory::arm(), Memory::aarch64()] {
        let machine = memory.crashed.machine;
        let (_, received) = dump(&memory, DumpLevel::ALL);
        let header = received.header.unwrap();
        assert_eq!((header.uts(1), header.uts(4)), ("board", machine.name()));
        assert_eq!(
            String::from_utf8(received.log).unwrap(),
            "[   12.345678] Kernel panic - not syncing: test\n"
        );
        // The stack is 8 KiB on arm, 16 KiB on aarch64.
        let stack = (memory.crashed.ram.start + STACK) >> 12;
        let (pages, text) = if machine == Machine::Arm { (2, ARM_TEXT) } else { (4, AARCH64_TEXT) };
        let first: Vec<u64> = received.order[..pages].to_vec();
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(stack..stack + pages as u64), "{machine:?}: {first:x?}");
        assert_eq!(
            received.order[pages],
            (memory.crashed.ram.start + text) >> 12,
            "{machine:?}: what it returns to"
        );
    }
}
