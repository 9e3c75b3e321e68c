//! Answers reads: where in the ELF core, which pages, are they here?

use fuser::{Errno, FileHandle, FopenFlags};

use super::desk::{Desk, Request, Wish};
use super::{Memory, Pages, Presence};
use crate::write::{Content, Layout};

/// Answers what lies on the desk until it is closed.
pub(crate) fn work(desk: &Desk, memory: &dyn Memory) {
    let mut pages = memory.pages();
    while let Some(request) = desk.next() {
        answer(desk, memory, &mut *pages, request);
    }
}

fn answer(desk: &Desk, memory: &dyn Memory, pages: &mut dyn Pages, mut request: Request) {
    let Some(layout) = memory.layout() else { return desk.park(request) };
    let Wish::Read { offset, bytes, .. } = request.wish else {
        if let Wish::Open(reply) = request.wish {
            reply.opened(FileHandle(0), DIRECT);
        }
        return;
    };
    let found = Found::look(&layout, memory, (offset, u64::from(bytes)));
    if std::mem::take(&mut request.is_new)
        && let Some((pa, bytes)) = found.memory
    {
        memory.is_read(pa, bytes);
    }
    if !found.missing.is_empty() {
        request.missing = found.missing;
        desk.park(request);
        return memory.want();
    }
    let Wish::Read { reply, .. } = request.wish else { return };
    match read(&layout, pages, memory.page_bytes(), offset, found.bytes) {
        Some(_) if found.bytes == 0 && found.is_cut => reply.error(Errno::EIO),
        Some(data) => reply.data(&data),
        None => reply.error(Errno::EIO),
    }
}

/// Past the page cache: the kernel reads nothing ahead, which would be pulled over the line for nobody, and believes
/// no page it has read before.
pub(super) const DIRECT: FopenFlags = FopenFlags::FOPEN_DIRECT_IO;

/// What of a read can be had.
struct Found {
    /// So many bytes of it, if nothing is missing.
    bytes: u64,
    /// What follows them is a page that will never come.
    is_cut: bool,
    /// Pages of it that are not here yet, ascending.
    missing: Vec<u64>,
    /// The last piece of memory in it: physical address and bytes.
    memory: Option<(u64, u64)>,
}

impl Found {
    fn look(layout: &Layout, memory: &dyn Memory, (offset, bytes): (u64, u64)) -> Self {
        let page_bytes = memory.page_bytes() as u64;
        let mut found = Self { bytes: 0, is_cut: false, missing: Vec::new(), memory: None };
        while found.bytes < bytes {
            let left = bytes - found.bytes;
            found.bytes += match layout.at(offset + found.bytes) {
                Content::End => break,
                Content::Head(head) => left.min(head.len() as u64),
                Content::Gap(zeros) => left.min(zeros),
                Content::Memory { pa, bytes } => {
                    let pfn = pa / page_bytes;
                    match memory.presence(pfn) {
                        Presence::Here => {}
                        Presence::NotYet => found.missing.push(pfn),
                        Presence::Never => {
                            found.is_cut = true;
                            break;
                        }
                    }
                    let here = left.min(bytes).min(page_bytes - pa % page_bytes);
                    found.memory = Some(match found.memory {
                        Some((start, before)) if start + before == pa => (start, before + here),
                        _ => (pa, here),
                    });
                    here
                }
            };
        }
        found
    }
}

/// Reads so many bytes, all of which are here; `None` if a page cannot be read.
fn read(
    layout: &Layout,
    pages: &mut dyn Pages,
    page_bytes: usize,
    offset: u64,
    bytes: u64,
) -> Option<Vec<u8>> {
    let bytes = usize::try_from(bytes).ok()?;
    let mut out = Vec::with_capacity(bytes);
    let mut page = vec![0; page_bytes];
    while out.len() < bytes {
        let left = bytes - out.len();
        let at_most = |count: u64| usize::try_from(count).map_or(left, |count| count.min(left));
        match layout.at(offset + out.len() as u64) {
            Content::End => break,
            Content::Head(head) => out.extend(head.iter().take(left)),
            Content::Gap(zeros) => out.resize(out.len() + at_most(zeros), 0),
            Content::Memory { pa, bytes } => {
                if !pages.read(pa / page_bytes as u64, &mut page) {
                    return None;
                }
                let in_page = usize::try_from(pa % page_bytes as u64).ok()?;
                let rest = page.get(in_page..).unwrap_or_default();
                out.extend(rest.iter().take(at_most(bytes)));
            }
        }
    }
    Some(out)
}
