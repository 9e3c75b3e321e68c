//! The memmap of kernels on arm and aarch64: FLATMEM with 32-bit struct pages, SPARSEMEM with VMEMMAP.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod support;

use memory::PageClass::{HwPoison, Kernel, Slab};
use memory::{ImagePart, Pfn, SlabCaches};
use support::arm::*;
use support::{assert_classes, walk};

#[test]
fn pages_of_arm_are_told_from_struct_pages_of_nine_words() {
    let crashed = arm(MIX);
    let first = ARM_RAM >> 12;
    let found = walk(&mut crashed.classifier(), first, first + ARM_FRAMES);
    assert_classes(&found, &expected(ARM_FRAMES), "arm");
    // There is nothing before and behind the node.
    let mut classifier = crashed.classifier();
    for pfn in [0, first - 1024, first + ARM_FRAMES] {
        assert_eq!(walk(&mut classifier, pfn, pfn + 512), [Kernel; 512], "{pfn:#x}");
    }
    assert_eq!(classifier.pages_in_doubt(), 3 * 512);
}

#[test]
fn a_damaged_page_of_arm_is_never_read() {
    let mut crashed = arm("kernel*512");
    let flags = 0x4000_0000_u32 | 1 << 21;
    crashed.ram.put_u32(ARM_MEM_MAP + 7 * ARM_PAGE_BYTES, flags);
    let first = ARM_RAM >> 12;
    assert_eq!(walk(&mut crashed.classifier(), first + 6, first + 9), [Kernel, HwPoison, Kernel]);
}

#[test]
fn the_image_of_arm_reaches_to_its_last_symbol() {
    let parts =
        [(256, 768, ImagePart::Text), (768, 1024, ImagePart::ReadOnly), (1024, 1792, ImagePart::Data)];
    assert_eq!(arm("").image(), parts);
}

#[test]
fn slab_caches_of_arm_are_known_by_their_names() {
    for longs in [1, 3] {
        let mut crashed = arm("kernel slab slab");
        // Two caches, and their names.
        let caches = ARM_RAM + 0x50_0000;
        for (pfn, cache, name) in [(1, caches, &b"task_struct\0"[..]), (2, caches + 256, b"dentry\0")] {
            crashed.ram.put_u32(ARM_MEM_MAP + pfn * ARM_PAGE_BYTES + longs * 4, (cache + ARM_OFFSET) as u32);
            crashed.ram.put_u32(cache + 60, (cache + 128 + ARM_OFFSET) as u32);
            crashed.ram.put(cache + 128, name);
        }
        let mut caches = SlabCaches::new(&[b"task_struct"]);
        let mut classifier = crashed.classifier();
        let first = ARM_RAM >> 12;
        let wanted = [1, 2].map(|pfn| {
            let pfn = Pfn(first + pfn);
            assert_eq!(classifier.span(pfn, Pfn(pfn.0 + 1)).class, Slab);
            classifier.is_of(&mut caches, pfn)
        });
        assert_eq!(wanted, [true, false], "slab_cache is word {longs}");
    }
}

#[test]
fn pages_of_aarch64_are_told_from_the_vmemmap() {
    let crashed = aarch64(MIX);
    let first = AARCH64_RAM >> 12;
    let found = walk(&mut crashed.classifier(), first, first + AARCH64_FRAMES);
    assert_classes(&found, &expected(AARCH64_FRAMES), "aarch64");
    assert_eq!(walk(&mut crashed.classifier(), 0, 1000), [Kernel; 1000]);
}

#[test]
fn a_kernel_of_aarch64_before_5_13_does_not_tell_how_large_its_sections_are() {
    let mut crashed = aarch64(MIX);
    crashed.info = crashed
        .info
        .replace("NUMBER(SECTION_SIZE_BITS)=27\n", "")
        .replace("NUMBER(MAX_PHYSMEM_BITS)=46\n", "")
        .replace("NUMBER(MAX_PHYSMEM_BITS)=48\n", "");
    // Sections of 1 GiB: RAM begins with the second one.
    let section = crashed.ram.get_u64(SECTIONS + 4096 + 8 * 16);
    crashed.ram.put_u64(SECTIONS + 4096 + 8 * 16, 0);
    crashed.ram.put_u64(SECTIONS + 4096 + 16, section);
    let first = AARCH64_RAM >> 12;
    let found = walk(&mut crashed.classifier(), first, first + AARCH64_FRAMES);
    assert_classes(&found, &expected(AARCH64_FRAMES), "aarch64");
}

#[test]
fn the_image_of_aarch64_ends_where_other_memory_is_mapped_behind_it() {
    let parts = [(512, 528, ImagePart::Text), (528, 544, ImagePart::ReadOnly), (560, 576, ImagePart::Data)];
    assert_eq!(aarch64("").image(), parts);
}
