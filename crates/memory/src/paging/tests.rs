//! Tables of every architecture, built as its manual says, and walked.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Memory without an end, in which nothing is but the entries of tables.
#[derive(Debug, Default)]
struct Entries(BTreeMap<u64, u64>);

impl PhysMemory for Entries {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        let entry = self.0.get(&pa.0).copied().unwrap_or(0).to_le_bytes();
        buf.copy_from_slice(&entry[..buf.len()]);
        Ok(())
    }
}

/// The kinds of tables there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    X86 {
        bits: u32,
    },
    /// Built for so many bits, on a processor that takes so many.
    Aarch64 {
        page_shift: u32,
        built: u32,
        used: u32,
    },
    Lpae,
    Short,
}

use Kind::*;

const fn aarch64(page_shift: u32, built: u32, used: u32) -> Kind {
    Aarch64 { page_shift, built, used }
}

const KINDS: [Kind; 17] = [
    X86 { bits: 48 },
    X86 { bits: 57 },
    aarch64(12, 39, 39),
    aarch64(12, 48, 48),
    aarch64(12, 52, 48),
    aarch64(12, 52, 52),
    aarch64(14, 36, 36),
    aarch64(14, 47, 47),
    aarch64(14, 48, 48),
    aarch64(14, 52, 48),
    aarch64(14, 52, 52),
    aarch64(16, 42, 42),
    aarch64(16, 48, 48),
    aarch64(16, 52, 48),
    aarch64(16, 52, 52),
    Lpae,
    Short,
];

