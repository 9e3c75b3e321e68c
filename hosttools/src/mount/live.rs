//! A dump that is being received, mounted.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ::memory::MemoryMap;

use super::desk::Desk;
use super::filesystem::FileSystem;
use super::neighbours::Neighbours;
use super::point::Mounted;
use super::worker::work;
use super::{Memory, Pages, Presence, Texts};
use crate::Error;
use crate::dump::{Assembly, DecodedBlocks, Facts, Made, fill};
use crate::info;
use crate::log::write_text;
use crate::write::Layout;

/// Threads that answer reads: one may decode a block while the other has nothing to do but copy.
const WORKERS: usize = 2;

/// Pages that are expected to be wanted soon; the oldest are forgotten.
const MAX_EXPECTED: usize = 16;

/// Pages that are known not to come. Those that are forgotten are asked for again.
const MAX_NEVER: usize = 1 << 16;

/// A session that is being received, as its mounted file system sees it.
pub(crate) struct Live {
    desk: Arc<Desk>,
    session: RwLock<Option<Session>>,
    /// `None`: no ELF core can hold its memory.
    described: OnceLock<Option<Described>>,
    blocks: Mutex<DecodedBlocks>,
    neighbours: Mutex<Neighbours>,
    /// Most likely last.
    expected: Mutex<Vec<u64>>,
    /// Pages that the machine did not give when it was asked for them.
    never: Mutex<BTreeSet<u64>>,
    /// Nothing more comes.
    is_over: AtomicBool,
    is_unmounted: AtomicBool,
    is_released: AtomicBool,
    said: Mutex<Said>,
    log: Mutex<(usize, Arc<[u8]>)>,
    /// Wakes the one who talks with the machine.
    waker: Mutex<Option<UnixStream>>,
}

/// Where its pages are.
struct Session {
    assembly: Arc<RwLock<Assembly>>,
    journal: Arc<File>,
}

/// What is known for good once the machine has described itself.
struct Described {
    layout: Arc<Layout>,
    map: MemoryMap,
    page_bytes: usize,
    machine: String,
}

/// How the receiving goes, for `status`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// The dump's directory.
    pub(crate) directory: PathBuf,
    pub(crate) line: String,
    /// When a frame came last.
    pub(crate) heard_at: Option<Instant>,
    pub(crate) pass: String,
    pub(crate) pages: u64,
    pub(crate) kept_pages: Option<u64>,
    pub(crate) only_asked: u64,
    /// Whether it can be asked for pages; `None`: it has not said.
    pub(crate) serves: Option<bool>,
    /// Whether it stays when its dump is complete.
    pub(crate) stays: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    /// Of no session yet. A reader gets an error after `read_timeout` in which nothing came.
    pub(crate) fn new(read_timeout: Duration) -> Self {
        Self {
            desk: Arc::new(Desk::new(read_timeout)),
            session: RwLock::new(None),
            described: OnceLock::new(),
            blocks: Mutex::default(),
            neighbours: Mutex::default(),
            expected: Mutex::default(),
            never: Mutex::default(),
            is_over: AtomicBool::new(false),
            is_unmounted: AtomicBool::new(false),
            is_released: AtomicBool::new(false),
            said: Mutex::default(),
            log: Mutex::default(),
            waker: Mutex::new(None),
        }
    }

    /// Whoever talks with the machine is woken by a byte in `waker` when there is something to ask.
    pub(crate) fn set_waker(&self, waker: UnixStream) {
        *lock(&self.waker) = Some(waker);
    }

    fn wake(&self) {
        if let Some(waker) = &*lock(&self.waker) {
            // Full: then it is awake.
            let _ = (&mut &*waker).write(&[0]);
        }
    }

    /// A session has begun; its blocks are in `journal`.
    pub(crate) fn begin(&self, assembly: Arc<RwLock<Assembly>>, journal: File) {
        let session = Session { assembly, journal: Arc::new(journal) };
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = Some(session);
        self.has_grown();
    }

    /// The session has become a vmcore, or is about to: its pages are no longer here.
    pub(crate) fn end(&self) {
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Looks at what is known of the session, if one has begun.
    fn with<T>(&self, look: impl FnOnce(&Assembly, &Arc<File>) -> T) -> Option<T> {
        let session = self.session.read().unwrap_or_else(PoisonError::into_inner);
        let Session { assembly, journal } = session.as_ref()?;
        let assembly = assembly.read().unwrap_or_else(PoisonError::into_inner);
        Some(look(&assembly, journal))
    }

    /// Blocks have come.
    pub(crate) fn has_grown(&self) {
        if self.described.get().is_none() {
            let facts = self.with(|assembly, _| assembly.is_described().then(|| assembly.facts().ok()));
            if let Some(facts) = facts.flatten() {
                let _ = self.described.set(facts.and_then(Described::by));
            }
        }
        self.desk.arrived();
    }

    /// An answer to a request for `pages` has come. Those of them that it did not bring will not come.
    pub(crate) fn is_answered(&self, pages: Range<u64>) {
        let is_absent = |pfn: &u64| self.with(|assembly, _| self.has(assembly, *pfn)) == Some(false);
        let absent: Vec<u64> = pages.clone().filter(is_absent).collect();
        if !absent.is_empty() {
            let mut never = lock(&self.never);
            never.extend(absent);
            while never.len() > MAX_NEVER {
                never.pop_first();
            }
        }
        self.desk.answered(&pages);
    }

    /// Nothing more comes: what is not here will not be.
    pub(crate) fn nothing_more_comes(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.desk.arrived();
    }

    /// The pages that each reader waits for.
    pub(crate) fn wanted(&self) -> Vec<Vec<u64>> {
        self.desk.wanted()
    }

    /// A page that is not here, and is likely to be wanted soon. Each is told once.
    pub(crate) fn expected(&self) -> Option<u64> {
        loop {
            let page = lock(&self.expected).pop()?;
            if self.presence(page) == Presence::NotYet {
                return Some(page);
            }
        }
    }

    /// Whether it is known where each page lies in `vmcore`.
    pub(crate) fn is_described(&self) -> bool {
        self.described().is_some()
    }

    pub(crate) fn is_mounted(&self) -> bool {
        !self.is_unmounted.load(Ordering::Relaxed)
    }

    /// Whether the machine is to be let go.
    pub(crate) fn is_released(&self) -> bool {
        self.is_released.load(Ordering::Relaxed)
    }

    /// Tells `status` how the receiving goes.
    pub(crate) fn say(&self, tell: impl FnOnce(&mut Said)) {
        tell(&mut lock(&self.said));
    }

    fn described(&self) -> Option<&Described> {
        self.described.get()?.as_ref()
    }

    fn has(&self, assembly: &Assembly, pfn: u64) -> bool {
        match assembly.page(pfn) {
            Ok(Made::Whole(_) | Made::Filled(_)) => true,
            Ok(Made::Parts(_)) => {
                let described = self.described();
                described.is_some_and(|described| assembly.has_parts(pfn, &described.map) == Some(true))
            }
            Ok(Made::Hole | Made::Nothing) | Err(_) => false,
        }
    }
}

