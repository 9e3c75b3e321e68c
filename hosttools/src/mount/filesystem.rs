//! What the kernel asks: names, sizes, texts. Reads of `vmcore` go to the desk.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, Request,
};

use super::Texts;
use super::desk::{Desk, Wish};
use super::worker::DIRECT;

/// Sizes grow: the kernel is to ask each time.
const NOT_KEPT: Duration = Duration::ZERO;

/// Bytes of a text that are read at once at most are its own; of so many opened ones.
const MAX_OPEN_TEXTS: usize = 4096;

/// The files, by inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    Vmcore,
    Log,
    Status,
}

impl File {
    const ALL: [Self; 3] = [Self::Vmcore, Self::Log, Self::Status];

    fn name(self) -> &'static str {
        match self {
            Self::Vmcore => "vmcore",
            Self::Log => "vmcore-dmesg.txt",
            Self::Status => "status",
        }
    }

    /// Inode 1 is the directory.
    fn inode(self) -> INodeNo {
        INodeNo(match self {
            Self::Vmcore => 2,
            Self::Log => 3,
            Self::Status => 4,
        })
    }

    fn of(inode: INodeNo) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.inode() == inode)
    }
}

/// The file system.
pub(super) struct FileSystem {
    desk: Arc<Desk>,
    texts: Arc<dyn Texts>,
    mounted_at: SystemTime,
    /// What each open text said when it was opened.
    open_texts: Mutex<HashMap<u64, Arc<[u8]>>>,
    next_handle: AtomicU64,
    /// Written to when the file system is no longer mounted.
    over: UnixStream,
}

impl FileSystem {
    pub(super) fn new(desk: Arc<Desk>, texts: Arc<dyn Texts>, over: UnixStream) -> Self {
        Self {
            desk,
            texts,
            mounted_at: SystemTime::now(),
            open_texts: Mutex::default(),
            next_handle: AtomicU64::new(1),
            over,
        }
    }

    fn text(&self, file: File) -> Arc<[u8]> {
        match file {
            File::Log => self.texts.log(),
            File::Status | File::Vmcore => self.texts.status(self.desk.waiting()).into_bytes().into(),
        }
    }

    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let file = File::of(inode);
        if file.is_none() && inode != INodeNo::ROOT {
            return None;
        }
        let (kind, perm, nlink) =
            if file.is_some() { (FileType::RegularFile, 0o400, 1) } else { (FileType::Directory, 0o500, 2) };
        let size = match file {
            Some(File::Vmcore) => self.texts.vmcore_bytes(),
            Some(text) => self.text(text).len() as u64,
            None => 0,
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: self.mounted_at,
            mtime: self.mounted_at,
            ctime: self.mounted_at,
            crtime: self.mounted_at,
            kind,
            perm,
            nlink,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for FileSystem {
    fn destroy(&mut self) {
        // Gone: then nobody needs to know.
        let _ = self.over.write(&[0]);
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let file = File::ALL.into_iter().find(|file| parent == INodeNo::ROOT && name == file.name());
        match file.and_then(|file| self.attributes(file.inode())) {
            Some(attributes) => reply.entry(&NOT_KEPT, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, inode: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&NOT_KEPT, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match File::of(inode) {
            Some(File::Vmcore) => self.desk.take(Wish::Open(reply), request.pid()),
            Some(text) => {
                let said = self.text(text);
                let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
                let mut open = self.open_texts.lock().unwrap_or_else(PoisonError::into_inner);
                if open.len() >= MAX_OPEN_TEXTS {
                    return reply.error(Errno::ENFILE);
                }
                open.insert(handle, said);
                reply.opened(FileHandle(handle), DIRECT);
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn read(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        bytes: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if File::of(inode) == Some(File::Vmcore) {
            return self.desk.take(Wish::Read { offset, bytes, reply }, request.pid());
        }
        let open = self.open_texts.lock().unwrap_or_else(PoisonError::into_inner);
        let text = open.get(&handle.0).cloned().unwrap_or_default();
        drop(open);
        let rest = usize::try_from(offset).ok().and_then(|offset| text.get(offset..)).unwrap_or_default();
        let count = rest.len().min(bytes as usize);
        reply.data(rest.get(..count).unwrap_or_default());
    }

    fn release(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.open_texts.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle.0);
        reply.ok();
    }

    fn flush(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn opendir(&self, _request: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn readdir(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if inode != INodeNo::ROOT {
            return reply.error(Errno::ENOTDIR);
        }
        let own = [".", ".."].map(|name| (INodeNo::ROOT, FileType::Directory, name));
        let files = File::ALL.map(|file| (file.inode(), FileType::RegularFile, file.name()));
        let all = own.into_iter().chain(files);
        for (next, (inode, kind, name)) in (1..).zip(all).skip(usize::try_from(offset).unwrap_or(usize::MAX))
        {
            if reply.add(inode, next, kind, name) {
                break; // It is full; the kernel asks for more.
            }
        }
        reply.ok();
    }
}
