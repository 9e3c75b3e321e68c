//! Page classes by struct pages of every kind of kernel.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod support;

use memory::PageClass::{self, Cache, CachePrivate, Free, HwPoison, Kernel, Offline, Slab, User};
use memory::{Classifier, DumpLevel, KernelSpace, MemMap, MemMapError, PageCounts, Pfn, SlabCaches};
use proptest::prelude::*;
use support::generation::GENERATIONS;
use support::{
    Crashed, DIRECT_MAP, Generation, Model, SECTION_PAGES, Use, VMEMMAP, assert_classes, uses, walk,
};
use vmcore::headers::Machine;
use vmcore::vmcoreinfo::VmcoreInfo;

/// The class of a use, as it is meant.
fn class_of(what: Use) -> PageClass {
    match what {
        Use::Kernel | Use::Reserved => Kernel,
        Use::Slab => Slab,
        Use::Cache | Use::Swap => Cache,
        Use::Private => CachePrivate,
        Use::Anon | Use::Hugetlb => User,
        Use::Free | Use::Unaccepted => Free,
        Use::Offline => Offline,
    }
}

/// The classes of all frames of a machine that is used like this from `pfn` on.
fn expected(crashed: &Crashed, pfn: u64, text: &str) -> Vec<PageClass> {
    let mut classes = vec![Kernel; crashed.pages as usize];
    for used in uses(pfn - crashed.first_pfn(), text) {
        classes[used.pfn as usize..][..1 << used.order].fill(class_of(used.what));
    }
    classes
}

/// Some of everything.
const MIX: &str = "free:9 free:8 kernel*4 slab:2 slab:3 slab*8 cache*40 cache:3 private*6 swap*2 anon*16 anon:4 \
    offline*8 kernel:2 reserved*12 free:0 anon free:1*2 slab*2 kernel:3 cache free:2 free:3 anon*8 cache:4 cache:5 \
    free:5 free:10*3 hugetlb:9 anon:9 cache:9 slab:9 kernel:9 free:9 anon free:0 hugetlb:10 cache free:10 cache";

#[test]
fn every_kernel_says_what_its_pages_are() {
    for generation in GENERATIONS {
        let mut crashed = Crashed::new(generation, Model::Vmemmap, 1);
        crashed.fill(0, MIX);
        let expected = expected(&crashed, 0, MIX);
        for class in PageClass::ALL.into_iter().filter(|class| *class != HwPoison) {
            assert!(expected.contains(&class), "{class:?} is not in the mix");
        }
        assert_classes(&crashed.classes(0, SECTION_PAGES), &expected, &format!("{generation:?}"));
    }
}

#[test]
fn memory_that_is_not_accepted_yet_is_free() {
    for generation in [Generation::Linux6_16, Generation::Linux7_1] {
        let mut crashed = Crashed::new(generation, Model::Vmemmap, 1);
        crashed.set(1024, Use::Unaccepted, 10);
        let expected = expected(&crashed, 0, "kernel*1024 unaccepted:10");
        assert_classes(&crashed.classes(0, SECTION_PAGES), &expected, &format!("{generation:?}"));
    }
}

#[test]
fn struct_pages_are_found_in_every_memory_model() {
    for model in [Model::Vmemmap, Model::Extreme, Model::Static, Model::Flat(0), Model::Flat(0x1_0000)] {
        let mut crashed = Crashed::new(Generation::Linux6_1, model, 1);
        let first = crashed.first_pfn();
        crashed.fill(first, MIX);
        let expected = expected(&crashed, first, MIX);
        assert_classes(&crashed.classes(first, first + SECTION_PAGES), &expected, &format!("{model:?}"));
        let behind = first + SECTION_PAGES;
        assert_eq!(crashed.classes(behind, behind + 1000), vec![Kernel; 1000], "{model:?}: no struct pages");
    }
}

#[test]
fn a_node_may_begin_inside_of_a_region() {
    let first = 0x1_0000 + 300;
    let mut crashed = Crashed::new(Generation::Linux6_1, Model::Flat(first), 1);
    crashed.set(first, Use::Cache, 0);
    crashed.set(first + 1, Use::Anon, 0);
    assert_eq!(crashed.classes(first - 2, first + 3), [Kernel, Kernel, Cache, User, Kernel]);
}

