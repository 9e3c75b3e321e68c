//! A Debian package: what dpkg-deb would make, on any system and to the byte.
//!
//! deb(5): an ar archive of the format's version, of what dpkg has to know, and of the files.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use xshell::{Shell, cmd};

use super::archive::{self, File, PLAIN, PROGRAM};
use super::{licences, shared_libraries};

/// Of the sources, and of the packaging.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-1");
/// Nobody reads mail yet: .invalid is no domain (RFC 2606 §2).
const MAINTAINER: &str = "rcapture developers <developers@rcapture.invalid>";

const PROGRAMS: [&str; 2] = ["rcapture", "rcapture-qemu"];
const DOCUMENTS: &str = "usr/share/doc/rcapture";

/// Name in the package, place in the source.
const PLAIN_FILES: [(&str, &str); 10] = [
    ("usr/lib/systemd/system/rcapture-recv.service", "hosttools/rcapture-recv.service"),
    ("usr/share/doc/rcapture/README.md", "README.md"),
    ("usr/share/doc/rcapture/docs/benchmarks.md", "docs/benchmarks.md"),
    ("usr/share/doc/rcapture/docs/boot.md", "docs/boot.md"),
    ("usr/share/doc/rcapture/docs/ci.md", "docs/ci.md"),
    ("usr/share/doc/rcapture/docs/dump-levels.md", "docs/dump-levels.md"),
    ("usr/share/doc/rcapture/docs/packaging.md", "docs/packaging.md"),
    ("usr/share/doc/rcapture/docs/target.md", "docs/target.md"),
    ("usr/share/doc/rcapture/docs/testing.md", "docs/testing.md"),
    ("usr/share/doc/rcapture/docs/wire-format.md", "docs/wire-format.md"),
];

/// What dpkg runs.
const SCRIPTS: [&str; 3] = ["postinst", "postrm", "prerm"];

/// The host tools that are built in `programs`, with their manual pages and documents, and the capture `images`, as a package.
///
/// # Errors
/// If a file cannot be read, or a program needs a library whose Debian package is not known.
pub(crate) fn package(root: &Path, programs: &Path, images: Vec<File>, time: u64) -> Result<File> {
    let mut files = images;
    let mut binaries = Vec::new();
    for name in PROGRAMS {
        let program = File::read(&format!("usr/bin/{name}"), &programs.join(name), PROGRAM)?;
        binaries.push(program.bytes.clone());
        files.push(program);
        files.extend(manual_pages(&programs.join(name))?);
    }
    files.extend(documents(root, time)?);
    let binaries: Vec<&[u8]> = binaries.iter().map(Vec::as_slice).collect();
    let architecture = shared_libraries::architecture(binaries.first().copied().unwrap_or_default())?;
    let depends = shared_libraries::depends(&binaries)?;
    let mut control = Vec::new();
    for name in SCRIPTS {
        control.push(File::read(name, &root.join("packaging/debian").join(name), PROGRAM)?);
    }
    let fields = read_text(&root.join("packaging/debian/control"))?
        .replace("@VERSION@", VERSION)
        .replace("@ARCHITECTURE@", architecture)
        .replace("@MAINTAINER@", MAINTAINER)
        .replace("@DEPENDS@", &depends);
    let bytes = assemble(&files, control, &fields, time)?;
    Ok(File::new(&format!("rcapture_{VERSION}_{architecture}.deb"), bytes, PLAIN))
}

/// What the program says of itself.
fn manual_pages(program: &Path) -> Result<Vec<File>> {
    let scratch = tempfile::tempdir()?;
    let directory = scratch.path();
    let shell = Shell::new()?;
    cmd!(shell, "{program} man {directory}").quiet().run()?;
    let mut pages = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let page = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        pages.push(File::new(&format!("usr/share/man/man1/{name}.gz"), archive::gzip(&page)?, PLAIN));
    }
    Ok(pages)
}

fn documents(root: &Path, time: u64) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for (name, place) in PLAIN_FILES {
        files.push(File::read(name, &root.join(place), PLAIN)?);
    }
    let mut document =
        |name: &str, bytes: Vec<u8>| files.push(File::new(&format!("{DOCUMENTS}/{name}"), bytes, PLAIN));
    document("changelog.gz", archive::gzip(read_text(&root.join("CHANGELOG.md"))?.as_bytes())?);
    document("changelog.Debian.gz", archive::gzip(changelog(time)?.as_bytes())?);
    document("third-party-licences.gz", archive::gzip(licences::of(root, &PROGRAMS)?.as_bytes())?);
    let expat = paragraphs(&read_text(&root.join("LICENSE-MIT"))?);
    let copyright = read_text(&root.join("packaging/debian/copyright"))?.replace("@EXPAT@\n", &expat);
    document("copyright", copyright.into_bytes());
    Ok(files)
}

/// As a field of many lines has it (deb822(5)).
fn paragraphs(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { " .\n".into() } else { format!(" {line}\n") }).collect()
}

/// deb-changelog(5).
fn changelog(time: u64) -> Result<String> {
    let time = Timestamp::from_second(i64::try_from(time)?)?.to_zoned(TimeZone::UTC);
    let time = jiff::fmt::rfc2822::to_string(&time)?;
    Ok(format!(
        "rcapture ({VERSION}) unstable; urgency=medium\n\n  * changelog.gz says what this version has.\n\n -- {MAINTAINER}  {time}\n"
    ))
}

