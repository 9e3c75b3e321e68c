//! A finished dump, mounted.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::desk::Desk;
use super::filesystem::FileSystem;
use super::point::Mounted;
use super::worker::work;
use super::{Memory, Pages, Presence, Texts};
use crate::Error;
use crate::dump::{Dump, PageReader, PageState, fill};
use crate::info;
use crate::log;
use crate::pipeline::workers;
use crate::write::{Layout, layout};

/// Mounts `dump`, which is called `name`, on the empty directory `at`, until that is unmounted or `stop` becomes readable.
/// `mounted` is called once it can be read. `vmcore` is the file that [`write::to_file`](crate::write::to_file) makes of
/// the dump as an ELF core.
///
/// # Errors
/// [`Error`], if the dump cannot be read, or not be mounted there.
pub fn mount(
    dump: &dyn Dump,
    name: &Path,
    at: &Path,
    stop: &UnixStream,
    mounted: impl FnOnce(),
) -> Result<(), Error> {
    let layout = Arc::new(layout(dump)?);
    let (over, is_over) = UnixStream::pair().map_err(Error::io("make a socket pair for", at))?;
    let texts = StoredTexts::of(dump, name, &layout, over)?;
    let memory = Stored { dump, layout };
    // All is here: nobody waits.
    let desk = Arc::new(Desk::new(Duration::MAX));
    let file_system = FileSystem::new(Arc::clone(&desk), Arc::new(texts));
    let mounting = Mounted::new(file_system, at)?;
    mounted();
    let waited = thread::scope(|scope| {
        for _ in 0..workers() {
            scope.spawn(|| work(&desk, &memory));
        }
        let waited = wait_for_either(stop, &is_over);
        desk.close();
        waited
    });
    mounting.unmount();
    waited.map_err(|error| Error::io("wait for the end of", at)(error.into()))
}

fn wait_for_either(one: &UnixStream, other: &UnixStream) -> rustix::io::Result<()> {
    let mut both = [PollFd::new(one, PollFlags::IN), PollFd::new(other, PollFlags::IN)];
    loop {
        match poll(&mut both, None) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map(|_| ()),
        }
    }
}

struct Stored<'a> {
    dump: &'a dyn Dump,
    layout: Arc<Layout>,
}

impl Memory for Stored<'_> {
    fn layout(&self) -> Option<Arc<Layout>> {
        Some(Arc::clone(&self.layout))
    }

    fn page_bytes(&self) -> usize {
        self.dump.facts().page_bytes()
    }

    fn presence(&self, _pfn: u64) -> Presence {
        // The layout has no others.
        Presence::Here
    }

    fn want(&self) {}

    fn is_read(&self, _pa: u64, _bytes: u64) {}

    fn pages(&self) -> Box<dyn Pages + '_> {
        Box::new(StoredPages { dump: self.dump, reader: self.dump.reader() })
    }
}

struct StoredPages<'a> {
    dump: &'a dyn Dump,
    reader: Box<dyn PageReader + 'a>,
}

impl Pages for StoredPages<'_> {
    fn read(&mut self, pfn: u64, page: &mut [u8]) -> bool {
        match self.dump.state_at(pfn) {
            Ok((PageState::Filled(word), _)) => {
                fill(page, word);
                true
            }
            Ok((PageState::Data, _)) => self.reader.read(pfn, page).is_ok(),
            Ok(_) | Err(_) => false,
        }
    }
}

struct StoredTexts {
    /// Written to when nothing is mounted any more.
    over: UnixStream,
    vmcore_bytes: u64,
    log: Arc<[u8]>,
    status: String,
}

impl StoredTexts {
    fn of(dump: &dyn Dump, name: &Path, layout: &Layout, over: UnixStream) -> Result<Self, Error> {
        let mut text = Vec::new();
        // A dump without a log is a dump nevertheless.
        let has_log = log::write(dump, &mut text);
        if has_log.is_err() {
            text.clear();
        }
        let facts = dump.facts();
        let info::Pages { data, filled, missing, .. } = info::Pages::of(dump)?;
        let mut status = format!("dump             {}\n{}", name.display(), info::machine(facts));
        // Writing to a String does not fail.
        let _ = writeln!(
            status,
            "complete         {}\npages here       {}\npages missing    {missing}",
            if facts.is_complete { "yes" } else { "no" },
            data + filled,
        );
        Ok(Self { over, vmcore_bytes: layout.bytes(), log: text.into(), status })
    }
}

impl Texts for StoredTexts {
    fn vmcore_bytes(&self) -> u64 {
        self.vmcore_bytes
    }

    fn log(&self) -> Arc<[u8]> {
        Arc::clone(&self.log)
    }

    fn status(&self, waiting: usize) -> String {
        format!("{}readers waiting  {waiting}\n", self.status)
    }

    fn is_unmounted(&self) {
        // Gone: then nobody needs to know.
        let _ = (&self.over).write(&[0]);
    }
}
