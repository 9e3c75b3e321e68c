//! Targets that read what a crashed kernel left.

use memory::paging::WalkError;
use memory::printk::KernelLog;
use memory::printk::format::write_record;
use memory::{
    Classifier, DumpLevel, KernelSpace, MemMap, MemoryMap, PHYS_ADDR_END, PageClass, PageCounts, Pfn,
    PhysMemory, VirtAddr, VirtMemory,
};
use vmcore::elfcorehdr::{ElfCoreHdr, MAX_FAULTS, MAX_NOTE_BYTES, MAX_PROGRAM_HEADERS, Machine};
use vmcore::headers::CoreHeader;
use vmcore::notes::{Notes, find_vmcoreinfo};
use vmcore::prstatus::PrStatus;
use vmcore::vmcoreinfo::VmcoreInfo;

use crate::slice_memory::SliceMemory;

/// Where the input of [`elfcorehdr`] lies.
pub(crate) const ELFCOREHDR_PA: u64 = 0x3300_0000;
/// Where the memory of [`printk`] begins.
pub(crate) const LOG_VA: u64 = 0xffff_0000;

/// An elfcorehdr, and the memory map it makes.
pub fn elfcorehdr(data: &[u8]) {
    let memory = SliceMemory { start: ELFCOREHDR_PA, bytes: data, long_bytes: 8 };
    let Ok(core) = ElfCoreHdr::read(ELFCOREHDR_PA, &mut |pa, buf| memory.copy(pa, buf)) else { return };
    assert!(core.loads.len() + core.notes.len() <= MAX_PROGRAM_HEADERS.into());
    assert!(core.notes.iter().all(|note| (1..=MAX_NOTE_BYTES).contains(&note.p_filesz)));
    assert!(core.faults.len() <= MAX_FAULTS);
    let kept = CoreHeader::parse(&core.headers).expect("what is sent along can be read");
    assert_eq!((kept.class, kept.machine), (core.class, core.machine));

    let (map, _faults) = MemoryMap::from_segments(&core.loads);
    for pair in map.ranges().windows(2) {
        assert!(pair[0].end <= pair[1].start, "ranges do not overlap");
    }
    for range in map.ranges() {
        assert!(range.start < range.end && range.end <= PHYS_ADDR_END);
        let extent = map.translate(range.start, u64::MAX).expect("a range is RAM");
        assert_eq!((extent.read_at, extent.bytes), (range.read_at, range.bytes()));
    }
    let mut last = Pfn(0);
    for page in map.pages(12).take(1000) {
        assert!(page.pfn >= last && page.bytes > 0 && page.offset + page.bytes <= 4096);
        last = page.pfn;
    }
}

/// Notes, registers, and VMCOREINFO; the input is both a buffer of notes and a text.
pub fn notes_vmcoreinfo(data: &[u8]) {
    for note in Notes::new(data) {
        for machine in [Machine::X86_64, Machine::Aarch64, Machine::Arm] {
            let _ = PrStatus::parse(machine, note.desc);
        }
    }
    for text in [Some(data), find_vmcoreinfo(data)].into_iter().flatten() {
        let info = VmcoreInfo::new(text);
        for (key, value) in info.entries() {
            assert!(key.len() + value.len() < text.len());
            let Ok(key) = str::from_utf8(key) else { continue };
            assert!(info.value(key).is_some());
            let name = key.split_once('(').map_or(key, |(_, name)| name.trim_end_matches(')'));
            let _ = (info.symbol(name), info.size(name), info.offset(name), info.length(name));
            let _ = (info.number(name), info.number_u64(name), info.config(name));
        }
        let _ = (info.os_release(), info.build_id(), info.crash_time(), info.kernel_offset());
        assert!(info.page_shift().is_none_or(|shift| matches!(shift, 12 | 14 | 16)));
    }
}

/// Bytes of an input that is split in two: the length of the first part, the first part, the second.
pub(crate) fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first_chunk()?;
    rest.split_at_checked(u16::from_le_bytes(*length).into())
}

/// The kernel log: a byte whose lowest bit tells 32-bit longs, a VMCOREINFO, memory from [`LOG_VA`] on.
pub fn printk(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let Some((text, bytes)) = split(rest) else { return };
    let memory = SliceMemory { start: LOG_VA, bytes, long_bytes: if kind & 1 == 0 { 8 } else { 4 } };
    let Ok(mut log) = KernelLog::open(&memory, &VmcoreInfo::new(text)) else { return };
    // The bound is the kernel's own number of descriptors, which may well be in the millions.
    for _ in 0..10_000 {
        let Some(record) = log.next_record() else { return };
        let Ok(record) = record else { continue };
        assert!(record.text.len() <= bytes.len());
        let mut lines = 0;
        write_record(&record, &mut |bytes| lines += usize::from(bytes == b"\n"));
        assert_eq!(lines, record.text.split(|&byte| byte == b'\n').count());
    }
}

