//! A crashed x86_64 machine made from a text: its memory holds page tables, `mem_section` and struct pages.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    dead_code,
    reason = "a test's own machinery, of which each test uses a part"
)]

pub(crate) mod arm;
pub(crate) mod generation;

use memory::{Classifier, DumpLevel, KernelSpace, MemMap, MemMapError, PageClass, Pfn};
use memory::{PhysAddr, PhysMemory, ReadFault, ReadFaultKind};
use vmcore::headers::Machine;
use vmcore::vmcoreinfo::VmcoreInfo;

pub(crate) use generation::Generation;

/// What a word of the text stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// A kernel allocation.
    Kernel,
    /// The kernel image.
    Reserved,
    Slab,
    Cache,
    /// Cache with PG_private: buffer heads.
    Private,
    /// In the swap cache, and on no list.
    Swap,
    Anon,
    Hugetlb,
    Free,
    Unaccepted,
    Offline,
}

/// Frames that are used as one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) pfn: u64,
    pub(crate) what: Use,
    pub(crate) order: u32,
}

/// Uses of frames from `pfn` on, each at the next multiple of its size: words `use` or `use:order`, with `*count` if
/// there are several.
pub(crate) fn uses(mut pfn: u64, text: &str) -> Vec<Used> {
    let mut uses = Vec::new();
    for word in text.split_whitespace() {
        let (word, count) =
            word.split_once('*').map_or((word, 1), |(word, count)| (word, count.parse().unwrap()));
        let (name, order) =
            word.split_once(':').map_or((word, 0), |(name, order)| (name, order.parse().unwrap()));
        let what = match name {
            "kernel" => Use::Kernel,
            "reserved" => Use::Reserved,
            "slab" => Use::Slab,
            "cache" => Use::Cache,
            "private" => Use::Private,
            "swap" => Use::Swap,
            "anon" => Use::Anon,
            "hugetlb" => Use::Hugetlb,
            "free" => Use::Free,
            "unaccepted" => Use::Unaccepted,
            "offline" => Use::Offline,
            _ => panic!("{word}"),
        };
        for _ in 0..count {
            pfn = pfn.next_multiple_of(1 << order);
            uses.push(Used { pfn, what, order });
            pfn += 1 << order;
        }
    }
    uses
}

/// How the kernel finds its struct pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    /// SPARSEMEM_EXTREME with VMEMMAP, mapped by 2 MiB.
    Vmemmap,
    /// SPARSEMEM_EXTREME, struct pages in the direct map.
    Extreme,
    /// SPARSEMEM_STATIC.
    Static,
    /// FLATMEM whose node begins with this frame.
    Flat(u64),
}

pub(crate) const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
pub(crate) const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
pub(crate) const VMEMMAP: u64 = 0xffff_ea00_0000_0000;
/// Frames of a section.
pub(crate) const SECTION_PAGES: u64 = 1 << 15;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;

/// Physical memory from address 0 on.
#[derive(Clone, Default)]
pub(crate) struct Ram {
    pub(crate) bytes: Vec<u8>,
    /// Frames that fault.
    pub(crate) poisoned: Vec<u64>,
}

impl PhysMemory for Ram {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        let poisoned = |frame: &u64| pa.0 < (frame + 1) << 12 && frame << 12 < pa.0 + buf.len() as u64;
        if let Some(frame) = self.poisoned.iter().find(|frame| poisoned(frame)) {
            return Err(ReadFault { pa: PhysAddr(pa.0.max(frame << 12)), kind: ReadFaultKind::MachineCheck });
        }
        let start = usize::try_from(pa.0).unwrap();
        match start.checked_add(buf.len()).and_then(|end| self.bytes.get(start..end)) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(ReadFault { pa, kind: ReadFaultKind::NotRam }),
        }
    }
}

