//! The guest's userland as an initramfs: busybox, kexec, the capture image, and a script that crashes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::archive::{Archive, module_names};
use crate::lab::{CrashKind, Userland};
use crate::outcome::Result;

const INIT: &str = include_str!("../guest/init.sh");
const POPULATE: &str = include_str!("../guest/populate.sh");
/// Where our files are in a user's initramfs.
const BESIDE: &str = "/rcapture";

/// By which system call the capture image is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
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
    /// The lab's module ([`Lab::crash_module`](crate::Lab::crash_module)).
    Module(PathBuf, CrashKind),
    /// LKDTM, the kernel's own way to crash.
    Provoke(CrashKind),
    /// A shell command in the guest, such as `insmod /modules/null.ko`. One that fails ends the machine.
    Command(String),
}

/// What goes into the guest.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    pub(crate) capture_image: Option<PathBuf>,
    pub(crate) capture_initrd: Option<PathBuf>,
    pub(crate) loader: Loader,
    pub(crate) capture_cmdline: String,
    /// A shell command that loads it, instead of kexec.
    pub(crate) load_command: String,
    /// Executable files, by their names in the guest.
    pub(crate) files: Vec<(String, PathBuf)>,
    pub(crate) trigger: Trigger,
    /// The guest's command that ends QEMU.
    pub(crate) power_off: &'static str,
    pub(crate) delay_seconds: u32,
    pub(crate) populate: bool,
    pub(crate) balloon_mib: u32,
    pub(crate) report: bool,
    pub(crate) modules: Vec<PathBuf>,
    /// A shell command before the capture image is loaded.
    pub(crate) before: String,
    /// A user's initramfs, in which all else goes into a directory of its own.
    pub(crate) beside: Option<PathBuf>,
}

/// Writes the initramfs to `path`.
pub(crate) fn write(path: &Path, userland: &Userland, contents: &Contents) -> Result<()> {
    let base = contents.base();
    let mut archive = match &contents.beside {
        None => Archive::create(path)?,
        Some(theirs) => Archive::append_to(path, theirs, base)?,
    };
    archive.directories()?;
    archive.executable("init", INIT.replacen("/busybox", &format!("{base}/busybox"), 1).as_bytes())?;
    archive.file("populate.sh", POPULATE.as_bytes())?;
    archive.file("lab.conf", contents.configuration()?.as_bytes())?;
    archive.executable_of("busybox", &userland.busybox)?;
    if let Some(image) = &contents.capture_image {
        archive.file_of("capture.bin", image)?;
        archive.program(&userland.root, &userland.kexec)?;
    }
    if let Some(initrd) = &contents.capture_initrd {
        archive.file_of("capture.initrd", initrd)?;
    }
    if let Trigger::Module(file, _) = &contents.trigger {
        archive.file_of("crash.ko", file)?;
    }
    for (name, path) in &contents.files {
        archive.executable_of(name, path)?;
    }
    archive.modules(&contents.modules)?;
    archive.finish()
}

impl Contents {
    /// The directory of the guest that all this is in.
    pub(crate) const fn base(&self) -> &'static str {
        match self.beside {
            None => "",
            Some(_) => BESIDE,
        }
    }

    /// The shell variables that `guest/init.sh` reads.
    fn configuration(&self) -> Result<String> {
        let mut load = match (&self.capture_image, self.loader) {
            (None, _) => String::new(),
            (Some(_), Loader::KexecLoad) => "-p".to_owned(),
            (Some(_), Loader::KexecFileLoad) => "-s -p".to_owned(),
        };
        if self.capture_initrd.is_some() {
            load = format!("{load} --initrd={}/capture.initrd", self.base());
        }
        let prepared = |kind: &CrashKind| match kind {
            CrashKind::HungTask => "expect_hang",
            _ => "echo 1 > /proc/sys/kernel/panic_on_oops",
        };
        let crash = match &self.trigger {
            Trigger::SysRq => "echo c > /proc/sysrq-trigger".to_owned(),
            Trigger::Nmi => ":".to_owned(),
            Trigger::Module(_, kind) => {
                format!("{}; insmod {}/crash.ko kind={}", prepared(kind), self.base(), kind.name())
            }
            Trigger::Provoke(kind) => format!("{}; provoke {}", prepared(kind), kind.lkdtm().join(" ")),
            Trigger::Command(command) => command.clone(),
        };
        let delay = self.delay_seconds.to_string();
        let balloon_kib = (u64::from(self.balloon_mib) * 1024).to_string();
        let flag = |is_set| if is_set { "1" } else { "0" };
        let mut text = String::new();
        let variables: [(&str, &str); 12] = [
            ("LAB_LOAD", &load),
            ("LAB_LOADER", &self.load_command),
            ("LAB_BEFORE", &self.before),
            ("LAB_CMDLINE", &self.capture_cmdline),
            ("LAB_CRASH", &crash),
            ("LAB_COMMAND", flag(matches!(self.trigger, Trigger::Command(_)))),
            ("LAB_DELAY", &delay),
            ("LAB_POPULATE", flag(self.populate)),
            ("LAB_BALLOON_KIB", &balloon_kib),
            ("LAB_POWER_OFF", self.power_off),
            ("LAB_REPORT", flag(self.report)),
            ("LAB_MODULES", &module_names(&self.modules)?),
        ];
        for (name, value) in variables {
            let _ = writeln!(text, "{name}={}", quoted(value));
        }
        Ok(text)
    }
}

/// A word of the shell that means exactly `text`.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
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
            capture_initrd: Some("linux.initrd".into()),
            loader: Loader::KexecFileLoad,
            capture_cmdline: "rcapture.dump_level=31".into(),
            load_command: String::new(),
            files: Vec::new(),
            trigger: Trigger::Command("insmod /modules/null.ko".into()),
            power_off: "poweroff -f",
            delay_seconds: 2,
            populate: true,
            balloon_mib: 32,
            report: false,
            modules: vec!["/m/null.ko".into()],
            before: String::new(),
            beside: None,
        };
        let text = contents.configuration().unwrap();
        assert!(text.contains("LAB_LOAD='-s -p --initrd=/capture.initrd'\n"), "{text}");
        assert!(text.contains("LAB_CRASH='insmod /modules/null.ko'\n"), "{text}");
        assert!(text.contains("LAB_COMMAND='1'\n"), "{text}");
        assert!(text.contains("LAB_MODULES='null.ko'\n"), "{text}");
        assert!(text.contains("LAB_BALLOON_KIB='32768'\n"), "{text}");
        let trigger = Trigger::Module("crash.ko".into(), CrashKind::HungTask);
        let beside = Contents { beside: Some("theirs.cpio".into()), trigger, ..contents };
        let text = beside.configuration().unwrap();
        assert!(text.contains("LAB_LOAD='-s -p --initrd=/rcapture/capture.initrd'\n"), "{text}");
        assert!(text.contains("LAB_COMMAND='0'\n"), "{text}");
        assert!(
            text.contains("LAB_CRASH='expect_hang; insmod /rcapture/crash.ko kind=hung_task'\n"),
            "{text}"
        );
    }
}
