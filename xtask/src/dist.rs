//! `cargo xtask dist`: what a release consists of, an archive for each machine.
//!
//! The same source gives the same bytes: names are sorted, owners and times are fixed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use rcapture_qemu::Arch;
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};
use xshell::{Shell, cmd};

use crate::image;
use crate::steps::step;
use crate::workspace_root;

/// Digests of all files, in the format of sha256sum.
const DIGESTS: &str = "SHA256SUMS";
/// Of a file, and of one that is run.
const PLAIN: u32 = 0o644;
const PROGRAM: u32 = 0o755;

/// What stands beside the image: name in the archive, place in the source, mode.
const COMMON: [(&str, &str, u32); 12] = [
    ("CHANGELOG.md", "CHANGELOG.md", PLAIN),
    ("LICENSE-APACHE", "LICENSE-APACHE", PLAIN),
    ("LICENSE-MIT", "LICENSE-MIT", PLAIN),
    ("README.md", "README.md", PLAIN),
    ("S90rcapture", "packaging/target/S90rcapture", PROGRAM),
    ("docs/boot.md", "docs/boot.md", PLAIN),
    ("docs/dump-levels.md", "docs/dump-levels.md", PLAIN),
    ("docs/target.md", "docs/target.md", PLAIN),
    ("rcapture-load", "packaging/target/rcapture-load", PROGRAM),
    ("rcapture.conf", "packaging/target/rcapture.conf", PLAIN),
    ("rcapture.openrc", "packaging/target/rcapture.openrc", PROGRAM),
    ("rcapture.service", "packaging/target/rcapture.service", PLAIN),
];

/// What to pack.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The machines to pack for: all, unless they are named.
    #[arg(long, value_enum, default_values_t = Arch::ALL)]
    arch: Vec<Arch>,
}

/// Builds the images and packs them: `dist/rcapture-VERSION-ARCH.tar.gz`, and their digests in `dist/SHA256SUMS`.
///
/// # Errors
/// If an image does not build, or a file cannot be read or written.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = workspace_root();
    let time = source_time(&root)?;
    let mut archives = Vec::new();
    for &arch in &args.arch {
        let image = step(&format!("capture image for {}", arch.name()), || image::build(arch))?;
        let mut files = vec![File::read("rcapture.bin", &image, PLAIN)?];
        for (name, place, mode) in COMMON {
            files.push(File::read(name, &root.join(place), mode)?);
        }
        let directory = format!("rcapture-{}-{}", env!("CARGO_PKG_VERSION"), arch.name());
        let bytes = archive(&directory, files, time)?;
        archives.push(File { name: format!("{directory}.tar.gz"), bytes, mode: PLAIN });
    }
    archives.push(File { name: DIGESTS.into(), bytes: digests(&archives).into_bytes(), mode: PLAIN });
    for file in archives {
        let path = root.join("dist").join(&file.name);
        fs::write(&path, &file.bytes).with_context(|| format!("writing {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// The time that all files get, in seconds since 1970: `SOURCE_DATE_EPOCH` (reproducible-builds.org), else that of the
/// commit, else 0.
fn source_time(root: &Path) -> Result<u64> {
    if let Ok(time) = std::env::var("SOURCE_DATE_EPOCH") {
        return time.parse().with_context(|| format!("SOURCE_DATE_EPOCH={time}"));
    }
    let shell = Shell::new()?;
    shell.change_dir(root);
    let of_commit = cmd!(shell, "git log -1 --format=%ct").quiet().ignore_stderr().read();
    Ok(of_commit.ok().and_then(|time| time.parse().ok()).unwrap_or(0))
}

/// A file of an archive.
struct File {
    name: String,
    bytes: Vec<u8>,
    mode: u32,
}

impl File {
    fn read(name: &str, place: &PathBuf, mode: u32) -> Result<Self> {
        let bytes = fs::read(place).with_context(|| format!("reading {}", place.display()))?;
        Ok(Self { name: name.into(), bytes, mode })
    }
}

/// A line for each file, as sha256sum writes and checks it.
fn digests(files: &[File]) -> String {
    let line = |file: &File| {
        let digest: String = Sha256::digest(&file.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{digest}  {}\n", file.name)
    };
    files.iter().map(line).collect()
}

/// `files` and their digests in `directory`, as a tar file in gzip.
fn archive(directory: &str, mut files: Vec<File>, time: u64) -> Result<Vec<u8>> {
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files.push(File { name: DIGESTS.into(), bytes: digests(&files).into_bytes(), mode: PLAIN });
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    let mut tar = tar::Builder::new(gzip);
    for file in files {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(file.mode);
        header.set_mtime(time);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(u64::try_from(file.bytes.len())?);
        tar.append_data(&mut header, format!("{directory}/{}", file.name), file.bytes.as_slice())?;
    }
    Ok(tar.into_inner()?.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn files() -> Vec<File> {
        let file = |name: &str, mode| File { name: name.into(), bytes: name.as_bytes().to_vec(), mode };
        vec![file("rcapture.bin", PLAIN), file("docs/boot.md", PLAIN), file("rcapture-load", PROGRAM)]
    }

    #[test]
    fn the_order_in_which_files_are_found_makes_no_difference() {
        let mut reversed = files();
        reversed.reverse();
        assert_eq!(archive("rcapture", files(), 7).unwrap(), archive("rcapture", reversed, 7).unwrap());
    }

    #[test]
    fn an_archive_has_its_files_with_their_modes_and_digests_and_one_time() {
        let packed = archive("rcapture", files(), 7).unwrap();
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(packed.as_slice()));
        let mut found = Vec::new();
        let mut listed = String::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (7, 0, 0));
            found.push((entry.path().unwrap().display().to_string(), header.mode().unwrap()));
            if entry.path().unwrap().ends_with(DIGESTS) {
                entry.read_to_string(&mut listed).unwrap();
            }
        }
        let expected = [
            ("rcapture/SHA256SUMS", PLAIN),
            ("rcapture/docs/boot.md", PLAIN),
            ("rcapture/rcapture-load", PROGRAM),
            ("rcapture/rcapture.bin", PLAIN),
        ];
        assert_eq!(found, expected.map(|(name, mode)| (name.to_owned(), mode)));
        // printf rcapture-load | sha256sum
        assert!(
            listed.contains(
                "94721d1f2a2ef1f957d9055526111b3b5ad058258db50ee3d1ec2935d092e284  rcapture-load\n"
            ),
            "{listed}"
        );
        assert_eq!(listed.lines().count(), 3);
    }

    #[test]
    fn all_that_is_packed_is_there() {
        for (_, place, _) in COMMON {
            assert!(workspace_root().join(place).is_file(), "{place}");
        }
    }
}
