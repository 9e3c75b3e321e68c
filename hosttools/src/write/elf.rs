//! An ELF core.
//!
//! Pages that the dump does not have lie in no PT_LOAD, so that reading them is an error instead of zeros. PT_LOADs of
//! the crashed kernel that overlap (its image lies in RAM) share the bytes in the file.

use memory::DumpLevel;
use memory::paging::linear_map_offset;
use vmcore::elfcore::{INCOMPLETE, NewElfCore, data_offset};
use vmcore::elfcorehdr::LoadSegment;
use vmcore::headers::{Class, Machine};

use super::sink::Sink;
use super::{Progress, Written};
use crate::Error;
use crate::dump::{Dump, Facts, PageReader, PageState, each_run, fill, with_own_note};
use crate::pipeline;

/// Bytes read at once by a worker.
const PIECE_BYTES: u64 = 1 << 20;

/// Zero pages, one behind the other, that a dump which leaves them out has no bytes for (p_filesz < p_memsz), as with
/// makedumpfile. Fewer are zeros of the file, so that it does not fall to pieces: readers look at one PT_LOAD after the
/// other.
const MIN_ZERO_PAGES: u64 = 256;

/// Physical memory that the dump has without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    start: u64,
    end: u64,
}

/// Writes `dump`. What is kept meanwhile are some 100 bytes for each PT_LOAD.
pub(super) fn write(
    dump: &dyn Dump,
    sink: &mut dyn Sink,
    progress: &mut Progress<'_>,
) -> Result<Written, Error> {
    let facts = dump.facts();
    let unwritable = |what: String| Error::Unwritable { format: "an ELF core", what };
    let notes = with_own_note(facts).map_err(|error| unwritable(error.to_string()))?;
    let Pages { stretches, total, lost } = Pages::of(dump)?;
    let page_bytes = facts.page_bytes() as u64;
    let leaves_zeros = facts.dump_level & DumpLevel::ZERO != 0;
    let min_zero_bytes = if leaves_zeros { MIN_ZERO_PAGES * page_bytes } else { u64::MAX };
    let segments = segments(facts);
    let max_loads = max_loads(&segments, &stretches, min_zero_bytes) + 1;
    // A stretch begins at the same place of a page in the file as in memory.
    let max_data_bytes = stretches.iter().map(|stretch| stretch.end - stretch.start + 2 * page_bytes).sum();
    // 64 bytes for every header are enough in either class.
    let head_bytes = (max_loads as u64 + 4) * 64 + notes.len() as u64 + 2 * page_bytes;
    let class = class(facts.machine, &segments, head_bytes.saturating_add(max_data_bytes));
    let base = data_offset(class, max_loads, notes.len()).next_multiple_of(page_bytes);

    let mut done = 0;
    let mut placed = Placed::new(base, page_bytes, min_zero_bytes);
    let new_reader = || {
        let mut reader = Reader { dump, pages: dump.reader(), page: vec![0; facts.page_bytes()] };
        move |piece: Stretch| reader.read(&piece).map(|bytes| (piece, bytes))
    };
    pipeline::in_order(pieces(&stretches), new_reader, |read: Result<(Stretch, Vec<u8>), Error>| {
        let (piece, bytes) = read?;
        placed.put(piece.start, &bytes, sink)?;
        done += (bytes.len() as u64).div_ceil(page_bytes);
        progress(done.min(total), total);
        Ok(())
    })?;
    let (placed, end) = placed.finish(sink)?;

    let loads = loads(facts.machine, &segments, &placed);
    let e_flags = if facts.is_complete && lost == 0 { 0 } else { INCOMPLETE };
    let head = NewElfCore { class, machine: facts.machine, e_flags, notes: &notes, loads }
        .encode()
        .map_err(|error| unwritable(error.to_string()))?;
    sink.write_at(0, &head)?;
    sink.finish(end)?;
    Ok(Written { pages: total, lost })
}

/// ELFCLASS32 where the machine and the file's size have room in it: a 32-bit machine's tools expect it.
fn class(machine: Machine, segments: &[LoadSegment], file_bytes: u64) -> Class {
    let fits = |load: &LoadSegment| {
        u32::try_from(load.p_vaddr).is_ok()
            && load.p_paddr.checked_add(load.p_memsz).is_some_and(|end| u32::try_from(end).is_ok())
    };
    let is_small = segments.iter().all(fits) && u32::try_from(file_bytes).is_ok();
    if machine == Machine::Arm && is_small { Class::ELF32 } else { Class::ELF64 }
}

