//! A note of our own, behind the others in every vmcore written here.
//!
//! It keeps what the formats have no place for (a kdump file has no elfcorehdr, an ELF file no name of the machine), so
//! that a dump converted and converted back is the same. Other tools pass over notes they do not know.
//!
//! All numbers are little-endian: dump level (8), crash time (8), utsname (390), 2 zeros; p_vaddr, p_paddr and p_memsz (8 each) of
//! each PT_LOAD; and if there are any, how many pages are there only because a receiver asked for them (8).

use vmcore::elfcorehdr::LoadSegment;
use vmcore::le;
use vmcore::notes::{NoteTooLong, Notes, push_note};
use wire::UTSNAME_BYTES;

use super::{Facts, map_of};

const NAME: &[u8] = b"RCAPTURE";
/// Not one of the kernel's note types: some tools look at the type first.
const TYPE: u32 = 0x7263_0001;

/// Dump level, crash time, utsname, and padding to 8.
const FIXED_BYTES: usize = 8 + 8 + UTSNAME_BYTES + 2;
/// p_vaddr, p_paddr, p_memsz.
const SEGMENT_BYTES: usize = 24;

/// The notes of `facts` and our own.
///
/// # Errors
/// Never with less than 4 GiB of segments.
pub(crate) fn with_own_note(facts: &Facts) -> Result<Vec<u8>, NoteTooLong> {
    let mut desc = Vec::with_capacity(FIXED_BYTES + facts.segments.len() * SEGMENT_BYTES);
    desc.extend_from_slice(&u64::from(facts.dump_level).to_le_bytes());
    desc.extend_from_slice(&facts.crash_time.to_le_bytes());
    desc.extend_from_slice(&facts.utsname);
    desc.extend_from_slice(&[0; 2]);
    for segment in &facts.segments {
        for word in [segment.p_vaddr, segment.p_paddr, segment.p_memsz] {
            desc.extend_from_slice(&word.to_le_bytes());
        }
    }
    if facts.pulled != 0 {
        desc.extend_from_slice(&facts.pulled.to_le_bytes());
    }
    let mut notes = facts.notes.clone();
    push_note(NAME, TYPE, &desc, &mut notes)?;
    Ok(notes)
}

/// Takes our own note off the end of the notes of `facts`, and believes it.
pub(super) fn take_own_note(facts: &mut Facts) {
    let mut walk = Notes::new(&facts.notes);
    loop {
        let before = facts.notes.len() - walk.remaining().len();
        let Some(note) = walk.next() else { return };
        if note.name == NAME && note.n_type == TYPE && note.is_complete {
            if let Some(own) = Own::parse(note.desc) {
                facts.dump_level = own.dump_level;
                facts.crash_time = own.crash_time;
                facts.utsname = own.utsname;
                facts.map = map_of(&own.segments);
                facts.segments = own.segments;
                facts.pulled = own.pulled;
            }
            facts.notes.truncate(before);
            return;
        }
    }
}

struct Own {
    dump_level: u8,
    crash_time: u64,
    utsname: [u8; UTSNAME_BYTES],
    segments: Vec<LoadSegment>,
    pulled: u64,
}

impl Own {
    fn parse(desc: &[u8]) -> Option<Self> {
        let (fixed, segments) = desc.split_at_checked(FIXED_BYTES)?;
        let segment = |bytes: &[u8]| {
            let (p_vaddr, p_paddr) = (le::u64_at(bytes, 0)?, le::u64_at(bytes, 8)?);
            let p_memsz = le::u64_at(bytes, 16)?;
            Some(LoadSegment { p_vaddr, p_paddr, p_offset: p_paddr, p_filesz: p_memsz, p_memsz })
        };
        Some(Self {
            dump_level: u8::try_from(le::u64_at(fixed, 0)?).ok()?,
            crash_time: le::u64_at(fixed, 8)?,
            utsname: le::array_at(fixed, 16)?,
            segments: segments.chunks_exact(SEGMENT_BYTES).filter_map(segment).collect(),
            pulled: le::u64_at(segments.chunks_exact(SEGMENT_BYTES).remainder(), 0).unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::memory::MemoryMap;
    use vmcore::headers::Machine;

    #[test]
    fn what_the_note_says_is_read_again_whether_pages_were_pulled_or_not() {
        let segment =
            |p_paddr| LoadSegment { p_vaddr: 7, p_paddr, p_offset: p_paddr, p_filesz: 4096, p_memsz: 4096 };
        for (segments, pulled) in
            [(vec![], 0), (vec![segment(0x1000), segment(0x9000)], 0), (vec![segment(0x1000)], 5)]
        {
            let facts = Facts {
                machine: Machine::X86_64,
                page_shift: 12,
                utsname: [1; UTSNAME_BYTES],
                crash_time: 2,
                dump_level: 31,
                map: map_of(&segments),
                segments,
                notes: b"others".to_vec(),
                is_complete: true,
                pulled,
            };
            let mut read = Facts {
                notes: with_own_note(&Facts { notes: Vec::new(), ..facts.clone() }).unwrap(),
                map: MemoryMap::default(),
                segments: Vec::new(),
                utsname: [0; UTSNAME_BYTES],
                crash_time: 0,
                dump_level: 0,
                pulled: 0,
                ..facts.clone()
            };
            take_own_note(&mut read);
            assert_eq!((read.dump_level, read.crash_time, read.utsname), (31, 2, [1; UTSNAME_BYTES]));
            assert_eq!((&read.segments, read.pulled, read.notes.len()), (&facts.segments, pulled, 0));
        }
    }
}