#[test]
fn kernels_that_do_not_tell_the_size_of_a_section_are_read() {
    let mut crashed = Crashed::new(Generation::Linux4_19, Model::Vmemmap, 2);
    assert!(!crashed.info.contains("SECTION_SIZE_BITS") && !crashed.info.contains("MAX_PHYSMEM_BITS"));
    crashed.set(SECTION_PAGES + 7, Use::Anon, 0);
    assert_eq!(crashed.classes(SECTION_PAGES + 6, SECTION_PAGES + 9), [Kernel, User, Kernel]);
}

#[test]
fn a_walk_gives_the_same_classes_wherever_it_begins() {
    for generation in [Generation::Linux6_1, Generation::Linux7_1] {
        let mut crashed = Crashed::new(generation, Model::Vmemmap, 1);
        crashed.fill(0, MIX);
        crashed.poison(2048 + 77);
        for level in [DumpLevel::ALL, DumpLevel::SMALLEST] {
            let all = walk(&mut crashed.classifier(level), 0, SECTION_PAGES);
            for start in (0..SECTION_PAGES).step_by(61) {
                let end = (start + 1500).min(SECTION_PAGES);
                let some = walk(&mut crashed.classifier(level), start, end);
                assert_classes(
                    &some,
                    &all[start as usize..end as usize],
                    &format!("{generation:?}, from {start}"),
                );
            }
        }
    }
}

/// The struct pages of a hugetlb page at `pfn` as the vmemmap optimisation leaves them: all but the first page of them
/// share a frame.
fn optimise(crashed: &mut Crashed, pfn: u64, order: u32) {
    let start_va = VMEMMAP + pfn * 64;
    let shared = if crashed.generation >= Generation::Linux7_1 {
        // A page of tails.
        crashed.page_pa(pfn + 64)
    } else {
        // The head's own: every 64th struct page looks like a head.
        crashed.page_pa(pfn)
    };
    for page in 1..(64 << order) / 4096 {
        crashed.remap_struct_pages(start_va + page * 4096, Some(shared));
    }
    // What the others held is used for something else.
    for index in 64..1_u64 << order {
        if crashed.page_pa(pfn + index) & !4095 != shared {
            let pa = crashed.page_pa(pfn + index);
            crashed.put(pa, &[0x5a; 64]);
        }
    }
}

#[test]
fn hugetlb_pages_that_share_their_struct_pages_are_one() {
    const GIB: u64 = 1 << 18;
    for generation in [Generation::Linux6_1, Generation::Linux6_12, Generation::Linux7_1] {
        let mut crashed = Crashed::new(generation, Model::Vmemmap, 17);
        crashed.set(GIB, Use::Hugetlb, 18);
        optimise(&mut crashed, GIB, 18);
        crashed.fill(2 * GIB, "cache*3 kernel*509 hugetlb:9 anon");
        optimise(&mut crashed, 2 * GIB + 512, 9);
        for start in [GIB, GIB + 5, GIB + 1024, GIB + 4096 + 64, 2 * GIB - 3] {
            let expected = vec![User; (2 * GIB - start) as usize];
            assert_classes(&crashed.classes(start, 2 * GIB), &expected, &format!("from {start:#x}"));
        }
        assert_eq!(crashed.classes(2 * GIB + 2, 2 * GIB + 4), [Cache, Kernel]);
        let large = crashed.classes(2 * GIB + 511, 2 * GIB + 1026);
        assert_classes(&large, &[vec![Kernel], vec![User; 513], vec![Kernel]].concat(), "2 MiB");
    }
}

#[test]
fn sections_without_struct_pages_are_kept() {
    const PRESENT_AND_ONLINE: u64 = 5;
    let mut crashed = Crashed::new(Generation::Linux6_1, Model::Vmemmap, 4);
    for section in 0..4 {
        crashed.fill(section * SECTION_PAGES, "anon*100");
    }
    let mem_map = |section: u64, crashed: &Crashed| crashed.sections_pa + section * 16;
    let offline = crashed.get_u64(mem_map(1, &crashed)) & !4;
    crashed.put_u64(mem_map(0, &crashed), 0);
    crashed.put_u64(mem_map(1, &crashed), offline);
    crashed.put_u64(mem_map(2, &crashed), PRESENT_AND_ONLINE);
    for section in 0..3 {
        let start = section * SECTION_PAGES;
        assert_eq!(crashed.classes(start, start + 100), [Kernel; 100], "section {section}");
    }
    assert_eq!(crashed.classes(3 * SECTION_PAGES, 3 * SECTION_PAGES + 100), [User; 100]);
}