/// The crashed kernel's PT_LOADs. On aarch64 kexec may write any p_vaddr (kexec-tools 2.0.25 with Linux 6.1): what is neither
/// the image's nor the linear map's becomes the latter.
fn segments(facts: &Facts) -> Vec<LoadSegment> {
    let info = facts.vmcoreinfo();
    let linear = linear_map_offset(facts.machine, &info);
    let image = info.number_u64("kimage_voffset");
    let corrected = |segment: &LoadSegment| {
        let offset = Some(segment.p_vaddr.wrapping_sub(segment.p_paddr));
        match linear {
            Some(linear) if offset != image => {
                LoadSegment { p_vaddr: linear.wrapping_add(segment.p_paddr), ..*segment }
            }
            _ => *segment,
        }
    };
    facts.segments.iter().map(corrected).collect()
}

/// Which pages there are.
struct Pages {
    /// The bytes of RAM in those that the dump has.
    stretches: Vec<Stretch>,
    /// How many those are.
    total: u64,
    /// How many the dump should have, too.
    lost: u64,
}

impl Pages {
    fn of(dump: &dyn Dump) -> Result<Self, Error> {
        let facts = dump.facts();
        let page_bytes = facts.page_bytes() as u64;
        let mut pages = Self { stretches: Vec::new(), total: 0, lost: 0 };
        let mut ranges = facts.map.ranges().iter().peekable();
        for run in each_run(dump) {
            let run = run?;
            pages.lost += if run.state.is_lost() { run.pages } else { 0 };
            if !run.state.is_present() {
                continue;
            }
            pages.total += run.pages;
            let run_start = run.first.saturating_mul(page_bytes);
            let run_end = run_start.saturating_add(run.pages.saturating_mul(page_bytes));
            while let Some(range) = ranges.peek() {
                let (start, end) = (range.start.0.max(run_start), range.end.0.min(run_end));
                if start < end {
                    match pages.stretches.last_mut() {
                        Some(last) if last.end == start => last.end = end,
                        _ => pages.stretches.push(Stretch { start, end }),
                    }
                }
                if range.end.0 > run_end {
                    break; // It goes on behind this run.
                }
                ranges.next();
            }
        }
        Ok(pages)
    }
}

/// PT_LOADs there can be at most: each stretch may end and begin again at so many zeros.
fn max_loads(segments: &[LoadSegment], stretches: &[Stretch], min_zero_bytes: u64) -> usize {
    overlaps(segments, stretches, |stretch| (stretch.start, stretch.end))
        .map(|(.., start, end)| 1 + usize::try_from((end - start) / min_zero_bytes).unwrap_or(usize::MAX))
        .fold(0, usize::saturating_add)
}

/// The PT_LOADs: each of the crashed kernel's, as far as the dump has its bytes.
fn loads<'a>(
    machine: Machine,
    segments: &'a [LoadSegment],
    stretches: &'a [PlacedStretch],
) -> impl Iterator<Item = LoadSegment> + Clone + use<'a> {
    // On arm addresses go on behind 4 GiB from 0 on: kexec gives all RAM one, but not all of it is mapped.
    let last_va = u64::MAX >> (64 - 8 * machine.long_bytes());
    // crash takes the first PT_LOAD's address for where RAM begins on arm, whose VMCOREINFO does not say, and its place in the
    // file for where the bytes begin: one without any, as pages there may be left out.
    let start_of_ram =
        segments.iter().min_by_key(|segment| segment.p_paddr).filter(|_| machine == Machine::Arm);
    let p_offset = stretches.first().map_or(0, |stretch| stretch.offset);
    let start_of_ram =
        start_of_ram.map(|segment| LoadSegment { p_offset, p_filesz: 0, p_memsz: 0, ..*segment });
    let kept = overlaps(segments, stretches, |stretch| (stretch.start, stretch.end)).map(
        move |(segment, stretch, start, end)| LoadSegment {
            // All ones: the kernel has not mapped it.
            p_vaddr: match segment.p_vaddr {
                unmapped if unmapped == u64::MAX || unmapped == last_va => unmapped,
                start_va => start_va.wrapping_add(start - segment.p_paddr) & last_va,
            },
            p_paddr: start,
            p_offset: stretch.offset + (start.min(stretch.file_end) - stretch.start),
            p_filesz: end.min(stretch.file_end).saturating_sub(start),
            p_memsz: end - start,
        },
    );
    start_of_ram.into_iter().chain(kept)
}

