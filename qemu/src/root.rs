//! A directory into which packages were unpacked: programs in it run with its own libraries.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use goblin::elf::Elf;

use crate::outcome::{Error, IoContext, Result};

const PROGRAMS: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];
const LIBRARIES: [&str; 4] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib", "lib"];
const LOADERS: [&str; 3] = [
    "lib64/ld-linux-x86-64.so.2",
    "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
];

/// Packages unpacked side by side.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    directory: PathBuf,
}

impl Root {
    pub(crate) const fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The file of a program.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf> {
        self.first(PROGRAMS.iter().map(|place| self.directory.join(place).join(name)), name)
    }

    /// The root's own dynamic loader.
    pub(crate) fn loader(&self) -> Result<PathBuf> {
        self.first(LOADERS.iter().map(|place| self.directory.join(place)), "ld-linux-x86-64.so.2")
    }

    /// `name`, started through the root's own loader with the root's own libraries.
    pub(crate) fn command(&self, name: &str) -> Result<Command> {
        let libraries: Vec<String> =
            LIBRARIES.iter().map(|place| self.directory.join(place).to_string_lossy().into_owned()).collect();
        let mut command = Command::new(self.loader()?);
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
        self.first(LIBRARIES.iter().map(|place| self.directory.join(place).join(soname)), soname)
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
