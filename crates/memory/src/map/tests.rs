use alloc::vec;

use proptest::prelude::*;

use super::*;

fn segment(p_paddr: u64, p_offset: u64, bytes: u64) -> LoadSegment {
    LoadSegment { p_vaddr: 0, p_paddr, p_offset, p_filesz: bytes, p_memsz: bytes }
}

fn range(start: u64, end: u64, read_at: u64) -> RamRange {
    RamRange { start: PhysAddr(start), end: PhysAddr(end), read_at: PhysAddr(read_at) }
}

fn map_of(segments: &[LoadSegment]) -> MemoryMap {
    let (map, faults) = MemoryMap::from_segments(segments);
    assert_eq!(faults, vec![]);
    map
}

/// RAM as kexec-tools lists it on a PC: backup region, RAM, the kernel image inside it.
fn pc() -> MemoryMap {
    map_of(&[
        segment(0x20_0000, 0x20_0000, 0x40_0000),
        segment(0x1000, 0x70_0000, 0x9ec00),
        segment(0x10_0000, 0x10_0000, 0x50_0000),
        segment(0x80_0000, 0x80_0000, 0x1800),
    ])
}

#[test]
fn overlapping_ranges_become_one_and_the_backup_region_stays_apart() {
    assert_eq!(
        pc().ranges(),
        [
            range(0x1000, 0x9fc00, 0x70_0000),
            range(0x10_0000, 0x60_0000, 0x10_0000),
            range(0x80_0000, 0x80_1800, 0x80_0000),
        ]
    );
    assert_eq!(pc().total_bytes(), 0x9ec00 + 0x50_0000 + 0x1800);
}

#[test]
fn a_redirected_range_wins_over_the_one_around_it() {
    let map = map_of(&[segment(0, 0, 0x10_000), segment(0x2000, 0x90_000, 0x1000)]);
    assert_eq!(
        map.ranges(),
        [range(0, 0x2000, 0), range(0x2000, 0x3000, 0x90_000), range(0x3000, 0x10_000, 0x3000)]
    );
}

#[test]
fn a_redirected_range_over_the_gap_of_two_others_cuts_both() {
    let map =
        map_of(&[segment(0, 0, 0x2000), segment(0x3000, 0x3000, 0x2000), segment(0x1000, 0x90_000, 0x3000)]);
    assert_eq!(
        map.ranges(),
        [range(0, 0x1000, 0), range(0x1000, 0x4000, 0x90_000), range(0x4000, 0x5000, 0x4000)]
    );
}

#[test]
fn translation_follows_the_redirection_to_the_end_of_its_range() {
    let map = pc();
    let extent = |read_at, bytes| Some(Extent { read_at: PhysAddr(read_at), bytes });
    assert_eq!(map.translate(PhysAddr(0x9f000), 0x1000), extent(0x70_0000 + 0x9e000, 0xc00));
    assert_eq!(map.translate(PhysAddr(0x20_0010), 8), extent(0x20_0010, 8));
    assert_eq!(map.translate(PhysAddr(0x9fc00), 1), None);
    assert_eq!(map.translate(PhysAddr(u64::MAX), u64::MAX), None);
}

#[test]
fn a_read_across_ranges_is_put_together_and_a_fault_has_the_crashed_machines_address() {
    let map = map_of(&[segment(0, 0, 0x1000), segment(0x1000, 0x90_000, 0x1000)]);
    let mut buf = [0; 4];
    map.read_through(PhysAddr(0xffe), &mut buf, |pa, piece| {
        piece.fill(if pa.0 >= 0x90_000 { 2 } else { 1 });
        Ok(())
    })
    .unwrap();
    assert_eq!(buf, [1, 1, 2, 2]);

    let poisoned = |pa: PhysAddr, _: &mut [u8]| match pa.0 {
        0x90_000 => Err(ReadFault { pa: PhysAddr(0x90_001), kind: ReadFaultKind::MachineCheck }),
        _ => Ok(()),
    };
    assert_eq!(
        map.read_through(PhysAddr(0xffe), &mut buf, poisoned),
        Err(ReadFault { pa: PhysAddr(0x1001), kind: ReadFaultKind::MachineCheck })
    );
    assert_eq!(
        map.read_through(PhysAddr(0x1ffe), &mut buf, |_, _| Ok(())),
        Err(ReadFault { pa: PhysAddr(0x2000), kind: ReadFaultKind::NotRam })
    );
}