/// What of each segment is in each stretch of memory, from where to where. The stretches, whose `range` is asked for, are
/// in ascending order.
fn overlaps<'a, T>(
    segments: &'a [LoadSegment],
    stretches: &'a [T],
    range: fn(&T) -> (u64, u64),
) -> impl Iterator<Item = (&'a LoadSegment, &'a T, u64, u64)> + Clone {
    segments.iter().flat_map(move |segment| {
        let segment_end = segment.p_paddr.saturating_add(segment.p_memsz);
        let from = stretches.partition_point(|stretch| range(stretch).1 <= segment.p_paddr);
        stretches.get(from..).unwrap_or_default().iter().map_while(move |stretch| {
            let (start, end) = range(stretch);
            let (start, end) = (start.max(segment.p_paddr), end.min(segment_end));
            (start < end).then_some((segment, stretch, start, end))
        })
    })
}

/// Cuts stretches in pieces for workers.
fn pieces(stretches: &[Stretch]) -> impl Iterator<Item = Stretch> {
    stretches.iter().flat_map(|stretch| {
        let mut rest = *stretch;
        std::iter::from_fn(move || {
            // Cut where memory's addresses are round, so that no page is read twice.
            let cut = (rest.start / PIECE_BYTES + 1).saturating_mul(PIECE_BYTES).min(rest.end);
            let piece = Stretch { end: cut, ..rest };
            rest.start = cut;
            (piece.start < piece.end).then_some(piece)
        })
    })
}

/// What a worker thread reads with.
struct Reader<'a> {
    dump: &'a dyn Dump,
    pages: Box<dyn PageReader + 'a>,
    page: Vec<u8>,
}

impl Reader<'_> {
    fn read(&mut self, piece: &Stretch) -> Result<Vec<u8>, Error> {
        let page_bytes = self.page.len() as u64;
        let mut bytes = Vec::with_capacity(usize::try_from(piece.end - piece.start).unwrap_or(0));
        let mut at = piece.start;
        while at < piece.end {
            let pfn = at / page_bytes;
            match self.dump.state_at(pfn)?.0 {
                PageState::Filled(word) => fill(&mut self.page, word),
                _ => self.pages.read(pfn, &mut self.page)?,
            }
            let from = usize::try_from(at % page_bytes).unwrap_or(0);
            let end = (pfn + 1).saturating_mul(page_bytes).min(piece.end);
            let count = usize::try_from(end - at).unwrap_or(0);
            bytes.extend_from_slice(self.page.get(from..from + count).unwrap_or_default());
            at = end;
        }
        Ok(bytes)
    }
}

/// Physical memory, and where it is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PlacedStretch {
    start: u64,
    end: u64,
    offset: u64,
    /// From here on up to `end` memory is zero, and not in the file.
    file_end: u64,
}

/// Puts memory into the file, in ascending order. Pages of zeros become holes: of the file, or between PT_LOADs.
struct Placed {
    stretches: Vec<PlacedStretch>,
    /// Where the file ends.
    end: u64,
    page_bytes: u64,
    min_zero_bytes: u64,
}

impl Placed {
    fn new(base: u64, page_bytes: u64, min_zero_bytes: u64) -> Self {
        Self { stretches: Vec::new(), end: base, page_bytes, min_zero_bytes }
    }

    /// Puts the `bytes` of memory at `start`.
    fn put(&mut self, start: u64, bytes: &[u8], sink: &mut dyn Sink) -> Result<(), Error> {
        let is_zero = |page: &[u8]| page.iter().all(|&byte| byte == 0);
        let page_bytes = usize::try_from(self.page_bytes).unwrap_or(usize::MAX);
        let mut pages = bytes.chunks(page_bytes).peekable();
        let mut at = 0;
        while let Some(first) = pages.next() {
            let zero = is_zero(first);
            let mut end = at + first.len();
            while let Some(page) = pages.next_if(|page| is_zero(page) == zero) {
                end += page.len();
            }
            let data = bytes.get(at..end).unwrap_or_default();
            self.put_alike(start + at as u64, data, zero, sink)?;
            at = end;
        }
        Ok(())
    }

