//! The directory it is mounted on.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use fuser::{BackgroundSession, Config, MountOption, Session};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::filesystem::FileSystem;
use crate::Error;

const DEVICE: &str = "/dev/fuse";

/// A mounted file system.
pub(crate) struct Mounted {
    session: BackgroundSession,
    at: PathBuf,
}

impl Mounted {
    /// Mounts `file_system` on the empty directory `at`.
    ///
    /// # Errors
    /// [`Error::Mount`], which says what to do.
    pub(super) fn new(file_system: FileSystem, at: &Path) -> Result<Self, Error> {
        let refuse = |what: String| Error::Mount { path: at.to_owned(), what };
        look_at(at).map_err(refuse)?;
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::NoExec,
            MountOption::NoAtime,
            MountOption::FSName("rcapture".to_owned()),
            MountOption::Subtype("rcapture".to_owned()),
        ];
        let session = Session::new(file_system, at, &config).and_then(Session::spawn);
        let session = session.map_err(|error| refuse(explain(&error)))?;
        Ok(Self { session, at: at.to_owned() })
    }

    /// Unmounts it, also while somebody is in it.
    pub(crate) fn unmount(self) {
        let Self { session, at } = self;
        if session.guard.is_finished() {
            // Somebody has unmounted it. Dropped, the session would unmount what is mounted there by now.
            std::mem::forget(session);
            return;
        }
        // Gone from the tree at once. The session's thread is not waited for: it ends once the last open file is closed.
        match unmount(&at, UnmountFlags::DETACH) {
            // Only root may. Dropped, the session has fusermount3 do so.
            Err(Errno::PERM) => drop(session),
            _ => std::mem::forget(session),
        }
    }
}

/// Why `at` is no directory to mount on, and what to do.
fn look_at(at: &Path) -> Result<(), String> {
    let shown = at.display();
    let is_directory = fs::metadata(at).map(|metadata| metadata.is_dir());
    let is_directory = is_directory.map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOTCONN) => format!(
            "something is mounted there whose program is gone: `umount {shown}` (not as root: `fusermount3 -u {shown}`)"
        ),
        Some(Errno::NOENT) => format!("there is no such directory: `mkdir -p {shown}`"),
        _ => error.to_string(),
    })?;
    if !is_directory {
        return Err("not a directory".to_owned());
    }
    let mut files = fs::read_dir(at).map_err(|error| error.to_string())?;
    if files.next().is_some() {
        return Err(
            "the directory is not empty, and what is in it would be hidden: take an empty one".to_owned()
        );
    }
    match OpenOptions::new().read(true).write(true).open(DEVICE) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound) => Err(format!(
            "there is no {DEVICE}: `modprobe fuse`; in a container `--device {DEVICE} --cap-add SYS_ADMIN`"
        )),
        Err(error) => Err(format!("open {DEVICE}: {error}: be root, or have an administrator allow it")),
    }
}

/// Why mounting failed, and what to do.
fn explain(error: &io::Error) -> String {
    match error.kind() {
        // Only root may mount, but not in every container; for others fusermount3 does.
        ErrorKind::NotFound => {
            "this user may not mount, and fusermount3, which may, is not installed: be root (in a \
                                container with `--cap-add SYS_ADMIN`), or install the package fuse3"
                .to_owned()
        }
        ErrorKind::PermissionDenied => {
            format!("{error}: be root, or have the package fuse3; in a container `--cap-add SYS_ADMIN`")
        }
        _ => error.to_string().trim().to_owned(),
    }
}
