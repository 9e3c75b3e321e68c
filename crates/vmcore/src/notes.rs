//! ELF notes: walked in a buffer of crashed memory or a file, and built.
//!
//! A note is three 32-bit words (`n_namesz`, `n_descsz`, `n_type`), the name with its NUL, and the descriptor, each
//! padded to 4 bytes (Linux include/uapi/linux/elf.h; the padding is 4 in 64-bit cores too).

use alloc::vec::Vec;

use crate::le;

/// Name of the notes a CPU saves its state in.
pub const CORE_NAME: &[u8] = b"CORE";
/// Name of the note that holds VMCOREINFO; its type is 0.
pub const VMCOREINFO_NAME: &[u8] = b"VMCOREINFO";
/// Type of a `CORE` note that holds registers (`struct elf_prstatus`).
pub const NT_PRSTATUS: u32 = 1;

/// Bytes of the three words that begin a note.
const NHDR_BYTES: usize = 12;

/// One note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    /// Name without the NUL that ends it.
    pub name: &'a [u8],
    /// Type; what it means depends on the name.
    pub n_type: u32,
    /// Descriptor: as much of it as the buffer has.
    pub desc: &'a [u8],
    /// Whether the buffer had all of it.
    pub is_complete: bool,
}

/// Walks the notes of a buffer. It ends, as the kernel does it, at the first note without a name: the rest of a CPU's
/// buffer is zero, and that of a CPU which saved nothing is zero as a whole.
#[derive(Clone, Debug)]
pub struct Notes<'a> {
    rest: &'a [u8],
}

impl<'a> Notes<'a> {
    /// The notes in `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The notes' bytes that are still to come. After the walk: what is no note.
    #[must_use]
    pub const fn remaining(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Notes<'a> {
    type Item = Note<'a>;

    fn next(&mut self) -> Option<Note<'a>> {
        let name_bytes = usize::try_from(le::u32_at(self.rest, 0)?).ok()?;
        let desc_bytes = usize::try_from(le::u32_at(self.rest, 4)?).ok()?;
        let n_type = le::u32_at(self.rest, 8)?;
        if name_bytes == 0 {
            return None;
        }
        let (_, after_header) = self.rest.split_at_checked(NHDR_BYTES)?;
        let name = after_header.get(..name_bytes)?;
        let after_name = after_header.get(padded(name_bytes)?..)?;
        let is_complete = desc_bytes <= after_name.len();
        let desc = after_name.get(..desc_bytes).unwrap_or(after_name);
        self.rest = padded(desc_bytes).and_then(|bytes| after_name.get(bytes..)).unwrap_or_default();
        Some(Note { name: name.strip_suffix(&[0]).unwrap_or(name), n_type, desc, is_complete })
    }
}

/// The VMCOREINFO text among the notes of a buffer; cut short if the buffer is.
#[must_use]
pub fn find_vmcoreinfo(bytes: &[u8]) -> Option<&[u8]> {
    Notes::new(bytes).find(|note| note.name == VMCOREINFO_NAME).map(|note| note.desc)
}

/// Name or descriptor of 4 GiB and more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} bytes are too many for a note")]
pub struct NoteTooLong(pub usize);

/// Appends a note to `out`.
///
/// # Errors
/// [`NoteTooLong`] if a length does not fit in its 32-bit word.
pub fn push_note(name: &[u8], n_type: u32, desc: &[u8], out: &mut Vec<u8>) -> Result<(), NoteTooLong> {
    let name_bytes = name.len().saturating_add(1);
    for length in [name_bytes, desc.len()] {
        let word = u32::try_from(length).map_err(|_| NoteTooLong(length))?;
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&n_type.to_le_bytes());
    out.extend_from_slice(name);
    out.push(0);
    pad(name_bytes, out);
    out.extend_from_slice(desc);
    pad(desc.len(), out);
    Ok(())
}

/// Appends the zeros that follow a field of `length` bytes.
fn pad(length: usize, out: &mut Vec<u8>) {
    out.extend((0..length.wrapping_neg() % 4).map(|_| 0));
}

/// `length` with its padding; `None` if that overflows.
fn padded(length: usize) -> Option<usize> {
    length.checked_next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_note_is_these_bytes() {
        let mut bytes = Vec::new();
        push_note(VMCOREINFO_NAME, 0, b"A=1\nB", &mut bytes).unwrap();
        assert_eq!(bytes, *b"\x0b\0\0\0\x05\0\0\0\0\0\0\0VMCOREINFO\0\0A=1\nB\0\0\0");
        assert_eq!(find_vmcoreinfo(&bytes), Some(&b"A=1\nB"[..]));
    }

    #[test]
    fn the_buffer_of_a_cpu_that_saved_nothing_has_no_notes() {
        assert_eq!(Notes::new(&[0; 424]).count(), 0);
        assert_eq!(Notes::new(&[]).count(), 0);
    }

    #[test]
    fn the_walk_ends_at_the_first_zero_note() {
        let mut bytes = Vec::new();
        push_note(CORE_NAME, NT_PRSTATUS, &[7; 336], &mut bytes).unwrap();
        bytes.extend([0; 12]);
        push_note(CORE_NAME, NT_PRSTATUS, &[8; 336], &mut bytes).unwrap();
        let notes: Vec<_> = Notes::new(&bytes).collect();
        assert_eq!(notes, vec![Note { name: CORE_NAME, n_type: 1, desc: &[7; 336], is_complete: true }]);
    }

    #[test]
    fn a_descriptor_that_is_cut_short_gives_what_there_is() {
        let mut bytes = Vec::new();
        push_note(VMCOREINFO_NAME, 0, b"OSRELEASE=6.1.0", &mut bytes).unwrap();
        bytes.truncate(bytes.len() - 8);
        let mut notes = Notes::new(&bytes);
        let note = notes.next().unwrap();
        assert_eq!((note.desc, note.is_complete), (&b"OSRELEAS"[..], false));
        assert_eq!(notes.next(), None);
    }

    #[test]
    fn absurd_lengths_end_the_walk() {
        let huge_name = [0xff, 0xff, 0xff, 0xff, 4, 0, 0, 0, 1, 0, 0, 0, b'C', 0, 0, 0];
        assert_eq!(Notes::new(&huge_name).count(), 0);
        let huge_desc = [2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, b'C', 0, 0, 0, 9];
        let notes: Vec<_> = Notes::new(&huge_desc).collect();
        assert_eq!(notes, vec![Note { name: b"C", n_type: 1, desc: &[9], is_complete: false }]);
    }

    proptest! {
        #[test]
        fn notes_come_back_as_they_were_built(
            notes in prop::collection::vec(
                ("[A-Z]{0,12}", any::<u32>(), prop::collection::vec(any::<u8>(), 0..40)),
                0..6,
            )
        ) {
            let mut bytes = Vec::new();
            for (name, n_type, desc) in &notes {
                push_note(name.as_bytes(), *n_type, desc, &mut bytes).unwrap();
            }
            prop_assert_eq!(bytes.len() % 4, 0);
            let walked: Vec<_> = Notes::new(&bytes).collect();
            prop_assert_eq!(walked.len(), notes.len());
            for (note, (name, n_type, desc)) in walked.iter().zip(&notes) {
                prop_assert_eq!(note.name, name.as_bytes());
                prop_assert_eq!((note.n_type, note.desc, note.is_complete), (*n_type, &desc[..], true));
            }
        }

        #[test]
        fn any_bytes_can_be_walked(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Notes::new(&bytes).count() <= bytes.len() / NHDR_BYTES);
        }
    }
}