#[test]
fn pages_are_whole_but_at_the_ends_of_ranges() {
    let map = map_of(&[segment(0x1000, 0x1000, 0x1400), segment(0x2800, 0x2800, 0x1000)]);
    let part = |pfn, offset, bytes| PagePart { pfn: Pfn(pfn), offset, bytes };
    let parts: Vec<_> = map.pages(12).collect();
    assert_eq!(parts, vec![part(1, 0, 0x1000), part(2, 0, 0x400), part(2, 0x800, 0x800), part(3, 0, 0x800)]);
    assert_eq!(map.pages_from(Pfn(2), 12).collect::<Vec<_>>(), parts[1..]);
    assert_eq!(map.pages_from(Pfn(u64::MAX), 12).count(), 0);
    assert_eq!(map.max_pfn(12), Some(Pfn(3)));
    assert_eq!(MemoryMap::default().max_pfn(12), None);
}

#[test]
fn senseless_segments_are_left_out_and_reported() {
    // The second is what kexec-tools 2.0.25 makes on arm64 with Linux 6.1.
    let (start, bytes) = (0x3d8a_1f00_0000, 0xffff_c276_22ca_0000);
    let (map, faults) = MemoryMap::from_segments(&[
        segment(0x4000_0000, 0x4000_0000, 0x1000),
        segment(start, start, bytes),
        segment(1 << 52, 1 << 52, 0x1000),
        segment(0x1000, 1 << 60, 0x1000),
        segment(0x1000, u64::MAX - 1, 0x1000),
        segment(0x1000, 0x1000, 0),
    ]);
    assert_eq!(map.ranges(), [range(0x4000_0000, 0x4000_1000, 0x4000_0000)]);
    let pa = PhysAddr;
    assert_eq!(
        faults,
        vec![
            MapFault::Overflow { start: pa(start), bytes },
            MapFault::Absurd { start: pa(1 << 52), bytes: 0x1000, read_at: pa(1 << 52) },
            MapFault::Absurd { start: pa(0x1000), bytes: 0x1000, read_at: pa(1 << 60) },
            MapFault::Overflow { start: pa(0x1000), bytes: 0x1000 },
        ]
    );
}

#[test]
fn a_map_holds_a_bounded_number_of_ranges() {
    let segments: Vec<_> =
        (0..MAX_RANGES as u64 + 5).map(|i| segment(i * 0x2000, i * 0x2000, 0x1000)).collect();
    let (map, faults) = MemoryMap::from_segments(&segments);
    assert_eq!(map.ranges().len(), MAX_RANGES);
    assert_eq!(faults, vec![MapFault::TooMany { start: PhysAddr(MAX_RANGES as u64 * 0x2000) }]);
}

/// What a byte of a small address space is, found by asking every segment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Byte {
    Absent,
    InPlace,
    /// Redirected, to any of these places.
    Redirected(u64),
}

const SPACE: u64 = 256;

/// Segments within the first 256 bytes; about a third redirected to a place of their own each.
fn segments() -> impl Strategy<Value = Vec<LoadSegment>> {
    prop::collection::vec((0..SPACE - 64, 0_u64..64, 0_u8..3), 0..12).prop_map(|list| {
        let place = |index: usize, start, kind| match kind {
            0 => 0x1000 * (index as u64 + 1) + start,
            _ => start,
        };
        list.iter()
            .enumerate()
            .map(|(index, &(start, bytes, kind))| segment(start, place(index, start, kind), bytes))
            .collect()
    })
}

/// The places a byte may be read at by the rules of `from_segments`, save which of two redirected segments wins.
fn allowed(segments: &[LoadSegment], pa: u64) -> Vec<Byte> {
    let here = || segments.iter().filter(|s| s.p_paddr <= pa && pa - s.p_paddr < s.p_memsz);
    let redirected: Vec<_> = here()
        .filter(|s| s.p_offset != s.p_paddr)
        .map(|s| Byte::Redirected(s.p_offset + (pa - s.p_paddr)))
        .collect();
    match (redirected.is_empty(), here().next()) {
        (false, _) => redirected,
        (true, Some(_)) => vec![Byte::InPlace],
        (true, None) => vec![Byte::Absent],
    }
}