/// The machine.
pub(crate) struct Crashed {
    pub(crate) ram: Ram,
    pub(crate) generation: Generation,
    model: Model,
    /// VMCOREINFO.
    pub(crate) info: String,
    /// Where memory has not been given away yet.
    free_pa: u64,
    /// Where the top page table is.
    pub(crate) root: u64,
    /// Where struct pages are, one behind the other.
    pub(crate) array_pa: u64,
    /// Where the `struct mem_section` of section 0 is; those of others follow.
    pub(crate) sections_pa: u64,
    /// Frames.
    pub(crate) pages: u64,
}

/// Memory for page tables and sections: what lies before the struct pages.
const TABLES_BYTES: u64 = 4 << 20;
const SECTION_BYTES: u64 = 16;

impl Crashed {
    /// A machine with `sections` sections of memory, all of whose frames are the kernel's.
    pub(crate) fn new(generation: Generation, model: Model, sections: u64) -> Self {
        let pages = sections * SECTION_PAGES;
        // FLATMEM's array has up to 1023 struct pages before the node's first.
        let ram_bytes =
            TABLES_BYTES + ((pages + 1024) * generation.page_bytes() as u64).next_multiple_of(2 << 20);
        let mut crashed = Self {
            ram: Ram { bytes: vec![0; ram_bytes as usize], poisoned: Vec::new() },
            generation,
            model,
            info: generation.vmcoreinfo(),
            free_pa: 0,
            root: 0,
            array_pa: TABLES_BYTES,
            sections_pa: 0,
            pages,
        };
        crashed.root = crashed.allocate(4096);
        let root = START_KERNEL_MAP + crashed.root;
        crashed.say(&format!("SYMBOL(swapper_pg_dir)={root:x}\nNUMBER(phys_base)=0\nPAGESIZE=4096\n"));
        for pa in (0..ram_bytes).step_by(2 << 20) {
            crashed.map_large(DIRECT_MAP + pa, pa, WRITABLE | NO_EXECUTE);
        }
        match model {
            Model::Vmemmap => {
                for offset in (0..ram_bytes - TABLES_BYTES).step_by(2 << 20) {
                    crashed.map_large(VMEMMAP + offset, TABLES_BYTES + offset, WRITABLE | NO_EXECUTE);
                }
                crashed.sections(VMEMMAP);
            }
            Model::Extreme | Model::Static => crashed.sections(DIRECT_MAP + TABLES_BYTES),
            Model::Flat(start_pfn) => crashed.node(start_pfn),
        }
        for pfn in crashed.first_pfn()..crashed.first_pfn() + pages {
            crashed.set(pfn, Use::Kernel, 0);
        }
        crashed
    }

    /// A machine that has been up for long: free memory in small blocks between all kinds of use. `pages` are a multiple
    /// of a section's.
    pub(crate) fn fragmented(generation: Generation, pages: u64) -> Self {
        let mut crashed = Self::new(generation, Model::Vmemmap, pages / SECTION_PAGES);
        let mut random = 1_u32;
        let mut pfn = 0;
        while pfn < pages {
            // xorshift32 (Marsaglia, 2003).
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let (what, max_order) = match random % 256 {
                0..=63 => (Use::Free, 4),
                64..=127 => (Use::Anon, 0),
                128..=175 => (Use::Cache, 2),
                176..=191 => (Use::Private, 0),
                192..=223 => (Use::Slab, 3),
                224..=254 => (Use::Kernel, 2),
                _ => (Use::Anon, 9),
            };
            let order = (random >> 8) % (max_order + 1);
            // At a multiple of its size, before the end; what is passed over stays the kernel's.
            pfn = pfn.next_multiple_of(1 << order);
            if pfn < pages {
                crashed.set(pfn, what, order);
            }
            pfn += 1 << order;
        }
        crashed
    }

    /// The first frame that has a struct page.
    pub(crate) fn first_pfn(&self) -> u64 {
        if let Model::Flat(start_pfn) = self.model { start_pfn } else { 0 }
    }