impl Described {
    /// `None`: no ELF core can hold such a machine's memory.
    fn by(facts: Facts) -> Option<Self> {
        // Whoever reads a page gets it, or an error: nothing is lacking.
        let facts = Facts { is_complete: true, pulled: 0, ..facts };
        let layout = Arc::new(Layout::of_ram(&facts).ok()?);
        Some(Self { layout, page_bytes: facts.page_bytes(), machine: info::machine(&facts), map: facts.map })
    }
}

impl Memory for Live {
    fn layout(&self) -> Option<Arc<Layout>> {
        self.described().map(|described| Arc::clone(&described.layout))
    }

    fn page_bytes(&self) -> usize {
        self.described().map_or(1, |described| described.page_bytes)
    }

    fn presence(&self, pfn: u64) -> Presence {
        let here = self.with(|assembly, _| match assembly.page(pfn) {
            Ok(Made::Hole) | Err(_) => Presence::Never,
            Ok(_) if self.has(assembly, pfn) => Presence::Here,
            Ok(_) => Presence::NotYet,
        });
        match here {
            Some(Presence::NotYet) if self.is_over.load(Ordering::Relaxed) => Presence::Never,
            Some(Presence::NotYet) if lock(&self.never).contains(&pfn) => Presence::Never,
            Some(presence) => presence,
            None => Presence::Never,
        }
    }

    fn want(&self) {
        self.wake();
    }

    fn is_read(&self, pa: u64, bytes: u64) {
        let ahead = lock(&self.neighbours).read(pa, bytes, self.page_bytes() as u64);
        let mut ahead: Vec<u64> = ahead.filter(|&page| self.presence(page) == Presence::NotYet).collect();
        if ahead.is_empty() {
            return;
        }
        ahead.reverse();
        let mut expected = lock(&self.expected);
        expected.retain(|page| !ahead.contains(page));
        expected.append(&mut ahead);
        let too_many = expected.len().saturating_sub(MAX_EXPECTED);
        expected.drain(..too_many);
        drop(expected);
        self.wake();
    }

    fn pages(&self) -> Box<dyn Pages + '_> {
        Box::new(self)
    }
}

