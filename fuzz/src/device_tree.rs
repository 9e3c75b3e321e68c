//! The target that reads a device tree.

use memory::{MemoryMap, PHYS_ADDR_END, PhysAddr};
use rcapture_payload::boot::device_tree::{DeviceTree, MAX_KEPT};
use vmcore::elfcorehdr::LoadSegment;

use crate::slice_memory::SliceMemory;

/// Where the input lies.
const TREE_PA: u64 = 0x4800_0000;

/// A device tree, and what is left of a machine's memory by it.
pub fn device_tree(data: &[u8]) {
    let memory = SliceMemory { start: TREE_PA, bytes: data, long_bytes: 8 };
    let tree = DeviceTree::read(&memory, PhysAddr(TREE_PA));
    let kept = [
        tree.memory.len(),
        tree.uarts.len(),
        tree.watchdogs.len(),
        tree.ethernets.len(),
        tree.virtio_mmio.len(),
        tree.ecam.len(),
    ];
    assert!(kept.into_iter().all(|count| count <= MAX_KEPT));
    assert!(tree.cmdline.len() <= data.len());
    for (index, uart) in tree.uarts.iter().enumerate() {
        assert!(
            tree.uarts.iter().skip(index + 1).all(|other| other.tty != uart.tty),
            "a name means one UART"
        );
    }
    assert!(tree.stdout.is_none_or(|(index, _)| index < tree.uarts.len()));

    let all = PHYS_ADDR_END.0;
    let everything = LoadSegment { p_filesz: all, p_memsz: all, ..LoadSegment::default() };
    let (mut map, _) = MemoryMap::from_segments(&[everything]);
    let _ = map.keep_only(&tree.memory);
    for range in map.ranges() {
        let is_ram = |pa: u64| tree.memory.iter().any(|memory| memory.contains(&pa));
        assert!(is_ram(range.start.0) && is_ram(range.end.0 - 1));
    }
}