#[test]
fn pages_whose_struct_pages_cannot_be_read_are_kept() {
    for generation in [Generation::Linux6_1, Generation::Linux6_9] {
        let mut crashed = Crashed::new(generation, Model::Vmemmap, 1);
        crashed.fill(0, "anon*1024");
        let page_bytes = generation.page_bytes() as u64;
        // The third page of struct pages is not mapped, the fifth is damaged.
        crashed.remap_struct_pages(VMEMMAP + 2 * 4096, None);
        crashed.ram.poisoned = vec![(crashed.array_pa >> 12) + 4];
        let classes = crashed.classes(0, 1024);
        for (pfn, class) in (0..).zip(classes) {
            let (first, last) = (pfn * page_bytes / 4096, ((pfn + 1) * page_bytes - 1) / 4096);
            let is_lost = (first..=last).any(|page| page == 2 || page == 4);
            assert_eq!(class, if is_lost { Kernel } else { User }, "{generation:?}: {pfn}");
        }
    }
}

#[test]
fn a_damaged_page_is_never_read_whatever_it_belongs_to() {
    for generation in GENERATIONS {
        let mut crashed = Crashed::new(generation, Model::Vmemmap, 1);
        let text = "kernel*2 anon*2 cache*2 slab:3 kernel:3 free:3 anon:3 reserved";
        crashed.fill(0, text);
        let mut expected = expected(&crashed, 0, text);
        for pfn in [1, 2, 4, 10, 16, 19, 24, 30, 35, 40] {
            crashed.poison(pfn);
            expected[pfn as usize] = HwPoison;
        }
        assert_classes(&crashed.classes(0, 64), &expected[..64], &format!("{generation:?}"));
    }
}

#[test]
fn all_of_a_damaged_hugetlb_page_is_damaged() {
    for generation in GENERATIONS {
        let mut crashed = Crashed::new(generation, Model::Vmemmap, 1);
        crashed.set(1024, Use::Hugetlb, 10);
        crashed.poison(1024);
        let expected = [vec![Kernel], vec![HwPoison; 1024], vec![Kernel]].concat();
        assert_classes(&crashed.classes(1023, 2049), &expected, &format!("{generation:?}"));
    }
}

#[test]
fn what_is_left_out_is_not_searched_for_damaged_pages() {
    let mut crashed = Crashed::new(Generation::Linux6_12, Model::Vmemmap, 1);
    crashed.fill(0, "free:3 anon:3 slab:3");
    for pfn in [5, 13, 21] {
        crashed.poison(pfn);
    }
    let damaged = |level| {
        let classes = walk(&mut crashed.classifier(DumpLevel::new(level).unwrap()), 0, 24);
        (0..24).filter(|pfn| classes[*pfn] == HwPoison).collect::<Vec<_>>()
    };
    assert_eq!(damaged(0), [5, 13, 21]);
    assert_eq!(damaged(16), [13, 21]);
    assert_eq!(damaged(31), [21]);
}

#[test]
fn data_of_the_kernel_image_is_kept_whatever_its_struct_pages_say() {
    let mut crashed = Crashed::new(Generation::Linux6_1, Model::Vmemmap, 1);
    let text = 4096;
    for pfn in text..text + 64 {
        crashed.set(pfn, Use::Reserved, 0);
        // Text, then data; between them some that were needed at boot only.
        crashed.map_image(pfn, pfn >= text + 16);
    }
    crashed.say(&format!("SYMBOL(_stext)={:x}\n", support::START_KERNEL_MAP + (text << 12)));
    crashed.fill(text + 32, "free:3 anon cache");
    crashed.set(text + 20, Use::Offline, 0);
    crashed.poison(text + 21);
    let expected = |crashed: &Crashed| {
        let mut expected = vec![Kernel; 64];
        expected[20..22].copy_from_slice(&[Offline, HwPoison]);
        expected[32..42].copy_from_slice(&[Free, Free, Free, Free, Free, Free, Free, Free, User, Cache]);
        assert_eq!(crashed.classes(text, text + 64), expected);
        expected
    };
    expected(&crashed);
    // A stray write makes reserved pages free, or part of a free block.
    let (free, reserved) = (crashed.generation.struct_page(Use::Free, 2, 0), 1 << 12);
    for pfn in [text + 48, text + 8] {
        let pa = crashed.page_pa(pfn);
        crashed.put(pa, &free[..64]);
        crashed.put_u64(pa, crashed.get_u64(pa) | reserved);
    }
    let classes = crashed.classes(text, text + 64);
    assert_eq!(classes[48..52], [Kernel; 4], "data");
    assert_eq!(classes[8..12], [Free; 4], "text, of which the vmlinux has another copy");
}

