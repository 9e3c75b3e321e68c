//! A dump with less in it: what each dump level leaves out.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "../../crates/memory/tests/support/mod.rs"]
mod kernel;
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use codec::CodecId;
use kernel::{Crashed, Generation, Model, SECTION_PAGES, START_KERNEL_MAP, uses};
use memory::{DumpLevel, MemoryMap, PageClass};
use rcapture::Error;
use rcapture::dump::{self, Dump, Facts, Filtered, JournalDump, PageReader, PageState};
use rcapture::info::Info;
use rcapture::journal::Writer;
use rcapture::write::{self, Compression, Format, Options};
use support::{PAGE, pages_of};
use vmcore::elfcore::NewElfCore;
use vmcore::elfcorehdr::LoadSegment;
use vmcore::headers::{Class, Machine};
use vmcore::notes::{VMCOREINFO_NAME, push_note};
use vmcore::vmcoreinfo::VmcoreInfo;
use wire::{BlockHeader, Cursor, MetaKind, Pass, Record, Records, SessionEnd, SessionHeader, SessionId};

/// How the machine uses its memory: some of everything, behind what its memmap takes.
const USES: &str = "kernel*300 slab:3*9 cache*200 private*30 anon*90 anon:4 swap*3 hugetlb:9 free:10*2 free:0 anon \
    free:5 cache:4 offline*8 kernel:2 private:2 slab*5 anon:9 free:9 cache kernel";
const FIRST_USED: u64 = 1 << 13;

/// Anonymous pages that the kernel gave up as damaged.
const POISONED: u64 = FIRST_USED + 300 + 4 + 72 + 200 + 30 + 5;

/// A machine of one section, all of it in the dump.
struct Whole {
    facts: Facts,
    crashed: Crashed,
}

impl Whole {
    fn new() -> Self {
        let mut crashed = Crashed::new(Generation::Linux6_1, Model::Vmemmap, 1);
        crashed.fill(FIRST_USED, USES);
        crashed.poison(POISONED);
        let mut notes = Vec::new();
        push_note(VMCOREINFO_NAME, 0, crashed.info.as_bytes(), &mut notes).unwrap();
        let bytes = SECTION_PAGES << 12;
        // RAM and the kernel's image in it.
        let segments: Vec<LoadSegment> = [(kernel::DIRECT_MAP, bytes), (START_KERNEL_MAP, 4 << 20)]
            .map(|(p_vaddr, bytes)| LoadSegment {
                p_vaddr,
                p_filesz: bytes,
                p_memsz: bytes,
                ..LoadSegment::default()
            })
            .into();
        let facts = Facts {
            machine: Machine::X86_64,
            page_shift: 12,
            utsname: rcapture::utsname::of(Machine::X86_64, &VmcoreInfo::new(crashed.info.as_bytes())),
            crash_time: 1,
            dump_level: 0,
            map: MemoryMap::from_segments(&segments[..1]).0,
            segments,
            notes,
            is_complete: true,
            pulled: 0,
        };
        Self { facts, crashed }
    }

    /// Page tables, struct pages, then pages of their own number; every seventh is zero, and so are whole MiBs.
    fn page(&self, pfn: u64) -> Vec<u8> {
        let start = usize::try_from(pfn).unwrap() * PAGE;
        match self.crashed.ram.bytes.get(start..start + PAGE) {
            Some(page) => page.to_vec(),
            None if pfn.is_multiple_of(7) || (pfn >> 8).is_multiple_of(3) => vec![0; PAGE],
            None => [pfn, pfn * 3].map(u64::to_le_bytes).concat().repeat(PAGE / 16),
        }
    }

    /// The frames of the pages that a dump of this level has.
    fn frames(&self, level: DumpLevel) -> Vec<u64> {
        let classes = self.crashed.classes(0, SECTION_PAGES);
        let kept = (0..).zip(classes).filter(|(_, class)| level.keeps(*class));
        kept.map(|(pfn, _)| pfn).collect()
    }

    fn pages(&self, level: DumpLevel) -> BTreeMap<u64, Option<Vec<u8>>> {
        self.frames(level).into_iter().map(|pfn| (pfn, Some(self.page(pfn)))).collect()
    }
}

