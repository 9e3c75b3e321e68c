//! Files, and archives of them that depend on nothing else.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use md5::Md5;
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// Modes of a file, and of one that is run.
pub(crate) const PLAIN: u32 = 0o644;
pub(crate) const PROGRAM: u32 = 0o755;

/// What goes into an archive. A directory's name ends in a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) mode: u32,
}

impl File {
    pub(crate) fn new(name: &str, bytes: impl Into<Vec<u8>>, mode: u32) -> Self {
        Self { name: name.to_owned(), bytes: bytes.into(), mode }
    }

    pub(crate) fn read(name: &str, place: &Path, mode: u32) -> Result<Self> {
        let bytes = fs::read(place).with_context(|| format!("reading {}", place.display()))?;
        Ok(Self::new(name, bytes, mode))
    }
}

/// The directories that `files` are in, from the outermost on.
pub(crate) fn directories(files: &[File]) -> Vec<File> {
    let ends = files
        .iter()
        .flat_map(|file| file.name.match_indices('/').map(|(at, _)| file.name.split_at(at + 1).0));
    let names: BTreeSet<&str> = ends.collect();
    names.into_iter().map(|name| File::new(name, [], PROGRAM)).collect()
}

/// A line for each file, as sha256sum writes and checks it.
pub(crate) fn digests(files: &[File]) -> String {
    lines_of::<Sha256>(files)
}

/// The same of md5sum.
pub(crate) fn md5_digests(files: &[File]) -> String {
    lines_of::<Md5>(files)
}

fn lines_of<D: Digest>(files: &[File]) -> String {
    let mut files: Vec<&File> = files.iter().collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let mut lines = String::new();
    for file in files {
        for byte in D::digest(&file.bytes).iter() {
            // Writing to a string does not fail.
            let _ = write!(lines, "{byte:02x}");
        }
        let _ = writeln!(lines, "  {}", file.name);
    }
    lines
}

/// `files` by name, as a tar file in gzip, with `time` (seconds since 1970) for each.
pub(crate) fn tar_gz(mut files: Vec<File>, time: u64) -> Result<Vec<u8>> {
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let mut tar = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = Header::new_ustar();
        let is_directory = file.name.ends_with('/');
        header.set_entry_type(if is_directory { EntryType::Directory } else { EntryType::Regular });
        header.set_mode(file.mode);
        header.set_mtime(time);
        header.set_uid(0);
        header.set_gid(0);
        header.set_username("root")?;
        header.set_groupname("root")?;
        header.set_size(u64::try_from(file.bytes.len())?);
        tar.append_data(&mut header, &file.name, file.bytes.as_slice())?;
    }
    gzip(&tar.into_inner()?)
}

/// Without a name or a time.
pub(crate) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    std::io::Write::write_all(&mut gzip, bytes)?;
    Ok(gzip.finish()?)
}

/// What is in a tar file in gzip; all of it with one owner and time.
#[cfg(test)]
pub(crate) fn unpacked(packed: &[u8]) -> Vec<File> {
    use std::io::Read as _;
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(packed));
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (7, 0, 0));
        let (name, mode) = (entry.path().unwrap().display().to_string(), header.mode().unwrap());
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        File { name, bytes, mode }
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Vec<File> {
        let file = |name: &str, mode| File::new(name, name, mode);
        vec![file("rcapture.bin", PLAIN), file("usr/share/boot.md", PLAIN), file("rcapture-load", PROGRAM)]
    }

    #[test]
    fn the_order_in_which_files_are_found_makes_no_difference() {
        let mut reversed = files();
        reversed.reverse();
        assert_eq!(digests(&files()), digests(&reversed));
        assert_eq!(tar_gz(files(), 7).unwrap(), tar_gz(reversed, 7).unwrap());
    }

    #[test]
    fn what_is_packed_comes_out_with_its_mode_and_one_time() {
        let mut all = files();
        all.extend(directories(&all));
        let packed = tar_gz(all, 7).unwrap();
        let found = unpacked(&packed);
        let found: Vec<(&str, u32)> = found.iter().map(|file| (file.name.as_str(), file.mode)).collect();
        let expected = [
            ("rcapture-load", PROGRAM),
            ("rcapture.bin", PLAIN),
            ("usr/", PROGRAM),
            ("usr/share/", PROGRAM),
            ("usr/share/boot.md", PLAIN),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn digests_are_those_of_sha256sum_and_md5sum() {
        let files = [File::new("rcapture-load", "rcapture-load", PROGRAM)];
        // printf rcapture-load | sha256sum
        let sha256 = "94721d1f2a2ef1f957d9055526111b3b5ad058258db50ee3d1ec2935d092e284  rcapture-load\n";
        assert_eq!(digests(&files), sha256);
        assert_eq!(md5_digests(&files), "89ca3e4b4a0d6e201d0d2210aa033a48  rcapture-load\n");
    }
}
