//! Dumps of arm and aarch64: written in every format, read again, and understood.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::BTreeMap;
use std::path::Path;

use kernel::arm::{self, Crashed};
use memory::{DumpLevel, MemoryMap, PageClass};
use rcapture::Error;
use rcapture::dump::{self, Dump, Facts, Filtered, PageReader, PageState};
use rcapture::write::{self, Compression, Format, Options};
use vmcore::elfcore::ElfCore;
use vmcore::elfcorehdr::LoadSegment;
use vmcore::headers::{Class, CoreHeader, Machine};
use vmcore::kdump::{Abi, DumpHeader, SubHeader};
use vmcore::notes::{CORE_NAME, NT_PRSTATUS, VMCOREINFO_NAME, push_note};
use vmcore::vmcoreinfo::VmcoreInfo;

#[path = "../../crates/memory/tests/support/mod.rs"]
mod kernel;

const PAGE: usize = 4096;

/// All memory of a crashed machine.
struct Whole {
    facts: Facts,
    crashed: Crashed,
}

impl Whole {
    fn new(crashed: Crashed, p_vaddr: u64, prstatus_bytes: usize) -> Self {
        let bytes = crashed.ram.bytes.len() as u64;
        let p_paddr = crashed.ram.start;
        let segments =
            vec![LoadSegment { p_vaddr, p_paddr, p_offset: p_paddr, p_filesz: bytes, p_memsz: bytes }];
        let mut notes = Vec::new();
        let registers: Vec<u8> = (0..prstatus_bytes).map(|byte| byte as u8).collect();
        push_note(CORE_NAME, NT_PRSTATUS, &registers, &mut notes).unwrap();
        push_note(VMCOREINFO_NAME, 0, crashed.info.as_bytes(), &mut notes).unwrap();
        let facts = Facts {
            machine: crashed.machine,
            page_shift: 12,
            utsname: rcapture::utsname::of(crashed.machine, &VmcoreInfo::new(crashed.info.as_bytes())),
            crash_time: 7,
            dump_level: 0,
            map: MemoryMap::from_segments(&segments).0,
            segments,
            notes,
            is_complete: true,
            pulled: 0,
        };
        Self { facts, crashed }
    }

    fn arm() -> Self {
        Self::new(arm::arm(arm::MIX), 0xc000_0000, 148)
    }

    fn aarch64() -> Self {
        // As kexec-tools writes it with Linux 6.1.
        Self::new(arm::aarch64(arm::MIX), 0x1234_5678, 392)
    }

    fn page(&self, pfn: u64) -> &[u8] {
        let start = usize::try_from((pfn << 12) - self.crashed.ram.start).unwrap();
        &self.crashed.ram.bytes[start..start + PAGE]
    }

    /// The pages that a dump of this level has.
    fn pages(&self, level: DumpLevel) -> BTreeMap<u64, Vec<u8>> {
        let first = self.crashed.ram.start >> 12;
        let frames = self.crashed.ram.bytes.len() / PAGE;
        let kept = (first..).zip(arm::expected(frames as u64)).filter(|(_, class)| level.keeps(*class));
        kept.map(|(pfn, _)| (pfn, self.page(pfn).to_vec())).collect()
    }
}

impl Dump for Whole {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn state_at(&self, pfn: u64) -> Result<(PageState, u64), Error> {
        let first = self.crashed.ram.start >> 12;
        let end = first + (self.crashed.ram.bytes.len() / PAGE) as u64;
        Ok(match pfn {
            _ if pfn < first => (PageState::Excluded, first - pfn),
            _ if pfn < end => (PageState::Data, end - pfn),
            _ => (PageState::Excluded, u64::MAX - pfn),
        })
    }

    fn reader(&self) -> Box<dyn PageReader + '_> {
        Box::new(self)
    }
}

impl PageReader for &Whole {
    fn read(&mut self, pfn: u64, page: &mut [u8]) -> Result<(), Error> {
        page.copy_from_slice(self.page(pfn));
        Ok(())
    }
}

fn pages_of(dump: &dyn Dump) -> BTreeMap<u64, Vec<u8>> {
    let mut reader = dump.reader();
    let present = dump::each_run(dump).map(Result::unwrap).filter(|run| run.state.is_present());
    let frames: Vec<u64> = present.flat_map(|run| run.first..run.first + run.pages).collect();
    let read = |pfn| {
        let mut page = vec![0; PAGE];
        match dump.state_at(pfn).unwrap().0 {
            PageState::Filled(word) => page = word.to_le_bytes().repeat(PAGE / 8),
            _ => reader.read(pfn, &mut page).unwrap(),
        }
        (pfn, page)
    };
    frames.into_iter().map(read).collect()
}

fn written(dump: &dyn Dump, path: &Path, format: Format) -> Box<dyn Dump> {
    let options = Options { format, compression: Compression::Zlib };
    assert!(write::to_file(dump, path, options, &mut |_, _| {}).unwrap().is_whole());
    dump::open(path).unwrap()
}

