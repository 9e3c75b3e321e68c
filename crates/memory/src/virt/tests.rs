use alloc::format;
use alloc::vec::Vec;

use super::*;
use crate::fake::FakeMemory;
use crate::{PhysAddr, ReadFaultKind};

/// Linked address of the tables; the kernel is loaded 1 MiB above it.
const ROOT: u64 = 0x20_0000;
const PHYS_BASE: u64 = 0x10_0000;
const BASE: u64 = 0xffff_ffff_8000_0000;

/// Two pages of 4 KiB, a hole of one page, and a page whose memory is missing.
fn space() -> KernelSpace<FakeMemory> {
    let mut memory = FakeMemory::default();
    let table = |number: u64| PHYS_BASE + ROOT + number * 0x1000;
    for number in 0..4 {
        memory.write(table(number), &[0; 0x1000]);
    }
    memory.write_u64(table(0) + 511 * 8, table(1) | 3);
    memory.write_u64(table(1) + 510 * 8, table(2) | 3);
    memory.write_u64(table(2), table(3) | 3);
    memory.write_u64(table(3), 0x7000 | 3);
    memory.write_u64(table(3) + 8, 0x4000 | 1);
    memory.write_u64(table(3) + 3 * 8, 0x9000 | 3);
    memory.write(0x7ffc, &[1, 2, 3, 4]);
    memory.write(0x4000, &[5, 6, 7, 8]);
    let text = format!("SYMBOL(swapper_pg_dir)={:x}\nNUMBER(phys_base)={PHYS_BASE}\n", BASE + ROOT);
    KernelSpace::new(memory, Machine::X86_64, &VmcoreInfo::new(text.as_bytes())).unwrap()
}

#[test]
fn a_read_goes_on_in_the_next_page_wherever_that_is() {
    let mut buf = [0; 8];
    space().read(VirtAddr(BASE + 0xffc), &mut buf).unwrap();
    assert_eq!(buf, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(space().read_long(VirtAddr(BASE + 0xffc)), Ok(0x0807_0605_0403_0201));
    assert_eq!(space().read_u32(VirtAddr(BASE + 0xffe)), Ok(0x0605_0403));
}

#[test]
fn a_fault_names_the_first_address_that_is_not_there() {
    let mut buf = [0; 8];
    let hole = VirtAddr(BASE + 0x2000);
    assert_eq!(
        space().read(VirtAddr(BASE + 0x1ffc), &mut buf),
        Err(VirtFault::Walk(WalkError::NotMapped { va: hole, level: 1, span: 0x1000 }))
    );
    let fault = crate::ReadFault { pa: PhysAddr(0x9000), kind: ReadFaultKind::NotRam };
    let va = VirtAddr(BASE + 0x3000);
    assert_eq!(space().read(va, &mut buf), Err(VirtFault::Read { va, fault }));
    assert!(space().read(VirtAddr(u64::MAX - 2), &mut buf).is_err());
}

#[test]
fn mappings_and_holes_are_walked_in_steps_of_their_size() {
    let space = space();
    let steps: Vec<_> = space.mappings(VirtAddr(BASE), VirtAddr(BASE + 0x4000)).collect();
    let mapped: Vec<_> =
        steps.iter().map(|step| step.map(|mapping| (mapping.pa.0, mapping.is_writable))).collect();
    let hole = WalkError::NotMapped { va: VirtAddr(BASE + 0x2000), level: 1, span: 0x1000 };
    assert_eq!(mapped, [Ok((0x7000, true)), Ok((0x4000, false)), Err(hole), Ok((0x9000, true))]);

    // From the start of the upper half to the end of the address space: 255 empty entries of 512 GiB, 510 of 1 GiB,
    // one table of 512 pages, 511 empty entries of 2 MiB, one of 1 GiB.
    let steps = space.mappings(VirtAddr(0xffff_8000_0000_0000), VirtAddr(u64::MAX));
    assert_eq!(steps.clone().count(), 255 + 510 + 512 + 511 + 1);
    assert_eq!(steps.filter_map(Result::ok).count(), 3);
}
