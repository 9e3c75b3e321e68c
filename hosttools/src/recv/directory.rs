//! The directory of a dump: `HOST-DATE`, as kdump names it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use wire::{Cursor, SessionHeader, SessionId};

use crate::Error;
use crate::dump::{Dump, JournalDump};
use crate::file::{create_new, sync_directory};
use crate::journal::{Entry, Reader, Writer};

/// Beside a complete vmcore: a journal without blocks, that says whose it is.
const FINISHED: &str = "session";

/// Directories of the same machine and second looked at for a free name.
const MAX_SAME: u32 = 1000;

/// Makes the directory of a dump in `parent`, mode 0700. Made by one receiver, it is nobody else's.
pub(super) fn create(parent: &Path, header: &SessionHeader) -> Result<PathBuf, Error> {
    std::fs::create_dir_all(parent).map_err(Error::io("create directory", parent))?;
    let name = format!("{}-{}", host(header.uts(1)), date(header.crash_time));
    for attempt in 1..=MAX_SAME {
        let name = if attempt == 1 { name.clone() } else { format!("{name}-{attempt}") };
        let path = parent.join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io("create directory", &path)(error)),
        }
    }
    let error = io::Error::from(io::ErrorKind::AlreadyExists);
    Err(Error::io("create directory", parent.join(name))(error))
}

/// The directory in `parent` in which an earlier receiver of this session has left off, and its journal, locked.
///
/// # Errors
/// [`Error::InUse`], if that receiver is at it still.
pub(super) fn find_unfinished(
    parent: &Path,
    id: SessionId,
    header: &SessionHeader,
) -> Result<Option<(PathBuf, File)>, Error> {
    for directory in directories(parent) {
        let path = directory.join("journal");
        let Some(file) = journal_of(&path, id, header) else { continue };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse { path }),
            Err(TryLockError::Error(error)) => return Err(Error::io("lock journal", path)(error)),
        }
        // A receiver that finished just now has taken it away; one that keeps it has nothing left to do.
        if path.exists() && !has_all(&directory) {
            return Ok(Some((directory, file)));
        }
    }
    Ok(None)
}

/// How many blocks this session had, and where the last one ended, if it has left a complete vmcore in a directory of
/// `parent`.
pub(super) fn find_finished(parent: &Path, id: SessionId, header: &SessionHeader) -> Option<(u32, Cursor)> {
    directories(parent).find_map(|directory| {
        let file = journal_of(&directory.join(FINISHED), id, header)?;
        let mut entries = Reader::new(&file).ok()?;
        loop {
            if let Entry::Stored(blocks, cursor) = entries.next_entry().ok()?? {
                return Some((blocks, cursor));
            }
        }
    })
}

/// The vmcore in `directory` is complete, of so many blocks, the last of which ended there: its session is known again, by
/// whichever receiver, if it comes back.
pub(super) fn set_finished(
    directory: &Path,
    id: SessionId,
    header: &SessionHeader,
    (blocks, cursor): (u32, Cursor),
) -> Result<(), Error> {
    let path = directory.join(FINISHED);
    let io = Error::io("write", &path);
    let record = Writer::new(create_new(&path)?).and_then(|mut journal| {
        journal.session(id, header)?;
        journal.stored(blocks, cursor)?;
        journal.into_inner().sync_all()
    });
    record.map_err(io)?;
    sync_directory(directory)
}

/// Directories in `parent`.
fn directories(parent: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    // Other directories, other users' files: none of ours.
    std::fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Whether a vmcore was made of a journal that has all.
fn has_all(directory: &Path) -> bool {
    directory.join("vmcore").exists()
        && JournalDump::open(&directory.join("journal")).is_ok_and(|dump| dump.facts().is_complete)
}

/// The journal at `path`, if it is one of this session.
fn journal_of(path: &Path, id: SessionId, header: &SessionHeader) -> Option<File> {
    let file = OpenOptions::new().read(true).append(true).open(path).ok()?;
    let first = Reader::new(&file).ok()?.next_entry().ok()??;
    matches!(first, Entry::Session(of, that) if of == id && *that == *header).then_some(file)
}

/// The node's name as part of a file name.
fn host(nodename: &str) -> String {
    let is_safe = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
    let name: String =
        nodename.chars().map(|character| if is_safe(character) { character } else { '_' }).collect();
    let name = name.trim_start_matches(['.', '-']);
    // Linux calls a machine that nobody named `(none)` (CONFIG_DEFAULT_HOSTNAME).
    if name.is_empty() || nodename == "(none)" { "unknown".to_owned() } else { name.to_owned() }
}

/// The time of the crash, UTC; the time now if it is not known.
fn date(crash_time: u64) -> String {
    let crash = i64::try_from(crash_time).ok().filter(|&time| time > 0);
    let time = crash.and_then(|time| Timestamp::from_second(time).ok()).unwrap_or_else(Timestamp::now);
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(utsname: [u8; wire::UTSNAME_BYTES]) -> SessionHeader {
        SessionHeader { e_machine: 62, page_shift: 12, dump_level: 0, crash_time: 1, ram_pages: 1, utsname }
    }

    #[test]
    fn names_are_safe_file_names() {
        assert_eq!(host("board-7.lab_1"), "board-7.lab_1");
        assert_eq!(host("../../etc"), "_.._etc");
        assert_eq!(host("-rf a/b"), "rf_a_b");
        assert_eq!(host("..."), "unknown");
        assert_eq!(host(""), "unknown");
        assert_eq!(host("(none)"), "unknown");
        assert_eq!(date(1_700_000_000), "20231114T221320Z");
    }

    #[test]
    fn a_finished_session_is_known_by_its_number_and_its_header() {
        let parent = tempfile::tempdir().unwrap();
        let header = header([0; wire::UTSNAME_BYTES]);
        let directory = create(parent.path(), &header).unwrap();
        let (id, stored) = (SessionId(7), (9, Cursor { pass: 14, position: 1 << 40 }));
        assert_eq!(find_finished(parent.path(), id, &header), None);
        set_finished(&directory, id, &header, stored).unwrap();
        assert_eq!(find_finished(parent.path(), id, &header), Some(stored));
        assert_eq!(find_finished(parent.path(), SessionId(8), &header), None);
        assert_eq!(find_finished(parent.path(), id, &SessionHeader { crash_time: 2, ..header }), None);
        // One that was cut is none.
        let path = directory.join(FINISHED);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(find_finished(parent.path(), id, &header), None);
    }

    #[test]
    fn a_second_dump_of_the_same_second_has_its_own_directory() {
        let parent = tempfile::tempdir().unwrap();
        let mut utsname = [0; wire::UTSNAME_BYTES];
        utsname[65..70].copy_from_slice(b"board");
        let header = header(utsname);
        let first = create(parent.path(), &header).unwrap();
        let second = create(parent.path(), &header).unwrap();
        assert_eq!(first.file_name().unwrap(), "board-19700101T000001Z");
        assert_eq!(second.file_name().unwrap(), "board-19700101T000001Z-2");
        let mode = std::os::unix::fs::PermissionsExt::mode(&first.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o700);
    }
}
