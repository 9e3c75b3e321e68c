//! Where physical memory lies in an ELF core.

use memory::DumpLevel;
use memory::paging::linear_map_offset;
use vmcore::elfcore::{INCOMPLETE, MAX_PROGRAM_HEADERS, NewElfCore, data_offset};
use vmcore::elfcorehdr::LoadSegment;
use vmcore::headers::{Class, Machine};

use super::super::sink::{Nowhere, Sink};
use crate::Error;
use crate::dump::{Dump, Facts, each_run, with_own_note};

/// Zero pages, one behind the other, that a dump which leaves them out has no bytes for (p_filesz < p_memsz), as with
/// makedumpfile. Fewer are zeros of the file, so that it does not fall to pieces: readers look at one PT_LOAD after the
/// other.
const MIN_ZERO_PAGES: u64 = 256;

/// An ELF core but for its data.
#[derive(Debug)]
pub(crate) struct Layout {
    head: Vec<u8>,
    /// Ascending, in memory and in the file.
    stretches: Vec<PlacedStretch>,
    bytes: u64,
}

/// What the file has from some offset on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    /// Headers and notes.
    Head(&'a [u8]),
    /// So many bytes of memory.
    Memory {
        /// Physical address.
        pa: u64,
        bytes: u64,
    },
    /// So many zeros, which mean nothing.
    Gap(u64),
    /// It ends.
    End,
}

impl Layout {
    /// Of a file that has all RAM that `facts` tell of.
    ///
    /// # Errors
    /// [`Error::Unwritable`], if no ELF core can hold it.
    pub(crate) fn of_ram(facts: &Facts) -> Result<Self, Error> {
        let mut stretches: Vec<Stretch> = Vec::new();
        for range in facts.map.ranges() {
            match stretches.last_mut() {
                Some(last) if last.end == range.start.0 => last.end = range.end.0,
                _ => stretches.push(Stretch { start: range.start.0, end: range.end.0 }),
            }
        }
        let plan = Plan { min_zero_bytes: u64::MAX, ..Plan::new(facts, &stretches)? };
        let mut placed = plan.placed();
        stretches.iter().for_each(|stretch| placed.put_unread(*stretch));
        plan.finish(placed, true, &mut Nowhere)
    }

    /// The bytes before those of memory, from the file's first on.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the file has at `offset`, and behind it as long as it is of the same kind.
    pub(crate) fn at(&self, offset: u64) -> Content<'_> {
        let head = usize::try_from(offset).ok().and_then(|offset| self.head.get(offset..));
        if let Some(head) = head.filter(|head| !head.is_empty()) {
            return Content::Head(head);
        }
        let next = self.stretches.partition_point(|stretch| stretch.file_range().1 <= offset);
        match self.stretches.get(next) {
            Some(stretch) if stretch.offset <= offset => {
                let skip = offset - stretch.offset;
                Content::Memory { pa: stretch.start + skip, bytes: stretch.file_range().1 - offset }
            }
            Some(stretch) => Content::Gap(stretch.offset - offset),
            None if offset < self.bytes => Content::Gap(self.bytes - offset),
            None => Content::End,
        }
    }
}

/// What of an ELF core is known before its pages are looked at.
pub(super) struct Plan<'a> {
    facts: &'a Facts,
    notes: Vec<u8>,
    segments: Vec<LoadSegment>,
    class: Class,
    /// Where data begins.
    base: u64,
    /// So many bytes of zeros have no place in the file.
    min_zero_bytes: u64,
}

impl<'a> Plan<'a> {
    /// For a dump that has the memory in `stretches`.
    pub(super) fn new(facts: &'a Facts, stretches: &[Stretch]) -> Result<Self, Error> {
        let notes = with_own_note(facts).map_err(|error| unwritable(&error))?;
        let page_bytes = facts.page_bytes() as u64;
        let leaves_zeros = facts.dump_level & DumpLevel::ZERO != 0;
        let min_zero_bytes = if leaves_zeros { MIN_ZERO_PAGES * page_bytes } else { u64::MAX };
        let segments = segments(facts);
        let max_loads = max_loads(&segments, stretches, min_zero_bytes) + 1;
        if max_loads > MAX_LOADS {
            let what = format!("it takes more than {MAX_LOADS} program headers");
            return Err(Error::Unwritable { format: "an ELF core", what });
        }
        // A stretch begins at the same place of a page in the file as in memory.
        let data_bytes = |stretch: &Stretch| (stretch.end - stretch.start).saturating_add(2 * page_bytes);
        let max_data_bytes = stretches.iter().map(data_bytes).fold(0, u64::saturating_add);
        // 64 bytes for every header are enough in either class.
        let head_bytes = (max_loads as u64 + 4) * 64 + notes.len() as u64 + 2 * page_bytes;
        let class = class(facts.machine, &segments, head_bytes.saturating_add(max_data_bytes));
        let base = data_offset(class, max_loads, notes.len()).next_multiple_of(page_bytes);
        Ok(Self { facts, notes, segments, class, base, min_zero_bytes })
    }