impl Kind {
    /// The lowest bit of an address that each level translates, from the top.
    fn shifts(self) -> &'static [u32] {
        match self {
            X86 { bits: 48 } | Aarch64 { page_shift: 12, used: 48, .. } => &[39, 30, 21, 12],
            X86 { .. } | Aarch64 { page_shift: 12, used: 52, .. } => &[48, 39, 30, 21, 12],
            Aarch64 { page_shift: 12, .. } | Lpae => &[30, 21, 12],
            Aarch64 { page_shift: 14, built: 36, .. } => &[25, 14],
            Aarch64 { page_shift: 14, built: 47, .. } => &[36, 25, 14],
            Aarch64 { page_shift: 14, .. } => &[47, 36, 25, 14],
            Aarch64 { built: 42, .. } => &[29, 16],
            Aarch64 { .. } => &[42, 29, 16],
            Short => &[20, 12],
        }
    }

    /// The sizes of what can be mapped, as powers of two.
    fn leaves(self) -> &'static [u32] {
        match self {
            X86 { .. } | Lpae => &[12, 21, 30],
            Aarch64 { page_shift: 12, used: 52, .. } => &[12, 21, 30, 39],
            Aarch64 { page_shift: 12, .. } => &[12, 21, 30],
            Aarch64 { page_shift: 14, used: 52, .. } => &[14, 25, 36],
            Aarch64 { page_shift: 14, .. } => &[14, 25],
            Aarch64 { built: 42, .. } => &[16, 29],
            Aarch64 { .. } => &[16, 29, 42],
            Short => &[12, 16, 20, 24],
        }
    }

    /// The first of the kernel's addresses, and how many bits there are from there on.
    fn range(self) -> (u64, u32) {
        match self {
            X86 { bits } => (u64::MAX << (bits - 1), bits - 1),
            Aarch64 { used, .. } => (u64::MAX << used, used),
            Lpae | Short => (0, 32),
        }
    }

    /// Bits of an address that the tables translate.
    fn input_bits(self) -> u32 {
        match self {
            X86 { bits } => bits,
            // The processor goes on from the level that it knows.
            Aarch64 { page_shift: 12, used, .. } => used,
            // The top table is as large as it was built: the kernel's addresses are at its end.
            Aarch64 { built, .. } => built,
            Lpae | Short => 32,
        }
    }

    /// Bits of a physical address.
    fn pa_bits(self, leaf: u32) -> u32 {
        match self {
            X86 { .. } => 52,
            Aarch64 { page_shift: 16, .. } | Aarch64 { used: 52, .. } => 52,
            Aarch64 { .. } => 48,
            Lpae => 40,
            Short if leaf == 24 => 40,
            Short => 32,
        }
    }

    fn entry_bytes(self) -> u64 {
        if self == Short { 4 } else { 8 }
    }

    /// The bits of an entry that say an address.
    fn address(self, pa: u64) -> u64 {
        match self {
            // 48 bits fit, and the others are below.
            Aarch64 { page_shift: 16, .. } => pa & 0xffff_ffff_0000 | (pa >> 48) << 12,
            Aarch64 { used: 52, .. } => pa & 0x3_ffff_ffff_f000 | (pa >> 50) << 8,
            _ => pa,
        }
    }

    fn table(self, pa: u64) -> u64 {
        self.address(pa)
            | match self {
                X86 { .. } => 0b11,
                Aarch64 { .. } | Lpae => 0b11,
                Short => 0b01,
            }
    }

    /// An entry that maps `1 << leaf` bytes. `noise` are flags that have nothing to do with that.
    fn leaf(self, mapped: &Mapped, noise: u64) -> u64 {
        let Mapped { pa, leaf, is_writable, is_executable } = *mapped;
        let bit = |is_set: bool, bit: u32| u64::from(is_set) << bit;
        match self {
            X86 { .. } => {
                // Accessed, dirty, software bits, protection key.
                pa | noise & 0x7ff0_0000_0000_0e60
                    | 1
                    | bit(is_writable, 1)
                    | bit(leaf > 12, 7)
                    | bit(!is_executable, 63)
            }
            Aarch64 { page_shift, .. } => {
                // Attributes, access flag, contiguous, UXN, software bits; above the page bits, nothing.
                self.address(pa)
                    | noise & 0x07d0_0000_0000_041c
                    | bit(true, 0)
                    | bit(leaf == page_shift, 1)
                    | bit(!is_writable, 7)
                    | bit(!is_executable, 53)
            }
            Lpae => {
                // Either of PXN and XN will do.
                let never = 53 + (noise & 1) as u32;
                pa | noise & 0x0790_0000_0000_071c
                    | bit(true, 0)
                    | bit(leaf == 12, 1)
                    | bit(!is_writable, 7)
                    | bit(!is_executable, never)
            }
            Short => match leaf {
                12 => pa | noise & 0xdec | 0b10 | bit(!is_executable, 0) | bit(!is_writable, 9),
                16 => pa | noise & 0x700c | 0b01 | bit(!is_executable, 15) | bit(!is_writable, 9),
                20 => pa | noise & 0x7dec | 0b10 | bit(!is_executable, 4) | bit(!is_writable, 15),
                _ => {
                    let high = (pa >> 32 & 0xf) << 20 | (pa >> 36 & 0xf) << 5;
                    pa & 0xff00_0000
                        | high
                        | noise & 0x7c0c
                        | 0b10
                        | 1 << 18
                        | bit(!is_executable, 4)
                        | bit(!is_writable, 15)
                }
            },
        }
    }
}

/// What is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapped {
    pa: u64,
    leaf: u32,
    is_writable: bool,
    is_executable: bool,
}

/// Where the tables' memory begins, and arm's kernel.
const RAM: u64 = 0x1000_0000;
const ARM_BASE_VA: u64 = 0xc000_0000;
const ARM_ROOT_OFFSET: u64 = 0x20_4000;

/// Tables, and what they map.
#[derive(Debug)]
struct Tables {
    kind: Kind,
    memory: Entries,
    root: u64,
    free_pa: u64,
    mapped: BTreeMap<u64, Mapped>,
}

