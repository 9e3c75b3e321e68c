//! A table with gaps that may be larger than memory: the part that was used last is in memory, the rest in a file.
//!
//! An entry is `N` words, and not there if all of them are 0. Entries lie in chunks of [`CHUNK_BYTES`]. The file has no
//! name, and is gone with the table; a small table never makes one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::file::ReadAt;

const CHUNK_WORDS: usize = 512;
const CHUNK_BYTES: usize = CHUNK_WORDS * 8;

/// Chunks of a table: with two words for each page of 4 KiB, those of 16 TiB of memory.
const MAX_CHUNKS: usize = 1 << 24;

/// A table of entries of `N` words, by number.
pub(crate) struct Table<const N: usize> {
    chunks: Mutex<Chunks>,
}

impl<const N: usize> Table<N> {
    const ENTRIES: u64 = (CHUNK_WORDS / N) as u64;

    /// An empty table. At most `in_memory` of its chunks are in memory, the others in a file in `directory`, or else in
    /// the one for temporary files.
    pub(crate) fn new(directory: &Path, in_memory: usize) -> Self {
        let chunks = Chunks {
            directory: directory.to_owned(),
            in_memory: in_memory.max(1),
            file: None,
            cached: BTreeMap::new(),
            ages: BTreeMap::new(),
            clock: 0,
            stored: BTreeMap::new(),
            free: Vec::new(),
            slots: 0,
        };
        Self { chunks: Mutex::new(chunks) }
    }

    fn with<T>(&self, run: impl FnOnce(&mut Chunks) -> io::Result<T>) -> io::Result<T> {
        run(&mut self.chunks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The words of an entry in its chunk.
    fn place(number: u64) -> std::ops::Range<usize> {
        let index = usize::try_from(number % Self::ENTRIES).unwrap_or(0) * N;
        index..index + N
    }

    /// Entry `number`; zeros if it is not there.
    ///
    /// # Errors
    /// Those of the file.
    pub(crate) fn get(&self, number: u64) -> io::Result<[u64; N]> {
        self.with(|chunks| {
            let chunk = chunks.chunk(number / Self::ENTRIES, false)?;
            let words = chunk.and_then(|words| words.get(Self::place(number))?.first_chunk());
            Ok(words.copied().unwrap_or([0; N]))
        })
    }

    /// Puts an entry; zeros take it away.
    ///
    /// # Errors
    /// Those of the file, and `OutOfMemory` if no table may be that large.
    pub(crate) fn set(&mut self, number: u64, entry: [u64; N]) -> io::Result<()> {
        self.with(|chunks| {
            let words = chunks.chunk(number / Self::ENTRIES, true)?;
            if let Some(place) = words.and_then(|words| words.get_mut(Self::place(number))) {
                place.copy_from_slice(&entry);
            }
            Ok(())
        })
    }

    /// The first entry from `number` on that is there.
    ///
    /// # Errors
    /// Those of the file.
    pub(crate) fn next(&self, number: u64) -> io::Result<Option<(u64, [u64; N])>> {
        self.with(|chunks| {
            let mut from = number;
            while let Some(at) = chunks.next(from / Self::ENTRIES) {
                let first = at * Self::ENTRIES;
                let skip = from.saturating_sub(first);
                let words = chunks.chunk(at, false)?.map(|words| words.as_chunks::<N>().0);
                let skipped = usize::try_from(skip).unwrap_or(usize::MAX);
                let found = (skip..)
                    .zip(words.into_iter().flatten().skip(skipped))
                    .find(|(_, entry)| **entry != [0; N]);
                if let Some((index, entry)) = found {
                    return Ok(Some((first + index, *entry)));
                }
                let Some(next) = first.checked_add(Self::ENTRIES) else { break };
                from = next;
            }
            Ok(None)
        })
    }

    /// Chunks that have been made: each takes [`CHUNK_BYTES`] in memory or in the file, and some in memory to be found by.
    pub(crate) fn chunks(&self) -> usize {
        let chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        chunks.cached.len() + chunks.stored.len()
    }

    /// Takes away all entries from `number` to before `end`, and tells how many.
    ///
    /// # Errors
    /// Those of the file.
    pub(crate) fn clear(&mut self, number: u64, end: u64) -> io::Result<u64> {
        let (mut from, mut cleared) = (number, 0);
        while let Some((at, _)) = self.next(from)?.filter(|&(at, _)| at < end) {
            self.set(at, [0; N])?;
            (from, cleared) = (at + 1, cleared + 1);
        }
        Ok(cleared)
    }
}

/// The chunks of a table.
struct Chunks {
    directory: PathBuf,
    in_memory: usize,
    file: Option<File>,
    cached: BTreeMap<u64, Cached>,
    /// When a chunk in memory was last used → which.
    ages: BTreeMap<u64, u64>,
    clock: u64,
    /// Where in the file a chunk lies that is not in memory.
    stored: BTreeMap<u64, u32>,
    /// Places in the file whose chunks are in memory again.
    free: Vec<u32>,
    /// Places in the file.
    slots: u32,
}

struct Cached {
    words: Box<[u64; CHUNK_WORDS]>,
    used: u64,
}

impl Chunks {
    /// The first chunk from this one on.
    fn next(&self, from: u64) -> Option<u64> {
        let cached = self.cached.range(from..).next().map(|(&at, _)| at);
        let stored = self.stored.range(from..).next().map(|(&at, _)| at);
        cached.into_iter().chain(stored).min()
    }

    /// A chunk, in memory from now on; if it is not there and `is_new`, it begins with zeros.
    fn chunk(&mut self, number: u64, is_new: bool) -> io::Result<Option<&mut [u64; CHUNK_WORDS]>> {
        if !self.cached.contains_key(&number) {
            let slot = self.stored.get(&number).copied();
            if slot.is_none() && !is_new {
                return Ok(None);
            }
            if slot.is_none() && self.stored.len() >= MAX_CHUNKS {
                return Err(io::Error::new(io::ErrorKind::OutOfMemory, "more pages than any index has"));
            }
            // First of all: if it fails, nothing is lost.
            while self.cached.len() >= self.in_memory {
                self.evict()?;
            }
            let words = match slot {
                Some(slot) => {
                    let words = self.read(slot)?;
                    self.stored.remove(&number);
                    self.free.push(slot);
                    words
                }
                None => Box::new([0; CHUNK_WORDS]),
            };
            self.cached.insert(number, Cached { words, used: 0 });
        }
        let Some(cached) = self.cached.get_mut(&number) else { return Ok(None) };
        if cached.used != self.clock || self.clock == 0 {
            self.ages.remove(&cached.used);
            self.clock += 1;
            cached.used = self.clock;
            self.ages.insert(self.clock, number);
        }
        Ok(Some(&mut cached.words))
    }

    /// Puts the chunk that was not used for longest into the file.
    fn evict(&mut self) -> io::Result<()> {
        let Some((&used, &number)) = self.ages.first_key_value() else { return Ok(()) };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots += 1;
                self.slots - 1
            }
        };
        if let Some(cached) = self.cached.get(&number) {
            let mut bytes = Vec::with_capacity(CHUNK_BYTES);
            cached.words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
            let written = self.file().and_then(|file| file.write_all_at(&bytes, offset(slot)));
            if let Err(error) = written {
                self.free.push(slot);
                return Err(error);
            }
        }
        self.ages.remove(&used);
        self.cached.remove(&number);
        self.stored.insert(number, slot);
        Ok(())
    }

