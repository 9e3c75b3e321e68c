//! The guest's userland as an initramfs: busybox, kexec, the capture image, and a script that crashes.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use cpio::newc::Builder;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::lab::Userland;
use crate::outcome::{Error, IoContext, Result};

const INIT: &str = include_str!("../guest/init.sh");
const POPULATE: &str = include_str!("../guest/populate.sh");
const EXECUTABLE: u32 = 0o100_755;
const REGULAR: u32 = 0o100_644;
const DIRECTORY: u32 = 0o040_755;

/// By which system call the capture image is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Loader {
    /// `kexec -p`: kexec_load(2), purgatory and elfcorehdr from kexec-tools.
    #[default]
    KexecLoad,
    /// `kexec -s -p`: kexec_file_load(2), both from the kernel.
    KexecFileLoad,
}

/// What crashes the guest, once the capture image is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trigger {
    /// `echo c > /proc/sysrq-trigger`, at once.
    #[default]
    SysRq,
    /// Nothing in the guest: it sleeps until [`Machine::inject_nmi`](crate::Machine::inject_nmi).
    Nmi,
    /// A shell command in the guest, such as `insmod /modules/null.ko`.
    Command(String),
}

/// What goes into the guest.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    pub(crate) capture_image: Option<PathBuf>,
    pub(crate) loader: Loader,
    pub(crate) capture_cmdline: String,
    pub(crate) trigger: Trigger,
    pub(crate) delay_seconds: u32,
    pub(crate) populate: bool,
    pub(crate) balloon_mib: u32,
    pub(crate) report: bool,
    pub(crate) modules: Vec<PathBuf>,
}

/// Writes the initramfs to `path`: a gzipped newc archive (kernel: Documentation/driver-api/early-userspace/
/// buffer-format.rst).
pub(crate) fn write(path: &Path, userland: &Userland, contents: &Contents) -> Result<()> {
    let file = File::create(path).on("create", path)?;
    // Unpacking costs the guest more than the bytes cost us.
    let out = GzEncoder::new(BufWriter::new(file), Compression::fast());
    let mut archive = Archive { out, inode: 1 };
    let write = |archive: &mut Archive<_>, name: &str, mode, bytes: &[u8]| {
        archive.add(name, mode, bytes).on("write", path)
    };
    for directory in ["bin", "proc", "sys", "dev", "tmp", "lib", "lib64", "modules"] {
        write(&mut archive, directory, DIRECTORY, &[])?;
    }
    write(&mut archive, "init", EXECUTABLE, INIT.as_bytes())?;
    write(&mut archive, "populate.sh", REGULAR, POPULATE.as_bytes())?;
    write(&mut archive, "lab.conf", REGULAR, contents.configuration()?.as_bytes())?;
    write(&mut archive, "busybox", EXECUTABLE, &read(&userland.busybox)?)?;
    if let Some(image) = &contents.capture_image {
        write(&mut archive, "capture.bin", REGULAR, &read(image)?)?;
        write(&mut archive, "bin/kexec", EXECUTABLE, &read(&userland.kexec)?)?;
        write(&mut archive, "lib64/ld-linux-x86-64.so.2", EXECUTABLE, &read(&userland.root.loader()?)?)?;
        for (soname, library) in userland.root.libraries_of(&userland.kexec)? {
            // The loader looks in /lib without being told to.
            write(&mut archive, &format!("lib/{soname}"), EXECUTABLE, &read(&library)?)?;
        }
    }
    for module in &contents.modules {
        let name = file_name(module)?;
        write(&mut archive, &format!("modules/{name}"), REGULAR, &read(module)?)?;
    }
    archive.finish().on("write", path)
}

impl Contents {
    /// The shell variables that `guest/init.sh` reads.
    fn configuration(&self) -> Result<String> {
        let load = match (&self.capture_image, self.loader) {
            (None, _) => "",
            (Some(_), Loader::KexecLoad) => "-p",
            (Some(_), Loader::KexecFileLoad) => "-s -p",
        };
        let crash = match &self.trigger {
            Trigger::SysRq => "echo c > /proc/sysrq-trigger",
            Trigger::Nmi => ":",
            Trigger::Command(command) => command,
        };
        let modules: Result<Vec<&str>> = self.modules.iter().map(|module| file_name(module)).collect();
        let delay = self.delay_seconds.to_string();
        let balloon_kib = (u64::from(self.balloon_mib) * 1024).to_string();
        let flag = |is_set| if is_set { "1" } else { "0" };
        let mut text = String::new();
        for (name, value) in [
            ("LAB_LOAD", load),
            ("LAB_CMDLINE", &self.capture_cmdline),
            ("LAB_CRASH", crash),
            ("LAB_DELAY", &delay),
            ("LAB_POPULATE", flag(self.populate)),
            ("LAB_BALLOON_KIB", &balloon_kib),
            ("LAB_REPORT", flag(self.report)),
            ("LAB_MODULES", &modules?.join(" ")),
        ] {
            let _ = writeln!(text, "{name}={}", quoted(value));
        }
        Ok(text)
    }
}

/// A word of the shell that means exactly `text`.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn file_name(path: &Path) -> Result<&str> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.ok_or_else(|| Error::malformed(path, "is not the name of a file"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).on("read", path)
}

struct Archive<W: Write> {
    out: GzEncoder<W>,
    inode: u32,
}

impl<W: Write> Archive<W> {
    fn add(&mut self, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let entry = Builder::new(name).ino(self.inode).nlink(1).mode(mode);
        self.inode += 1;
        let mut writer = entry.write(&mut self.out, size);
        writer.write_all(bytes)?;
        writer.finish().map(drop)
    }

    fn finish(mut self) -> io::Result<()> {
        cpio::newc::trailer(&mut self.out)?;
        self.out.finish()?.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_reads_a_quoted_value_as_it_was() {
        let value = r#"a 'b' "c" $d `e` \f"#;
        let script = format!("printf %s {}", quoted(value));
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
    }

    #[test]
    fn the_configuration_names_the_loader_and_the_trigger() {
        let contents = Contents {
            capture_image: Some("rcapture.bin".into()),
            loader: Loader::KexecFileLoad,
            capture_cmdline: "rcapture.dump_level=31".into(),
            trigger: Trigger::Command("insmod /modules/null.ko".into()),
            delay_seconds: 2,
            populate: true,
            balloon_mib: 32,
            report: false,
            modules: vec!["/m/null.ko".into()],
        };
        let text = contents.configuration().unwrap();
        assert!(text.contains("LAB_LOAD='-s -p'\n"), "{text}");
        assert!(text.contains("LAB_CRASH='insmod /modules/null.ko'\n"), "{text}");
        assert!(text.contains("LAB_MODULES='null.ko'\n"), "{text}");
        assert!(text.contains("LAB_BALLOON_KIB='32768'\n"), "{text}");
    }
}