impl Tables {
    fn new(kind: Kind) -> Self {
        let mut tables = Self {
            kind,
            memory: Entries::default(),
            root: RAM + ARM_ROOT_OFFSET,
            free_pa: RAM + 0x100_0000,
            mapped: BTreeMap::new(),
        };
        if matches!(kind, Aarch64 { .. }) {
            tables.root = RAM + 0x20_0000;
        }
        // The kernel on arm: its tables are found by what they map.
        let leaf = match kind {
            Lpae => 21,
            Short => 20,
            _ => return tables,
        };
        for offset in (0..8 << 20).step_by(1 << leaf) {
            let mapped =
                Mapped { pa: RAM + offset, leaf, is_writable: true, is_executable: offset == 3 << 20 };
            assert!(tables.map(ARM_BASE_VA + offset, mapped, 0));
        }
        tables
    }

    /// Maps what is not mapped yet; `false` if some of it is, or a larger block is in the way.
    fn map(&mut self, va: u64, mapped: Mapped, noise: u64) -> bool {
        let bytes = 1_u64 << mapped.leaf;
        let last = va + (bytes - 1);
        let before = self.mapped.range(..=last).next_back();
        if before.is_some_and(|(&start, found)| start + ((1 << found.leaf) - 1) >= va) {
            return false;
        }
        let entry = self.kind.leaf(&mapped, noise);
        // Sizes between those of two levels are 16 equal entries.
        let shift = *self.kind.shifts().iter().find(|shift| **shift <= mapped.leaf).unwrap();
        for at in (va..=last).step_by(1 << shift) {
            let place = self.place_of(at, shift);
            self.memory.0.insert(place, entry);
        }
        self.mapped.insert(va, mapped);
        true
    }

    /// Where the entry of `va` is in the level that translates from bit `last_shift` on.
    fn place_of(&mut self, va: u64, last_shift: u32) -> u64 {
        let offset = va & ((1 << self.kind.input_bits()) - 1);
        let mut table = self.root;
        let mut above = self.kind.input_bits();
        for &shift in self.kind.shifts() {
            let index = offset >> shift & ((1 << (above - shift)) - 1);
            let place = table + index * self.kind.entry_bytes();
            if shift == last_shift {
                return place;
            }
            let free_pa = &mut self.free_pa;
            let kind = self.kind;
            let entry = self.memory.0.entry(place).or_insert_with(|| {
                *free_pa += 1 << 16;
                kind.table(*free_pa)
            });
            table = *entry & 0xffff_ffff_f000;
            above = shift;
        }
        unreachable!()
    }

    fn vmcoreinfo(&self) -> String {
        let root = self.root;
        match self.kind {
            X86 { bits } => format!(
                "SYMBOL(swapper_pg_dir)=ffffffff81000000\nNUMBER(phys_base)={}\n\
                NUMBER(pgtable_l5_enabled)={}\n",
                root - 0x100_0000,
                u8::from(bits == 57)
            ),
            Aarch64 { page_shift, built, used } => format!(
                "PAGESIZE={}\nSYMBOL(swapper_pg_dir)=ffffd0b012340000\nNUMBER(VA_BITS)={built}\n\
                NUMBER(kimage_voffset)={:#x}\nNUMBER(TCR_EL1_T1SZ)={:#x}\n",
                1 << page_shift,
                0xffff_d0b0_1234_0000 - root,
                64 - used
            ),
            Lpae | Short => format!(
                "SYMBOL(swapper_pg_dir)={:x}\nSYMBOL(_stext)={:x}\n{}",
                ARM_BASE_VA + ARM_ROOT_OFFSET,
                ARM_BASE_VA + 0x30_0000,
                if self.kind == Lpae { "CONFIG_ARM_LPAE=y\n" } else { "" }
            ),
        }
    }

    fn find(&self) -> PageTables {
        let machine = match self.kind {
            X86 { .. } => Machine::X86_64,
            Aarch64 { .. } => Machine::Aarch64,
            Lpae | Short => Machine::Arm,
        };
        let info = self.vmcoreinfo();
        PageTables::of_kernel(&self.memory, machine, &VmcoreInfo::new(info.as_bytes())).unwrap()
    }

    /// What is mapped at an address, and where that begins.
    fn at(&self, va: u64) -> Option<(u64, Mapped)> {
        let (&start, &mapped) = self.mapped.range(..=va).next_back()?;
        (va - start < 1 << mapped.leaf).then_some((start, mapped))
    }

