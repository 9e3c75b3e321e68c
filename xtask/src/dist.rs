//! `cargo xtask dist`: what a release consists of, an archive for each machine, and a Debian package of the host tools.
//!
//! The same source and compiler give the same bytes: names are sorted, owners and times are fixed, no path of the builder's
//! gets in.

mod archive;
mod debian;
mod licences;
#[cfg(test)]
mod recipes;
mod shared_libraries;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rcapture_qemu::Arch;
use xshell::{Shell, cmd};

use crate::host_tools::{self, Profile};
use crate::image;
use crate::interrupt::Interrupt;
use crate::steps::step;
use crate::workspace_root;
use archive::{File, PLAIN, PROGRAM};

/// Digests of all files, in the format of sha256sum.
const DIGESTS: &str = "SHA256SUMS";

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
    /// Leave out the Debian package of the host tools.
    #[arg(long)]
    no_deb: bool,
}

/// Builds the images and packs them: `dist/rcapture-VERSION-ARCH.tar.gz`; builds the host tools and packs them:
/// `dist/rcapture_VERSION-1_ARCH.deb`; and writes the digests of all to `dist/SHA256SUMS`.
///
/// # Errors
/// If an image or a program does not build, or a file cannot be read or written.
pub(crate) fn run(args: &Args, interrupt: &Interrupt) -> Result<()> {
    let root = workspace_root();
    let time = source_time(&root)?;
    let mut packed = Vec::new();
    let mut images = Vec::new();
    for &arch in &args.arch {
        let image = step(&format!("capture image for {}", arch.name()), || image::build(arch))?;
        packed.push(target_archive(&root, arch, &image, time)?);
        images.push(File::read(&format!("usr/share/rcapture/{}/rcapture.bin", arch.name()), &image, PLAIN)?);
    }
    if !args.no_deb {
        let programs = step("host tools", || host_tools::build(Profile::Package, interrupt))?;
        packed.push(step("Debian package", || debian::package(&root, &programs, images, time))?);
    }
    packed.push(File::new(DIGESTS, archive::digests(&packed), PLAIN));
    for file in packed {
        let path = root.join("dist").join(&file.name);
        fs::write(&path, &file.bytes).with_context(|| format!("writing {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// What a machine with `arch` needs to be captured.
fn target_archive(root: &Path, arch: Arch, image: &Path, time: u64) -> Result<File> {
    let mut files = vec![File::read("rcapture.bin", image, PLAIN)?];
    for (name, place, mode) in COMMON {
        files.push(File::read(name, &root.join(place), mode)?);
    }
    files.push(File::new(DIGESTS, archive::digests(&files), PLAIN));
    let directory = format!("rcapture-{}-{}", env!("CARGO_PKG_VERSION"), arch.name());
    for file in &mut files {
        file.name = format!("{directory}/{}", file.name);
    }
    Ok(File::new(&format!("{directory}.tar.gz"), archive::tar_gz(files, time)?, PLAIN))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_a_directory_with_digests_of_what_is_in_it() {
        let scratch = tempfile::tempdir().unwrap();
        let image = scratch.path().join("image");
        fs::write(&image, "rcapture.bin").unwrap();
        let packed = target_archive(&workspace_root(), Arch::Arm, &image, 7).unwrap();
        let directory = format!("rcapture-{}-arm", env!("CARGO_PKG_VERSION"));
        assert_eq!(packed.name, format!("{directory}.tar.gz"));
        let files = archive::unpacked(&packed.bytes);
        assert_eq!(files.len(), COMMON.len() + 2);
        assert!(files.iter().all(|file| file.name.starts_with(&format!("{directory}/"))));
        let listed = files.iter().find(|file| file.name.ends_with(DIGESTS)).unwrap();
        let listed = String::from_utf8(listed.bytes.clone()).unwrap();
        assert_eq!(listed.lines().count(), COMMON.len() + 1);
        // printf rcapture.bin | sha256sum
        let image = "3191a28a9638cb1693695f87ad203b0efebb5922df29b532e18701c172bf08b9  rcapture.bin\n";
        assert!(listed.contains(image), "{listed}");
    }
}
