//! Where PCI configuration space lies in memory: the table MCFG (PCI Firmware Specification 3.3, 4.1.2).

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use memory::{PhysAddr, PhysMemory};

use super::{at, read_array, read_u32};

/// Where the entries begin: behind the table's header and eight reserved bytes.
const ENTRIES: u64 = 44;
const ENTRY_BYTES: u64 = 16;
/// Entries looked at.
const MAX_ENTRIES: u64 = 256;

/// Bytes of a function's registers; all of them lie on pages of their own.
const FUNCTION_BYTES: u64 = 4096;
/// 32 devices of 8 functions.
const BUS_BYTES: u64 = FUNCTION_BYTES * 32 * 8;

/// Some buses whose configuration space is in memory (PCI Express 6.0, 7.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ecam {
    /// Where bus 0 is, or would be.
    bus_0: PhysAddr,
    first_bus: u8,
    last_bus: u8,
}

impl Ecam {
    /// Where the registers of a function are, a page of them. `None`: it is on another bus.
    #[must_use]
    pub fn function_pa(&self, bus: u8, device: u8, function: u8) -> Option<PhysAddr> {
        let number = u64::from(bus) << 8 | u64::from(device & 0x1f) << 3 | u64::from(function & 7);
        let is_here = (self.first_bus..=self.last_bus).contains(&bus);
        is_here.then(|| at(self.bus_0, number * FUNCTION_BYTES))
    }

    /// `buses`, of which the first one is at `pa`; fewer if they do not fit `bytes`.
    pub(super) fn at(pa: PhysAddr, bytes: u64, buses: RangeInclusive<u8>) -> Option<Self> {
        let (first_bus, last_bus) = buses.into_inner();
        let before = u64::from(first_bus) * BUS_BYTES;
        let count = u8::try_from((bytes / BUS_BYTES).min(256).checked_sub(1)?).ok()?;
        let bus_0 = PhysAddr(pa.0.wrapping_sub(before));
        pa.0.checked_add(256 * BUS_BYTES)?;
        let last_bus = last_bus.min(first_bus.saturating_add(count));
        pa.0.is_multiple_of(FUNCTION_BYTES).then_some(Self { bus_0, first_bus, last_bus })
    }

    fn read(memory: &impl PhysMemory, entry: PhysAddr) -> Option<Self> {
        let bytes: [u8; 16] = read_array(memory, entry).ok()?;
        let [b0, b1, b2, b3, b4, b5, b6, b7, segment_low, segment_high, first_bus, last_bus, ..] = bytes;
        let bus_0 = PhysAddr(u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]));
        let is_possible =
            bus_0.0 != 0 && bus_0.0.is_multiple_of(FUNCTION_BYTES) && bus_0.0.checked_add(1 << 28).is_some();
        // Cards of other segment groups could not be named by bus, device and function alone.
        let is_segment_0 = [segment_low, segment_high] == [0, 0];
        (is_possible && is_segment_0).then_some(Self { bus_0, first_bus, last_bus })
    }
}

/// Reads the table at `mcfg`: the buses of segment group 0. What makes no sense is left out.
pub(super) fn read(memory: &impl PhysMemory, mcfg: PhysAddr) -> Vec<Ecam> {
    let length = read_u32(memory, at(mcfg, 4)).map_or(0, u64::from);
    let entries = (length.saturating_sub(ENTRIES) / ENTRY_BYTES).min(MAX_ENTRIES);
    (0..entries).filter_map(|index| Ecam::read(memory, at(mcfg, ENTRIES + index * ENTRY_BYTES))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fake::Memory;
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    const MCFG: PhysAddr = PhysAddr(0x7fe_3000);

    fn entry(bus_0: u64, segment: u16, buses: [u8; 2]) -> Vec<u8> {
        [&bus_0.to_le_bytes()[..], &segment.to_le_bytes(), &buses, &[0; 4]].concat()
    }

    fn table(entries: &[Vec<u8>]) -> Memory {
        let mut table = vec![0; 44];
        table.extend(entries.concat());
        let bytes = u32::try_from(table.len()).unwrap();
        table[..4].copy_from_slice(b"MCFG");
        table[4..8].copy_from_slice(&bytes.to_le_bytes());
        Memory(vec![(MCFG.0, table)])
    }

    #[test]
    fn each_function_of_the_tables_buses_has_a_page() {
        let memory = table(&[entry(0xb000_0000, 0, [0, 0x3f]), entry(0x40_0000_0000, 0, [0x40, 0xff])]);
        let [low, high] = read(&memory, MCFG)[..] else { panic!("two entries") };
        assert_eq!(low.function_pa(0, 0, 0), Some(PhysAddr(0xb000_0000)));
        assert_eq!(low.function_pa(1, 2, 3), Some(PhysAddr(0xb011_3000)));
        assert_eq!(low.function_pa(0x40, 0, 0), None);
        // The address is that of bus 0, wherever the buses begin.
        assert_eq!(high.function_pa(0x40, 0, 0), Some(PhysAddr(0x40_0400_0000)));
        assert_eq!(high.function_pa(0x3f, 0, 0), None);
        assert_eq!(high.function_pa(0xff, 0x1f, 7), Some(PhysAddr(0x40_0fff_f000)));
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let whole = entry(0xe000_0000, 0, [0, 0xff]);
        let others = [
            entry(0, 0, [0, 0xff]),
            entry(0xe000_0800, 0, [0, 0xff]),
            entry(u64::MAX - 0xfff, 0, [0, 0xff]),
            entry(0xf000_0000, 1, [0, 0xff]),
        ];
        for other in others {
            assert_eq!(
                read(&table(&[other, whole.clone()]), MCFG),
                read(&table(core::slice::from_ref(&whole)), MCFG)
            );
        }
        let backwards = read(&table(&[entry(0xe000_0000, 0, [9, 3])]), MCFG);
        assert_eq!(backwards[0].function_pa(5, 0, 0), None);
    }

    #[test]
    fn a_table_without_entries_or_memory_has_nothing() {
        assert_eq!(read(&table(&[]), MCFG), []);
        assert_eq!(read(&Memory::default(), MCFG), []);
        assert_eq!(read(&Memory(vec![(MCFG.0, b"MCFG\x08\0\0\0".to_vec())]), MCFG), []);
    }

    proptest! {
        #[test]
        fn whatever_the_table_says_every_page_is_one_that_can_be(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            length: u32,
            place: [u8; 3],
        ) {
            let mut memory = Memory(vec![(MCFG.0, bytes)]);
            memory.0[0].1.resize(500, 0xff);
            memory.0[0].1[4..8].copy_from_slice(&length.to_le_bytes());
            for ecam in read(&memory, MCFG) {
                let [bus, device, function] = place;
                let pa = ecam.function_pa(bus, device, function);
                prop_assert!(pa.is_none_or(|pa| pa.0 % 4096 == 0 && pa.0 >= ecam.bus_0.0));
            }
        }
    }
}