    fn assert_walk(&self, tables: &PageTables, va: u64) {
        let found = tables.walk(&self.memory, VirtAddr(va));
        match self.at(va) {
            Some((start, Mapped { pa, leaf, is_writable, is_executable })) => {
                let (va, pa) = (VirtAddr(start), PhysAddr(pa));
                let mapping = Mapping { va, pa, bytes: 1 << leaf, is_writable, is_executable };
                assert_eq!(found, Ok(mapping), "{:?}", self.kind);
            }
            None => {
                let Err(WalkError::NotMapped { span, .. }) = found else {
                    panic!("{:?} {va:#x}: {found:x?}", self.kind)
                };
                let start = va & !(span - 1);
                let around = self.mapped.range(..=start + (span - 1)).next_back();
                assert!(around.is_none_or(|(&at, mapped)| at + ((1 << mapped.leaf) - 1) < start));
            }
        }
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select(KINDS.to_vec())
}

/// What to map: address, physical address, size, rights, flags.
type Wish = (u64, u64, usize, bool, bool, u64);

fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    // Addresses near each other, so that they share tables, and some anywhere.
    let address =
        prop_oneof![4 => 0_u64..1 << 32, 2 => (0_u64..1 << 32).prop_map(|low| !low), 1 => any::<u64>()];
    prop::collection::vec(
        (address, any::<u64>(), 0_usize..4, any::<bool>(), any::<bool>(), any::<u64>()),
        1..40,
    )
}

/// Maps what can be.
fn tables_of(kind: Kind, wishes: &[Wish]) -> Tables {
    let mut tables = Tables::new(kind);
    let (first, bits) = kind.range();
    for &(address, pa, size, is_writable, is_executable, noise) in wishes {
        let leaf = kind.leaves()[size % kind.leaves().len()];
        let start = |address: u64, bits: u32| address & (u64::MAX >> (64 - bits)) & (u64::MAX << leaf);
        let mapped = Mapped { pa: start(pa, kind.pa_bits(leaf)), leaf, is_writable, is_executable };
        tables.map(first + start(address, bits), mapped, noise);
    }
    tables
}

proptest! {
    #[test]
    fn a_walk_finds_what_was_mapped_and_nothing_else(kind in kinds(), wishes in wishes(), offset: u64) {
        let built = tables_of(kind, &wishes);
        let tables = built.find();
        let (first, bits) = kind.range();
        let last = first | u64::MAX >> (64 - bits);
        prop_assert!(!built.mapped.is_empty());
        for (&va, mapped) in &built.mapped {
            let end = va + ((1 << mapped.leaf) - 1);
            let within = va + (offset & ((1 << mapped.leaf) - 1));
            let around = [va.saturating_sub(1).max(first), end.saturating_add(1).min(last)];
            for va in [va, end, within].into_iter().chain(around) {
                built.assert_walk(&tables, va);
            }
        }
        for (address, ..) in wishes {
            built.assert_walk(&tables, first | address & last & !first);
        }
    }

    #[test]
    fn any_tables_are_walked_in_bounds(
        kind in kinds(),
        entries in prop::collection::vec((any::<u64>(), any::<u64>(), 0_u8..4), 1..64),
        addresses in prop::collection::vec(any::<u64>(), 1..8),
    ) {
        let mut built = Tables::new(kind);
        let tables = built.find();
        // Entries anywhere in four pages, which mostly lead back into these.
        for (place, entry, to) in entries {
            let place = built.root + (place % 0x4000) / kind.entry_bytes() * kind.entry_bytes();
            let entry = match to {
                3 => entry,
                _ => kind.table(built.root + u64::from(to) * 0x1000) | entry & 0x8000_0000_0000_0fff,
            };
            built.memory.0.insert(place, if kind == Short { entry & 0xffff_ffff } else { entry });
        }
        let (first, _) = kind.range();
        for va in addresses.into_iter().flat_map(|va| [va, va | first, va & u64::from(u32::MAX)]) {
            let mut steps = Vec::new();
            let found = tables.walk_by(&built.memory, VirtAddr(va), |level, _| steps.push(level));
            let levels = kind.shifts().len() as u32;
            prop_assert!(steps.iter().rev().copied().rev().eq((1..=levels).rev().take(steps.len())));
            if let Ok(mapping) = found {
                prop_assert!(mapping.bytes.is_power_of_two() && mapping.pa.0 % mapping.bytes == 0);
                prop_assert!(mapping.place_of(VirtAddr(va)).is_some());
                prop_assert!(mapping.pa.0.checked_add(mapping.bytes).is_some());
            }
        }
    }
}