#[test]
fn the_image_is_a_few_runs_however_its_data_is_cut_up() {
    use memory::ImagePart::{Data, Text};

    let mut crashed = Crashed::new(Generation::Linux6_1, Model::Vmemmap, 1);
    let text = 4096;
    // 600 frames of text, 600 of data; of these every third may not be written, and then there is a hole.
    for pfn in text..text + 1200 {
        crashed.map_image(pfn, pfn >= text + 600 && pfn % 3 != 0);
    }
    crashed.map_image(text + 1300, true);
    // What is mapped behind a long hole is something else.
    crashed.map_image(text + 1301 + (64 << 20 >> 12) + 512, true);
    crashed.say(&format!("SYMBOL(_stext)={:x}\n", support::START_KERNEL_MAP + (text << 12)));
    let memmap = crashed.memmap().unwrap();
    let runs: Vec<_> = memmap.image().runs().map(|run| (run.first.0, run.end.0, run.part)).collect();
    let expected = [
        (text, text + 600, Text),
        (text + 600, text + 1199, Data),
        (text + 1199, text + 1200, Text),
        (text + 1300, text + 1301, Data),
    ];
    assert_eq!(runs, expected);
}

#[test]
fn struct_pages_that_contradict_themselves_are_kept() {
    for generation in GENERATIONS {
        let mut crashed = Crashed::new(generation, Model::Vmemmap, 1);
        // Free blocks of an order that there is not, and in a place where they cannot be.
        crashed.set(0, Use::Free, 11);
        crashed.set(2049, Use::Free, 1);
        // A compound page in a place where it cannot be: its head alone is what it says.
        crashed.set(4098, Use::Anon, 2);
        // Heads without tails, and tails without a head.
        crashed.set(8192, Use::Anon, 4);
        crashed.fill(8193, "kernel*15");
        crashed.set(12288, Use::Anon, 4);
        crashed.fill(12288, "kernel");
        let mut expected = vec![Kernel; SECTION_PAGES as usize];
        expected[4098] = User;
        expected[8192] = User;
        assert_classes(&crashed.classes(0, SECTION_PAGES), &expected, &format!("{generation:?}"));
    }
}

#[test]
fn a_memmap_full_of_ones_says_nothing() {
    for generation in GENERATIONS {
        let mut crashed = Crashed::new(generation, Model::Vmemmap, 1);
        let start = crashed.array_pa as usize;
        crashed.ram.bytes[start..].fill(0xff);
        let mut classifier = crashed.classifier(DumpLevel::SMALLEST);
        let classes = walk(&mut classifier, 0, SECTION_PAGES);
        assert_classes(&classes, &vec![Kernel; SECTION_PAGES as usize], &format!("{generation:?}"));
        assert_eq!(classifier.pages_in_doubt(), SECTION_PAGES);
    }
}

