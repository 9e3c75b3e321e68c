//! A session that is being received: its directory, its journal, and what it will become.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use wire::{ANSWERS, Cursor, LineStats, SessionEnd, SessionHeader, SessionId};

use super::dmesg::Dmesg;
use super::line::Mode;
use super::progress::Received;
use super::reception::Reason;
use super::syncer::Syncer;
use super::{Options, Outcome, directory};
use crate::Error;
use crate::dump::{Assembly, Dump, Filtered, JournalDump, Recovered};
use crate::file::{append_to, create_new, sync_directory};
use crate::index::Summary;
use crate::info::Pages;
use crate::journal::Writer;
use crate::log::Extent;
use crate::write;

fn shared(assembly: Assembly) -> Arc<RwLock<Assembly>> {
    Arc::new(RwLock::new(assembly))
}

/// A session that is being received.
pub(super) struct Session {
    directory: PathBuf,
    journal_path: PathBuf,
    journal: Writer<File>,
    console: File,
    syncer: Syncer,
    /// Read by a mounted file system, too.
    assembly: Arc<RwLock<Assembly>>,
    dmesg: Dmesg,
    /// The pass that came last.
    pass: u8,
    /// Bytes of all blocks.
    bytes: u64,
    /// What the journal held when this receiver was started: a block number, and where that block begins.
    resume_at: (u32, Cursor),
    /// So many blocks from number 0 on, and then the end, are on disk.
    durable: u32,
    /// How many that will be once the journal is on disk up to this length.
    unsynced: VecDeque<(u64, u32)>,
}

impl Session {
    /// Goes on with the journal of this session that an earlier receiver left in `parent`, or begins one. `notify` is
    /// written to whenever more is on disk.
    pub(super) fn begin(
        parent: &Path,
        id: SessionId,
        header: &SessionHeader,
        mode: Mode,
        notify: UnixStream,
    ) -> Result<Self, Error> {
        match directory::find_unfinished(parent, id, header)? {
            Some((directory, file)) => Self::go_on(directory, file, mode, notify),
            None => Self::create(parent, id, header, notify),
        }
    }

    fn create(
        parent: &Path,
        id: SessionId,
        header: &SessionHeader,
        notify: UnixStream,
    ) -> Result<Self, Error> {
        let directory = directory::create(parent, header)?;
        let journal_path = directory.join("journal");
        let file = create_new(&journal_path)?;
        let io = |error| Error::io("write journal", &journal_path)(error);
        // A second receiver, or a tool that wants to remove it, sees that it is in use.
        file.try_lock().map_err(|error| io(error.into()))?;
        let syncer = Syncer::start(file.try_clone().map_err(io)?, notify);
        let mut journal = Writer::new(file).map_err(io)?;
        journal.session(id, header).map_err(io)?;
        let console = create_new(&directory.join("console.log"))?;
        // What is acknowledged must be found again.
        sync_directory(&directory)?;
        sync_directory(parent)?;
        Ok(Self {
            dmesg: Dmesg::in_directory(&directory),
            assembly: shared(Assembly::new(id, header.clone(), &directory)),
            directory,
            journal_path: journal_path.clone(),
            journal,
            console,
            syncer,
            pass: 0,
            bytes: 0,
            resume_at: (0, Cursor::START),
            durable: 0,
            unsynced: VecDeque::new(),
        })
    }

    fn go_on(directory: PathBuf, file: File, mode: Mode, notify: UnixStream) -> Result<Self, Error> {
        let journal_path = directory.join("journal");
        let io = |error| Error::io("write journal", &journal_path)(error);
        let Recovered { assembly, length, .. } = Recovered::read(&journal_path, &file)?;
        // What the earlier receiver was about to write.
        file.set_len(length).map_err(io)?;
        let journal = Writer::go_on(file.try_clone().map_err(io)?, length);
        let console = append_to(&directory.join("console.log"))?;
        let mut session = Self {
            syncer: Syncer::start(file, notify),
            dmesg: Dmesg::in_directory(&directory),
            directory,
            journal_path: journal_path.clone(),
            journal,
            console,
            pass: 0,
            bytes: assembly.encoded_bytes(),
            assembly: shared(assembly),
            resume_at: (0, Cursor::START),
            durable: 0,
            unsynced: VecDeque::new(),
        };
        session.take_up(mode)?;
        Ok(session)
    }

