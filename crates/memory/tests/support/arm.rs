//! Crashed machines of arm and aarch64.

use memory::PageClass::{self, Cache, CachePrivate, Free, Kernel, Slab, User};
use memory::{Classifier, DumpLevel, ImagePart, KernelSpace, MemMap, PhysAddr, PhysMemory};
use memory::{ReadFault, ReadFaultKind};
use vmcore::headers::Machine;
use vmcore::vmcoreinfo::VmcoreInfo;

use super::{Generation, Use, uses};

const MIB: u64 = 1 << 20;

/// RAM from an address on.
pub(crate) struct Ram {
    pub(crate) start: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Ram {
    pub(crate) fn new(start: u64, bytes: u64) -> Self {
        Self { start, bytes: vec![0; bytes as usize] }
    }

    pub(crate) fn put(&mut self, pa: u64, bytes: &[u8]) {
        self.bytes[(pa - self.start) as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn put_u32(&mut self, pa: u64, value: u32) {
        self.put(pa, &value.to_le_bytes());
    }

    pub(crate) fn put_u64(&mut self, pa: u64, value: u64) {
        self.put(pa, &value.to_le_bytes());
    }

    pub(crate) fn get_u64(&self, pa: u64) -> u64 {
        u64::from_le_bytes(self.bytes[(pa - self.start) as usize..][..8].try_into().unwrap())
    }
}

impl PhysMemory for Ram {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        let fault = ReadFault { pa, kind: ReadFaultKind::NotRam };
        let start = pa.0.checked_sub(self.start).ok_or(fault)? as usize;
        let bytes = start.checked_add(buf.len()).and_then(|end| self.bytes.get(start..end)).ok_or(fault)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

/// A crashed machine.
pub(crate) struct Crashed {
    pub(crate) machine: Machine,
    pub(crate) ram: Ram,
    pub(crate) info: String,
}

impl Crashed {
    pub(crate) fn kernel(&self) -> KernelSpace<&Ram> {
        KernelSpace::new(&self.ram, self.machine, &VmcoreInfo::new(self.info.as_bytes())).unwrap()
    }

    pub(crate) fn memmap(&self) -> MemMap {
        MemMap::find(&VmcoreInfo::new(self.info.as_bytes()), &self.kernel()).unwrap()
    }

    pub(crate) fn classifier(&self) -> Classifier<&Ram> {
        Classifier::new(Some((self.memmap(), self.kernel())), DumpLevel::ALL)
    }

    /// The image, by its parts: first frame of RAM, one past the last one.
    pub(crate) fn image(&self) -> Vec<(u64, u64, ImagePart)> {
        let first = self.ram.start >> 12;
        self.memmap().image().runs().map(|run| (run.first.0 - first, run.end.0 - first, run.part)).collect()
    }
}

// arm: an i.MX6 whose kernel is at the start of its RAM, which begins at 256 MiB.

pub(crate) const ARM_RAM: u64 = 0x1000_0000;
pub(crate) const ARM_FRAMES: u64 = 2048;
/// Addresses of the linear map are so much above the physical ones.
pub(crate) const ARM_OFFSET: u64 = 0xb000_0000;
const ARM_NODE: u64 = ARM_RAM + 0x60_0000;
pub(crate) const ARM_MEM_MAP: u64 = ARM_RAM + 0x70_0000;
pub(crate) const ARM_PAGE_BYTES: u64 = 36;

/// As Linux 6.1 lays 32-bit struct pages out: 36 bytes with memory cgroups.
pub(crate) const ARM_FACTS: &str = "PAGESIZE=4096\nSIZE(page)=36\nOFFSET(page.flags)=0\nOFFSET(page._refcount)=28\n\
    OFFSET(page.mapping)=12\nOFFSET(page.lru)=4\nOFFSET(page._mapcount)=24\nOFFSET(page.private)=20\n\
    OFFSET(page.compound_dtor)=8\nOFFSET(page.compound_order)=9\nOFFSET(page.compound_head)=4\n\
    OFFSET(pglist_data.node_mem_map)=64\nOFFSET(pglist_data.node_start_pfn)=68\n\
    OFFSET(pglist_data.node_spanned_pages)=72\nLENGTH(zone.free_area)=11\nNUMBER(PG_lru)=4\n\
    NUMBER(PG_private)=13\nNUMBER(PG_swapcache)=10\nNUMBER(PG_swapbacked)=19\nNUMBER(PG_slab)=9\n\
    NUMBER(PG_hwpoison)=21\nNUMBER(PG_head_mask)=65536\nNUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\n\
    NUMBER(HUGETLB_PAGE_DTOR)=2\nNUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257\n";

/// The struct pages of what is used as one, as Linux 6.1 writes them with 4-byte longs.
pub(crate) fn arm_struct_page(what: Use, order: u32, index: u64) -> [u8; 36] {
    let mut words = [0_u32; 9];
    let mut flags = 0x4000_0000_u32; // zone
    let mut mapcount = u32::MAX;
    if order > 0 && what != Use::Free {
        match index {
            0 => flags |= 1 << 16,
            _ => words[1] = 0xc070_0001,
        }
        if index == 1 {
            words[2] = if what == Use::Hugetlb { 2 } else { 1 } | order << 8;
        }
    }
    if index == 0 {
        match what {
            Use::Slab => flags |= 1 << 9,
            Use::Cache => flags |= 1 << 4,
            Use::Private => flags |= 1 << 4 | 1 << 13,
            Use::Anon => flags |= 1 << 4 | 1 << 19,
            Use::Swap => flags |= 1 << 10 | 1 << 19,
            Use::Reserved => flags |= 1 << 12,
            _ => {}
        }
        (words[3], mapcount) = match what {
            Use::Cache | Use::Private => (0xc12_3458, u32::MAX),
            Use::Anon => (0xc12_3455, 2),
            Use::Free => (0, !0x80),
            Use::Offline => (0, !0x100),
            _ => (0, u32::MAX),
        };
        if what == Use::Free {
            words[5] = order;
        }
    }
    words[0] = flags;
    words[6] = mapcount;
    let mut page = [0; 36];
    for (place, word) in page.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    page
}

pub(crate) fn arm(text: &str) -> Crashed {
    let mut ram = Ram::new(ARM_RAM, ARM_FRAMES << 12);
    // The top table, of 1 MiB each: text, constants, then memory to be written.
    for mib in 0..8 {
        let (never, read_only) = match mib {
            0..3 => (0, 1 << 15),
            3 => (1 << 4, 1 << 15),
            _ => (1 << 4, 0),
        };
        let section = (ARM_RAM + mib * MIB) as u32 | never | read_only | 0xe | 1 << 10;
        ram.put_u32(ARM_RAM + 0x4000 + (0xc00 + mib) * 4, section);
    }
    ram.put_u32(ARM_NODE + 64, (ARM_MEM_MAP + ARM_OFFSET) as u32);
    ram.put_u32(ARM_NODE + 68, (ARM_RAM >> 12) as u32);
    ram.put_u32(ARM_NODE + 72, ARM_FRAMES as u32);
    let frames = uses(0, text);
    let rest = (0..ARM_FRAMES)
        .filter(|pfn| !frames.iter().any(|used| (used.pfn..used.pfn + (1 << used.order)).contains(pfn)));
    for pfn in rest {
        ram.put(ARM_MEM_MAP + pfn * ARM_PAGE_BYTES, &arm_struct_page(Use::Kernel, 0, 0));
    }
    for used in &frames {
        for index in 0..1 << used.order {
            let page = arm_struct_page(used.what, used.order, index);
            ram.put(ARM_MEM_MAP + (used.pfn + index) * ARM_PAGE_BYTES, &page);
        }
    }
    let info = format!(
        "{ARM_FACTS}SYMBOL(swapper_pg_dir)=c0004000\nSYMBOL(_stext)=c0100000\n\
        SYMBOL(contig_page_data)={:x}\nSYMBOL(mem_map)=c0500000\n",
        ARM_NODE + ARM_OFFSET
    );
    Crashed { machine: Machine::Arm, ram, info }
}

fn class_of(what: Use) -> PageClass {
    match what {
        Use::Slab => Slab,
        Use::Cache => Cache,
        Use::Private => CachePrivate,
        Use::Anon => User,
        Use::Free => Free,
        _ => Kernel,
    }
}

pub(crate) const MIX: &str = "kernel*3 slab:2 slab cache:1 private*3 anon*4 anon:2 free:2 free:3 slab:3 cache*7 free:9 anon:9 free \
    kernel:4 cache:3 anon*5 free:8";

pub(crate) fn expected(frames: u64) -> Vec<PageClass> {
    let mut classes = vec![Kernel; frames as usize];
    for used in uses(0, MIX) {
        classes[used.pfn as usize..][..1 << used.order].fill(class_of(used.what));
    }
    classes
}

// aarch64: a machine of QEMU's, whose RAM begins at 1 GiB.

pub(crate) const AARCH64_RAM: u64 = 0x4000_0000;
pub(crate) const AARCH64_FRAMES: u64 = 4096;
pub(crate) const LINEAR_MAP: u64 = 0xffff_0000_0000_0000;
const VMEMMAP: u64 = 0xffff_fc00_0000_0000;
pub(crate) const KIMAGE_VOFFSET: u64 = 0xffff_d0af_d000_0000;
const TABLES: u64 = AARCH64_RAM + 0x10_0000;
pub(crate) const IMAGE: u64 = AARCH64_RAM + 0x20_0000;
pub(crate) const SECTIONS: u64 = AARCH64_RAM + 0x60_0000;
const STRUCT_PAGES: u64 = AARCH64_RAM + 0x80_0000;

const PAGE: u64 = 0b11;
const BLOCK: u64 = 0b01;
const READ_ONLY: u64 = 1 << 7;
const NEVER: u64 = 1 << 53;

/// Maps what an entry of the level that translates from bit `leaf` on says, with tables as needed.
fn map(ram: &mut Ram, next: &mut u64, va: u64, leaf: u32, entry: u64) {
    let mut table = TABLES;
    for shift in [39, 30, 21, 12] {
        let place = table + (va >> shift & 511) * 8;
        if shift == leaf {
            ram.put_u64(place, entry);
            return;
        }
        if ram.get_u64(place) == 0 {
            *next += 4096;
            ram.put_u64(place, *next | PAGE);
        }
        table = ram.get_u64(place) & 0xffff_ffff_f000;
    }
}

pub(crate) fn aarch64(text: &str) -> Crashed {
    let mut ram = Ram::new(AARCH64_RAM, AARCH64_FRAMES << 12);
    let mut next = TABLES;
    for block in (0..AARCH64_FRAMES << 12).step_by(2 << 20) {
        map(&mut ram, &mut next, LINEAR_MAP + block, 21, (AARCH64_RAM + block) | BLOCK | NEVER);
    }
    let first = AARCH64_RAM >> 12;
    let vmemmap = VMEMMAP - first * 64;
    map(&mut ram, &mut next, VMEMMAP, 21, STRUCT_PAGES | BLOCK | NEVER);
    // The image: 16 pages of text, 16 of constants, 16 that are gone, 16 of data. vmalloc's mappings follow at once.
    for page in 0..80 {
        let (entry, pa) = match page {
            0..16 => (PAGE | READ_ONLY, IMAGE),
            16..32 => (PAGE | READ_ONLY | NEVER, IMAGE),
            32..48 => continue,
            48..64 => (PAGE | NEVER, IMAGE),
            _ => (PAGE | NEVER, IMAGE + 0x20_0000),
        };
        map(&mut ram, &mut next, IMAGE + KIMAGE_VOFFSET + page * 4096, 12, (pa + page * 4096) | entry);
    }
    // A page of pointers to pages of sections, 256 in each; RAM begins with section 8 of 128 MiB.
    ram.put_u64(SECTIONS, SECTIONS + 4096 - AARCH64_RAM + LINEAR_MAP);
    ram.put_u64(SECTIONS + 4096 + 8 * 16, vmemmap | 0xf);
    let generation = Generation::Linux6_12;
    for pfn in 0..AARCH64_FRAMES {
        let page = generation.struct_page(Use::Kernel, 0, 0);
        ram.put(STRUCT_PAGES + pfn * 64, &page[..64]);
    }
    for used in uses(0, text) {
        for index in 0..1 << used.order {
            let page = generation.struct_page(used.what, used.order, index);
            ram.put(STRUCT_PAGES + (used.pfn + index) * 64, &page[..64]);
        }
    }
    let info = format!(
        "NUMBER(MAX_PHYSMEM_BITS)=48\n{}PAGESIZE=4096\nNUMBER(VA_BITS)=48\nNUMBER(TCR_EL1_T1SZ)=0x10\n\
        NUMBER(kimage_voffset)={KIMAGE_VOFFSET:#x}\nNUMBER(PHYS_OFFSET)={AARCH64_RAM:#x}\n\
        SYMBOL(swapper_pg_dir)={:x}\nSYMBOL(_stext)={:x}\nSYMBOL(mem_section)={:x}\n\
        LENGTH(mem_section)=8192\nSIZE(mem_section)=16\nOFFSET(mem_section.section_mem_map)=0\n",
        generation.vmcoreinfo(),
        TABLES.wrapping_add(KIMAGE_VOFFSET),
        IMAGE.wrapping_add(KIMAGE_VOFFSET),
        SECTIONS - AARCH64_RAM + LINEAR_MAP,
    );
    Crashed { machine: Machine::Aarch64, ram, info }
}
