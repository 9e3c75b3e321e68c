//! A dump as a file system: `vmcore`, read as its pages are wanted.
//!
//! # Terms
//! - **Reader**: a program that reads `vmcore`; crash(8), say.
//! - **Desk**: where reads wait until they can be answered.
//! - **Memory**: the pages behind `vmcore`: of a finished dump, or of one that is being received.
//!
//! # Flow
//! kernel ─▶ file system (names, sizes, texts) ─▶ desk ─▶ workers (where in the ELF core? which pages?) ─▶ kernel
//!
//! `vmcore` is an ELF core: where each of its bytes lies is known before any page is. [`mount()`] is for a finished dump, `Live`
//! for one that is being received: pages that are not here yet are asked for by `recv::pull`.

mod desk;
mod filesystem;
mod live;
mod neighbours;
mod point;
mod reader;
mod stored;
mod worker;

pub(crate) use live::{Live, LiveMount};
pub use stored::mount;

/// The file in a directory with a session that is being received which lets its machine go when it is written to.
pub const RELEASE: &str = "release";

use std::sync::Arc;

use crate::write::Layout;

/// The pages behind `vmcore`.
pub(crate) trait Memory: Sync {
    /// Where they lie in the file; `None`: that is not known yet.
    fn layout(&self) -> Option<Arc<Layout>>;

    /// Bytes of a page.
    fn page_bytes(&self) -> usize;

    /// Whether page `pfn` can be read.
    fn presence(&self, pfn: u64) -> Presence;

    /// A reader waits for pages now: the desk knows which.
    fn want(&self);

    /// So many bytes at `pa` are being read, whether they are here or not.
    fn is_read(&self, pa: u64, bytes: u64);

    /// Reads pages that are here; one for each worker.
    fn pages(&self) -> Box<dyn Pages + '_>;
}

/// Whether a page can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Here,
    /// It may come.
    NotYet,
    /// It will not come.
    Never,
}

/// Reads pages.
pub(crate) trait Pages {
    /// Fills `page` with page `pfn`, which is [`Presence::Here`]; `false` if that fails.
    fn read(&mut self, pfn: u64, page: &mut [u8]) -> bool;
}

/// The other files, and how large `vmcore` is.
pub(crate) trait Texts: Send + Sync + 'static {
    /// Bytes of `vmcore`; 0 while that is not known.
    fn vmcore_bytes(&self) -> u64;

    /// The kernel's log, as far as it is here. It only grows.
    fn log(&self) -> Arc<[u8]>;

    /// What is mounted, and how it goes; `waiting` readers wait.
    fn status(&self, waiting: usize) -> String;

    /// Whether there is a machine that can be let go.
    fn has_machine(&self) -> bool {
        false
    }

    /// Lets it go.
    fn release(&self) {}

    /// Nothing is mounted any more.
    fn is_unmounted(&self);
}
