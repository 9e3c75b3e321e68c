//! Files read at offsets, and files that appear only when they are whole.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::Error;

/// Something that can be read at any offset, by several threads at the same time.
pub trait ReadAt {
    /// Fills `buf` from `offset` on; fewer bytes only where the file ends.
    ///
    /// # Errors
    /// Those of the file.
    fn read_up_to(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Its bytes now.
    ///
    /// # Errors
    /// Those of the file.
    fn length(&self) -> io::Result<u64>;

    /// Fills all of `buf`.
    ///
    /// # Errors
    /// `UnexpectedEof` where the file ends before, and those of the file.
    fn read_exactly(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if self.read_up_to(offset, buf)? == buf.len() {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the file ends before {offset:#x}+{:#x}", buf.len()),
            ))
        }
    }
}

impl ReadAt for File {
    fn read_up_to(&self, offset: u64, mut buf: &mut [u8]) -> io::Result<usize> {
        let wanted = buf.len();
        let mut at = offset;
        while !buf.is_empty() {
            match self.read_at(buf, at) {
                Ok(0) => break,
                Ok(count) => {
                    at = at.saturating_add(count as u64);
                    buf = buf.get_mut(count..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Offsets from a hostile file may be beyond what the system takes: nothing is there.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
                Err(error) => return Err(error),
            }
        }
        Ok(wanted - buf.len())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl ReadAt for [u8] {
    fn read_up_to(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(count)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl ReadAt for Vec<u8> {
    fn read_up_to(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.as_slice().read_up_to(offset, buf)
    }

    fn length(&self) -> io::Result<u64> {
        self.as_slice().length()
    }
}

impl<F: ReadAt + ?Sized> ReadAt for &F {
    fn read_up_to(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        (**self).read_up_to(offset, buf)
    }

    fn length(&self) -> io::Result<u64> {
        (**self).length()
    }
}

impl<F: ReadAt + ?Sized> ReadAt for Box<F> {
    fn read_up_to(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        (**self).read_up_to(offset, buf)
    }

    fn length(&self) -> io::Result<u64> {
        (**self).length()
    }
}

/// A file that nobody sees under its name before it is whole; dropped before that, it vanishes.
pub struct NewFile {
    temporary: tempfile::NamedTempFile,
    path: PathBuf,
}

impl NewFile {
    /// Begins a file, mode 0600, in the directory of `path`.
    ///
    /// # Errors
    /// [`Error::Io`], if none can be made there.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let temporary = tempfile::Builder::new()
            .prefix(".rcapture-")
            .tempfile_in(directory)
            .map_err(Error::io("create a file in", directory))?;
        Ok(Self { temporary, path: path.to_owned() })
    }

    /// The file, for writing.
    #[must_use]
    pub fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// The name it will have.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it on disk, and gives it its name.
    ///
    /// # Errors
    /// [`Error::Io`]; the file is then gone.
    pub fn finish(self) -> Result<(), Error> {
        self.temporary.as_file().sync_all().map_err(Error::io("write", &self.path))?;
        let path = self.path;
        self.temporary
            .persist(&path)
            .map_err(|error| Error::io("rename a new file to", &path)(error.error))?;
        Ok(())
    }
}

/// Opens a file for reading.
///
/// # Errors
/// [`Error::Io`].
pub fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(Error::io("open", path))
}

/// Creates a file that is not there yet, mode 0600.
///
/// # Errors
/// [`Error::Io`].
pub fn create_new(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("create", path))
}

/// Opens a file to append to it; creates it, mode 0600, if it is not there.
///
/// # Errors
/// [`Error::Io`].
pub fn append_to(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("open", path))
}

/// Puts on disk which files a directory has.
///
/// # Errors
/// [`Error::Io`].
pub fn sync_directory(path: &Path) -> Result<(), Error> {
    let path = if path == Path::new("") { Path::new(".") } else { path };
    File::open(path).and_then(|directory| directory.sync_all()).map_err(Error::io("put on disk", path))
}