    /// Whether what the pages hold has a say in where they lie.
    pub(super) fn leaves_zeros(&self) -> bool {
        self.min_zero_bytes != u64::MAX
    }

    /// Memory to be put into the file, none so far.
    pub(super) fn placed(&self) -> Placed {
        Placed::new(self.base, self.facts.page_bytes() as u64, self.min_zero_bytes)
    }

    /// All memory has been put into the file. `has_all`: it is all that belongs there.
    pub(super) fn finish(self, placed: Placed, has_all: bool, sink: &mut dyn Sink) -> Result<Layout, Error> {
        let Self { facts, notes, segments, class, .. } = self;
        let (stretches, bytes) = placed.finish(sink)?;
        let loads = loads(facts.machine, &segments, &stretches);
        let e_flags = if facts.is_complete && has_all { 0 } else { INCOMPLETE };
        let head = NewElfCore { class, machine: facts.machine, e_flags, notes: &notes, loads }
            .encode()
            .map_err(|error| unwritable(&error))?;
        Ok(Layout { head, stretches, bytes })
    }
}

fn unwritable(error: &dyn std::error::Error) -> Error {
    Error::Unwritable { format: "an ELF core", what: error.to_string() }
}

/// Physical memory that the dump has without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) start: u64,
    pub(super) end: u64,
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
pub(super) struct Pages {
    /// The bytes of RAM in those that the dump has.
    pub(super) stretches: Vec<Stretch>,
    /// How many those are.
    pub(super) total: u64,
    /// How many the dump should have, too.
    pub(super) lost: u64,
}

impl Pages {
    pub(super) fn of(dump: &dyn Dump) -> Result<Self, Error> {
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

/// Program headers that we read again, but for the PT_NOTE. A hostile elfcorehdr has PT_LOADs that overlap everything.
const MAX_LOADS: usize = MAX_PROGRAM_HEADERS as usize - 1;

/// PT_LOADs there can be at most: each stretch may end and begin again at so many zeros. Beyond [`MAX_LOADS`] they are not
/// all counted.
fn max_loads(segments: &[LoadSegment], stretches: &[Stretch], min_zero_bytes: u64) -> usize {
    overlaps(segments, stretches, |stretch| (stretch.start, stretch.end))
        .take(MAX_LOADS)
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

/// Physical memory, and where it is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PlacedStretch {
    start: u64,
    end: u64,
    offset: u64,
    /// From here on up to `end` memory is zero, and not in the file.
    file_end: u64,
}

impl PlacedStretch {
    /// Where its bytes begin and end in the file.
    fn file_range(&self) -> (u64, u64) {
        (self.offset, self.offset + (self.file_end - self.start))
    }
}

/// Puts memory into the file, in ascending order. Pages of zeros become holes: of the file, or between PT_LOADs.
pub(super) struct Placed {
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
    pub(super) fn put(&mut self, start: u64, bytes: &[u8], sink: &mut dyn Sink) -> Result<(), Error> {
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

    /// Puts memory that has no zeros to be spared, without a look at it.
    pub(super) fn put_unread(&mut self, Stretch { start, end }: Stretch) {
        let offset = self.end.next_multiple_of(self.page_bytes) + start % self.page_bytes;
        self.stretches.push(PlacedStretch { start, end, offset, file_end: end });
        self.end = offset + (end - start);
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
            pulled: 0,
        };
        let expected = [given[0], given[1], segment(0xffff_0000_0400_0000, 0x4400_0000, 0x1000)];
        assert_eq!(segments(&facts), expected);
    }
}
