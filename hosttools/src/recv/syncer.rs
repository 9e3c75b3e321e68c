//! Puts the journal on disk beside the reading of the line, and tells how far it is.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Error;

/// A file is put on disk at most so often; what is written after a pause goes there at once.
const SYNC_EVERY: Duration = Duration::from_millis(200);

/// A thread that puts a file on disk.
pub(super) struct Syncer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
    lengths: Arc<Lengths>,
}

/// Bytes of the file.
#[derive(Default)]
struct Lengths {
    written: AtomicU64,
    synced: AtomicU64,
}

impl Syncer {
    /// `notify` is written to whenever more is on disk.
    pub(super) fn start(file: File, notify: UnixStream) -> Self {
        // One waiting request is enough: it covers all that was written until it is looked at.
        let (wake, woken) = sync_channel::<()>(1);
        let lengths = Arc::new(Lengths::default());
        let thread = thread::spawn({
            let lengths = Arc::clone(&lengths);
            move || run(&file, &woken, &lengths, notify)
        });
        Self { wake: Some(wake), thread: Some(thread), lengths }
    }

    /// The file has been written up to `length`.
    ///
    /// # Errors
    /// [`Error::Io`] of an earlier time.
    pub(super) fn written(&mut self, length: u64) -> Result<(), Error> {
        self.lengths.written.store(length, Ordering::Release);
        match self.wake.as_ref().map(|wake| wake.try_send(())) {
            Some(Err(TrySendError::Disconnected(()))) => self.join(),
            _ => Ok(()),
        }
    }

    /// Bytes from the start of the file that are on disk.
    pub(super) fn synced(&self) -> u64 {
        self.lengths.synced.load(Ordering::Acquire)
    }

    /// Everything has been written: puts it on disk.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.join()
    }

    fn join(&mut self) -> Result<(), Error> {
        self.wake = None;
        let result = self.thread.take().map_or(Ok(Ok(())), JoinHandle::join);
        let result = result.unwrap_or_else(|_| Err(io::Error::other("the thread that syncs has failed")));
        result.map_err(Error::io("put on disk", "journal"))
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        // The thread holds the file, and with it the lock. Whoever wants to know of errors has called `finish`.
        let _ = self.join();
    }
}

fn run(file: &File, woken: &Receiver<()>, lengths: &Lengths, mut notify: UnixStream) -> io::Result<()> {
    let mut is_wanted = false;
    while is_wanted || woken.recv().is_ok() {
        let started = Instant::now();
        let written = lengths.written.load(Ordering::Acquire);
        file.sync_data()?;
        lengths.synced.store(written, Ordering::Release);
        // Full or gone: then nobody needs to be woken.
        let _ = notify.write(&[0]);
        is_wanted = false;
        loop {
            match woken.recv_timeout(SYNC_EVERY.saturating_sub(started.elapsed())) {
                Ok(()) => is_wanted = true,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return file.sync_data(),
            }
            if started.elapsed() >= SYNC_EVERY {
                break;
            }
        }
    }
    file.sync_data()
}
