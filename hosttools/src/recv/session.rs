//! A session that is being received: its directory, its journal, and what it will become.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wire::{LineStats, SessionEnd, SessionHeader, SessionId};

use super::progress::Received;
use super::{Options, Outcome, directory};
use crate::Error;
use crate::dump::{Assembly, Dump, JournalDump};
use crate::file::{NewFile, create_new};
use crate::index::Summary;
use crate::journal::Writer;
use crate::log::{self, KernelLogError};
use crate::write;

/// What has been received is on disk after this time.
const SYNC_EVERY: Duration = Duration::from_millis(200);

/// A session that is being received.
pub(super) struct Session {
    id: SessionId,
    directory: PathBuf,
    journal_path: PathBuf,
    journal: Writer<File>,
    console: File,
    syncer: Syncer,
    assembly: Assembly,
    received: Received,
}

impl Session {
    /// Makes the dump's directory, and begins its journal.
    pub(super) fn begin(parent: &Path, id: SessionId, header: &SessionHeader) -> Result<Self, Error> {
        let directory = directory::create(parent, header)?;
        let journal_path = directory.join("journal");
        let file = create_new(&journal_path)?;
        let io = |error| Error::io("write journal", &journal_path)(error);
        // A second receiver, or a tool that wants to remove it, sees that it is in use.
        file.try_lock().map_err(|error| io(error.into()))?;
        let syncer = Syncer::start(file.try_clone().map_err(io)?);
        let mut journal = Writer::new(file).map_err(io)?;
        journal.session(id, header).map_err(io)?;
        let console = create_new(&directory.join("console.log"))?;
        Ok(Self {
            id,
            directory,
            journal_path: journal_path.clone(),
            journal,
            console,
            syncer,
            assembly: Assembly::new(header.clone()),
            received: Received { ram_pages: header.ram_pages, ..Received::default() },
        })
    }

    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Takes a block: into the journal first.
    pub(super) fn block(
        &mut self,
        stream: u8,
        number: u32,
        generation: u32,
        encoded: &[u8],
    ) -> Result<(), Error> {
        let offset = self
            .journal
            .block(stream, number, generation, encoded)
            .map_err(Error::io("write journal", &self.journal_path))?;
        self.syncer.written()?;
        let page_shift = u32::from(self.assembly.header().page_shift);
        let summary = Summary::of(self.assembly.next_block(), encoded, page_shift).ok();
        if let Some(summary) = &summary {
            self.received.pass = summary.header.start.pass;
            let totals = &summary.totals;
            self.received.pages += totals.pages + totals.filled_pages + totals.hole_pages + totals.fragments;
        }
        self.received.bytes += encoded.len() as u64;
        self.assembly.add((stream, number), offset, encoded.len(), summary);
        Ok(())
    }

    /// The sender went back: blocks from `first_block` on come again.
    pub(super) fn restart(&mut self, first_block: u32) -> Result<(), Error> {
        self.journal.restart(first_block).map_err(Error::io("write journal", &self.journal_path))?;
        self.assembly.restart(first_block);
        self.syncer.written()
    }

    /// The sender has said all it had to say.
    pub(super) fn end(&mut self, end: &SessionEnd) -> Result<(), Error> {
        if !self.assembly.has_ended() {
            self.journal.end(end).map_err(Error::io("write journal", &self.journal_path))?;
            self.syncer.written()?;
        }
        self.assembly.end(*end);
        Ok(())
    }

    /// Text of the console, free of control characters.
    pub(super) fn console(&mut self, clean: &str) -> Result<(), Error> {
        let path = self.directory.join("console.log");
        self.console.write_all(clean.as_bytes()).map_err(Error::io("write", path))
    }

    pub(super) fn received(&self) -> Received {
        self.received
    }

    pub(super) fn has_ended(&self) -> bool {
        self.assembly.has_ended()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.assembly.is_complete()
    }

    /// Makes a vmcore of what came. `why` says how the receiving ended.
    pub(super) fn finish(self, options: &Options, why: &str, line: &LineStats) -> Result<Outcome, Error> {
        let Self { directory, journal_path, journal, syncer, assembly, .. } = self;
        syncer.finish()?;
        let file = journal.into_inner();
        let is_complete = assembly.is_complete();
        let bad_blocks = assembly.bad_blocks();
        let totals = *assembly.totals();
        let reader = file.try_clone().map_err(Error::io("read journal", &journal_path))?;
        let dump = JournalDump::received(&journal_path, reader, assembly)?;
        let written = write::to_file(&dump, &directory.join("vmcore"), options.write, &mut |_, _| {})?;
        let log = write_log(&dump, &directory.join("vmcore-dmesg.txt"));
        if is_complete && !options.keep_journal {
            std::fs::remove_file(&journal_path).map_err(Error::io("remove", &journal_path))?;
        }
        let mut summary = format!(
            "{}: {} pages with their bytes, {} pages could not be read",
            if is_complete { "complete" } else { "incomplete" },
            written.pages,
            totals.hole_pages,
        );
        if !is_complete {
            summary += &format!(
                "; {why}, {} pages of {} are missing",
                written.lost,
                dump.facts().map.pages(dump.facts().page_shift).count()
            );
        }
        if let Err(error) = log {
            summary += &format!("; no kernel log: {error}");
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

/// Writes the kernel log beside the vmcore. A dump without one is a dump nevertheless.
fn write_log(dump: &JournalDump, path: &Path) -> Result<(), KernelLogError> {
    let mut text = Vec::new();
    log::write(dump, &mut text)?;
    let new = NewFile::create(path).map_err(io::Error::other)?;
    new.file().write_all(&text)?;
    new.finish().map_err(io::Error::other)?;
    Ok(())
}

/// Puts the journal on disk at most [`SYNC_EVERY`] after it was written to, without keeping the line waiting.
struct Syncer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Syncer {
    fn start(file: File) -> Self {
        let (wake, woken) = sync_channel::<()>(1);
        let thread = thread::spawn(move || {
            while woken.recv().is_ok() {
                // Whatever else is written meanwhile goes along.
                let closed = woken_late(&woken);
                file.sync_data()?;
                if closed {
                    break;
                }
            }
            file.sync_data()
        });
        Self { wake: Some(wake), thread: Some(thread) }
    }

    /// Something was written.
    ///
    /// # Errors
    /// [`Error::Io`] of an earlier time.
    fn written(&mut self) -> Result<(), Error> {
        match self.wake.as_ref().map(|wake| wake.try_send(())) {
            Some(Err(TrySendError::Disconnected(()))) => self.join(),
            _ => Ok(()),
        }
    }

    /// Everything has been written: puts it on disk.
    fn finish(mut self) -> Result<(), Error> {
        self.join()
    }

    fn join(&mut self) -> Result<(), Error> {
        self.wake = None;
        let result = self.thread.take().map_or(Ok(Ok(())), JoinHandle::join);
        let result = result.unwrap_or_else(|_| Err(io::Error::other("the thread that syncs has failed")));
        result.map_err(Error::io("put on disk", "journal"))
    }
}

/// Waits out the group; whether the writer has gone.
fn woken_late(woken: &std::sync::mpsc::Receiver<()>) -> bool {
    let deadline = std::time::Instant::now() + SYNC_EVERY;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        match woken.recv_timeout(left) {
            Ok(()) if left.is_zero() => return false,
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => return true,
        }
    }
}
