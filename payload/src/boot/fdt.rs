//! The flattened device tree as a sequence of nodes and properties (Devicetree Specification 0.4, 5).
//!
//! The crate dtoolkit reads trees, too, but refuses one as a whole for a name longer than the specification's 31 bytes, which
//! Linux does not mind and stock trees have (`snps,dis-del-phy-power-chg-quirk`); without that check it panics on a damaged
//! one. After a crash the useful half of a bad tree is better than none of it: here damage ends the sequence.

use alloc::vec;
use alloc::vec::Vec;

use memory::{PhysAddr, PhysMemory};

use super::{at, read_array};

const MAGIC: u32 = 0xd00d_feed;
/// The first version with the sizes of both blocks.
const VERSION: u32 = 17;

/// Words of the structure block (5.4.1).
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// Bytes that a block may have; those of large servers have a fifth of it.
pub const MAX_BLOCK_BYTES: u32 = 512 * 1024;

/// Why a tree, or the rest of it, is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FdtError {
    /// What there is cannot be read.
    #[error("it cannot be read at {0}")]
    Unreadable(PhysAddr),
    /// There is something else.
    #[error("no device tree at {0}")]
    Magic(PhysAddr),
    /// From before 2007, or from a future that broke with the past.
    #[error("version {version}, compatible with {compatible}, is not understood")]
    Version {
        /// What it is.
        version: u32,
        /// And what it says it can be read as.
        compatible: u32,
    },
    /// More than any machine needs.
    #[error("a block of {0} bytes is too large")]
    TooLarge(u32),
    /// It is damaged, or cut.
    #[error("it is damaged {0:#x} bytes from the start of its structure")]
    Damaged(usize),
}

/// A tree, copied.
#[derive(Debug)]
pub struct Fdt {
    structure: Vec<u8>,
    strings: Vec<u8>,
}

/// A step through a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A node begins; all its properties come before its children.
    Begin(&'a [u8]),
    /// Of the node that began last and has not ended.
    Property(&'a [u8], &'a [u8]),
    /// It ends.
    End,
}

impl Fdt {
    /// Copies the tree at `pa`.
    ///
    /// # Errors
    /// If there is none. What it is made of shows in [`events`](Self::events).
    pub fn read(memory: &impl PhysMemory, pa: PhysAddr) -> Result<Self, FdtError> {
        let words = read_array::<40>(memory, pa).map_err(|fault| FdtError::Unreadable(fault.pa))?;
        let (words, _) = words.as_chunks::<4>();
        let mut words = words.iter().map(|word| u32::from_be_bytes(*word));
        let mut word = || words.next().unwrap_or(0);
        // Of the specification's fdt_header, in its order.
        let [magic, _totalsize, off_dt_struct, off_dt_strings, _off_mem_rsvmap] = [(); 5].map(|()| word());
        let [version, last_comp_version, _boot_cpuid_phys, size_dt_strings, size_dt_struct] =
            [(); 5].map(|()| word());
        if magic != MAGIC {
            return Err(FdtError::Magic(pa));
        }
        if version < VERSION || last_comp_version > VERSION {
            return Err(FdtError::Version { version, compatible: last_comp_version });
        }
        let block = |offset: u32, bytes: u32| {
            if bytes > MAX_BLOCK_BYTES {
                return Err(FdtError::TooLarge(bytes));
            }
            let mut block = vec![0; bytes as usize];
            let read = memory.read(at(pa, offset.into()), &mut block);
            read.map(|()| block).map_err(|fault| FdtError::Unreadable(fault.pa))
        };
        Ok(Self {
            structure: block(off_dt_struct, size_dt_struct)?,
            strings: block(off_dt_strings, size_dt_strings)?,
        })
    }

    /// From its root to where it ends, or is damaged: that is the last item then.
    pub fn events(&self) -> impl Iterator<Item = Result<Event<'_>, FdtError>> {
        let mut at = Some(0);
        core::iter::from_fn(move || {
            let from = at?;
            let (item, next) = match self.event(from) {
                None => (Some(Err(FdtError::Damaged(from))), None),
                Some(None) => (None, None),
                Some(Some((event, next))) => (Some(Ok(event)), Some(next)),
            };
            at = next;
            item
        })
    }

    /// What is at `from`, and where it goes on. `Some(None)`: the end; `None`: nothing that makes sense.
    #[expect(clippy::option_option, reason = "damage and the end are not the same")]
    fn event(&self, mut from: usize) -> Option<Option<(Event<'_>, usize)>> {
        loop {
            let word = self.word(from)?;
            from += 4;
            return Some(Some(match word {
                NOP => continue,
                END => return Some(None),
                END_NODE => (Event::End, from),
                BEGIN_NODE => {
                    let name = text(self.structure.get(from..)?)?;
                    (Event::Begin(name), (from + name.len() + 1).next_multiple_of(4))
                }
                PROP => {
                    let bytes = usize::try_from(self.word(from)?).ok()?;
                    let name = usize::try_from(self.word(from + 4)?).ok()?;
                    let name = text(self.strings.get(name..)?)?;
                    let value = self.structure.get(from + 8..)?.get(..bytes)?;
                    (Event::Property(name, value), (from + 8 + bytes).next_multiple_of(4))
                }
                _ => return None,
            }));
        }
    }

    fn word(&self, from: usize) -> Option<u32> {
        self.structure.get(from..)?.first_chunk().copied().map(u32::from_be_bytes)
    }
}

/// The text at the start of `bytes`, without its NUL.
pub fn text(bytes: &[u8]) -> Option<&[u8]> {
    bytes.split(|byte| *byte == 0).next().filter(|text| text.len() < bytes.len())
}