    /// What is there is put on disk, and the sender is to go on behind what came without a gap: it has another line, or
    /// another receiver, than before.
    pub(super) fn take_up(&mut self, mode: Mode) -> Result<(), Error> {
        let io = |error| Error::io("write journal", &self.journal_path)(error);
        let (next_block, cursor) = self.assembly().resume_at();
        // The sender makes them again. One that does not hear us does not: then they are better than nothing.
        if mode == Mode::Answer && (self.assembly().has_gaps() || next_block < self.assembly().prefix()) {
            self.journal.restart(next_block).map_err(io)?;
            let restarted = self.assembly_mut().restart(next_block);
            restarted.map_err(|error| self.index(error))?;
        }
        self.journal.get_mut().sync_data().map_err(io)?;
        self.pass = cursor.pass;
        self.resume_at = (next_block, cursor);
        self.durable = next_block;
        self.unsynced.clear();
        self.written()
    }

    /// Whether it is the session with this header.
    pub(super) fn is(&self, id: SessionId, header: &SessionHeader) -> bool {
        self.id() == id && self.assembly().header() == header
    }

    /// Bytes of its journal.
    pub(super) fn journal_bytes(&self) -> u64 {
        self.journal.length()
    }

    /// Whether anything but its header has come.
    pub(super) fn has_blocks(&self) -> bool {
        self.assembly().next_block() != 0
    }

    /// Puts the journal on disk, for a later receiver to go on with.
    pub(super) fn suspend(self) -> Result<PathBuf, Error> {
        self.syncer.finish()?;
        Ok(self.directory)
    }

    /// Removes what a session without a block has left.
    pub(super) fn discard(self) -> Result<(), Error> {
        let Self { directory, journal_path, syncer, journal, .. } = self;
        drop(syncer);
        for file in [&journal_path, &directory.join("console.log")] {
            std::fs::remove_file(file).map_err(Error::io("remove", file))?;
        }
        drop(journal);
        std::fs::remove_dir(&directory).map_err(Error::io("remove", &directory))
    }