/// Kernels whose tables [`page_walk`] has at address 0: machine and VMCOREINFO. An input's first byte tells which.
pub(crate) const WALKED: [(Machine, &str); 8] = [
    (
        Machine::X86_64,
        "SYMBOL(swapper_pg_dir)=ffffffff80000000\nNUMBER(phys_base)=0\nNUMBER(pgtable_l5_enabled)=0\n",
    ),
    (
        Machine::X86_64,
        "SYMBOL(swapper_pg_dir)=ffffffff80000000\nNUMBER(phys_base)=0\nNUMBER(pgtable_l5_enabled)=1\n",
    ),
    (
        Machine::Aarch64,
        "PAGESIZE=4096\nSYMBOL(swapper_pg_dir)=0\nNUMBER(kimage_voffset)=0\nNUMBER(VA_BITS)=48\n",
    ),
    (
        Machine::Aarch64,
        "PAGESIZE=4096\nSYMBOL(swapper_pg_dir)=0\nNUMBER(kimage_voffset)=0\nNUMBER(VA_BITS)=52\n",
    ),
    (
        Machine::Aarch64,
        "PAGESIZE=16384\nSYMBOL(swapper_pg_dir)=0\nNUMBER(kimage_voffset)=0\nNUMBER(VA_BITS)=47\n",
    ),
    (
        Machine::Aarch64,
        "PAGESIZE=65536\nSYMBOL(swapper_pg_dir)=0\nNUMBER(kimage_voffset)=0\nNUMBER(VA_BITS)=52\n",
    ),
    (Machine::Arm, "SYMBOL(swapper_pg_dir)=c0000000\n"),
    (Machine::Arm, "SYMBOL(swapper_pg_dir)=c0000000\nCONFIG_ARM_LPAE=y\n"),
];

/// Page tables: a byte that tells of which kernel ([`WALKED`]), an address, memory from 0 on with the top table first.
pub fn page_walk(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let Some((va, bytes)) = rest.split_first_chunk() else { return };
    let va = VirtAddr(u64::from_le_bytes(*va));
    let (machine, text) = WALKED[usize::from(*kind) % WALKED.len()];
    let long_bytes = machine.long_bytes();
    let memory = SliceMemory { start: 0, bytes, long_bytes };
    // On arm, tables that do not map themselves are none.
    let Ok(space) = KernelSpace::new(memory, machine, &VmcoreInfo::new(text.as_bytes())) else { return };

    let mut buf = [0; 5000];
    let is_readable = VirtMemory::read(&space, va, &mut buf).is_ok();
    match space.mapping(va) {
        Ok(mapping) => {
            let (pa, left) = mapping.place_of(va).expect("a mapping maps what was asked for");
            assert!(
                mapping.bytes.is_power_of_two() && mapping.va.0 % mapping.bytes == 0 && left <= mapping.bytes
            );
            let mut same = [0; 1];
            if is_readable {
                PhysMemory::read(space.physical(), pa, &mut same).expect("it was read before");
                assert_eq!(same[0], buf[0]);
            }
        }
        Err(_) => assert!(!is_readable),
    }
    let mut at = va;
    for step in space.mappings(va, VirtAddr(u64::MAX)).take(600) {
        let (start, bytes) = match step {
            Ok(mapping) => (mapping.va, mapping.bytes),
            Err(WalkError::NotMapped { va, span, .. } | WalkError::Unreadable { va, span, .. }) => {
                (VirtAddr(va.0 & !(span - 1)), span)
            }
            Err(WalkError::NotCanonical { va }) => (va, 0),
        };
        assert!(start <= at, "steps leave nothing out");
        at = start.checked_add(bytes).unwrap_or(VirtAddr(u64::MAX));
    }
}

/// The architecture that a VMCOREINFO is of.
pub(crate) fn machine_of(info: &VmcoreInfo<'_>) -> Machine {
    match (info.number("phys_base"), info.number("kimage_voffset")) {
        (Some(_), _) => Machine::X86_64,
        (None, Some(_)) => Machine::Aarch64,
        (None, None) => Machine::Arm,
    }
}

/// The memmap: the frame to begin with, whose lowest bits are the dump level too, a VMCOREINFO, memory from 0 on.
pub fn memmap(data: &[u8]) {
    let Some((start, rest)) = data.split_first_chunk() else { return };
    let Some((text, bytes)) = split(rest) else { return };
    let info = VmcoreInfo::new(text);
    let machine = machine_of(&info);
    let memory = SliceMemory { start: 0, bytes, long_bytes: machine.long_bytes() };
    let Ok(kernel) = KernelSpace::new(&memory, machine, &info) else { return };
    let Ok(memmap) = MemMap::find(&info, &kernel) else { return };
    assert!(memmap.image().runs().all(|run| run.first < run.end));

    let start = u64::from_le_bytes(*start);
    let level = DumpLevel::new((start % 32) as u8).expect("there are 32");
    let end = Pfn(start.saturating_add(1100));
    let classes = |from: u64| {
        let mut classifier = Classifier::new(Some((memmap, kernel)), level);
        let mut classes: Vec<PageClass> = Vec::new();
        let mut counts = PageCounts::default();
        let mut at = Pfn(from);
        while at < end {
            let span = classifier.span(at, end);
            assert!(span.first == at && span.pages > 0 && span.end() <= end, "spans follow each other");
            counts += span;
            classes.extend(std::iter::repeat_n(span.class, span.pages as usize));
            at = span.end();
        }
        assert_eq!(counts.total(), classes.len() as u64);
        assert!(classifier.pages_in_doubt() <= counts.of(PageClass::Kernel));
        classes
    };
    let all = classes(start);
    let middle = all.len() / 2;
    assert!(classes(start + middle as u64) == all[middle..], "it is the same wherever a walk begins");
}