    /// Adds lines to VMCOREINFO. Of two with one key the first counts: the last one added.
    pub(crate) fn say(&mut self, lines: &str) {
        self.info.insert_str(0, lines);
    }

    /// Memory of so many bytes; its physical address.
    pub(crate) fn allocate(&mut self, bytes: u64) -> u64 {
        let pa = self.free_pa;
        self.free_pa += bytes.next_multiple_of(4096);
        assert!(self.free_pa <= TABLES_BYTES);
        pa
    }

    pub(crate) fn put(&mut self, pa: u64, bytes: &[u8]) {
        self.ram.bytes[pa as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn put_u64(&mut self, pa: u64, value: u64) {
        self.put(pa, &value.to_le_bytes());
    }

    pub(crate) fn get_u64(&self, pa: u64) -> u64 {
        u64::from_le_bytes(self.ram.bytes[pa as usize..][..8].try_into().unwrap())
    }

    /// Maps 2 MiB.
    pub(crate) fn map_large(&mut self, va: u64, pa: u64, flags: u64) {
        let entry = self.entry(va, 2);
        self.put_u64(entry, pa | flags | PRESENT | LARGE);
    }

    /// Maps a page of the memmap, which so far is mapped by 2 MiB, somewhere else; nowhere, if `pa` is not given.
    pub(crate) fn remap_struct_pages(&mut self, va: u64, pa: Option<u64>) {
        let large = self.entry(va, 2);
        let mapped = self.get_u64(large);
        if mapped & LARGE != 0 {
            self.put_u64(large, 0);
            for offset in (0..2 << 20).step_by(4096) {
                let entry = self.entry((va & !0x1f_ffff) + offset, 1);
                self.put_u64(entry, (mapped & !LARGE) + offset);
            }
        }
        let entry = self.entry(va, 1);
        self.put_u64(entry, pa.map_or(0, |pa| pa | WRITABLE | NO_EXECUTE | PRESENT));
    }

    /// Maps a frame of the kernel image: as data, or as what is not to be written.
    pub(crate) fn map_image(&mut self, pfn: u64, is_data: bool) {
        let flags = if is_data { WRITABLE | NO_EXECUTE } else { 0 };
        let entry = self.entry(START_KERNEL_MAP + (pfn << 12), 1);
        self.put_u64(entry, pfn << 12 | flags | PRESENT);
    }

    /// Where the entry of `va` at a level is; the tables above it are made as needed.
    pub(crate) fn entry(&mut self, va: u64, level: u32) -> u64 {
        let mut table = self.root;
        for above in (level + 1..=4).rev() {
            let entry = table + (va >> (12 + 9 * (above - 1)) & 511) * 8;
            if self.get_u64(entry) == 0 {
                let next = self.allocate(4096);
                self.put_u64(entry, next | PRESENT | WRITABLE);
            }
            table = self.get_u64(entry) & 0x000f_ffff_ffff_f000;
        }
        table + (va >> (12 + 9 * (level - 1)) & 511) * 8
    }

    /// `mem_section` of sections whose struct pages lie one behind the other from `array_va` on.
    fn sections(&mut self, array_va: u64) {
        let sections = self.pages / SECTION_PAGES;
        self.sections_pa = self.allocate((sections * SECTION_BYTES).next_multiple_of(4096));
        for section in 0..sections {
            // PRESENT, HAS_MEM_MAP, ONLINE, EARLY. The array is as if it began with frame 0.
            self.put_u64(self.sections_pa + section * SECTION_BYTES, array_va | 0xf);
        }
        let (symbol, length) = if self.model == Model::Static {
            (self.sections_pa, 1 << 19)
        } else {
            let root = self.allocate(2048 * 8);
            for index in 0..(sections * SECTION_BYTES).div_ceil(4096) {
                self.put_u64(root + index * 8, DIRECT_MAP + self.sections_pa + index * 4096);
            }
            (root, 2048)
        };
        self.say(&format!(
            "SYMBOL(mem_section)={:x}\nLENGTH(mem_section)={length}\nSIZE(mem_section)={SECTION_BYTES}\n\
            OFFSET(mem_section.section_mem_map)=0\n",
            DIRECT_MAP + symbol,
        ));
    }

    /// `contig_page_data` of a node that begins with frame `start_pfn`.
    fn node(&mut self, start_pfn: u64) {
        let node = self.allocate(4096);
        let node_mem_map = DIRECT_MAP + self.page_pa(start_pfn);
        self.put_u64(node + 64, node_mem_map);
        self.put_u64(node + 72, start_pfn);
        self.put_u64(node + 80, self.pages);
        self.say(&format!(
            "SYMBOL(contig_page_data)={:x}\nOFFSET(pglist_data.node_mem_map)=64\n\
            OFFSET(pglist_data.node_start_pfn)=72\nOFFSET(pglist_data.node_spanned_pages)=80\n",
            DIRECT_MAP + node
        ));
    }

    /// Where the struct page of `pfn` is in physical memory. FLATMEM's array begins with the block of 1024 frames that
    /// the node begins in.
    pub(crate) fn page_pa(&self, pfn: u64) -> u64 {
        self.array_pa + (pfn - (self.first_pfn() & !1023)) * self.generation.page_bytes() as u64
    }

    /// Writes the struct pages of frames that are used as one.
    pub(crate) fn set(&mut self, pfn: u64, what: Use, order: u32) {
        let page_bytes = self.generation.page_bytes();
        let end = (pfn + (1 << order)).min(self.first_pfn() + self.pages);
        for index in 0..end - pfn {
            let page = self.generation.struct_page(what, order, index);
            let pa = self.page_pa(pfn + index);
            self.put(pa, &page[..page_bytes]);
        }
    }

    /// Writes the struct pages of [`uses`].
    pub(crate) fn fill(&mut self, pfn: u64, text: &str) {
        for used in uses(pfn, text) {
            self.set(used.pfn, used.what, used.order);
        }
    }

    /// Sets PG_hwpoison.
    pub(crate) fn poison(&mut self, pfn: u64) {
        let pa = self.page_pa(pfn);
        self.put_u64(pa, self.get_u64(pa) | self.generation.hwpoison());
    }

    pub(crate) fn kernel(&self) -> KernelSpace<&Ram> {
        KernelSpace::new(&self.ram, Machine::X86_64, &VmcoreInfo::new(self.info.as_bytes())).unwrap()
    }

    pub(crate) fn memmap(&self) -> Result<MemMap, MemMapError> {
        MemMap::find(&VmcoreInfo::new(self.info.as_bytes()), &self.kernel())
    }

    pub(crate) fn classifier(&self, level: DumpLevel) -> Classifier<&Ram> {
        Classifier::new(Some((self.memmap().unwrap(), self.kernel())), level)
    }

    /// The classes of the frames from `pfn` on, as a walk from there gives them that nothing is left out of.
    pub(crate) fn classes(&self, pfn: u64, end: u64) -> Vec<PageClass> {
        walk(&mut self.classifier(DumpLevel::ALL), pfn, end)
    }
}

/// Panics at the first frame whose class is not what was expected.
#[track_caller]
pub(crate) fn assert_classes(found: &[PageClass], expected: &[PageClass], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found, expected, "{what}: frame {index}");
    }
}

/// The classes of frames, one by one. Panics if the spans do not follow each other.
pub(crate) fn walk<M: PhysMemory>(classifier: &mut Classifier<M>, pfn: u64, end: u64) -> Vec<PageClass> {
    let mut classes = Vec::new();
    while (classes.len() as u64) < end - pfn {
        let first = Pfn(pfn + classes.len() as u64);
        let span = classifier.span(first, Pfn(end));
        assert!(span.first == first && span.pages > 0 && span.end() <= Pfn(end), "{span:?}");
        classes.extend(std::iter::repeat_n(span.class, span.pages as usize));
    }
    classes
}