/// Tables with one page at the kernel's first address.
fn one_page(kind: Kind) -> (Tables, u64) {
    let mut built = Tables::new(kind);
    let va = kind.range().0;
    let mapped = Mapped { pa: 0x9000_0000, leaf: kind.leaves()[0], is_writable: true, is_executable: true };
    assert!(built.map(va, mapped, 0));
    (built, va)
}

#[test]
fn a_table_may_forbid_what_the_entries_in_it_allow() {
    for (kind, flag, is_writable, is_executable) in [
        (aarch64(12, 48, 48), 1 << 59, true, false),
        (aarch64(12, 48, 48), 1 << 60, true, true),
        (aarch64(16, 52, 52), 1 << 62, false, true),
        (Lpae, 1 << 60, true, false),
        (Lpae, 1 << 62, false, true),
        (Short, 1 << 2, true, false),
    ] {
        let (mut built, va) = one_page(kind);
        let place = built.place_of(va, kind.shifts()[0]);
        *built.memory.0.get_mut(&place).unwrap() |= flag;
        let mapping = built.find().walk(&built.memory, VirtAddr(va)).unwrap();
        assert_eq!((mapping.is_writable, mapping.is_executable), (is_writable, is_executable), "{kind:?}");
    }
}

#[test]
fn what_the_processor_marks_dirty_by_itself_may_be_written() {
    let (mut built, va) = one_page(aarch64(12, 48, 48));
    let place = built.place_of(va, 12);
    for (flags, is_writable) in [(1 << 7, false), (1 << 7 | 1 << 51, true), (1 << 51, true)] {
        let entry = built.memory.0[&place];
        built.memory.0.insert(place, entry | flags);
        let mapping = built.find().walk(&built.memory, VirtAddr(va)).unwrap();
        assert_eq!(mapping.is_writable, is_writable);
        built.memory.0.insert(place, entry);
    }
}

#[test]
fn entries_that_the_architecture_does_not_have_map_nothing() {
    for (kind, shift, entry) in [
        // A page that says it is a block, and blocks of levels that have none.
        (aarch64(12, 48, 48), 12, 0b01),
        (aarch64(12, 48, 48), 39, 0b01),
        (aarch64(14, 48, 48), 36, 0b01),
        (aarch64(16, 42, 42), 16, 0b01),
        (Lpae, 12, 0b01),
        (Short, 12, 0b00),
        (Short, 20, 0b00),
    ] {
        let (mut built, va) = one_page(kind);
        let place = built.place_of(va, shift);
        built.memory.0.insert(place, entry);
        let found = built.find().walk(&built.memory, VirtAddr(va));
        let level = kind.shifts().iter().rev().position(|at| *at == shift).unwrap() as u32 + 1;
        assert_eq!(
            found,
            Err(WalkError::NotMapped { va: VirtAddr(va), level, span: 1 << shift }),
            "{kind:?}"
        );
    }
}

#[test]
fn addresses_that_are_not_the_kernels_are_refused() {
    for (kind, va) in [
        (aarch64(12, 39, 39), u64::MAX << 40),
        (aarch64(12, 48, 48), 0),
        (aarch64(12, 52, 48), u64::MAX << 52),
        (aarch64(16, 52, 52), (u64::MAX << 52) - 1),
        (Lpae, 1 << 32),
        (Short, 1 << 32),
    ] {
        let (built, _) = one_page(kind);
        let found = built.find().walk(&built.memory, VirtAddr(va));
        assert_eq!(found, Err(WalkError::NotCanonical { va: VirtAddr(va) }), "{kind:?}");
    }
}