impl Pages for &Live {
    fn read(&mut self, pfn: u64, page: &mut [u8]) -> bool {
        // The session is held for a look only: blocks are decoded beside it.
        let found = self.with(|assembly, journal| Some((assembly.page(pfn).ok()?, Arc::clone(journal))));
        let Some((made, journal)) = found.flatten() else { return false };
        let pieces = match made {
            Made::Whole(piece) => vec![piece],
            Made::Parts(pieces) => pieces,
            Made::Filled(word) => {
                fill(page, word);
                return true;
            }
            Made::Hole | Made::Nothing => return false,
        };
        page.fill(0);
        pieces.into_iter().all(|piece| {
            let known = lock(&self.blocks).get(piece.block);
            let raw = match known {
                Some(raw) => raw,
                None => match piece.decode(&*journal) {
                    Ok(raw) => lock(&self.blocks).keep(piece.block, raw),
                    Err(_) => return false,
                },
            };
            piece.copy(&raw, page)
        })
    }
}

/// What a file system says of a [`Live`] session.
struct LiveTexts(Arc<Live>);

impl Texts for LiveTexts {
    fn vmcore_bytes(&self) -> u64 {
        self.0.layout().map_or(0, |layout| layout.bytes())
    }

    fn log(&self) -> Arc<[u8]> {
        let mut log = lock(&self.0.log);
        let (before, text) = &mut *log;
        let now = self.0.with(|assembly, _| {
            let (now, _) = assembly.log();
            (now.len() != *before).then(|| now.to_vec())
        });
        if let Some(now) = now.flatten() {
            let mut clean = Vec::new();
            // Writing to a Vec does not fail.
            let _ = write_text(&now, &mut clean);
            (*before, *text) = (now.len(), clean.into());
        }
        Arc::clone(text)
    }

    fn status(&self, waiting: usize) -> String {
        let Said { directory, line, heard_at, pass, pages, kept_pages, only_asked, serves, stays } =
            lock(&self.0.said).clone();
        let mut out = String::new();
        if directory.as_os_str().is_empty() {
            out += "session          none yet\n";
        } else {
            let _ = writeln!(out, "session          {}", directory.display());
        }
        out += self.0.described().map_or("", |described| &described.machine);
        let _ = writeln!(out, "pass             {pass}");
        let of_kept = kept_pages.map_or_else(String::new, |kept| format!(" of {kept}"));
        let _ = writeln!(out, "pages here       {pages}{of_kept}");
        let _ = writeln!(out, "pages pulled     {only_asked}");
        let _ = writeln!(out, "readers waiting  {waiting}");
        let is_over = self.0.is_over.load(Ordering::Relaxed);
        let quiet = heard_at.map(|at| at.elapsed().as_secs());
        let state = match (is_over, quiet, serves) {
            (true, ..) => "over: nothing more comes".to_owned(),
            (_, None, _) => "nothing has come".to_owned(),
            (_, Some(seconds), _) if seconds >= 3 => format!("quiet for {seconds} s"),
            (.., None) => "in use".to_owned(),
            (.., Some(false)) => "in use; the machine cannot be asked for pages".to_owned(),
            (.., Some(true)) if stays => "in use; the machine stays until it is released".to_owned(),
            (.., Some(true)) => "in use; the machine can be asked for pages".to_owned(),
        };
        let _ = writeln!(out, "line             {line}: {state}");
        out
    }

    fn has_machine(&self) -> bool {
        true
    }

    fn release(&self) {
        self.0.is_released.store(true, Ordering::Relaxed);
        self.0.wake();
    }

    fn is_unmounted(&self) {
        self.0.is_unmounted.store(true, Ordering::Relaxed);
        self.0.wake();
    }
}

/// A directory on which a session is mounted that is being received, or about to be.
pub(crate) struct LiveMount {
    live: Arc<Live>,
    mounted: Option<Mounted>,
    workers: Vec<JoinHandle<()>>,
}

impl LiveMount {
    /// Mounts on the empty directory `at`. A reader gets an error after `read_timeout` in which nothing came.
    ///
    /// # Errors
    /// [`Error::Mount`], which says what to do.
    pub(crate) fn new(at: &Path, read_timeout: Duration) -> Result<Self, Error> {
        let live = Arc::new(Live::new(read_timeout));
        let texts = Arc::new(LiveTexts(Arc::clone(&live)));
        let mounted = Mounted::new(FileSystem::new(Arc::clone(&live.desk), texts), at)?;
        let mut mount = Self { live, mounted: Some(mounted), workers: Vec::new() };
        for _ in 0..WORKERS {
            let live = Arc::clone(&mount.live);
            let worker =
                thread::Builder::new().name("mount".to_owned()).spawn(move || work(&live.desk, &*live));
            mount.workers.push(worker.map_err(Error::io("make a thread for", at))?);
        }
        Ok(mount)
    }

    /// The session behind it.
    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.live
    }
}

impl Drop for LiveMount {
    /// Unmounts it; whoever reads gets an error.
    fn drop(&mut self) {
        self.live.desk.close();
        if let Some(mounted) = self.mounted.take() {
            mounted.unmount();
        }
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
        self.live.end();
    }
}
