//! What the kernel asks: names, sizes, texts. Reads of `vmcore` go to the desk.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::desk::{Desk, Wish};
use super::worker::DIRECT;
use super::{RELEASE, Texts};

/// Sizes grow: the kernel is to ask each time.
const NOT_KEPT: Duration = Duration::ZERO;

/// Texts that may be open at the same time.
const MAX_OPEN_TEXTS: usize = 4096;

/// The files, by inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    Vmcore,
    Log,
    Status,
    /// Written to, it lets the machine go.
    Release,
}

impl File {
    const ALL: [Self; 4] = [Self::Vmcore, Self::Log, Self::Status, Self::Release];

    fn name(self) -> &'static str {
        match self {
            Self::Vmcore => "vmcore",
            Self::Log => "vmcore-dmesg.txt",
            Self::Status => "status",
            Self::Release => RELEASE,
        }
    }

    /// Inode 1 is the directory.
    fn inode(self) -> INodeNo {
        INodeNo(match self {
            Self::Vmcore => 2,
            Self::Log => 3,
            Self::Status => 4,
            Self::Release => 5,
        })
    }

    fn permissions(self) -> u16 {
        if self == Self::Release { 0o200 } else { 0o400 }
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
}

impl FileSystem {
    pub(super) fn new(desk: Arc<Desk>, texts: Arc<dyn Texts>) -> Self {
        Self {
            desk,
            texts,
            mounted_at: SystemTime::now(),
            open_texts: Mutex::default(),
            next_handle: AtomicU64::new(1),
        }
    }

    /// The files that there are.
    fn files(&self) -> impl Iterator<Item = File> {
        let has_machine = self.texts.has_machine();
        File::ALL.into_iter().filter(move |&file| has_machine || file != File::Release)
    }

    fn file(&self, inode: INodeNo) -> Option<File> {
        self.files().find(|file| file.inode() == inode)
    }

    fn text(&self, file: File) -> Arc<[u8]> {
        match file {
            File::Log => self.texts.log(),
            File::Status => self.texts.status(self.desk.waiting()).into_bytes().into(),
            File::Vmcore | File::Release => Arc::default(),
        }
    }

    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let file = self.file(inode);
        if file.is_none() && inode != INodeNo::ROOT {
            return None;
        }
        let (kind, perm, nlink) = match file {
            Some(file) => (FileType::RegularFile, file.permissions(), 1),
            None => (FileType::Directory, 0o500, 2),
        };
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
        self.texts.is_unmounted();
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let file = self.files().find(|file| parent == INodeNo::ROOT && name == file.name());
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

    /// `echo > release` makes it empty first.
    fn setattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        match self.attributes(inode) {
            Some(attributes) if self.file(inode) == Some(File::Release) && size.is_some() => {
                reply.attr(&NOT_KEPT, &attributes);
            }
            _ => reply.error(Errno::EROFS),
        }
    }

    fn open(&self, request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let Some(file) = self.file(inode) else { return reply.error(Errno::ENOENT) };
        if file != File::Release && flags.acc_mode() != OpenAccMode::O_RDONLY {
            return reply.error(Errno::EROFS);
        }
        if file == File::Vmcore {
            return self.desk.take(Wish::Open(reply), request.pid());
        }
        let said = self.text(file);
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open_texts.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_OPEN_TEXTS {
            return reply.error(Errno::ENFILE);
        }
        open.insert(handle, said);
        reply.opened(FileHandle(handle), DIRECT);
    }

    fn write(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if self.file(inode) == Some(File::Release) {
            self.texts.release();
            reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX));
        } else {
            reply.error(Errno::EROFS);
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
        if inode == File::Vmcore.inode() {
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
        let files = self.files().map(|file| (file.inode(), FileType::RegularFile, file.name()));
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