#[test]
fn a_dump_of_arm_or_aarch64_is_the_same_in_every_format() {
    let directory = tempfile::tempdir().unwrap();
    for whole in [Whole::arm(), Whole::aarch64()] {
        let machine = whole.facts.machine;
        for format in [Format::Auto, Format::Kdump, Format::Elf, Format::Flattened] {
            let path = directory.path().join("vmcore");
            let read = written(&whole, &path, format);
            let facts = read.facts();
            assert_eq!((facts.machine, facts.crash_time), (machine, 7), "{format:?}");
            assert_eq!(facts.map.ranges(), whole.facts.map.ranges(), "{machine:?} {format:?}");
            let registers = facts.registers().next().unwrap();
            let sp = if machine == Machine::Arm { 0x7f7e_7d7c } else { 0x6f6e_6d6c_6b6a_6968 };
            assert_eq!(registers.sp, sp);
            assert!(pages_of(&*read) == whole.pages(DumpLevel::ALL), "{machine:?} {format:?}");
        }
    }
}

#[test]
fn pages_are_left_out_of_dumps_of_arm_and_aarch64() {
    let directory = tempfile::tempdir().unwrap();
    for whole in [Whole::arm(), Whole::aarch64()] {
        for number in [2, 4, 8, 16, 30] {
            let level = DumpLevel::new(number).unwrap();
            let filtered = Filtered::new(&whole, level);
            let census = filtered.census().unwrap();
            assert_eq!(census.in_doubt, 0);
            for class in [PageClass::User, PageClass::Free, PageClass::Slab] {
                assert!(census.counts.of(class) > 0, "{class:?}");
            }
            let read = written(&filtered, &directory.path().join("vmcore"), Format::Auto);
            assert!(pages_of(&*read) == whole.pages(level), "{:?} level {number}", whole.facts.machine);
        }
    }
}

#[test]
fn a_vmcore_of_arm_is_an_elf_core_of_32_bits_unless_told_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vmcore");
    let whole = Whole::arm();
    written(&whole, &path, Format::Auto);
    let header = CoreHeader::parse(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!((header.class, header.machine), (Class::ELF32, Machine::Arm));

    written(&whole, &path, Format::Kdump);
    let file = std::fs::read(&path).unwrap();
    let (abi, header) = DumpHeader::parse(&file).unwrap();
    let sub_header = SubHeader::parse(abi, header.header_version, &file[PAGE..]).unwrap();
    assert_eq!((abi, header.utsname.machine()), (Abi::Arm, &b"armv7l"[..]));
    // crash finds the linear map by it.
    assert_eq!(sub_header.phys_base, arm::ARM_RAM);
}

/// By that crash finds the linear map.
#[test]
fn an_elf_core_of_arm_begins_where_ram_does_whatever_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vmcore");
    let whole = Whole::arm();
    let filtered = Filtered::new(&whole, DumpLevel::ALL);
    written(&filtered, &path, Format::Elf);
    let loads = elf_core(&path).loads;
    let [first, second, ..] = loads.as_slice() else { panic!("{loads:?}") };
    assert_eq!((first.p_paddr, first.p_vaddr), (arm::ARM_RAM, 0xc000_0000));
    assert_eq!((first.p_filesz, first.p_memsz), (0, 0), "there is nothing of it");
    assert_eq!(first.p_offset, second.p_offset, "headers end where the bytes begin");
}

fn elf_core(path: &Path) -> ElfCore {
    let file = std::fs::read(path).unwrap();
    let core = ElfCore::read(&mut |at, buf: &mut [u8]| {
        let bytes = file.get(at as usize..).and_then(|rest| rest.get(..buf.len()));
        bytes.is_some_and(|bytes| {
            buf.copy_from_slice(bytes);
            true
        })
    });
    core.unwrap()
}

#[test]
fn a_vmcore_of_aarch64_is_kdump_compressed_and_its_addresses_are_the_kernels() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vmcore");
    let whole = Whole::aarch64();
    written(&whole, &path, Format::Auto);
    let file = std::fs::read(&path).unwrap();
    let (abi, header) = DumpHeader::parse(&file).unwrap();
    let sub_header = SubHeader::parse(abi, header.header_version, &file[PAGE..]).unwrap();
    assert_eq!((abi, header.utsname.machine()), (Abi::Lp64, &b"aarch64"[..]));
    assert_eq!(sub_header.phys_base, arm::AARCH64_RAM);

    written(&whole, &path, Format::Elf);
    let core = elf_core(&path);
    assert_eq!((core.class, core.machine), (Class::ELF64, Machine::Aarch64));
    for load in core.loads {
        assert_eq!(load.p_vaddr, 0xffff_0000_0000_0000 + load.p_paddr - arm::AARCH64_RAM);
    }
}
