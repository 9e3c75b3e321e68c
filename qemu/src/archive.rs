//! An initramfs: a gzipped newc archive (kernel: Documentation/driver-api/early-userspace/buffer-format.rst).

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use cpio::newc::Builder;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::outcome::{Error, IoContext, Result};
use crate::root::Root;

const EXECUTABLE: u32 = 0o100_755;
const REGULAR: u32 = 0o100_644;
const DIRECTORY: u32 = 0o040_755;

/// What an init of ours wants to be there.
const DIRECTORIES: [&str; 7] = ["bin", "proc", "sys", "dev", "tmp", "lib", "modules"];
/// Where an archive begins that follows another one (buffer-format.rst).
const ALIGNMENT: usize = 4;

/// No module comes near: with its debug information lkdtm has a megabyte.
const MODULE_LIMIT_BYTES: u64 = 256 << 20;

/// An archive that is being written.
pub(crate) struct Archive {
    path: PathBuf,
    /// Directory of the guest in which everything is, or nothing.
    base: &'static str,
    out: GzEncoder<BufWriter<File>>,
    inode: u32,
}

impl Archive {
    /// Begins one.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).on("create", path)?;
        Ok(Self::of(file, path, ""))
    }

    /// Begins one behind another one, packed or not, all of it in the directory `base`. The kernel unpacks both.
    pub(crate) fn append_to(path: &Path, first: &Path, base: &'static str) -> Result<Self> {
        let mut bytes = read(first)?;
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        let mut file = File::create(path).on("create", path)?;
        file.write_all(&bytes).on("write", path)?;
        let mut this = Self::of(file, path, base);
        this.add("", DIRECTORY, &[])?;
        Ok(this)
    }

    fn of(file: File, path: &Path, base: &'static str) -> Self {
        // Unpacking costs the guest more than the bytes cost us.
        let out = GzEncoder::new(BufWriter::new(file), Compression::fast());
        Self { path: path.to_owned(), base, out, inode: 1 }
    }

    /// Adds empty directories, for all else to go into.
    pub(crate) fn directories(&mut self) -> Result<()> {
        DIRECTORIES.iter().try_for_each(|directory| self.add(directory, DIRECTORY, &[]))
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.add(name, REGULAR, bytes)
    }

    /// Adds the file at `path`.
    pub(crate) fn file_of(&mut self, name: &str, path: &Path) -> Result<()> {
        self.add(name, REGULAR, &read(path)?)
    }

    /// Adds an executable file.
    pub(crate) fn executable(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.add(name, EXECUTABLE, bytes)
    }

    /// Adds the executable file at `path`.
    pub(crate) fn executable_of(&mut self, name: &str, path: &Path) -> Result<()> {
        self.add(name, EXECUTABLE, &read(path)?)
    }

    /// Adds a program of `root`, into `bin`, with the libraries it needs, whatever others are there.
    pub(crate) fn program(&mut self, root: &Root, program: &Path) -> Result<()> {
        let (base, name, loader) = (self.base, file_name(program)?, root.loader()?);
        let lib = format!("{base}/lib");
        let start = format!(
            "#!{base}/busybox sh\nexec {lib}/{} --library-path {lib} {lib}/{name} \"$@\"\n",
            file_name(&loader)?
        );
        self.executable(&format!("bin/{name}"), start.as_bytes())?;
        self.executable_of(&format!("lib/{name}"), program)?;
        self.executable_of(&format!("lib/{}", file_name(&loader)?), &loader)?;
        for (soname, library) in root.libraries_of(program)? {
            self.executable_of(&format!("lib/{soname}"), &library)?;
        }
        Ok(())
    }

    /// Adds kernel modules, by their [names](module_names) in the guest.
    pub(crate) fn modules(&mut self, modules: &[PathBuf]) -> Result<()> {
        modules.iter().try_for_each(|module| {
            let (name, packing) = packing(file_name(module)?);
            self.file(&format!("modules/{name}"), &packing.unpack(module)?)
        })
    }

    /// Ends it.
    pub(crate) fn finish(mut self) -> Result<()> {
        let Self { path, out, .. } = &mut self;
        let mut end = || -> io::Result<()> {
            cpio::newc::trailer(&mut *out)?;
            out.try_finish()?;
            out.get_mut().flush()
        };
        end().on("write", path.as_path())
    }

    fn add(&mut self, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        let name = format!("{}/{name}", self.base);
        let entry = Builder::new(name.trim_matches('/')).ino(self.inode).nlink(1).mode(mode);
        self.inode += 1;
        let out = &mut self.out;
        let write = || -> io::Result<()> {
            let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
            let mut writer = entry.write(out, size);
            writer.write_all(bytes)?;
            writer.finish().map(drop)
        };
        write().on("write", &self.path)
    }
}

/// How a kernel module is packed that the guest's insmod could not unpack. It reads `.ko` and `.ko.xz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    AsItIs,
    Gzip,
    Zstd,
}

/// A module's file name in the guest, and how the file here is packed.
fn packing(name: &str) -> (&str, Packing) {
    let packed = |end, packing| name.strip_suffix(end).map(|name| (name, packing));
    packed(".gz", Packing::Gzip).or_else(|| packed(".zst", Packing::Zstd)).unwrap_or((name, Packing::AsItIs))
}

impl Packing {
    fn unpack(self, module: &Path) -> Result<Vec<u8>> {
        let file = || File::open(module).on("open", module);
        let mut unpacked = Vec::new();
        let bytes = match self {
            Self::AsItIs => return read(module),
            Self::Gzip => GzDecoder::new(file()?).take(MODULE_LIMIT_BYTES).read_to_end(&mut unpacked),
            Self::Zstd => zstd::Decoder::new(file()?)
                .and_then(|decoder| decoder.take(MODULE_LIMIT_BYTES).read_to_end(&mut unpacked)),
        };
        if bytes.on("unpack", module)? as u64 == MODULE_LIMIT_BYTES {
            return Err(Error::malformed(module, "is no module: unpacked it is too large"));
        }
        Ok(unpacked)
    }
}

/// The names of modules in the guest, as words of the shell.
pub(crate) fn module_names(paths: &[PathBuf]) -> Result<String> {
    let names: Result<Vec<&str>> = paths.iter().map(|path| Ok(packing(file_name(path)?).0)).collect();
    Ok(names?.join(" "))
}

fn file_name(path: &Path) -> Result<&str> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.ok_or_else(|| Error::malformed(path, "is not the name of a file"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).on("read", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_unpacked_where_the_guest_could_not() {
        let directory = tempfile::tempdir().unwrap();
        let text = b"module".repeat(1000);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&text).unwrap();
        let files = [
            ("plain.ko", text.clone()),
            ("gzip.ko.gz", gzip.finish().unwrap()),
            ("zstd.ko.zst", zstd::encode_all(&*text, 1).unwrap()),
        ];
        let paths = files.map(|(name, bytes)| {
            let path = directory.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        });
        assert_eq!(module_names(&paths).unwrap(), "plain.ko gzip.ko zstd.ko");
        for path in &paths {
            let (_, packing) = packing(file_name(path).unwrap());
            assert!(packing.unpack(path).unwrap() == text, "{}", path.display());
        }
        assert_eq!(packing("xz.ko.xz"), ("xz.ko.xz", Packing::AsItIs));
        let damaged = directory.path().join("damaged.ko.zst");
        fs::write(&damaged, "text").unwrap();
        assert!(Packing::Zstd.unpack(&damaged).is_err());
    }
}