impl Dump for Whole {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn state_at(&self, pfn: u64) -> Result<(PageState, u64), Error> {
        Ok((PageState::Data, SECTION_PAGES.saturating_sub(pfn).max(1)))
    }

    fn reader(&self) -> Box<dyn PageReader + '_> {
        Box::new(self)
    }
}

impl PageReader for &Whole {
    fn read(&mut self, pfn: u64, page: &mut [u8]) -> Result<(), Error> {
        page.copy_from_slice(&self.page(pfn));
        Ok(())
    }
}

fn level(number: u8) -> DumpLevel {
    DumpLevel::new(number).unwrap()
}

fn written(dump: &dyn Dump, path: &Path, format: Format) -> Box<dyn Dump> {
    let options = Options { format, compression: Compression::Zlib };
    assert!(write::to_file(dump, path, options, &mut |_, _| {}).unwrap().is_whole());
    dump::open(path).unwrap()
}

/// Compares, without printing what differs: that is a lot.
#[track_caller]
fn assert_pages(
    found: &BTreeMap<u64, Option<Vec<u8>>>,
    expected: &BTreeMap<u64, Option<Vec<u8>>>,
    what: &str,
) {
    let frames = |pages: &BTreeMap<u64, Option<Vec<u8>>>| pages.keys().copied().collect::<Vec<_>>();
    assert_eq!(frames(found), frames(expected), "{what}");
    for (pfn, page) in found {
        assert!(*page == expected[pfn], "{what}: page {pfn:#x}");
    }
}

#[test]
fn every_level_keeps_what_it_should() {
    let whole = Whole::new();
    for number in 0..=31 {
        let filtered = Filtered::new(&whole, level(number));
        let runs = dump::runs(&filtered).unwrap();
        let kept = runs.iter().filter(|run| run.state == PageState::Data);
        let kept: Vec<u64> = kept.flat_map(|run| run.first..run.first + run.pages).collect();
        assert_eq!(kept, whole.frames(level(number)), "level {number}");
    }
}

#[test]
fn every_format_has_the_pages_of_a_level_and_no_others() {
    let whole = Whole::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vmcore");
    let filtered = Filtered::new(&whole, level(31));
    let expected = whole.pages(level(31));
    for format in [Format::Kdump, Format::Elf, Format::Flattened] {
        let dump = written(&filtered, &path, format);
        assert_pages(&pages_of(&*dump), &expected, &format!("{format:?}"));
        assert_eq!(dump.facts().dump_level, 31);
        assert!(dump.facts().is_complete);
    }
}

#[test]
fn damaged_and_offline_pages_are_left_out_at_every_level() {
    let whole = Whole::new();
    let filtered = Filtered::new(&whole, DumpLevel::ALL);
    let offline: Vec<u64> = uses(FIRST_USED, USES)
        .into_iter()
        .filter(|used| used.what == kernel::Use::Offline)
        .map(|used| used.pfn)
        .collect();
    assert_eq!(offline.len(), 8);
    for pfn in offline.into_iter().chain([POISONED]) {
        assert_eq!(filtered.state_at(pfn).unwrap().0, PageState::Excluded, "{pfn:#x}");
    }
    let census = filtered.census().unwrap();
    assert_eq!(census.counts.of(PageClass::HwPoison), 1);
    assert_eq!((census.counts.total(), census.in_doubt), (SECTION_PAGES, 0));
}

#[test]
fn what_the_input_lacks_is_not_there_afterwards_either_and_the_level_says_so() {
    let whole = Whole::new();
    let directory = tempfile::tempdir().unwrap();
    for format in [Format::Kdump, Format::Elf] {
        let without_user =
            written(&Filtered::new(&whole, level(8)), &directory.path().join("without user"), format);
        let filtered = Filtered::new(&*without_user, level(16));
        let dump = written(&filtered, &directory.path().join("vmcore"), format);
        assert_eq!(dump.facts().dump_level, 24);
        assert_pages(&pages_of(&*dump), &whole.pages(level(24)), &format!("{format:?}"));
    }
}