    /// Puts memory that is all zeros, or has none worth a hole.
    fn put_alike(&mut self, start: u64, data: &[u8], zero: bool, sink: &mut dyn Sink) -> Result<(), Error> {
        let bytes = data.len() as u64;
        let is_behind = self.stretches.last().is_some_and(|last| {
            last.end == start && (zero || last.end - last.file_end < self.min_zero_bytes)
        });
        if !is_behind {
            self.fill_zeros(sink)?;
            let offset = self.end.next_multiple_of(self.page_bytes) + start % self.page_bytes;
            self.stretches.push(PlacedStretch { start, end: start, offset, file_end: start });
        }
        if !zero {
            self.fill_zeros(sink)?;
        }
        let Some(last) = self.stretches.last_mut() else { return Ok(()) };
        last.end = start + bytes;
        if !zero {
            sink.write_at(last.offset + (start - last.start), data)?;
            last.file_end = last.end;
            self.end = last.offset + (last.end - last.start);
        }
        Ok(())
    }

    /// Gives the zeros at the end of the last stretch a place in the file, if they are few.
    fn fill_zeros(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        let Some(last) = self.stretches.last_mut() else { return Ok(()) };
        let zeros = last.end - last.file_end;
        if zeros > 0 && zeros < self.min_zero_bytes {
            sink.zeros_at(last.offset + (last.file_end - last.start), zeros)?;
            last.file_end = last.end;
            self.end = last.offset + (last.end - last.start);
        }
        Ok(())
    }

    /// All memory, and where the file ends.
    fn finish(mut self, sink: &mut dyn Sink) -> Result<(Vec<PlacedStretch>, u64), Error> {
        self.fill_zeros(sink)?;
        Ok((self.stretches, self.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::map_of;
    use vmcore::notes::{VMCOREINFO_NAME, push_note};

    fn segment(p_vaddr: u64, p_paddr: u64, bytes: u64) -> LoadSegment {
        LoadSegment { p_vaddr, p_paddr, p_offset: 0, p_filesz: bytes, p_memsz: bytes }
    }

    fn piece(start: u64, end: u64) -> PlacedStretch {
        PlacedStretch { start, end, offset: 0x1000, file_end: end }
    }

    #[test]
    fn addresses_of_arm_end_at_4_gib_and_go_on_at_0() {
        let all = [segment(0xc000_0000, 0x1000_0000, 0x8000_0000), segment(0xffff_ffff, 0x9000_0000, 0x1000)];
        let pieces = [piece(0x4fff_f000, 0x5000_0000), piece(0x5000_0000, 0x9000_1000)];
        // The first one only says where RAM begins.
        let loads = loads(Machine::Arm, &all, &pieces).skip(1);
        let found: Vec<_> = loads.map(|load| (load.p_paddr, load.p_vaddr)).collect();
        assert_eq!(found, [(0x4fff_f000, 0xffff_f000), (0x5000_0000, 0), (0x9000_0000, 0xffff_ffff)]);
        assert_eq!(class(Machine::Arm, &all, 0x1000_0000), Class::ELF32);
        assert_eq!(class(Machine::Arm, &[segment(0xc000_0000, 1 << 32, 0x1000)], 0x1000), Class::ELF64);
        assert_eq!(class(Machine::Arm, &all, 1 << 32), Class::ELF64);
    }

    #[test]
    fn addresses_of_aarch64_are_those_of_its_linear_map_and_image() {
        let mut notes = Vec::new();
        let info = "SYMBOL(_stext)=ffffd0b012310000\nNUMBER(VA_BITS)=48\nNUMBER(PHYS_OFFSET)=0x40000000\n\
            NUMBER(TCR_EL1_T1SZ)=0x10\nNUMBER(kimage_voffset)=0xffffd0afd0000000\n";
        push_note(VMCOREINFO_NAME, 0, info.as_bytes(), &mut notes).unwrap();
        let given = vec![
            segment(0xffff_d0b0_1231_0000, 0x4231_0000, 0x1000),
            segment(0xffff_0000_0000_0000, 0x4000_0000, 0x1000),
            segment(0x1234_5678, 0x4400_0000, 0x1000),
        ];
        let facts = Facts {
            machine: Machine::Aarch64,
            page_shift: 12,
            utsname: [0; wire::UTSNAME_BYTES],
            crash_time: 0,
            dump_level: 0,
            map: map_of(&given),
            segments: given.clone(),
            notes,
            is_complete: true,
        };
        let expected = [given[0], given[1], segment(0xffff_0000_0400_0000, 0x4400_0000, 0x1000)];
        assert_eq!(segments(&facts), expected);
    }
}
