//! The cache of what was fetched: an asset is a directory that is either whole or absent.
//!
//! An asset is built beside its place, its files are measured into `manifest.json`, and the directory is
//! renamed into place last. One lock keeps two builders apart.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::outcome::{Error, IoContext, Result};

const MANIFEST: &str = "manifest.json";
/// Another process may be fetching a debug package.
const LOCK_DEADLINE: Duration = Duration::from_secs(40 * 60);

/// What an asset consists of.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Version of every package it was made of.
    pub(crate) packages: BTreeMap<String, String>,
    /// Other facts the asset's reader needs.
    pub(crate) facts: BTreeMap<String, String>,
    /// Filled in by the cache.
    pub(super) files: BTreeMap<String, FileRecord>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileRecord {
    size: u64,
    sha256: String,
}

/// An asset in the cache.
#[derive(Debug)]
pub(crate) struct Asset {
    pub(crate) directory: PathBuf,
    pub(crate) manifest: Manifest,
}

/// The directory all assets are in.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    pub(crate) const fn at(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The asset `name`, if it is there and every file still has its recorded size.
    pub(crate) fn find(&self, name: &str) -> Option<Asset> {
        let directory = self.root.join(name);
        let manifest: Manifest = serde_json::from_slice(&fs::read(directory.join(MANIFEST)).ok()?).ok()?;
        let whole = manifest.files.iter().all(|(file, record)| {
            fs::symlink_metadata(directory.join(file)).is_ok_and(|found| found.len() == record.size)
        });
        whole.then_some(Asset { directory, manifest })
    }

    /// The asset `name`; if it is not there whole, `build` makes it in the directory it is given.
    pub(crate) fn get(&self, name: &str, build: impl FnOnce(&Path) -> Result<Manifest>) -> Result<Asset> {
        if let Some(asset) = self.find(name) {
            return Ok(asset);
        }
        let _lock = self.lock()?;
        // Another process may have built it while we waited.
        if let Some(asset) = self.find(name) {
            return Ok(asset);
        }
        let place = self.root.join(name);
        let parent = place.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent).on("create", parent)?;
        // On the same file system, so that the rename is one step. Removed again if the build fails.
        let building = tempfile::Builder::new().prefix(".building-").tempdir_in(parent);
        let building = building.on("make a directory in", parent)?;
        let mut manifest = build(building.path())?;
        manifest.files = measure(building.path())?;
        let text = serde_json::to_vec_pretty(&manifest).map_err(io::Error::other).on("write", &place)?;
        fs::write(building.path().join(MANIFEST), text).on("write", &place)?;
        remove(&place)?;
        let building = building.keep();
        fs::rename(&building, &place).on("rename into place", &place)?;
        Ok(Asset { directory: place, manifest })
    }

    /// Forgets the asset `name`.
    pub(crate) fn forget(&self, name: &str) -> Result<()> {
        let _lock = self.lock()?;
        remove(&self.root.join(name))
    }

    /// Keeps other builders away from what is no asset, too, until it is dropped.
    pub(super) fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.root).on("create", &self.root)?;
        let path = self.root.join("lock");
        let file = File::create(&path).on("open", &path)?;
        let start = Instant::now();
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(error).on("lock", &path),
                Err(TryLockError::WouldBlock) if start.elapsed() > LOCK_DEADLINE => {
                    return Err(Error::Overdue {
                        program: format!("the holder of {}", path.display()),
                        deadline: LOCK_DEADLINE,
                    });
                }
                Err(TryLockError::WouldBlock) => {
                    if !told && start.elapsed() > Duration::from_secs(2) {
                        eprintln!("lab: waiting for another process that fills {}", self.root.display());
                        told = true;
                    }
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }
}

impl Asset {
    /// Reads every file again and compares it with its recorded digest.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the first file that changed.
    pub(crate) fn verify(&self) -> Result<()> {
        for (name, record) in &self.manifest.files {
            let path = self.directory.join(name);
            if measure_file(&path)? != *record {
                return Err(Error::malformed(&path, "has changed since it was fetched: fetch --refresh"));
            }
        }
        Ok(())
    }

    /// A fact the builder recorded.
    pub(crate) fn fact(&self, name: &str) -> Result<&str> {
        self.manifest.facts.get(name).map(String::as_str).ok_or_else(|| {
            Error::malformed(&self.directory.join(MANIFEST), format!("has no {name}: fetch --refresh"))
        })
    }
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).on("remove", directory),
        _ => Ok(()),
    }
}

/// Size and digest of every regular file under `root`, by its path from there.
fn measure(root: &Path) -> Result<BTreeMap<String, FileRecord>> {
    let mut files = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).on("list", &directory)? {
            let path = entry.on("list", &directory)?.path();
            let kind = fs::symlink_metadata(&path).on("examine", &path)?.file_type();
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file() {
                let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                files.insert(name, measure_file(&path)?);
            }
        }
    }
    Ok(files)
}

fn measure_file(path: &Path) -> Result<FileRecord> {
    let mut file = File::open(path).on("open", path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer).on("read", path)?;
        let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else { break };
        digest.update(chunk);
        size += chunk.len() as u64;
    }
    let sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(FileRecord { size, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::at(root.path().join("cache"));
        (root, cache)
    }

    fn write(directory: &Path, text: &str) -> Result<Manifest> {
        fs::create_dir(directory.join("sub")).unwrap();
        fs::write(directory.join("sub/file"), text).unwrap();
        Ok(Manifest::default())
    }

    #[test]
    fn an_asset_is_built_once_and_then_reused() {
        let (_root, cache) = cache();
        let first = cache.get("kernel/a", |directory| write(directory, "abc")).unwrap();
        let second = cache.get("kernel/a", |_| panic!("built twice")).unwrap();
        assert_eq!(first.directory, second.directory);
        assert_eq!(fs::read_to_string(second.directory.join("sub/file")).unwrap(), "abc");
        second.verify().unwrap();
    }

    #[test]
    fn a_failed_build_leaves_nothing_behind() {
        let (_root, cache) = cache();
        cache
            .get("kernel/a", |directory| {
                write(directory, "half").unwrap();
                Err(Error::missing("x", "y", "z"))
            })
            .unwrap_err();
        assert!(cache.find("kernel/a").is_none());
        assert_eq!(fs::read_dir(cache.root.join("kernel")).unwrap().count(), 0);
    }

    #[test]
    fn a_truncated_file_is_fetched_again() {
        let (_root, cache) = cache();
        let asset = cache.get("a", |directory| write(directory, "abc")).unwrap();
        fs::write(asset.directory.join("sub/file"), "ab").unwrap();
        assert!(cache.find("a").is_none());
        let again = cache.get("a", |directory| write(directory, "abc")).unwrap();
        assert_eq!(fs::read_to_string(again.directory.join("sub/file")).unwrap(), "abc");
    }

    #[test]
    fn a_changed_file_of_the_same_size_fails_verification() {
        let (_root, cache) = cache();
        let asset = cache.get("a", |directory| write(directory, "abc")).unwrap();
        fs::write(asset.directory.join("sub/file"), "abd").unwrap();
        assert!(asset.verify().unwrap_err().to_string().contains("sub/file"));
    }
}