    pub(super) fn id(&self) -> SessionId {
        self.assembly().session()
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The first block that an earlier receiver has not left behind, and where it begins.
    pub(super) fn resume_at(&self) -> (u32, Cursor) {
        self.resume_at
    }

    /// Takes a block of the passes: into the journal first.
    pub(super) fn block(&mut self, number: u32, generation: u32, encoded: &[u8]) -> Result<(), Error> {
        self.store((0, number), generation, encoded, |_| true)
    }

    /// Takes an answer to a request: into the journal first, if `is_wanted` says so of the pages that it is about.
    pub(super) fn answer(
        &mut self,
        number: u32,
        generation: u32,
        encoded: &[u8],
        is_wanted: impl FnOnce(Range<u64>) -> bool,
    ) -> Result<(), Error> {
        let page_shift = u32::from(self.assembly().header().page_shift);
        self.store((ANSWERS, number), generation, encoded, |summary| {
            summary.and_then(|summary| summary.answers(page_shift)).is_some_and(is_wanted)
        })
    }

    fn store(
        &mut self,
        (stream, number): (u8, u32),
        generation: u32,
        encoded: &[u8],
        is_wanted: impl FnOnce(Option<&Summary>) -> bool,
    ) -> Result<(), Error> {
        let is_here = self.assembly().has((stream, number), generation);
        if is_here.map_err(|error| self.index(error))? {
            return Ok(());
        }
        let page_shift = u32::from(self.assembly().header().page_shift);
        let summary = Summary::of(self.assembly().next_block(), encoded, page_shift).ok();
        if !is_wanted(summary.as_ref()) {
            return Ok(());
        }
        let offset = self
            .journal
            .block(stream, number, generation, encoded)
            .map_err(Error::io("write journal", &self.journal_path))?;
        if let Some(summary) = summary.as_ref().filter(|_| stream == 0) {
            self.pass = summary.header.start.pass;
        }
        self.bytes += encoded.len() as u64;
        let added = self.assembly_mut().add((stream, number), generation, offset, encoded.len(), summary);
        added.map_err(|error| self.index(error))?;
        self.written()
    }

    fn assembly(&self) -> RwLockReadGuard<'_, Assembly> {
        self.assembly.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn assembly_mut(&self) -> RwLockWriteGuard<'_, Assembly> {
        self.assembly.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has come so far, and the journal that it is in, for others to read.
    ///
    /// # Errors
    /// [`Error::Io`], if the journal cannot be had a second time.
    pub(super) fn share(&self) -> Result<(Arc<RwLock<Assembly>>, File), Error> {
        let journal =
            File::open(&self.journal_path).map_err(Error::io("open journal", &self.journal_path))?;
        Ok((Arc::clone(&self.assembly), journal))
    }

    /// The first number of a request that no answer has had yet.
    pub(super) fn next_request(&self) -> u32 {
        self.assembly().next_request()
    }

    /// Bytes of a page, as a power of 2.
    pub(super) fn page_shift(&self) -> u32 {
        self.assembly().header().page_shift.into()
    }

    /// Blocks from number 0 on, without the end, if that has come.
    pub(super) fn end_blocks(&self) -> Option<u32> {
        self.assembly().said_end().map(|end| end.blocks)
    }

    fn index(&self, error: std::io::Error) -> Error {
        Error::io("write the index of", &self.journal_path)(error)
    }

    /// The file with the kernel log, when it has just been written.
    pub(super) fn new_log(&mut self) -> Option<&Path> {
        let assembly = self.assembly.read().unwrap_or_else(PoisonError::into_inner);
        self.dmesg.look_at(&assembly).then(|| self.dmesg.path())
    }

    /// The sender went back: blocks from `first_block` on come again.
    pub(super) fn restart(&mut self, first_block: u32) -> Result<(), Error> {
        self.journal.restart(first_block).map_err(Error::io("write journal", &self.journal_path))?;
        let restarted = self.assembly_mut().restart(first_block);
        restarted.map_err(|error| self.index(error))?;
        self.durable = self.durable.min(first_block);
        self.unsynced.clear();
        self.written()
    }

    /// The sender has said all it had to say.
    pub(super) fn end(&mut self, end: &SessionEnd) -> Result<(), Error> {
        if self.assembly().said_end() == Some(*end) {
            return Ok(());
        }
        self.journal.end(end).map_err(Error::io("write journal", &self.journal_path))?;
        self.assembly_mut().end(*end);
        self.written()
    }

    /// The journal has grown.
    fn written(&mut self) -> Result<(), Error> {
        let blocks = self.assembly().prefix();
        let has_end = self.end_blocks().is_some_and(|end| end == blocks);
        let stored = blocks.saturating_add(u32::from(has_end));
        if stored != self.unsynced.back().map_or(self.durable, |&(_, before)| before) {
            self.unsynced.push_back((self.journal.length(), stored));
        }
        self.syncer.written(self.journal.length())
    }

    /// How many blocks from number 0 on are on disk; the end counts as one more behind the last.
    pub(super) fn durable(&mut self) -> u32 {
        let synced = self.syncer.synced();
        while let Some((_, stored)) = self.unsynced.pop_front_if(|(length, _)| *length <= synced) {
            self.durable = stored;
        }
        self.durable
    }

    /// Whether all blocks and the end are on disk: the sender may go.
    pub(super) fn is_stored(&mut self) -> bool {
        let durable = self.durable();
        self.end_blocks().is_some_and(|end| durable > end)
    }

    /// Whether the sender tells of more than any machine of its size has.
    pub(super) fn is_absurd(&self) -> bool {
        self.assembly().is_absurd()
    }

    /// Text of the console, free of control characters.
    pub(super) fn console(&mut self, clean: &str) -> Result<(), Error> {
        let path = self.directory.join("console.log");
        self.console.write_all(clean.as_bytes()).map_err(Error::io("write", path))
    }

    pub(super) fn received(&self) -> Received {
        let Self { pass, bytes, .. } = *self;
        let assembly = self.assembly();
        let (pages, only_asked) = (assembly.pages(), assembly.only_asked());
        Received { pass, bytes, pages, kept_pages: assembly.kept_pages(), only_asked }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end_blocks().is_some()
    }

    /// Why there is nothing to wait for once the line is done, whether all came or not.
    pub(super) fn end_reason(&self) -> Reason {
        let (has_all, is_cut) = (self.assembly().has_all(), self.assembly().is_cut());
        match (has_all, is_cut) {
            (false, _) => Reason::EndWithGaps,
            (true, true) => Reason::BudgetSpent,
            (true, false) => Reason::Complete,
        }
    }

    /// Makes a vmcore of what came. `why` says how the receiving ended; `show` is told how many pages of how many are
    /// written.
    pub(super) fn finish(
        self,
        options: &Options,
        why: &str,
        line: &LineStats,
        show: &mut dyn FnMut(u64, u64),
    ) -> Result<Outcome, Error> {
        let Self { directory, journal_path, journal, syncer, assembly, dmesg, .. } = self;
        syncer.finish()?;
        let file = journal.into_inner();
        let received = match Arc::try_unwrap(assembly) {
            Ok(assembly) => {
                let assembly = assembly.into_inner().unwrap_or_else(PoisonError::into_inner);
                let reader = file.try_clone().map_err(Error::io("read journal", &journal_path))?;
                JournalDump::received(&journal_path, reader, assembly)?
            }
            // A reader of the mounted session is at it still.
            Err(_) => JournalDump::open(&journal_path)?,
        };
        let assembly = received.assembly();
        let is_complete = assembly.is_complete();
        let (id, header, stored) = (assembly.session(), assembly.header().clone(), assembly.resume_at());
        let (bad_blocks, kept_pages) = (assembly.bad_blocks(), assembly.kept_pages());
        let only_asked = assembly.only_asked();
        let explained = Filtered::incomplete(&received);
        let dump: &dyn Dump = explained.as_ref().map_or(&received, |explained| explained);
        let pages = Pages::of(dump)?;
        let vmcore = directory.join("vmcore");
        let written = write::to_file(dump, &vmcore, options.write, show)?;
        let log = dmesg.finish(dump);
        if is_complete {
            directory::set_finished(&directory, id, &header, stored)?;
        }
        if is_complete && !options.keep_journal {
            std::fs::remove_file(&journal_path).map_err(Error::io("remove", &journal_path))?;
        }
        let mut summary = format!(
            "{}: {} pages with their bytes, {} pages could not be read",
            if is_complete { "complete" } else { "incomplete" },
            written.pages,
            pages.unreadable,
        );
        if pages.given_up != 0 {
            summary += &format!(", {} damaged or offline pages were not to be read", pages.given_up);
        }
        if only_asked != 0 {
            summary += &format!(", {only_asked} pages came only because they were asked for");
        }
        if !is_complete {
            summary += &format!("; {why}, {} pages are missing", pages.missing);
            if let Some(kept) = kept_pages {
                summary += &format!(" (the dump was to have {kept})");
            }
        }
        match log {
            Ok(Extent::Whole) => {}
            Ok(extent) => summary += &format!("; {extent}"),
            Err(error) => summary += &format!("; no kernel log: {error}"),
        }
        if bad_blocks != 0 {
            summary += &format!("; {bad_blocks} blocks are not understood by this version");
        }
        if line.rubbish_bytes != 0 {
            summary += &format!("; {} bytes of noise on the line", line.rubbish_bytes);
        }
        Ok(Outcome { directory, is_complete, summary })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Tail;
    use codec::CodecId;
    use wire::{BlockHeader, Record};

    const ID: SessionId = SessionId(7);

    fn header() -> SessionHeader {
        let utsname = [0; wire::UTSNAME_BYTES];
        SessionHeader { e_machine: 62, page_shift: 12, dump_level: 0, crash_time: 1, ram_pages: 90, utsname }
    }

    /// Block `number`: ten pages of one word.
    fn block(number: u32) -> Vec<u8> {
        let mut raw = Vec::new();
        let first = u64::from(number) * 10;
        Record::Fill { pfn: first, pages: 10, word: first }.encode(&mut raw);
        let cursor = |position| Cursor { pass: 2, position };
        let raw_bytes = u32::try_from(raw.len()).unwrap();
        let header = BlockHeader {
            start: cursor(first),
            end: cursor(first + 10),
            codec: CodecId::None,
            filter: codec::Filter::None,
            raw_bytes,
        };
        [&header.encode()[..], &raw].concat()
    }

    fn begin(parent: &Path) -> Result<Session, Error> {
        let (_, notify) = UnixStream::pair().unwrap();
        Session::begin(parent, ID, &header(), Mode::Answer, notify)
    }

    fn push(session: &mut Session, number: u32) {
        let encoded = block(number);
        session.block(number, wire::generation(&encoded), &encoded).unwrap();
    }

    #[test]
    fn a_sender_that_tells_of_more_places_than_its_machine_has_is_found_out() {
        let parent = tempfile::tempdir().unwrap();
        let mut session = begin(parent.path()).unwrap();
        (0..20).for_each(|number| push(&mut session, number));
        assert!(!session.is_absurd());
        // Each page is far from all others, and costs the index as much as 256 neighbours.
        let mut pages = (0..).map(|page: u64| Record::Fill { pfn: page << 20, pages: 1, word: page });
        for number in 20..32 {
            let mut raw = Vec::new();
            pages.by_ref().take(2000).for_each(|record| record.encode(&mut raw));
            let header = BlockHeader {
                start: Cursor { pass: 2, position: u64::from(number) * 10 },
                end: Cursor { pass: 2, position: u64::from(number) * 10 + 10 },
                codec: CodecId::None,
                filter: codec::Filter::None,
                raw_bytes: u32::try_from(raw.len()).unwrap(),
            };
            let encoded = [&header.encode()[..], &raw].concat();
            session.block(number, wire::generation(&encoded), &encoded).unwrap();
        }
        assert!(session.is_absurd());
    }

    #[test]
    fn a_receiver_killed_at_any_byte_of_its_journal_goes_on_behind_the_last_whole_block() {
        let parent = tempfile::tempdir().unwrap();
        let mut session = begin(parent.path()).unwrap();
        let mut ends = vec![session.journal.length()];
        // One before its turn: it comes again.
        for number in [0, 1, 2, 4] {
            push(&mut session, number);
            ends.push(session.journal.length());
        }
        let path = session.journal_path.clone();
        drop(session);
        let whole = std::fs::read(&path).unwrap();
        for cut in usize::try_from(ends[0]).unwrap()..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut session = begin(parent.path()).unwrap();
            let blocks = ends.iter().skip(1).filter(|&&end| end <= cut as u64).count().min(3) as u32;
            let at = if blocks == 0 {
                Cursor::START
            } else {
                Cursor { pass: 2, position: u64::from(blocks) * 10 }
            };
            assert_eq!(session.resume_at(), (blocks, at), "cut at {cut}");
            (blocks..6).for_each(|number| push(&mut session, number));
            assert_eq!(session.assembly().prefix(), 6);
            drop(session);
            let recovered = Recovered::read(&path, &File::open(&path).unwrap()).unwrap();
            assert_eq!((recovered.tail, recovered.assembly.prefix()), (Tail::Clean, 6), "cut at {cut}");
            assert_eq!(recovered.assembly.totals().filled_pages, 60);
        }
    }

    #[test]
    fn blocks_are_durable_once_they_are_on_disk_and_the_end_behind_all_of_them() {
        let parent = tempfile::tempdir().unwrap();
        let mut session = begin(parent.path()).unwrap();
        push(&mut session, 0);
        session.end(&SessionEnd { blocks: 3, ..SessionEnd::default() }).unwrap();
        push(&mut session, 2);
        await_durable(&mut session, 1);
        push(&mut session, 1);
        await_durable(&mut session, 4);
        assert!(session.is_stored());
        session.restart(2).unwrap();
        assert_eq!(session.durable(), 2);
        assert!(!session.is_stored());
    }

    fn await_durable(session: &mut Session, expected: u32) {
        let started = std::time::Instant::now();
        while session.durable() < expected {
            assert!(started.elapsed().as_secs() < 60);
            std::thread::yield_now();
        }
        assert_eq!(session.durable(), expected);
    }

    #[test]
    fn another_session_has_another_directory_and_a_locked_one_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let first = begin(parent.path()).unwrap();
        assert!(matches!(begin(parent.path()), Err(Error::InUse { .. })));
        let (_, notify) = UnixStream::pair().unwrap();
        let second = Session::begin(parent.path(), SessionId(8), &header(), Mode::Answer, notify).unwrap();
        assert_ne!(first.directory(), second.directory());
        drop(first);
        assert_eq!(begin(parent.path()).unwrap().resume_at().0, 0);
    }
}