    fn read(&mut self, slot: u32) -> io::Result<Box<[u64; CHUNK_WORDS]>> {
        let mut bytes = [0; CHUNK_BYTES];
        self.file()?.read_exactly(offset(slot), &mut bytes)?;
        let mut words = Box::new([0; CHUNK_WORDS]);
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Ok(words)
    }

    fn file(&mut self) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            // A dump may be read where nothing can be written.
            None => tempfile::tempfile_in(&self.directory).or_else(|_| tempfile::tempfile())?,
        };
        Ok(self.file.insert(file))
    }
}

/// Where a chunk lies in the file.
fn offset(slot: u32) -> u64 {
    u64::from(slot) * CHUNK_BYTES as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_table_is_a_map_whatever_part_of_it_is_in_memory(
            steps in prop::collection::vec((0u64..4000, 0u64..3, 0u8..12), 1..300),
            in_memory in 1usize..5,
        ) {
            let directory = tempfile::tempdir().unwrap();
            let mut table = Table::<2>::new(directory.path(), in_memory);
            let mut model = BTreeMap::new();
            for (number, word, doing) in steps {
                let number = if doing == 0 { u64::MAX - number } else { number };
                match doing {
                    1 => {
                        table.clear(number, number + 500).unwrap();
                        model.retain(|&at, _| at < number || at >= number + 500);
                    }
                    2..6 => prop_assert_eq!(table.get(number).unwrap()[1], model.get(&number).copied().unwrap_or(0)),
                    6 => {
                        let next = table.next(number).unwrap().map(|(at, entry)| (at, entry[1]));
                        prop_assert_eq!(next, model.range(number..).next().map(|(&at, &word)| (at, word)));
                    }
                    _ => {
                        table.set(number, [0, word]).unwrap();
                        if word == 0 { model.remove(&number); } else { model.insert(number, word); }
                    }
                }
            }
            prop_assert!(std::fs::read_dir(directory.path()).unwrap().next().is_none(), "the file has no name");
        }
    }

    #[test]
    fn where_nothing_can_be_written_the_directory_for_temporary_files_serves() {
        let mut table = Table::<1>::new(Path::new("/nowhere/at/all"), 1);
        for number in (0..100_000).step_by(1000) {
            table.set(number, [number + 1]).unwrap();
        }
        assert_eq!(table.get(3000).unwrap(), [3001]);
    }
}
