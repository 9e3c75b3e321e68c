//! A machine small enough for a fuzzer: page tables, one section, and the struct pages of 128 frames.

use super::Image;
use kernel::{Generation, VMEMMAP, uses};

#[path = "../../../crates/memory/tests/support/mod.rs"]
mod kernel;

const PAGE: usize = 4096;

// Frames of memory. A table of the lowest level maps `STRUCT_PAGES` at VMEMMAP, and `SECTIONS` where no struct page is.
const STRUCT_PAGES: usize = 4;
const SECTIONS: usize = 6;
const PAGES: usize = 7;
/// Of the table's entry for `SECTIONS`.
const SECTIONS_ENTRY: usize = 100;

/// What some of everything is.
const USES: &str =
    "kernel*3 slab:2 slab cache:1 private swap anon*4 anon:2 offline free:2 free:3 hugetlb:4 reserved";

/// Machines whose tables look the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    X86_64,
    X86_64Flat,
    Aarch64,
}

/// An input of the target `memmap`: the frame to begin with, a VMCOREINFO, memory.
pub(super) fn memmap(generation: Generation, kind: Kind) -> Vec<u8> {
    let mut image = Image(vec![0; PAGES * PAGE]);
    for (table, level) in (0..4).zip((1..=4).rev()) {
        let index = (VMEMMAP >> (12 + 9 * (level - 1))) as usize & 511;
        image.put_long(table * PAGE + index * 8, 8, (table as u64 + 1) << 12 | 3);
    }
    let lowest = 3 * PAGE;
    image.put_long(lowest + 8, 8, (STRUCT_PAGES as u64 + 1) << 12 | 3);
    image.put_long(lowest + SECTIONS_ENTRY * 8, 8, (SECTIONS as u64) << 12 | 3);

    let page_bytes = generation.page_bytes();
    for used in uses(0, USES) {
        for index in 0..1 << used.order {
            let page = generation.struct_page(used.what, used.order, index);
            let offset = STRUCT_PAGES * PAGE + (used.pfn + index) as usize * page_bytes;
            image.put(offset, &page[..page_bytes]);
        }
    }
    let sections_va = VMEMMAP + (SECTIONS_ENTRY * PAGE) as u64;
    let place = if kind == Kind::X86_64Flat {
        image.put_long(SECTIONS * PAGE, 8, VMEMMAP);
        image.put_long(SECTIONS * PAGE + 16, 8, 128);
        format!(
            "SYMBOL(contig_page_data)={sections_va:x}\nOFFSET(pglist_data.node_mem_map)=0\n\
            OFFSET(pglist_data.node_start_pfn)=8\nOFFSET(pglist_data.node_spanned_pages)=16\n"
        )
    } else {
        image.put_long(SECTIONS * PAGE, 8, sections_va + 64);
        image.put_long(SECTIONS * PAGE + 64, 8, VMEMMAP | 0xf);
        format!(
            "SYMBOL(mem_section)={sections_va:x}\nLENGTH(mem_section)=2048\nSIZE(mem_section)=16\n\
            OFFSET(mem_section.section_mem_map)=0\n"
        )
    };
    let root = match kind {
        Kind::X86_64 | Kind::X86_64Flat => "SYMBOL(swapper_pg_dir)=ffffffff80000000\nNUMBER(phys_base)=0\n",
        Kind::Aarch64 => {
            "SYMBOL(swapper_pg_dir)=ffff800000000000\nNUMBER(kimage_voffset)=0xffff800000000000\n\
            NUMBER(VA_BITS)=48\n"
        }
    };
    let facts = generation.vmcoreinfo();
    input(&format!("{place}{root}PAGESIZE=4096\n{facts}"), image)
}

/// The same of arm: its first MiB is mapped as one section.
pub(super) fn arm() -> Vec<u8> {
    const NODE: usize = PAGE;
    const STRUCT_PAGES: usize = 2 * PAGE;
    const ROOT: usize = 4 * PAGE;
    const SECTION_ENTRY: usize = ROOT + 0xc00 * 4;
    let mut image = Image(vec![0; SECTION_ENTRY + 4]);
    image.put_long(SECTION_ENTRY, 4, 0x40e);
    image.put_long(NODE, 4, 0xc000_0000 + STRUCT_PAGES as u64);
    image.put_long(NODE + 8, 4, 128);
    for used in uses(0, USES) {
        for index in 0..1 << used.order {
            let page = kernel::arm::arm_struct_page(used.what, used.order, index);
            image.put(STRUCT_PAGES + (used.pfn + index) as usize * page.len(), &page);
        }
    }
    let facts = kernel::arm::ARM_FACTS;
    input(
        &format!(
            "SYMBOL(contig_page_data)={:x}\nOFFSET(pglist_data.node_mem_map)=0\n\
            OFFSET(pglist_data.node_start_pfn)=4\nOFFSET(pglist_data.node_spanned_pages)=8\n\
            SYMBOL(swapper_pg_dir)={:x}\n{facts}",
            0xc000_0000 + NODE,
            0xc000_0000 + ROOT
        ),
        image,
    )
}

fn input(info: &str, image: Image) -> Vec<u8> {
    let mut bytes = 0_u64.to_le_bytes().to_vec();
    bytes.extend(u16::try_from(info.len()).expect("small").to_le_bytes());
    bytes.extend(info.bytes());
    bytes.extend(image.0);
    bytes
}

/// The seeds' names and kernels.
pub(super) const SEEDS: [(&str, Generation, Kind); 6] = [
    ("linux_5_10", Generation::Linux5_10, Kind::X86_64),
    ("linux_6_3", Generation::Linux6_3, Kind::X86_64),
    ("linux_6_12", Generation::Linux6_12, Kind::X86_64),
    ("linux_7_1", Generation::Linux7_1, Kind::X86_64),
    ("flatmem", Generation::Linux6_6, Kind::X86_64Flat),
    ("aarch64", Generation::Linux6_12, Kind::Aarch64),
];
