//! A journal as a dump.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::memory::PhysAddr;
use wire::SessionEnd;

use super::page::{DecodedBlocks, Made, Piece};
use super::{Assembly, Dump, Facts, FactsError, PageReader, PageState};
use crate::Error;
use crate::file::ReadAt;
use crate::index::{Place, Summary};
use crate::journal::{BlockEntry, Entry, Reader, Tail};
use crate::pipeline;

/// A record of a journal, before its block is decoded.
enum Step {
    Block(u32, BlockEntry),
    Done(Done),
}

/// And after.
enum Done {
    Block(BlockEntry, Option<Summary>),
    End(SessionEnd),
    Restart(u32),
    Nothing,
}

/// What a journal holds.
pub(crate) struct Recovered {
    /// The session.
    pub(crate) assembly: Assembly,
    /// Bytes of its whole records.
    pub(crate) length: u64,
    /// What follows them.
    pub(crate) tail: Tail,
}

impl Recovered {
    /// Reads a journal from its start to where it ends now.
    ///
    /// # Errors
    /// [`Error`], if it is no journal, or none of a session.
    pub(crate) fn read(path: &Path, file: &(dyn ReadAt + Send + Sync)) -> Result<Self, Error> {
        let damaged = |what: String| Error::Damaged { path: path.to_owned(), what };
        let mut reader = Reader::new(file).map_err(|error| damaged(error.to_string()))?;
        let mut next = || reader.next_entry().map_err(Error::io("read journal", path));
        let Some(Entry::Session(session, header)) = next()? else {
            return Err(damaged(
                "the journal ends before its session header: nothing was received".to_owned(),
            ));
        };
        let page_shift = u32::from(header.page_shift);
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut assembly = Assembly::new(session, *header, directory);
        let index = |error| Error::io("write the index of", path)(error);
        let mut number = 0;
        let mut failed = None;
        // Blocks are decoded by several threads; the rest keeps its place among them.
        let steps = std::iter::from_fn(|| match next() {
            Ok(Some(Entry::Block(block))) => {
                number += 1;
                Some(Step::Block(number - 1, block))
            }
            Ok(Some(Entry::End(end))) => Some(Step::Done(Done::End(end))),
            Ok(Some(Entry::Restart(first))) => Some(Step::Done(Done::Restart(first))),
            Ok(Some(Entry::Session(..) | Entry::Stored(..))) => Some(Step::Done(Done::Nothing)),
            Ok(None) => None,
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        let decode = || {
            move |step| match step {
                Step::Block(number, block) => {
                    let summary = Summary::of(number, &block.encoded, page_shift).ok();
                    Done::Block(block, summary)
                }
                Step::Done(done) => done,
            }
        };
        pipeline::in_order(steps, decode, |done| {
            match done {
                Done::Block(block, summary) => {
                    let BlockEntry { stream, number, generation, offset, encoded } = block;
                    assembly
                        .add((stream, number), generation, offset, encoded.len(), summary)
                        .map_err(index)?;
                }
                Done::End(end) => assembly.end(end),
                Done::Restart(first_block) => assembly.restart(first_block).map_err(index)?,
                Done::Nothing => {}
            }
            Ok::<_, Error>(())
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(Self { assembly, length: reader.position(), tail: reader.tail() })
    }
}

/// A journal (or the blocks of a recording) as a dump.
pub struct JournalDump {
    path: PathBuf,
    file: Arc<dyn ReadAt + Send + Sync>,
    assembly: Assembly,
    facts: Facts,
    tail: Tail,
}

impl JournalDump {
    /// Reads a journal from its start to where it ends now.
    ///
    /// # Errors
    /// [`Error`], if it is no journal, or none of a session.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::read(path, Arc::new(crate::file::open(path)?))
    }

    /// Reads the journal in `file`, which errors call `path`.
    ///
    /// # Errors
    /// [`Error`], if it is no journal, or none of a session.
    pub fn read(path: &Path, file: Arc<dyn ReadAt + Send + Sync>) -> Result<Self, Error> {
        let Recovered { assembly, tail, .. } = Recovered::read(path, &*file)?;
        Self::new(path, file, assembly, tail)
    }

    /// What the receiver has assembled while it wrote the journal.
    ///
    /// # Errors
    /// [`Error`], if it is of a machine this program does not know.
    pub fn received(path: &Path, file: File, assembly: Assembly) -> Result<Self, Error> {
        Self::new(path, Arc::new(file), assembly, Tail::Clean)
    }

    fn new(
        path: &Path,
        file: Arc<dyn ReadAt + Send + Sync>,
        assembly: Assembly,
        tail: Tail,
    ) -> Result<Self, Error> {
        let facts = assembly.facts().map_err(|error| match error {
            FactsError::Machine(e_machine) => Error::Damaged {
                path: path.to_owned(),
                what: format!(
                    "the crashed machine's architecture (e_machine {e_machine}) is not known to this version"
                ),
            },
            FactsError::Index(error) => Error::io("read the index of", path)(error),
        })?;
        Ok(Self { path: path.to_owned(), file, assembly, facts, tail })
    }

    /// What it holds.
    pub(crate) fn assembly(&self) -> &Assembly {
        &self.assembly
    }

    /// How the journal ended when it was read.
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// Where a page is, and how many from it on.
    fn run_at(&self, pfn: u64) -> Result<(Option<Place>, u64), Error> {
        self.assembly.index.run_at(pfn).map_err(Error::io("read the index of", &self.path))
    }
}

impl Dump for JournalDump {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn state_at(&self, pfn: u64) -> Result<(PageState, u64), Error> {
        let (place, pages) = self.run_at(pfn)?;
        let state = match place {
            Some(Place::Block { .. }) => PageState::Data,
            Some(Place::Fill(word)) => PageState::Filled(word),
            Some(Place::Hole(_)) | None => {
                if let Some(has_all) = self.assembly.has_parts(pfn, &self.facts.map) {
                    return Ok((if has_all { PageState::Data } else { PageState::Missing }, 1));
                }
                // Only the first and last page of a range of RAM can have come in parts.
                let edge = self.next_edge(pfn);
                let state = match place {
                    Some(Place::Hole(reason)) => PageState::Hole(reason),
                    _ if self.facts.is_complete => PageState::Excluded,
                    _ => PageState::Missing,
                };
                return Ok((state, pages.min(edge)));
            }
        };
        Ok((state, pages))
    }

    fn session(&self) -> Option<&Assembly> {
        Some(&self.assembly)
    }

    fn reader(&self) -> Box<dyn PageReader + '_> {
        Box::new(BlockReader { dump: self, blocks: DecodedBlocks::default() })
    }
}

impl JournalDump {
    /// How many pages from `pfn` on (at least 1) come before the next one that is RAM only in part.
    fn next_edge(&self, pfn: u64) -> u64 {
        let page_bytes = self.facts.page_bytes() as u64;
        let shift = self.facts.page_shift;
        let after = PhysAddr(pfn.saturating_add(1).checked_shl(shift).unwrap_or(u64::MAX));
        let ranges = self.facts.map.ranges();
        let from = ranges.partition_point(|range| range.end <= after);
        ranges
            .get(from..)
            .unwrap_or_default()
            .iter()
            .flat_map(|range| [range.start, range.end])
            .filter(|edge| edge.0 % page_bytes != 0)
            .map(|edge| edge.pfn(shift).0)
            .find(|&edge| edge > pfn)
            .map_or(u64::MAX, |edge| edge - pfn)
    }
}

/// Reads pages out of blocks, of which it keeps the last few decoded.
struct BlockReader<'a> {
    dump: &'a JournalDump,
    blocks: DecodedBlocks,
}

impl BlockReader<'_> {
    fn copy(&mut self, pfn: u64, piece: &Piece, page: &mut [u8]) -> Result<(), Error> {
        let bad = |what: String| Error::Page { pfn, what };
        let raw = match self.blocks.get(piece.block) {
            Some(raw) => raw,
            None => {
                let raw = piece.decode(&*self.dump.file).map_err(|error| match error.kind() {
                    std::io::ErrorKind::InvalidData => bad(error.to_string()),
                    _ => Error::io("read journal", &self.dump.path)(error),
                })?;
                self.blocks.keep(piece.block, raw)
            }
        };
        let has_it = piece.copy(&raw, page);
        if has_it { Ok(()) } else { Err(bad(format!("block {} has changed", piece.block))) }
    }
}

impl PageReader for BlockReader<'_> {
    fn read(&mut self, pfn: u64, page: &mut [u8]) -> Result<(), Error> {
        let made = self.dump.assembly.page(pfn).map_err(Error::io("read the index of", &self.dump.path))?;
        match made {
            Made::Whole(piece) => self.copy(pfn, &piece, page),
            Made::Filled(word) => {
                super::fill(page, word);
                Ok(())
            }
            Made::Parts(pieces) => {
                page.fill(0);
                pieces.iter().try_for_each(|piece| self.copy(pfn, piece, page))
            }
            Made::Hole | Made::Nothing => Err(Error::Page { pfn, what: "not in the dump".to_owned() }),
        }
    }
}
