//! The kdump-compressed format, version 6.

use vmcore::headers::Machine;
use vmcore::kdump::{
    Abi, DumpHeader, Layout, PAGE_DESCRIPTOR_BYTES, PageDescriptor, SubHeader, Utsname, VERSION, status,
};
use vmcore::notes::{Notes, VMCOREINFO_NAME};

use super::batches::batches;
use super::compress::{Compression, Compressor};
use super::sink::{Appender, Sink};
use super::{Progress, Written};
use crate::Error;
use crate::dump::{Dump, Facts, PageReader, PageState, Run, each_run, fill, with_own_note};
use crate::pipeline;

/// Page frames a file may have: 64 TiB of memory. More is no machine, but a damaged dump.
const MAX_MAPNR: u64 = 1 << 34;

/// Writes `dump`. Its runs are walked once for each part of the file: all together may be more than fits in memory.
pub(super) fn write(
    dump: &dyn Dump,
    sink: &mut dyn Sink,
    compression: Compression,
    progress: &mut Progress<'_>,
) -> Result<Written, Error> {
    let facts = dump.facts();
    let unwritable = |what: String| Error::Unwritable { format: "kdump-compressed", what };
    let abi = Abi::of(facts.machine);
    let notes = with_own_note(facts).map_err(|error| unwritable(error.to_string()))?;
    let block_bytes = u32::try_from(facts.page_bytes()).unwrap_or(0);
    let max_mapnr = facts.max_mapnr();
    if max_mapnr > MAX_MAPNR {
        return Err(unwritable(format!("{max_mapnr:#x} page frames are more than {MAX_MAPNR:#x}")));
    }
    let layout = Layout::plan(abi, block_bytes, notes.len() as u64, max_mapnr)
        .map_err(|error| unwritable(error.to_string()))?;

    bitmap(dump, layout.first_bitmap_offset(), layout.bitmap_bytes(), sink, |_| true)?;
    bitmap(dump, layout.second_bitmap_offset(), layout.bitmap_bytes(), sink, PageState::is_wanted)?;
    let (written, end) = pages(dump, &layout, sink, compression, progress)?;

    let incomplete = !facts.is_complete || !written.is_whole();
    let header = DumpHeader {
        header_version: VERSION,
        utsname: Utsname::from_bytes(&facts.utsname),
        timestamp_sec: i64::try_from(facts.crash_time).unwrap_or(0),
        timestamp_usec: 0,
        status: compression.flag() | if incomplete { status::INCOMPLETE } else { 0 },
        block_size: i32::try_from(block_bytes).unwrap_or(0),
        sub_hdr_size: layout.sub_hdr_size(),
        bitmap_blocks: layout.bitmap_blocks(),
        max_mapnr: u32::try_from(max_mapnr & 0xffff_ffff).unwrap_or(0),
        total_ram_blocks: 0,
        device_blocks: 0,
        written_blocks: 0,
        current_cpu: 0,
        nr_cpus: i32::try_from(facts.registers().count()).unwrap_or(i32::MAX).max(1),
    };
    let notes_offset = layout.notes_offset(abi);
    let (vmcoreinfo_at, vmcoreinfo_bytes) = vmcoreinfo_place(&notes).unwrap_or_default();
    let sub_header = SubHeader {
        phys_base: phys_base(facts),
        dump_level: facts.dump_level.into(),
        offset_vmcoreinfo: if vmcoreinfo_bytes == 0 { 0 } else { notes_offset + vmcoreinfo_at },
        size_vmcoreinfo: vmcoreinfo_bytes,
        offset_note: notes_offset,
        size_note: notes.len() as u64,
        max_mapnr_64: max_mapnr,
        ..SubHeader::default()
    };
    let mut head = header.encode(abi);
    head.resize(block_bytes as usize, 0);
    head.extend_from_slice(&sub_header.encode(abi));
    head.extend_from_slice(&notes);
    head.resize(usize::try_from(layout.first_bitmap_offset()).unwrap_or(head.len()), 0);
    sink.write_at(0, &head)?;
    sink.finish(end)?;
    Ok(written)
}

/// Where the kernel has its first memory, as makedumpfile has it: crash goes by it on arm.
fn phys_base(facts: &Facts) -> u64 {
    let info = facts.vmcoreinfo();
    let told = match facts.machine {
        Machine::X86_64 => info.number_u64("phys_base"),
        Machine::Aarch64 => info.number_u64("PHYS_OFFSET"),
        Machine::Arm => facts.map.ranges().first().map(|range| range.start.0),
    };
    told.unwrap_or(0)
}

/// Where VMCOREINFO's text is in the notes, and its bytes.
fn vmcoreinfo_place(notes: &[u8]) -> Option<(u64, u64)> {
    let mut walk = Notes::new(notes);
    let desc = walk.find(|note| note.name == VMCOREINFO_NAME)?.desc;
    let padded = desc.len().next_multiple_of(4);
    let at = notes.len().checked_sub(walk.remaining().len())?.checked_sub(padded)?;
    (!desc.is_empty()).then_some((at as u64, desc.len() as u64))
}

/// Writes a bitmap of the pages whose state `has` a bit.
fn bitmap(
    dump: &dyn Dump,
    offset: u64,
    bytes: u64,
    sink: &mut dyn Sink,
    has: impl Fn(PageState) -> bool,
) -> Result<(), Error> {
    let mut out = Appender::new(offset);
    // The byte that is being filled: its index and its bits.
    let (mut index, mut bits) = (0_u64, 0_u8);
    for run in each_run(dump) {
        let run = run?;
        if !has(run.state) {
            continue;
        }
        for pfn in run.first..run.first + run.pages {
            if pfn / 8 > index {
                out.append(&[bits], sink)?;
                out.append_zeros(pfn / 8 - index - 1, sink)?;
                (index, bits) = (pfn / 8, 0);
            }
            bits |= 1 << (pfn % 8);
        }
    }
    if bytes > 0 {
        out.append(&[bits], sink)?;
        out.append_zeros(bytes.saturating_sub(index + 1), sink)?;
    }
    out.flush(sink)
}

