use proptest::prelude::*;

use super::*;
use crate::fake::FakeMemory;
use crate::paging::{Mapping, WalkError, radix};
use crate::{ReadFault, ReadFaultKind};

const ROOT: u64 = 0x10_0000;
const RW: u64 = PRESENT | WRITABLE;

/// Tables of `levels` levels at [`ROOT`] and behind it, one below the other, that lead to `leaf` at `leaf_level`.
fn tables(va: u64, levels: u32, leaf_level: u32, leaf: u64) -> FakeMemory {
    let mut memory = FakeMemory::default();
    for (table, level) in (0..).zip((leaf_level..=levels).rev()) {
        let entry = match level {
            level if level == leaf_level => leaf,
            _ => (ROOT + (table + 1) * 0x1000) | RW,
        };
        let index = va >> (12 + 9 * (level - 1)) & 511;
        memory.write_u64(ROOT + table * 0x1000 + index * 8, entry);
        // The rest of the table is zero: not present.
        memory.write_u64(ROOT + table * 0x1000 + (index ^ 1) * 8, 0);
    }
    memory
}

fn walk(memory: &FakeMemory, levels: u32, va: u64) -> Result<Mapping, WalkError> {
    radix::walk(&PageTables::new(PhysAddr(ROOT), levels == 5, 0), memory, VirtAddr(va), |_, _| ())
}

const VA: u64 = 0xffff_ffff_8123_4567;

#[test]
fn pages_of_every_size_are_found_at_four_and_five_levels() {
    for levels in [4, 5] {
        for (leaf_level, bytes, flag) in [(1, 1 << 12, 0), (2, 1 << 21, PAGE_SIZE), (3, 1 << 30, PAGE_SIZE)] {
            let memory = tables(VA, levels, leaf_level, 0x1_4000_0000 | flag | RW | NO_EXECUTE);
            assert_eq!(
                walk(&memory, levels, VA),
                Ok(Mapping {
                    va: VirtAddr(VA & !(bytes - 1)),
                    pa: PhysAddr(0x1_4000_0000),
                    bytes,
                    is_writable: true,
                    is_executable: false,
                })
            );
        }
    }
}

#[test]
fn flags_are_no_part_of_the_address() {
    // Protection key, software bits, PAT of a large page (bit 12), global.
    let flags = 0x7ff0_0000_0000_1f00;
    let memory = tables(VA, 4, 2, 0x4020_0000 | flags | PAGE_SIZE | PRESENT);
    let mapping = walk(&memory, 4, VA).unwrap();
    assert_eq!(
        (mapping.pa, mapping.is_writable, mapping.is_executable),
        (PhysAddr(0x4020_0000), false, true)
    );

    let sme = 1 << 47;
    let memory = tables(VA, 4, 1, 0x4020_0000 | sme | RW);
    let tables = PageTables::new(PhysAddr(ROOT), false, sme);
    let mapping = radix::walk(&tables, &memory, VirtAddr(VA), |_, _| ()).unwrap();
    assert_eq!(mapping.pa, PhysAddr(0x4020_0000));
}

#[test]
fn a_directory_that_may_not_be_written_forbids_what_lies_below() {
    let mut memory = tables(VA, 4, 1, 0x4020_0000 | RW);
    memory.write_u64(ROOT + (VA >> 39 & 511) * 8, (ROOT + 0x1000) | PRESENT | NO_EXECUTE);
    let mapping = walk(&memory, 4, VA).unwrap();
    assert!(!mapping.is_writable && !mapping.is_executable);
}

#[test]
fn what_is_not_mapped_says_how_much_is_not() {
    let memory = tables(VA, 4, 1, 0x4020_0000 | RW);
    for (level, span) in [(1, 1 << 12), (2, 1 << 21), (3, 1 << 30), (4, 1 << 39)] {
        let va = VirtAddr(VA ^ span);
        assert_eq!(walk(&memory, 4, va.0), Err(WalkError::NotMapped { va, level, span }));
    }
}

