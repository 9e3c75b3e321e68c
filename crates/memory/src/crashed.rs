//! The crashed machine's memory as it knew it: RAM only, and the backup region where it was.

use crate::{MemoryMap, PhysAddr, PhysMemory, ReadFault};

/// Physical memory seen through the crashed machine's memory map.
///
/// What is not RAM is refused before it is touched: reading a device has side effects.
#[derive(Clone, Copy, Debug)]
pub struct CrashedMemory<'a, M> {
    map: &'a MemoryMap,
    physical: M,
}

impl<'a, M: PhysMemory> CrashedMemory<'a, M> {
    /// Memory of the machine that `map` describes; `physical` is memory as it is now.
    pub const fn new(map: &'a MemoryMap, physical: M) -> Self {
        Self { map, physical }
    }
}

impl<M: PhysMemory> PhysMemory for CrashedMemory<'_, M> {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        self.map.read_through(pa, buf, |pa, piece| self.physical.read(pa, piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReadFaultKind;
    use vmcore::elfcorehdr::LoadSegment;

    /// Every byte is the low byte of its page number.
    struct Numbered;

    impl PhysMemory for Numbered {
        fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
            for (at, byte) in (pa.0..).zip(buf) {
                *byte = (at >> 12) as u8;
            }
            Ok(())
        }
    }

    #[test]
    fn the_backup_region_is_read_where_it_was_copied_to() {
        let segment = |p_paddr, p_offset, p_memsz| LoadSegment {
            p_paddr,
            p_offset,
            p_filesz: p_memsz,
            p_memsz,
            ..LoadSegment::default()
        };
        let (map, faults) =
            MemoryMap::from_segments(&[segment(0, 0x50_000, 0x2000), segment(0x2000, 0x2000, 0x1000)]);
        assert_eq!(faults, []);
        let memory = CrashedMemory::new(&map, Numbered);
        let mut bytes = [0; 3];
        for (pa, expected) in [(0x800, [0x50; 3]), (0x1ffe, [0x51, 0x51, 2]), (0x2000, [2; 3])] {
            memory.read(PhysAddr(pa), &mut bytes).unwrap();
            assert_eq!(bytes, expected, "at {pa:#x}");
        }
        assert_eq!(
            memory.read(PhysAddr(0x2fff), &mut bytes),
            Err(ReadFault { pa: PhysAddr(0x3000), kind: ReadFaultKind::NotRam })
        );
    }
}