fn found(map: &MemoryMap, pa: u64) -> Byte {
    match map.translate(PhysAddr(pa), 1) {
        None => Byte::Absent,
        Some(extent) if extent.read_at.0 == pa => Byte::InPlace,
        Some(extent) => Byte::Redirected(extent.read_at.0),
    }
}

proptest! {
    #[test]
    fn every_byte_is_where_its_segments_put_it(segments in segments()) {
        let map = map_of(&segments);
        for pa in 0..SPACE {
            let byte = found(&map, pa);
            prop_assert!(allowed(&segments, pa).contains(&byte), "{pa:#x} is {byte:?}");
            prop_assert_eq!(map.contains(PhysAddr(pa)), byte != Byte::Absent);
        }
    }

    #[test]
    fn ranges_are_sorted_and_apart(segments in segments()) {
        let map = map_of(&segments);
        prop_assert!(map.ranges().iter().all(|range| range.start < range.end));
        for pair in map.ranges().windows(2) {
            let [a, b] = pair else { unreachable!() };
            let touches = a.end == b.start && a.place_of(a.end) == b.read_at;
            prop_assert!(a.end <= b.start && !touches, "{a:?} {b:?}");
        }
    }

    #[test]
    fn pages_cover_each_byte_of_ram_once(segments in segments(), first in 0_u64..20) {
        const SHIFT: u32 = 4;
        let map = map_of(&segments);
        let mut covered: Vec<u64> = Vec::new();
        for part in map.pages_from(Pfn(first), SHIFT) {
            prop_assert!(part.bytes > 0 && part.offset + part.bytes <= 1 << SHIFT);
            let start = (part.pfn.0 << SHIFT) + part.offset;
            covered.extend(start..start + part.bytes);
        }
        let ram: Vec<u64> =
            ((first << SHIFT)..SPACE.max(first << SHIFT)).filter(|&pa| map.contains(PhysAddr(pa))).collect();
        prop_assert_eq!(covered, ram);
    }

    #[test]
    fn contains_all_asks_for_every_byte(segments in segments(), pa in 0..SPACE, bytes in 0..64_u64) {
        let map = map_of(&segments);
        let every = (pa..pa + bytes).all(|pa| map.contains(PhysAddr(pa)));
        prop_assert_eq!(map.contains_all(PhysAddr(pa), bytes), every);
    }

    #[test]
    fn any_segments_make_a_map(
        list in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()), 0..20)
    ) {
        let segments: Vec<_> = list
            .iter()
            .map(|&(p_paddr, p_offset, p_filesz, p_memsz)| LoadSegment {
                p_vaddr: 0,
                p_paddr: p_paddr >> (p_memsz % 64),
                p_offset: p_offset >> (p_memsz % 64),
                p_filesz: p_filesz >> (p_memsz % 61),
                p_memsz: p_memsz >> (p_filesz % 61),
            })
            .collect();
        let (map, faults) = MemoryMap::from_segments(&segments);
        prop_assert!(faults.len() <= segments.len());
        prop_assert!(map.ranges().iter().all(|range| range.end <= PHYS_ADDR_END));
        prop_assert!(map.pages(12).take(1000).all(|part| part.bytes <= 4096));
    }
}

#[test]
fn what_the_firmware_does_not_call_ram_is_left_out() {
    let mut map = map_of(&[segment(0x1000, 0x70_0000, 0x3000), segment(0x10_0000, 0x10_0000, 0x50_0000)]);
    let whole = map.clone();
    assert_eq!(map.keep_only(&[0x10_0000..u64::MAX, 0..0x20_0000, 0x50..0x50]), []);
    assert_eq!(map, whole);
    let lost = map.keep_only(&[0x20_0000..0x30_0000, 0x2000..0x12_0000, 0x11_0000..0x18_0000]);
    let elsewhere = |start, bytes| MapFault::Elsewhere { start: PhysAddr(start), bytes };
    assert_eq!(
        lost,
        [elsewhere(0x1000, 0x1000), elsewhere(0x18_0000, 0x8_0000), elsewhere(0x30_0000, 0x30_0000)]
    );
    assert_eq!(
        map.ranges(),
        [
            range(0x2000, 0x4000, 0x70_1000),
            range(0x10_0000, 0x18_0000, 0x10_0000),
            range(0x20_0000, 0x30_0000, 0x20_0000),
        ]
    );
}