/// The package of `files`, with the control files `control` and the control file's `fields`.
fn assemble(files: &[File], mut control: Vec<File>, fields: &str, time: u64) -> Result<Vec<u8>> {
    control.push(File::new("md5sums", archive::md5_digests(files), PLAIN));
    let directories = archive::directories(files);
    // In KiB, a file at a time (deb-substvars(5)).
    let kib = files.iter().map(|file| file.bytes.len().div_ceil(1024)).sum::<usize>() + directories.len();
    control.push(File::new("control", fields.replace("@INSTALLED_SIZE@", &kib.to_string()), PLAIN));
    let top = [File::new("./", [], PROGRAM)];
    let members = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", archive::tar_gz([&top[..], &control].concat(), time)?),
        ("data.tar.gz", archive::tar_gz([&top[..], files, &directories].concat(), time)?),
    ];
    let mut ar = ar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = ar::Header::new(name.into(), u64::try_from(bytes.len())?);
        header.set_mtime(time);
        header.set_mode(0o100_644);
        ar.append(&header, bytes.as_slice())?;
    }
    Ok(ar.into_inner()?)
}

fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace_root;
    use std::io::Read as _;
    use std::process::Command;

    /// A package with a script in place of the programs.
    fn sample() -> Vec<u8> {
        let root = workspace_root();
        let mut files = documents(&root, 7).unwrap();
        files.push(File::new("usr/bin/rcapture", "#!/bin/sh\necho rcapture runs\n", PROGRAM));
        let scripts =
            SCRIPTS.map(|name| File::read(name, &root.join("packaging/debian").join(name), PROGRAM).unwrap());
        let fields = read_text(&root.join("packaging/debian/control")).unwrap();
        let fields = fields.replace("@VERSION@", VERSION).replace("@ARCHITECTURE@", "all");
        let fields = fields.replace("@MAINTAINER@", MAINTAINER).replace("@DEPENDS@", "libc6");
        assemble(&files, scripts.to_vec(), &fields, 7).unwrap()
    }

    fn member(package: &[u8], name: &str) -> Vec<u8> {
        let mut ar = ar::Archive::new(package);
        loop {
            let mut entry = ar.next_entry().unwrap().unwrap();
            if entry.header().identifier() == name.as_bytes() {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                return bytes;
            }
        }
    }

    fn find<'a>(files: &'a [File], name: &str) -> &'a File {
        files.iter().find(|file| file.name == name).unwrap()
    }

    #[test]
    fn a_package_has_the_members_that_dpkg_wants_in_their_order() {
        let package = sample();
        let mut ar = ar::Archive::new(package.as_slice());
        let mut names = Vec::new();
        while let Some(entry) = ar.next_entry() {
            names.push(String::from_utf8(entry.unwrap().header().identifier().to_vec()).unwrap());
        }
        assert_eq!(names, ["debian-binary", "control.tar.gz", "data.tar.gz"]);
        assert_eq!(member(&package, "debian-binary"), b"2.0\n");
    }

    #[test]
    fn the_same_files_make_the_same_package() {
        assert_eq!(sample(), sample());
    }

    #[test]
    fn no_field_of_the_control_file_is_left_open() {
        let control = archive::unpacked(&member(&sample(), "control.tar.gz"));
        let fields = String::from_utf8(find(&control, "control").bytes.clone()).unwrap();
        assert!(!fields.contains("_@") && !fields.contains(": @"), "{fields}");
        let size = fields.lines().find_map(|line| line.strip_prefix("Installed-Size: ")).unwrap();
        assert!(size.parse::<u32>().unwrap() > 100, "{size}");
    }

    #[test]
    fn the_changelog_has_the_time_of_the_sources() {
        assert!(changelog(1_795_364_640).unwrap().ends_with("  Sun, 22 Nov 2026 16:24:00 +0000\n"));
    }

    #[test]
    fn dpkg_installs_the_package_and_removes_it() {
        if !crate::setup::in_path("dpkg") {
            println!("left out: there is no dpkg");
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        fs::create_dir_all(root.join("var/lib/dpkg/info")).unwrap();
        fs::create_dir_all(root.join("var/lib/dpkg/updates")).unwrap();
        fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
        let package = scratch.path().join("rcapture.deb");
        fs::write(&package, sample()).unwrap();
        let dpkg = |arguments: &[&str]| {
            let fakes = ["--force-not-root", "--force-depends", "--force-script-chrootless"];
            let mut command = Command::new("dpkg");
            command.arg(format!("--root={}", root.display())).args(fakes).args(arguments);
            // Its scripts run outside of that root, and have to see that no systemd is inside.
            let output = command.env("LC_ALL", "C").output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        dpkg(&["--install", package.to_str().unwrap()]);
        assert!(dpkg(&["--status", "rcapture"]).contains("Status: install ok installed"));
        assert_eq!(dpkg(&["--verify", "rcapture"]), "", "md5sums are those of the files");
        let run = Command::new(root.join("usr/bin/rcapture")).output().unwrap();
        assert_eq!(run.stdout, b"rcapture runs\n");
        dpkg(&["--purge", "rcapture"]);
        assert!(!root.join("usr/share/doc/rcapture").exists());
    }
}