#[test]
fn what_an_architecture_needs_to_know_is_named() {
    let of = |machine, text: &str| {
        PageTables::of_kernel(&Entries::default(), machine, &VmcoreInfo::new(text.as_bytes())).unwrap_err()
    };
    assert_eq!(of(Machine::Arm, ""), PageTablesError::MissingFact("SYMBOL(swapper_pg_dir)"));
    assert_eq!(
        of(Machine::Arm, "SYMBOL(swapper_pg_dir)=c0204000\n"),
        PageTablesError::NotFound { root_va: VirtAddr(0xc020_4000) }
    );
    let root = "SYMBOL(swapper_pg_dir)=ffff800012340000\n";
    let missing = of(Machine::Aarch64, root);
    assert_eq!(missing, PageTablesError::MissingFact("NUMBER(kimage_voffset)"));
    let facts = format!("{root}NUMBER(kimage_voffset)=0xffff800000000000\nPAGESIZE=4096\n");
    assert_eq!(of(Machine::Aarch64, &facts), PageTablesError::MissingFact("NUMBER(VA_BITS)"));
    let facts =
        format!("{root}NUMBER(kimage_voffset)=0xffff800000000010\nPAGESIZE=4096\nNUMBER(VA_BITS)=48\n");
    assert_eq!(of(Machine::Aarch64, &facts), PageTablesError::BadRoot(PhysAddr(0x1233_fff0)));
}

#[test]
fn tables_of_a_process_are_not_taken_for_the_kernels() {
    for kind in [Lpae, Short] {
        let mut built = Tables::new(kind);
        // Below the kernel's: a copy of the top table, as each process has it.
        let copy = built.root - (2 << 20);
        let entries: Vec<_> = built.memory.0.range(built.root..built.root + 0x4000).collect();
        let copied: Vec<_> = entries.into_iter().map(|(&pa, &entry)| (pa - (2 << 20), entry)).collect();
        assert!(copied.iter().any(|(pa, _)| *pa >= copy));
        built.memory.0.extend(copied);
        built.map(0x1000, Mapped { pa: 0x9000_0000, leaf: 12, is_writable: true, is_executable: true }, 0);
        built.assert_walk(&built.find(), 0x1000);
    }
}

#[test]
fn the_linear_map_of_aarch64_is_where_its_kernel_has_it() {
    let offset = |text: &str| linear_map_offset(Machine::Aarch64, &VmcoreInfo::new(text.as_bytes()));
    let facts = "NUMBER(VA_BITS)=48\nNUMBER(PHYS_OFFSET)=0x40000000\nNUMBER(TCR_EL1_T1SZ)=0x10\n";
    let since_5_4 = format!("SYMBOL(_stext)=ffffd0b012310000\n{facts}");
    assert_eq!(offset(&since_5_4), Some(0xffff_0000_0000_0000 - 0x4000_0000));
    let before_5_4 = "SYMBOL(_stext)=ffff000008081000\nNUMBER(VA_BITS)=48\nNUMBER(PHYS_OFFSET)=0x40000000\n";
    assert_eq!(offset(before_5_4), None);
    assert_eq!(offset(facts), None);
    // Built for 52 bits, on a processor that takes 48: PHYS_OFFSET is as if the linear map began where it does with 52.
    let fewer = "SYMBOL(_stext)=ffffd0b012310000\nNUMBER(VA_BITS)=52\nNUMBER(PHYS_OFFSET)=0xfff1000040000000\n\
        NUMBER(TCR_EL1_T1SZ)=0x10\n";
    let start = offset(fewer).unwrap().wrapping_add(0x4000_0000);
    assert_eq!(start, 0xffff_0000_0000_0000);
}