/// What became of a page on its way to the file.
enum Stored {
    /// So many pages that are not in the dump.
    Lost(u64),
    /// So many pages that are all zero.
    Zero(u64),
    /// The next so many bytes of the batch's data, the flag of their compression, and how many pages are the same.
    Data { bytes: u32, flags: u32, pages: u64 },
}

/// A batch, ready to be written.
struct Packed {
    stored: Vec<Stored>,
    data: Vec<u8>,
}

/// Writes descriptors and data of all pages. Returns what was written, and where the file ends.
fn pages(
    dump: &dyn Dump,
    layout: &Layout,
    sink: &mut dyn Sink,
    compression: Compression,
    progress: &mut Progress<'_>,
) -> Result<(Written, u64), Error> {
    let (mut kept, mut total) = (0_u64, 0);
    for run in each_run(dump) {
        let run = run?;
        kept += if run.state.is_wanted() { run.pages } else { 0 };
        total += if run.state.is_present() { run.pages } else { 0 };
    }
    let data_offset =
        layout.descriptors_offset().saturating_add(kept.saturating_mul(PAGE_DESCRIPTOR_BYTES as u64));
    let mut descriptors = Appender::new(layout.descriptors_offset());
    let mut data = Appender::new(data_offset);
    // Zero pages have descriptors of their own, and share one stored page.
    let zero_page = PageDescriptor {
        offset: data_offset,
        size: u32::try_from(layout.block_bytes()).unwrap_or(0),
        flags: 0,
        page_flags: 0,
    };
    data.append(&vec![0; dump.facts().page_bytes()], sink)?;

    let mut written = Written::default();
    let new_packer = || {
        let mut packer = Packer::new(dump, compression);
        move |batch: Vec<Run>| packer.pack(&batch)
    };
    let mut failed = None;
    let runs = each_run(dump).map_while(|run| run.map_err(|error| failed = Some(error)).ok());
    pipeline::in_order(batches(runs), new_packer, |packed: Packed| {
        let mut rest = packed.data.as_slice();
        for stored in packed.stored {
            let (descriptor, pages) = match stored {
                Stored::Lost(pages) => {
                    written.lost += pages;
                    descriptors.append_zeros(pages.saturating_mul(PAGE_DESCRIPTOR_BYTES as u64), sink)?;
                    continue;
                }
                Stored::Zero(pages) => (zero_page, pages),
                Stored::Data { bytes, flags, pages } => {
                    let (page, behind) = rest.split_at_checked(bytes as usize).unwrap_or((rest, &[]));
                    rest = behind;
                    let offset = data.position();
                    data.append(page, sink)?;
                    (PageDescriptor { offset, size: bytes, flags, page_flags: 0 }, pages)
                }
            };
            written.pages += pages;
            let descriptor = descriptor.encode();
            for _ in 0..pages {
                descriptors.append(&descriptor, sink)?;
            }
        }
        progress(written.pages, total);
        Ok::<_, Error>(())
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    descriptors.flush(sink)?;
    data.flush(sink)?;
    Ok((written, data.position()))
}

/// Reads and compresses pages: what a worker thread does.
struct Packer<'a> {
    reader: Box<dyn PageReader + 'a>,
    compressor: Compressor,
    flag: u32,
    page: Vec<u8>,
    zeros: Vec<u8>,
    compressed: Vec<u8>,
}

impl<'a> Packer<'a> {
    fn new(dump: &'a dyn Dump, compression: Compression) -> Self {
        let page_bytes = dump.facts().page_bytes();
        Self {
            reader: dump.reader(),
            compressor: Compressor::new(compression),
            flag: compression.flag(),
            page: vec![0; page_bytes],
            zeros: vec![0; page_bytes],
            compressed: vec![0; page_bytes],
        }
    }

    fn pack(&mut self, batch: &[Run]) -> Packed {
        let mut packed = Packed { stored: Vec::new(), data: Vec::new() };
        for run in batch {
            match run.state {
                state if state.is_lost() => packed.stored.push(Stored::Lost(run.pages)),
                PageState::Excluded | PageState::Hole(_) | PageState::Missing => {}
                PageState::Filled(0) => packed.stored.push(Stored::Zero(run.pages)),
                // Stored once, for all of them.
                PageState::Filled(word) => {
                    fill(&mut self.page, word);
                    self.store(run.pages, &mut packed);
                }
                PageState::Data => {
                    for pfn in run.first..run.first + run.pages {
                        match self.reader.read(pfn, &mut self.page) {
                            Ok(()) => self.store(1, &mut packed),
                            // One bad page does not cost the others: it is lost, and the dump says so.
                            Err(_) => packed.stored.push(Stored::Lost(1)),
                        }
                    }
                }
            }
        }
        packed
    }

    /// Stores the page that has been read, which stands for so many.
    fn store(&mut self, pages: u64, packed: &mut Packed) {
        if self.page == self.zeros {
            packed.stored.push(Stored::Zero(pages));
            return;
        }
        let compressed = self.compressor.compress(&self.page, &mut self.compressed);
        let (bytes, flags) = match compressed.and_then(|bytes| self.compressed.get(..bytes)) {
            Some(compressed) => (compressed, self.flag),
            None => (self.page.as_slice(), 0),
        };
        packed.data.extend_from_slice(bytes);
        packed.stored.push(Stored::Data { bytes: u32::try_from(bytes.len()).unwrap_or(0), flags, pages });
    }
}