#[test]
fn a_vmcoreinfo_that_was_cut_keeps_more_and_never_less() {
    for generation in GENERATIONS {
        let mut crashed = Crashed::new(generation, Model::Vmemmap, 1);
        crashed.fill(0, MIX);
        let whole = crashed.info.clone();
        let all = crashed.classes(0, SECTION_PAGES);
        let needed = "NUMBER(phys_base)=0\nPAGESIZE=4096\n";
        let needed = whole.find(needed).unwrap() + needed.len();
        for (end, _) in whole.match_indices('\n').filter(|(end, _)| *end >= needed) {
            crashed.info.truncate(0);
            crashed.info.push_str(&whole[..=end]);
            let memmap = crashed.memmap().ok().map(|memmap| (memmap, crashed.kernel()));
            let classes = walk(&mut Classifier::new(memmap, DumpLevel::ALL), 0, SECTION_PAGES);
            for level in (0..32).filter_map(DumpLevel::new) {
                for (pfn, (class, full)) in classes.iter().zip(&all).enumerate() {
                    assert!(
                        level.keeps(*class) || !level.keeps(*full),
                        "{generation:?}: {pfn} is {full:?}, not {class:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn without_a_memmap_every_page_is_kept() {
    let mut crashed = Crashed::new(Generation::Linux6_12, Model::Vmemmap, 1);
    let info = std::mem::take(&mut crashed.info);
    let mut error_without = |line: &str, other: &str| {
        assert!(info.contains(line));
        crashed.info = info.replace(line, other);
        crashed.memmap().unwrap_err()
    };
    assert_eq!(error_without("SIZE(page)=64", ""), MemMapError::MissingFact("SIZE(page)"));
    assert_eq!(error_without("OFFSET(page.flags)=0", ""), MemMapError::MissingFact("OFFSET(page.flags)"));
    let absurd = |what, value| MemMapError::Absurd { what, value };
    assert_eq!(error_without("SIZE(page)=64", "SIZE(page)=4096"), absurd("SIZE(page)", 4096));
    let section_size = "NUMBER(SECTION_SIZE_BITS)";
    assert_eq!(
        error_without(&format!("{section_size}=27"), &format!("{section_size}=99")),
        absurd(section_size, 99)
    );

    let mut classifier = Classifier::<&support::Ram>::new(None, DumpLevel::SMALLEST);
    assert_classes(&walk(&mut classifier, 3, 10_000), &[Kernel; 9_997], "no memmap");
    assert_eq!(classifier.pages_in_doubt(), 9_997);
}

#[test]
fn pages_are_counted_by_class() {
    let mut crashed = Crashed::new(Generation::Linux6_1, Model::Vmemmap, 1);
    crashed.fill(0, "free:9 anon*3 slab:1 cache");
    let counts: PageCounts = crashed.classifier(DumpLevel::SMALLEST).spans(Pfn(2), Pfn(1000)).sum();
    assert_eq!((counts.of(Free), counts.of(User), counts.of(Slab), counts.of(Cache)), (510, 3, 2, 1));
    assert_eq!(counts.total(), 998);
}

/// Damage to a machine: bytes at places where something is that the walk follows.
#[derive(Clone, Debug)]
enum Damage {
    /// A word of a struct page.
    StructPage { pfn: u64, word: u64, value: u64 },
    /// A word of the page tables, `mem_section` or `contig_page_data`.
    Table { word: u64, value: u64 },
    /// An entry of the page tables that leads to a page table, maybe its own.
    Loop { word: u64, table: u64 },
    /// A line of VMCOREINFO with another value.
    Fact { line: prop::sample::Index, value: String },
    /// A line of VMCOREINFO less.
    NoFact { line: prop::sample::Index },
}

/// Numbers that are more telling than any.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0..300_u64, Just(u64::MAX), (0..64_u32).prop_map(|bit| 1 << bit)]
}

fn damage() -> impl Strategy<Value = Damage> {
    let value = prop_oneof![
        number().prop_map(|value| value.to_string()),
        number().prop_map(|value| format!("{value:x}")),
        number().prop_map(|value| value.cast_signed().to_string()),
    ];
    prop_oneof![
        4 => (0..4096_u64, 0..8_u64, number()).prop_map(|(pfn, word, value)| Damage::StructPage { pfn, word, value }),
        2 => (0..8192_u64, number()).prop_map(|(word, value)| Damage::Table { word, value }),
        2 => (0..8192_u64, 0..16_u64).prop_map(|(word, table)| Damage::Loop { word, table }),
        2 => (any::<prop::sample::Index>(), value).prop_map(|(line, value)| Damage::Fact { line, value }),
        1 => any::<prop::sample::Index>().prop_map(|line| Damage::NoFact { line }),
    ]
}

impl Damage {
    fn inflict(&self, crashed: &mut Crashed) {
        match self {
            Self::StructPage { pfn, word, value } => {
                let pa = crashed.page_pa(crashed.first_pfn() + pfn);
                crashed.put_u64(pa + word * 8, *value);
            }
            Self::Table { word, value } => crashed.put_u64(word * 8, *value),
            Self::Loop { word, table } => crashed.put_u64(word * 8, table << 12 | 3),
            Self::Fact { line, value } => {
                let mut lines: Vec<_> = crashed.info.lines().map(str::to_owned).collect();
                let line = line.get_mut(&mut lines);
                let key = line.split_once('=').unwrap().0;
                *line = format!("{key}={value}");
                crashed.info = lines.join("\n") + "\n";
            }
            Self::NoFact { line } => {
                let mut lines: Vec<_> = crashed.info.lines().map(str::to_owned).collect();
                lines.remove(line.index(lines.len()));
                crashed.info = lines.join("\n") + "\n";
            }
        }
    }
}

proptest! {
    #[test]
    fn every_walk_ends_whatever_memory_holds(
        generation in prop::sample::select(&GENERATIONS[..]),
        model in prop::sample::select(&[Model::Vmemmap, Model::Extreme, Model::Static, Model::Flat(0x1_0000)][..]),
        damages in prop::collection::vec(damage(), 1..40),
        (start, pages) in (number(), 1..6000_u64),
        level in (0..32_u8).prop_map(|level| DumpLevel::new(level).unwrap()),
    ) {
        let mut crashed = Crashed::new(generation, model, 1);
        crashed.fill(crashed.first_pfn(), MIX);
        for damage in damages {
            damage.inflict(&mut crashed);
        }
        let info = VmcoreInfo::new(crashed.info.as_bytes());
        let kernel = KernelSpace::new(&crashed.ram, Machine::X86_64, &info).ok();
        let memmap = kernel.and_then(|kernel| Some((MemMap::find(&info, &kernel).ok()?, kernel)));
        for start in [crashed.first_pfn(), start] {
            // Walking asserts that the spans follow each other.
            let end = start.saturating_add(pages);
            let all = walk(&mut Classifier::new(memmap, level), start, end);
            let middle = start.midpoint(end);
            let later = walk(&mut Classifier::new(memmap, level), middle, end);
            assert_classes(&later, &all[(middle - start) as usize..], "from the middle");
        }
    }
}

/// A slab cache somewhere in memory, whose name is one of its words. Returns its address.
fn slab_cache(crashed: &mut Crashed, name_at: u64, name: &[u8]) -> u64 {
    let (cache_pa, name_pa) = (crashed.allocate(4096), crashed.allocate(4096));
    crashed.put(name_pa, name);
    crashed.put_u64(cache_pa + name_at, DIRECT_MAP + name_pa);
    DIRECT_MAP + cache_pa
}

#[test]
fn slab_pages_are_found_by_the_name_of_their_cache() {
    const WANTED: &[&[u8]] = &[b"task_struct", b"pid"];
    // Where struct slab has its cache, and that its name: before Linux 6.2, and since.
    for (cache_at, name_at) in [(24, 96), (8, 104)] {
        let mut crashed = Crashed::new(Generation::Linux6_10, Model::Vmemmap, 1);
        let names: [&[u8]; 5] =
            [b"task_struct\0", b"pid\0", b"pid_2\0", b"pi\0", b"a name that nobody has\0"];
        let mut caches: Vec<u64> = names.map(|name| slab_cache(&mut crashed, name_at, name)).into();
        // Nothing, an address of a process, and one that is mapped nowhere.
        caches.extend([0, 0x7fff_0000_1000, VMEMMAP - 4096]);
        let kernel = crashed.kernel();
        let mut slabs = SlabCaches::new(WANTED);
        // Twice: what is remembered is the same.
        for _ in 0..2 {
            let is_wanted: Vec<bool> = caches
                .iter()
                .map(|cache| {
                    let mut page = [0; 64];
                    page[cache_at..cache_at + 8].copy_from_slice(&cache.to_le_bytes());
                    slabs.is_wanted(&kernel, &page)
                })
                .collect();
            assert_eq!(
                is_wanted,
                [true, true, false, false, false, false, false, false],
                "cache at {cache_at}"
            );
        }
    }
}

#[test]
fn the_pages_behind_a_slabs_first_are_of_its_cache() {
    let mut crashed = Crashed::new(Generation::Linux6_1, Model::Vmemmap, 1);
    crashed.fill(0, "kernel*8 slab:2 slab:1 kernel*2");
    let [tasks, others] = [&b"task_struct\0"[..], b"dentry\0"].map(|name| slab_cache(&mut crashed, 96, name));
    crashed.put_u64(crashed.page_pa(8) + 24, tasks);
    crashed.put_u64(crashed.page_pa(12) + 24, others);
    let mut classifier = crashed.classifier(DumpLevel::ALL);
    let mut slabs = SlabCaches::new(&[b"task_struct"]);
    let mut found = Vec::new();
    let mut at = Pfn(0);
    while at < Pfn(16) {
        let span = classifier.span(at, Pfn(16));
        for pfn in (span.first.0..span.end().0).map(Pfn).filter(|_| span.class == Slab) {
            if classifier.is_of(&mut slabs, pfn) {
                found.push(pfn.0);
            }
        }
        at = span.end();
    }
    assert_eq!(found, [8, 9, 10, 11]);
}
