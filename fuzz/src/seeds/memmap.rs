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

/// An input of the target `memmap`: the frame to begin with, a VMCOREINFO, memory.
pub(super) fn memmap(generation: Generation, is_flat: bool) -> Vec<u8> {
    let mut image = Image(vec![0; PAGES * PAGE]);
    for (table, level) in (0..4).zip((1..=4).rev()) {
        let index = (VMEMMAP >> (12 + 9 * (level - 1))) as usize & 511;
        image.put_long(table * PAGE + index * 8, 8, (table as u64 + 1) << 12 | 3);
    }
    let lowest = 3 * PAGE;
    image.put_long(lowest + 8, 8, (STRUCT_PAGES as u64 + 1) << 12 | 3);
    image.put_long(lowest + SECTIONS_ENTRY * 8, 8, (SECTIONS as u64) << 12 | 3);

    let page_bytes = generation.page_bytes();
    let text =
        "kernel*3 slab:2 slab cache:1 private swap anon*4 anon:2 offline free:2 free:3 hugetlb:4 reserved";
    for used in uses(0, text) {
        for index in 0..1 << used.order {
            let page = generation.struct_page(used.what, used.order, index);
            let offset = STRUCT_PAGES * PAGE + (used.pfn + index) as usize * page_bytes;
            image.put(offset, &page[..page_bytes]);
        }
    }
    let sections_va = VMEMMAP + (SECTIONS_ENTRY * PAGE) as u64;
    let place = if is_flat {
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
    let facts = generation.vmcoreinfo();
    let info = format!(
        "{place}SYMBOL(swapper_pg_dir)=ffffffff80000000\nNUMBER(phys_base)=0\nPAGESIZE=4096\n{facts}"
    );
    let mut bytes = 0_u64.to_le_bytes().to_vec();
    bytes.extend(u16::try_from(info.len()).expect("small").to_le_bytes());
    bytes.extend(info.bytes());
    bytes.extend(image.0);
    bytes
}

/// The seeds' names and kernels, and whether they have FLATMEM.
pub(super) const SEEDS: [(&str, Generation, bool); 5] = [
    ("linux_5_10", Generation::Linux5_10, false),
    ("linux_6_3", Generation::Linux6_3, false),
    ("linux_6_12", Generation::Linux6_12, false),
    ("linux_7_1", Generation::Linux7_1, false),
    ("flatmem", Generation::Linux6_6, true),
];
