//! Tables of ours, read by the walk that reads Linux'.

use alloc::format;
use alloc::string::String;

use memory::paging::{Mapping, PageTables};
use memory::{PhysAddr, PhysMemory, ReadFault, ReadFaultKind, VirtAddr};
use vmcore::headers::Machine;
use vmcore::vmcoreinfo::VmcoreInfo;

use super::long::Long;
use super::short::Short;
use super::*;

/// Not a multiple of a root of short descriptors.
const ROOM_PA: u64 = 0x1000_9000;
const IMAGE: usize = 0x1000_0000;
const WINDOW: usize = 0xff80_0000;

type TestRoom = Room<{ 15 * 1024 }>;

/// A room as memory, at [`ROOM_PA`].
struct RoomMemory<'a>(&'a [AtomicU32]);

impl PhysMemory for RoomMemory<'_> {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        for (index, byte) in buf.iter_mut().enumerate() {
            let at = pa.0 + index as u64;
            let fault = ReadFault { pa: PhysAddr(at), kind: ReadFaultKind::NotRam };
            let place = usize::try_from(at.checked_sub(ROOM_PA).ok_or(fault)?).unwrap();
            let word = self.0.get(place / 4).ok_or(fault)?.load(Ordering::Relaxed);
            *byte = word.to_le_bytes()[place % 4];
        }
        Ok(())
    }
}

/// What an arm kernel with such tables would be read as: they map themselves, one to one.
fn read<F: Format>(tables: &mut Tables<'_, F>, is_long: bool) -> PageTables {
    for page in (0..15).map(|page| ROOM_PA + page * 4096) {
        tables.map(usize::try_from(page).unwrap(), page, Use::Data).unwrap();
    }
    tables.map(IMAGE, IMAGE as u64, Use::Text).unwrap();
    let mut info = format!("SYMBOL(swapper_pg_dir)={:x}\nSYMBOL(_stext)={IMAGE:x}\n", tables.root_pa());
    if is_long {
        info += "CONFIG_ARM_LPAE=y\n";
    }
    let info: String = info;
    let memory = RoomMemory(tables.room);
    PageTables::of_kernel(&memory, Machine::Arm, &VmcoreInfo::new(info.as_bytes())).unwrap()
}

fn page(va: usize, pa: u64, is_writable: bool, is_executable: bool) -> Mapping {
    Mapping { va: VirtAddr(va as u64), pa: PhysAddr(pa), bytes: 4096, is_writable, is_executable }
}

fn pages_are_where_they_were_mapped_with_their_rights<F: Format>(format: F, is_long: bool, ram_pa: u64) {
    let room = TestRoom::empty();
    let mut tables = Tables::new(format, room.words(), ROOM_PA).unwrap();
    let walker = read(&mut tables, is_long);
    let memory = RoomMemory(room.words());
    let uses = [
        (Use::Text, false, true),
        (Use::Constants, false, false),
        (Use::Data, true, false),
        (Use::Ram, false, false),
        (Use::Device, true, false),
    ];
    for (slot, (purpose, is_writable, is_executable)) in uses.into_iter().enumerate() {
        // On both sides of a border between two tables of either format.
        let va = WINDOW + 0x1f_e000 + slot * PAGE_BYTES;
        let pa = ram_pa + 0x7000 * slot as u64;
        tables.map(va, pa, purpose).unwrap();
        assert_eq!(walker.walk(&memory, VirtAddr(va as u64)), Ok(page(va, pa, is_writable, is_executable)));
        assert_eq!(tables.page_at(va), Some(pa));
        assert!(walker.walk(&memory, VirtAddr(va as u64 + 4096)).is_err());
    }
    let va = WINDOW + 0x1f_e000;
    assert!(tables.unmap(va));
    assert!(!tables.unmap(va));
    assert!(walker.walk(&memory, VirtAddr(va as u64)).is_err());
    assert_eq!(tables.page_at(va), None);
}

#[test]
fn short_descriptors_map_pages_below_4g() {
    for is_shared in [false, true] {
        pages_are_where_they_were_mapped_with_their_rights(Short { is_shared }, false, 0x8765_4000);
    }
}

#[test]
fn long_descriptors_map_pages_above_4g() {
    for ram_pa in [0x8765_4000, 0x8_4000_0000, 0xff_fff0_0000] {
        pages_are_where_they_were_mapped_with_their_rights(Long::ARM, true, ram_pa);
    }
}

#[test]
fn what_no_processor_could_have_is_not_mapped() {
    let room = TestRoom::empty();
    let mut short = Tables::new(Short { is_shared: true }, room.words(), ROOM_PA).unwrap();
    for pa in [0x1_0000_0000, 0x8_4000_0000, 0x1001, u64::MAX] {
        assert_eq!(short.map(WINDOW, pa, Use::Ram), Err(CannotMap(pa)));
    }
    let room = TestRoom::empty();
    let mut long = Tables::new(Long::ARM, room.words(), ROOM_PA).unwrap();
    assert_eq!(long.map(WINDOW, 0x100_0000_0000, Use::Ram), Err(CannotMap(0x100_0000_0000)));
    let room = TestRoom::empty();
    let mut aarch64 = Tables::new(Long::AARCH64, room.words(), ROOM_PA).unwrap();
    assert_eq!(aarch64.map(WINDOW, 0x100_0000_0000, Use::Ram), Ok(()));
    assert_eq!(aarch64.map(WINDOW, 1 << 48, Use::Ram), Err(CannotMap(1 << 48)));
}

#[test]
fn entries_are_the_ones_of_the_manual() {
    let short = Short { is_shared: true };
    // TEX 001 C B S, AP 001, XN.
    assert_eq!(short.page(0x1234_5000, Use::Data), Some(0x1234_5000 | 0x45f));
    assert_eq!(short.page(0x1234_5000, Use::Text), Some(0x1234_5000 | 0x65e));
    // TEX 000 B.
    assert_eq!(short.page(0x0202_0000, Use::Device), Some(0x0202_0000 | 0x017));
    assert_eq!(short.table(0x1234_5400), 0x1234_5401);
    // AF, SH 11, AP[2], AttrIndx 0, a page; PXN, XN.
    assert_eq!(Long::ARM.page(0x8_4000_0000, Use::Ram), Some(0x0060_0008_4000_0783));
    assert_eq!(Long::ARM.page(0x0900_0000, Use::Device), Some(0x0060_0000_0900_0407));
}

#[test]
fn a_room_that_is_used_up_maps_no_more() {
    let room = Room::<2048>::empty();
    // The root and one table; a page takes another one.
    let mut tables = Tables::new(Long::ARM, room.words(), ROOM_PA & !0xfff).unwrap();
    assert_eq!(tables.map(WINDOW, 0x1000, Use::Ram), Err(CannotMap(0x1000)));
    assert!(Tables::new(Short { is_shared: true }, room.words(), ROOM_PA).is_err());
}
