//! Page tables of our own, in memory that the processor looks into by itself. What their entries say is the architecture's:
//! a [`Format`].
//!
//! # Terms
//! - **level**: of tables. Those of level 0 have the entries of pages, the highest level is the root's.
//! - **room**: the memory that tables come from. It is fixed: what they cost does not grow with the machine's memory.

pub mod long;
pub mod short;
#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicU32, Ordering};

/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;
const PAGE_SHIFT: u32 = 12;

/// What a page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The image's code.
    Text,
    /// What of the image is never written.
    Constants,
    /// What is.
    Data,
    /// The crashed machine's memory, which is only read.
    Ram,
    /// Registers of a device.
    Device,
}

/// How a processor wants its tables. An entry of 0 is none.
pub trait Format {
    /// Bytes of an entry: 4 or 8.
    fn entry_bytes(&self) -> usize;

    /// How many levels there are.
    fn levels(&self) -> u32;

    /// Bits of an address that choose the entry in a table of this level.
    fn index_bits(&self, level: u32) -> u32;

    /// The entry of the page at `pa`; `None`: no processor could have one there.
    fn page(&self, pa: u64, purpose: Use) -> Option<u64>;

    /// Where the page of an entry is.
    fn page_at(&self, entry: u64) -> u64;

    /// The entry that leads to the table at `pa`. Rights are decided by the page's.
    fn table(&self, pa: u64) -> u64;

    /// Where the table is that an entry leads to.
    fn table_at(&self, entry: u64) -> u64;

    /// Does what it takes that the processor sees a part of an entry that was written.
    fn show(&self, _written: &AtomicU32) {}
}

/// Memory for tables, in words: entries have one or two.
#[repr(C, align(4096))]
pub struct Room<const WORDS: usize>([AtomicU32; WORDS]);

impl<const WORDS: usize> Room<WORDS> {
    /// Nothing is in it.
    pub const fn empty() -> Self {
        Self([const { AtomicU32::new(0) }; WORDS])
    }

    /// All of it.
    pub const fn words(&self) -> &[AtomicU32] {
        &self.0
    }
}

/// A page could not be mapped: the room is used up, or the address cannot exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("physical address {0:#x} cannot be mapped")]
pub struct CannotMap(pub u64);

/// A root and what it leads to.
pub struct Tables<'a, F> {
    format: F,
    room: &'a [AtomicU32],
    room_pa: u64,
    /// Bytes of the room in use.
    used: usize,
    /// Where in the room the root is.
    root: usize,
}

impl<'a, F: Format> Tables<'a, F> {
    /// Tables that map nothing, in a room of zeros that lies at `room_pa`.
    ///
    /// # Errors
    /// If there is no room for the root.
    pub fn new(format: F, room: &'a [AtomicU32], room_pa: u64) -> Result<Self, CannotMap> {
        let mut tables = Self { format, room, room_pa, used: 0, root: 0 };
        tables.root = tables.add(tables.format.levels().saturating_sub(1)).ok_or(CannotMap(room_pa))?;
        Ok(tables)
    }

    /// Where the root is.
    pub const fn root_pa(&self) -> u64 {
        self.room_pa + self.root as u64
    }

    /// Maps a page where none is.
    ///
    /// # Errors
    /// [`CannotMap`].
    pub fn map(&mut self, va: usize, pa: u64, purpose: Use) -> Result<(), CannotMap> {
        let entry = self.format.page(pa, purpose).ok_or(CannotMap(pa))?;
        let place = self.leaf(va).ok_or(CannotMap(pa))?;
        self.set(place, entry).ok_or(CannotMap(pa))
    }

    /// Takes the page at `va` away; says whether there was one, which the processor may remember.
    pub fn unmap(&mut self, va: usize) -> bool {
        let Some(place) = self.leaf(va) else { return false };
        self.entry(place).is_some_and(|entry| entry != 0) && self.set(place, 0).is_some()
    }

    /// The physical address of the page at `va`.
    pub fn page_at(&mut self, va: usize) -> Option<u64> {
        let place = self.leaf(va)?;
        self.entry(place).filter(|entry| *entry != 0).map(|entry| self.format.page_at(entry))
    }

    /// Where in the room the entry of the page at `va` is; tables on the way are made.
    fn leaf(&mut self, va: usize) -> Option<usize> {
        let mut table = self.root;
        for level in (1..self.format.levels()).rev() {
            let place = self.place(table, va, level);
            table = match self.entry(place)? {
                0 => {
                    let next = self.add(level - 1)?;
                    self.set(place, self.format.table(self.room_pa + next as u64))?;
                    next
                }
                entry => usize::try_from(self.format.table_at(entry).checked_sub(self.room_pa)?).ok()?,
            };
        }
        Some(self.place(table, va, 0))
    }

    fn place(&self, table: usize, va: usize, level: u32) -> usize {
        let shift = PAGE_SHIFT + (0..level).map(|below| self.format.index_bits(below)).sum::<u32>();
        let index = (va >> shift) & ((1 << self.format.index_bits(level)) - 1);
        table + index * self.format.entry_bytes()
    }

    /// Takes room for one more table, which is aligned to its size.
    fn add(&mut self, level: u32) -> Option<usize> {
        let bytes = self.format.entry_bytes() << self.format.index_bits(level);
        let free_pa = self.room_pa + self.used as u64;
        let table_pa = free_pa.next_multiple_of(bytes as u64);
        let table = usize::try_from(table_pa - self.room_pa).ok()?;
        self.used = table + bytes;
        (self.used <= size_of_val(self.room)).then_some(table)
    }

    fn words(&self, place: usize) -> Option<&'a [AtomicU32]> {
        let words = size_of::<AtomicU32>();
        self.room.get(place / words..)?.get(..self.format.entry_bytes() / words)
    }

    fn entry(&self, place: usize) -> Option<u64> {
        let words = self.words(place)?.iter().rev();
        Some(words.fold(0, |high, word| high << 32 | u64::from(word.load(Ordering::Relaxed))))
    }

    /// The processor never sees half an entry: what makes it one is in the low word, which is written last and taken away
    /// first. (There is no store of two words that it would see at once on every processor, before the MMU is on.)
    fn set(&self, place: usize, entry: u64) -> Option<()> {
        #[expect(clippy::cast_possible_truncation, reason = "the halves")]
        let halves = [entry as u32, (entry >> 32) as u32];
        let write = |(word, half): (&AtomicU32, u32)| {
            word.store(half, Ordering::Release);
            self.format.show(word);
        };
        let words = self.words(place)?.iter().zip(halves);
        if entry == 0 {
            words.for_each(write)
        } else {
            words.rev().for_each(write)
        }
        Some(())
    }
}