#[test]
fn zero_pages_that_are_left_out_are_holes_of_an_elf_core_and_one_page_of_a_kdump_file() {
    let whole = Whole::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vmcore");
    let bytes = |number| {
        written(&Filtered::new(&whole, level(number)), &path, Format::Elf);
        let file = std::fs::read(&path).unwrap();
        let core = vmcore::elfcore::ElfCore::read(&mut |at, buf: &mut [u8]| {
            let at = usize::try_from(at).unwrap();
            file.get(at..at + buf.len()).map(|from| buf.copy_from_slice(from)).is_some()
        });
        // The image's lie in memory's.
        let loads = core.unwrap().loads.into_iter().filter(|load| load.p_vaddr < START_KERNEL_MAP);
        let holes: u64 = loads.map(|load| load.p_memsz - load.p_filesz).sum();
        (file.len() as u64, holes)
    };
    let ((all, no_holes), (less, holes)) = (bytes(0), bytes(1));
    assert_eq!(no_holes, 0);
    // A third of memory, but for what the memmap takes.
    assert!(holes > SECTION_PAGES << 12 >> 2, "{holes}");
    assert!(less <= all - holes + (1 << 20), "{less} of {all}");

    // A zero page has its bit, as every page that is kept, and shares the bytes of the others.
    let kdump = written(&Filtered::new(&whole, level(1)), &path, Format::Kdump);
    assert_eq!(pages_of(&*kdump).len(), whole.frames(level(1)).len());
    assert!(path.metadata().unwrap().len() < 8 << 20);
}

#[test]
fn a_dump_that_does_not_tell_what_its_pages_are_keeps_them_all() {
    let mut whole = Whole::new();
    whole.facts.notes.clear();
    let filtered = Filtered::new(&whole, level(31));
    let why = filtered.census().unwrap_err().to_string();
    assert!(why.contains("VMCOREINFO has no"), "{why}");
    assert_eq!(dump::runs(&filtered).unwrap(), dump::runs(&whole).unwrap());
    // Only of the zero pages it can be said that they are left out.
    assert_eq!(filtered.facts().dump_level, 1);
}

#[test]
fn a_part_of_the_memmap_that_is_missing_costs_nothing_but_space() {
    let mut whole = Whole::new();
    let unreadable = whole.crashed.array_pa + FIRST_USED * 64;
    whole.crashed.ram.poisoned = (0..8).map(|page| (unreadable >> 12) + page).collect();
    struct WithHole(Whole);
    impl Dump for WithHole {
        fn facts(&self) -> &Facts {
            &self.0.facts
        }
        fn state_at(&self, pfn: u64) -> Result<(PageState, u64), Error> {
            let is_poisoned = self.0.crashed.ram.poisoned.contains(&pfn);
            Ok((if is_poisoned { PageState::Hole(3) } else { PageState::Data }, 1))
        }
        fn reader(&self) -> Box<dyn PageReader + '_> {
            self.0.reader()
        }
    }
    let whole = WithHole(whole);
    let filtered = Filtered::new(&whole, level(31));
    assert_eq!(filtered.census().unwrap().in_doubt, 512);
    for pfn in FIRST_USED..FIRST_USED + 512 {
        assert_eq!(filtered.state_at(pfn).unwrap().0, PageState::Data, "{pfn:#x}");
    }
    assert_eq!(filtered.state_at(unreadable >> 12).unwrap().0, PageState::Hole(3));
}

#[test]
fn info_tells_what_the_machine_used_its_memory_for() {
    let whole = Whole::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vmcore");
    let told =
        Info::of(&*written(&Filtered::new(&whole, level(25)), &path, Format::Kdump)).unwrap().to_string();
    let expected = "slab          77 pages, 308 KiB\ncache         220 pages, 880 KiB\n\
        private cache 34 pages, 136 KiB\nuser          1130 pages, 4.4 MiB, left out\n\
        free          2593 pages, 10.1 MiB, left out\nhwpoison      1 pages, 4 KiB, left out\n\
        offline       8 pages, 32 KiB, left out\n";
    assert!(told.contains("dump level    25: without zero, user, free pages\n"), "{told}");
    assert!(told.contains(expected), "{told}");
}