#[test]
fn a_table_that_cannot_be_read_is_named() {
    let mut memory = tables(VA, 4, 1, 0x4020_0000 | RW);
    memory.poisoned.insert((ROOT + 0x2000) >> 12);
    let pa = PhysAddr(ROOT + 0x2000 + (VA >> 21 & 511) * 8);
    assert_eq!(
        walk(&memory, 4, VA),
        Err(WalkError::Unreadable {
            va: VirtAddr(VA),
            level: 2,
            span: 1 << 21,
            fault: ReadFault { pa, kind: ReadFaultKind::NotRam },
        })
    );
}

#[test]
fn addresses_between_the_halves_are_refused() {
    let memory = FakeMemory::default();
    let refused = |levels, va| walk(&memory, levels, va) == Err(WalkError::NotCanonical { va: VirtAddr(va) });
    assert!(refused(4, 0x0000_8000_0000_0000) && refused(4, 0xff00_0000_0000_0000));
    assert!(refused(5, 0x0100_0000_0000_0000));
    assert!(!refused(5, 0xff00_0000_0000_0000) && !refused(4, 0x0000_7fff_ffff_ffff));
}

#[test]
fn the_kernels_own_tables_are_where_vmcoreinfo_says() {
    let of = |text: &str| PageTables::of_kernel(&VmcoreInfo::new(text.as_bytes()));
    // Measured: Debian 6.1 with KASLR.
    assert_eq!(
        of("SYMBOL(swapper_pg_dir)=ffffffff9f610000\nNUMBER(phys_base)=-146800640\n\
            NUMBER(pgtable_l5_enabled)=0\nNUMBER(sme_mask)=0\n"),
        Ok(PageTables::new(PhysAddr(0x1f61_0000 - 146_800_640), false, 0))
    );
    assert_eq!(
        of("SYMBOL(init_top_pgt)=ffffffff82610000\nNUMBER(phys_base)=4096\nNUMBER(pgtable_l5_enabled)=1\n\
            NUMBER(sme_mask)=140737488355328\n"),
        Ok(PageTables::new(PhysAddr(0x261_1000), true, 1 << 47))
    );
    assert_eq!(
        of("SYMBOL(init_top_pgt)=ffffffff82610000\n"),
        Err(PageTablesError::MissingFact("NUMBER(phys_base)"))
    );
    assert_eq!(of("NUMBER(phys_base)=0\n"), Err(PageTablesError::MissingFact("SYMBOL(swapper_pg_dir)")));
    assert!(matches!(of("SYMBOL(init_top_pgt)=10\nNUMBER(phys_base)=0\n"), Err(PageTablesError::BadRoot(_))));
}

proptest! {
    #[test]
    fn a_walk_finds_what_was_mapped(
        index in 0_u64..1 << 36, pfn in 0_u64..1 << 40, offset in 0_u64..4096, writable: bool,
    ) {
        let va = (index << 28).cast_signed() >> 16;
        let va = va.cast_unsigned() | offset;
        let flags = PRESENT | if writable { WRITABLE } else { 0 };
        let memory = tables(va, 4, 1, pfn << 12 | flags);
        let mapping = walk(&memory, 4, va).unwrap();
        prop_assert_eq!(mapping.place_of(VirtAddr(va)), Some((PhysAddr(pfn << 12 | offset), 4096 - offset)));
        prop_assert_eq!(mapping.is_writable, writable);
    }

    #[test]
    fn any_tables_are_walked_in_bounds(
        entries in prop::collection::vec((0_u64..1024, any::<u64>(), 0_u64..4), 0..64), va: u64,
    ) {
        let mut memory = FakeMemory::default();
        memory.write(ROOT, &[0; 0x2000]);
        for (index, entry, table) in entries {
            // Mostly entries that lead back into the two tables there are.
            let entry = if table < 3 { entry & 0xfff | PRESENT | (ROOT + (table & 1) * 0x1000) } else { entry };
            memory.write_u64(ROOT + index * 8, entry);
        }
        for levels in [4, 5] {
            if let Ok(mapping) = walk(&memory, levels, va) {
                prop_assert!(mapping.place_of(VirtAddr(va)).is_some());
                prop_assert!(mapping.pa.0.checked_add(mapping.bytes).is_some());
            }
        }
    }
}
