//! Telling 16 GiB of fragmented memory apart, next to makedumpfile's step "Excluding unnecessary pages", on the same
//! vmcore. Needs the lab (makedumpfile).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "a benchmark")]

#[path = "../../crates/memory/tests/support/mod.rs"]
mod machine;
mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use machine::{Crashed, DIRECT_MAP, Generation, START_KERNEL_MAP};
use memory::{Classifier, DumpLevel, KernelSpace, MemMap, PageClass, PageCounts, Pfn, Span};
use rcapture::dump::{self, DumpMemory};
use rcapture_qemu::Lab;
use vmcore::elfcore::{NewElfCore, data_offset};
use vmcore::elfcorehdr::LoadSegment;
use vmcore::headers::{Class, Machine};
use vmcore::notes::{VMCOREINFO_NAME, push_note};

const PAGES: u64 = 16 << 30 >> 12;
const PAGE_BYTES: u64 = 4096;
const DEADLINE: Duration = Duration::from_secs(600);

/// How long it took to tell pages apart, and what was found.
struct Excluded {
    time: Duration,
    /// Pages of cache without private data, cache with private data, processes; free pages.
    pages: [u64; 4],
}

fn main() {
    if !support::is_chosen("exclusion") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let vmcore = directory.path().join("vmcore");
    write_vmcore(&vmcore);
    let mut best = [Duration::MAX; 2];
    for _ in 0..support::runs(9) {
        let (ours, theirs) = (exclude(&vmcore), makedumpfile(&vmcore, directory.path()));
        assert_eq!(ours.pages, theirs.pages);
        best = [best[0].min(ours.time), best[1].min(theirs.time)];
    }
    let [ours, theirs] = best;
    let table = format!(
        "| memory | rcapture | makedumpfile {} | our time / its |\n| ---: | ---: | ---: | ---: |\n\
        | {} GiB | {:.0} ms | {:.0} ms | {:.2} |\n",
        Lab::open().unwrap().makedumpfile().unwrap().version(),
        (PAGES * PAGE_BYTES) >> 30,
        ours.as_secs_f64() * 1e3,
        theirs.as_secs_f64() * 1e3,
        ours.as_secs_f64() / theirs.as_secs_f64()
    );
    support::publish("exclusion", &table);
}

/// A vmcore of a machine that has nothing but a memmap.
fn write_vmcore(path: &Path) {
    let mut crashed = Crashed::fragmented(Generation::Linux6_1, PAGES);
    crashed.map_large(START_KERNEL_MAP, 0, 0);
    let uts = crashed.allocate(PAGE_BYTES);
    for (index, field) in ["Linux", "bench", "6.1.0", "#1", "x86_64", "(none)"].into_iter().enumerate() {
        crashed.put(uts + index as u64 * 65, field.as_bytes());
    }
    // What makedumpfile wants to know besides.
    crashed.say(&format!(
        "OSRELEASE=6.1.0\nCRASHTIME=1763759526\nKERNELOFFSET=0\nNUMBER(KERNEL_IMAGE_SIZE)=1073741824\n\
        SYMBOL(_stext)={START_KERNEL_MAP:x}\nSYMBOL(init_uts_ns)={:x}\nOFFSET(uts_namespace.name)=0\n\
        SYMBOL(init_top_pgt)={:x}\nNUMBER(pgtable_l5_enabled)=0\n\
        SIZE(list_head)=16\nOFFSET(list_head.next)=0\nOFFSET(list_head.prev)=8\n",
        START_KERNEL_MAP + uts,
        START_KERNEL_MAP + crashed.root,
    ));
    let mut notes = Vec::new();
    push_note(VMCOREINFO_NAME, 0, crashed.info.as_bytes(), &mut notes).unwrap();
    let start = data_offset(Class::ELF64, 2, notes.len());
    let load = |p_vaddr, bytes| LoadSegment {
        p_vaddr,
        p_paddr: 0,
        p_offset: start,
        p_filesz: bytes,
        p_memsz: bytes,
    };
    let loads = [load(START_KERNEL_MAP, 2 << 20), load(DIRECT_MAP, PAGES * PAGE_BYTES)];
    let core = NewElfCore {
        class: Class::ELF64,
        machine: Machine::X86_64,
        e_flags: 0,
        notes: &notes,
        loads: &loads,
    };
    let file = File::create(path).unwrap();
    // The memmap, what leads to it, and a hole.
    file.set_len(start + PAGES * PAGE_BYTES).unwrap();
    file.write_all_at(&core.encode().unwrap(), 0).unwrap();
    file.write_all_at(&crashed.ram.bytes, start).unwrap();
}

fn exclude(vmcore: &Path) -> Excluded {
    let dump = dump::open(vmcore).unwrap();
    let facts = dump.facts();
    let info = facts.vmcoreinfo();
    let start = Instant::now();
    let kernel = KernelSpace::new(DumpMemory::new(&*dump), facts.machine, &info).unwrap();
    let memmap = MemMap::find(&info, &kernel).unwrap();
    let mut classifier = Classifier::new(Some((memmap, kernel)), DumpLevel::SMALLEST);
    // Kept, as `rcapture convert` keeps them.
    let spans: Vec<Span> = classifier.spans(Pfn(0), Pfn(PAGES)).collect();
    let counts: PageCounts = spans.iter().copied().sum();
    let time = start.elapsed();
    assert_eq!((counts.total(), classifier.pages_in_doubt()), (PAGES, 0));
    let classes = [PageClass::Cache, PageClass::CachePrivate, PageClass::User, PageClass::Free];
    Excluded { time, pages: classes.map(|class| counts.of(class)) }
}

/// The step "Excluding unnecessary pages"; at level 30, because the search for zeros in so much memory takes minutes.
fn makedumpfile(vmcore: &Path, directory: &Path) -> Excluded {
    let makedumpfile = Lab::open().unwrap().makedumpfile().unwrap();
    let output = directory.join("output");
    let options = ["--dry-run", "--message-level", "31"];
    let said = makedumpfile.filter(vmcore, &output, 30, &options, DEADLINE).unwrap();
    let _ = fs::remove_file(output);
    let said_of = |what: &str| {
        let line = said.lines().find_map(|line| line.trim_start().strip_prefix(what)).unwrap();
        line.trim_start_matches([' ', ':', ']']).split(' ').next().unwrap()
    };
    let pages = |what| u64::from_str_radix(&said_of(what)[2..], 16).unwrap();
    Excluded {
        time: Duration::from_secs_f64(said_of("STEP [Excluding unnecessary pages").parse().unwrap()),
        pages: ["Non-private cache pages", "Private cache pages", "User process data pages", "Free pages"]
            .map(pages),
    }
}