/// A session of which everything came but the blocks with these frames; and but for its end, if there are any.
fn session_without(whole: &Whole, missing: std::ops::Range<u64>, dump_level: u8) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    let utsname = whole.facts.utsname;
    let header = SessionHeader {
        e_machine: 62,
        page_shift: 12,
        dump_level,
        crash_time: 1,
        ram_pages: SECTION_PAGES,
        utsname,
    };
    writer.session(SessionId(1), &header).unwrap();
    let mut end = SessionEnd::default();
    let mut block = |raw: Vec<u8>| {
        let cursor = Cursor { pass: Pass::Rest.number(), position: 0 };
        let header = BlockHeader {
            start: cursor,
            end: cursor,
            codec: CodecId::None,
            filter: codec::Filter::None,
            raw_bytes: u32::try_from(raw.len()).unwrap(),
        };
        let encoded = [&header.encode()[..], &raw].concat();
        writer.block(0, end.blocks, wire::generation(&encoded), &encoded).unwrap();
        end.blocks += 1;
        for located in Records::new(&raw, 12).map(Result::unwrap) {
            end.count(&located.record, located.encoded);
        }
    };
    let mut meta = |kind, bytes: &[u8]| {
        for (index, piece) in bytes.chunks(wire::MAX_META_BYTES).enumerate() {
            let mut raw = Vec::new();
            let offset = u32::try_from(index * wire::MAX_META_BYTES).unwrap();
            let total = u32::try_from(bytes.len()).unwrap();
            Record::Meta { kind, offset, total, bytes: piece }.encode(&mut raw);
            block(raw);
        }
    };
    let core = NewElfCore {
        class: Class::ELF64,
        machine: Machine::X86_64,
        e_flags: 0,
        notes: &[],
        loads: &whole.facts.segments,
    };
    meta(MetaKind::Elfcorehdr, &core.encode().unwrap());
    meta(MetaKind::Notes, &whole.facts.notes);
    let level = level(dump_level);
    for (pfn, class) in (0..).zip(whole.crashed.classes(0, SECTION_PAGES)) {
        let mut raw = Vec::new();
        match class {
            PageClass::HwPoison => Record::Hole { pfn, pages: 1, reason: 5 }.encode(&mut raw),
            PageClass::Offline => Record::Hole { pfn, pages: 1, reason: 6 }.encode(&mut raw),
            class if !level.keeps(class) || missing.contains(&pfn) => continue,
            _ => Record::Page { pfn, bytes: &whole.page(pfn) }.encode(&mut raw),
        }
        block(raw);
    }
    if missing.is_empty() {
        writer.end(&end).unwrap();
    }
    writer.into_inner()
}

#[test]
fn pages_that_were_not_to_be_read_are_excluded_from_a_vmcore_and_told_apart() {
    let whole = Whole::new();
    let journal = session_without(&whole, 0..0, 31);
    let session = JournalDump::read(Path::new("journal"), Arc::new(journal)).unwrap();
    let pages = Info::of(&session).unwrap().pages();
    assert_eq!((pages.given_up, pages.unreadable), (9, 0));
    let directory = tempfile::tempdir().unwrap();
    for format in [Format::Kdump, Format::Elf] {
        let path = directory.path().join("vmcore");
        let vmcore = written(&session, &path, format);
        assert!(vmcore.facts().is_complete, "{format:?}: nothing is lost");
        assert!(!vmcore.state_at(POISONED).unwrap().0.is_wanted(), "{format:?}");
    }
}

#[test]
fn of_a_dump_with_gaps_only_what_its_level_keeps_is_missing() {
    let whole = Whole::new();
    let missing = FIRST_USED + 100..FIRST_USED + 700;
    let journal = session_without(&whole, missing.clone(), 31);
    let session = JournalDump::read(Path::new("journal"), Arc::new(journal)).unwrap();
    let explained = Filtered::incomplete(&session).unwrap();
    let expected: Vec<u64> =
        whole.frames(level(31)).into_iter().filter(|pfn| missing.contains(pfn)).collect();
    let runs = dump::runs(&explained).unwrap();
    let lost = runs.iter().filter(|run| run.state == PageState::Missing);
    let lost: Vec<u64> = lost.flat_map(|run| run.first..run.first + run.pages).collect();
    assert_eq!(lost, expected);
    assert_eq!(Info::of(&session).unwrap().pages().missing, expected.len() as u64);
}
