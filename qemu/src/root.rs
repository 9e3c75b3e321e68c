//! A directory into which packages were unpacked: programs in it run with its own libraries.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use goblin::elf::Elf;

use crate::arch::Arch;
use crate::outcome::{Error, IoContext, Result};

const PROGRAMS: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];

/// Packages unpacked side by side.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    directory: PathBuf,
    arch: Arch,
}

impl Root {
    /// Of packages for `arch`.
    pub(crate) const fn at(directory: PathBuf, arch: Arch) -> Self {
        Self { directory, arch }
    }

    /// Where its libraries are.
    fn libraries(&self) -> [PathBuf; 4] {
        let name = self.arch.libraries();
        [format!("usr/lib/{name}"), format!("lib/{name}"), "usr/lib".into(), "lib".into()]
            .map(|place| self.directory.join(place))
    }

    /// The file of a program.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf> {
        self.first(PROGRAMS.iter().map(|place| self.directory.join(place).join(name)), name)
    }

    /// The root's own dynamic loader.
    pub(crate) fn loader(&self) -> Result<PathBuf> {
        let loader = Path::new(self.arch.loader());
        let name = loader.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let places = self.libraries().map(|place| place.join(name));
        self.first([self.directory.join(loader)].into_iter().chain(places), name)
    }

    /// `name`, started through the root's own loader with the root's own libraries, and by an emulator where it is for
    /// another architecture.
    pub(crate) fn command(&self, name: &str) -> Result<Command> {
        let libraries: Vec<String> =
            self.libraries().iter().map(|place| place.to_string_lossy().into_owned()).collect();
        let mut command = match self.arch.emulator() {
            None => Command::new(self.loader()?),
            Some(emulator) => {
                let mut command = Command::new(emulator);
                // Other files of the root are found, too, such as its libc's character sets.
                command.arg("-L").arg(&self.directory).arg(self.loader()?);
                command
            }
        };
        command.arg("--library-path").arg(libraries.join(":")).arg(self.program(name)?);
        Ok(command)
    }

    /// The shared libraries `program` needs, directly or not, by soname.
    pub(crate) fn libraries_of(&self, program: &Path) -> Result<BTreeMap<String, PathBuf>> {
        let mut found = BTreeMap::new();
        let mut pending = VecDeque::from([program.to_owned()]);
        while let Some(path) = pending.pop_front() {
            for soname in needed(&path)? {
                if let Entry::Vacant(place) = found.entry(soname) {
                    let library = self.library(place.key())?;
                    pending.push_back(library.clone());
                    place.insert(library);
                }
            }
        }
        Ok(found)
    }

    fn library(&self, soname: &str) -> Result<PathBuf> {
        self.first(self.libraries().iter().map(|place| place.join(soname)), soname)
    }

    fn first(&self, mut places: impl Iterator<Item = PathBuf>, name: &str) -> Result<PathBuf> {
        places.find(|path| path.is_file()).ok_or_else(|| {
            Error::missing(
                name,
                format!("not in {}", self.directory.display()),
                "fetch it anew: `rcapture-qemu fetch --refresh`",
            )
        })
    }
}

/// The sonames in an ELF file's `DT_NEEDED` entries.
fn needed(path: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(path).on("read", path)?;
    let elf = Elf::parse(&bytes).map_err(|error| Error::malformed(path, error.to_string()))?;
    Ok(elf.libraries.iter().map(|name| (*name).to_owned()).collect())
}
