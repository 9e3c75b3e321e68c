//! What is crashed, how, and what is expected of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Deserializer};

use crate::arch::Arch;
use crate::initramfs::Loader;
use crate::lab::{CrashKind, Flavour, Suite};
use crate::outcome::{Error, Outcome, Result};

/// A scenario. The names of its parts are those of the options of `rcapture-qemu run`, and of the keys of a matrix.
#[derive(Args, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// Its name, that of a directory in the output [default: that of the kernel]
    #[arg(long, default_value = "")]
    pub name: String,
    /// Kernel that crashes: a bzImage, a zImage or an arm64 Image, which may be gzipped
    #[arg(value_name = "KERNEL", conflicts_with = "suite", required_unless_present_any = ["suite", "matrix"])]
    pub kernel: Option<PathBuf>,
    /// Take the stock kernel of this suite of Debian's
    #[arg(long, value_enum)]
    pub suite: Option<Suite>,
    /// Which of the suite's kernels
    #[arg(long, value_enum, default_value_t = Flavour::Usual)]
    pub flavour: Flavour,
    /// What the suite's kernel runs on [default: x86_64; of your own kernel it is in the file]
    #[arg(long, value_enum)]
    pub arch: Option<Arch>,
    /// The kernel's vmlinux with debug information, for backtraces by crash(8), of Arm by drgn
    #[arg(long, value_name = "FILE")]
    pub vmlinux: Option<PathBuf>,
    /// Initramfs whose files are there, too. Its own init runs only if you say so: --crash-command 'exec /init'
    #[arg(long, value_name = "FILE")]
    pub initramfs: Option<PathBuf>,
    /// Directory of the kernel's modules (lib/modules/RELEASE), should LKDTM be among them
    #[arg(long, value_name = "DIRECTORY")]
    pub modules: Option<PathBuf>,
    /// Headers or build directory of the kernel: then a module of ours can crash it, and LKDTM need not
    #[arg(long, value_name = "DIRECTORY")]
    pub headers: Option<PathBuf>,
    /// Device tree of the board
    #[arg(long, value_name = "FILE")]
    pub dtb: Option<PathBuf>,
    /// Capture image [default: dist/ARCH/rcapture.bin]
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,

    /// QEMU's machine and its properties [default: q35, on Arm virt]
    #[arg(long, help_heading = "Machine")]
    pub machine: Option<String>,
    /// QEMU's CPU model [default: max, on Arm cortex-a57, on 32-bit Arm cortex-a15]
    #[arg(long, help_heading = "Machine")]
    pub cpu: Option<String>,
    /// RAM in MiB
    #[arg(long, help_heading = "Machine", value_name = "MIB", default_value_t = Scenario::default().memory)]
    pub memory: u32,
    /// Number of CPUs
    #[arg(long, help_heading = "Machine", default_value_t = Scenario::default().smp)]
    pub smp: u32,
    /// Value of crashkernel=, or none [default: 4M, on 32-bit Arm's virt 5M]
    #[arg(long, help_heading = "Machine", value_name = "SIZE")]
    pub crashkernel: Option<String>,
    /// More of the kernel's command line
    #[arg(long, help_heading = "Machine", value_name = "TEXT", allow_hyphen_values = true)]
    pub append: Vec<String>,
    /// Give the console a port of its own, and the line another one (not on virt, which has one)
    #[arg(long, help_heading = "Machine")]
    pub console_apart: bool,
    /// More arguments for QEMU
    #[arg(last = true)]
    pub qemu: Vec<String>,

    /// Way to crash
    #[arg(long, help_heading = "Crash", value_enum, default_value_t = Way::Sysrq, conflicts_with = "crash_command")]
    pub crash: Way,
    /// Shell command in the guest that crashes it. If its status is not 0, the run has failed; else the crash may be yet to come
    #[arg(long, help_heading = "Crash", value_name = "COMMAND")]
    pub crash_command: Option<String>,
    /// Shell command in the guest before the capture image is loaded
    #[arg(long, help_heading = "Crash", value_name = "COMMAND", default_value = "")]
    pub before: String,
    /// System call that loads the capture image
    #[arg(long, help_heading = "Crash", value_enum, default_value_t = Loader::KexecLoad)]
    pub loader: Loader,

    /// What the dump goes over
    #[arg(long, help_heading = "Capture", value_enum, default_value_t = Link::Serial)]
    pub link: Link,
    /// Bits per second of the serial line [default: as fast as QEMU can]
    #[arg(long, help_heading = "Capture", value_name = "RATE", value_parser = clap::value_parser!(u32).range(50..))]
    pub baud: Option<u32>,
    /// Dump level: which pages are left out, in makedumpfile's bits
    #[arg(long, help_heading = "Capture", default_value_t = Scenario::default().level, value_parser = clap::value_parser!(u8).range(..=31))]
    pub level: u8,
    /// rcapture.compress= [default: deflate on a serial line without a rate, else auto]
    #[arg(long, help_heading = "Capture", value_name = "METHOD")]
    pub compress: Option<String>,
    /// More of the capture kernel's command line
    #[arg(long, help_heading = "Capture", value_name = "TEXT", default_value = "")]
    pub cmdline: String,

    /// The backtrace matches (may be repeated). Without a vmlinux it is the call trace in the kernel's log
    #[arg(long, help_heading = "Expectations", value_name = "REGEX")]
    pub expect_bt: Vec<String>,
    /// The kernel's log matches (may be repeated)
    #[arg(long, help_heading = "Expectations", value_name = "REGEX")]
    pub expect_log: Vec<String>,
    /// From the crash to the complete dump it takes at most so many seconds
    #[arg(long, help_heading = "Expectations", value_name = "SECONDS")]
    pub max_time: Option<u64>,
    /// On the wire the dump has at most so many bytes (K, M, G, T)
    #[arg(long, help_heading = "Expectations", value_name = "SIZE")]
    pub max_bytes: Option<Bytes>,
    /// It ends so
    #[arg(long, help_heading = "Expectations", value_enum, value_name = "OUTCOME", default_value_t = Outcome::Passed)]
    pub expect_outcome: Outcome,
    /// The reason why it did not pass matches
    #[arg(long, help_heading = "Expectations", value_name = "REGEX")]
    pub expect_reason: Option<String>,

    /// Seconds from the start until it is about to crash
    #[arg(long, help_heading = "Deadlines", value_name = "SECONDS", default_value_t = Scenario::default().boot_deadline)]
    pub boot_deadline: u64,
    /// Seconds from there to the capture kernel's first word
    #[arg(long, help_heading = "Deadlines", value_name = "SECONDS", default_value_t = Scenario::default().crash_deadline)]
    pub crash_deadline: u64,
    /// Seconds from there to the end of the dump
    #[arg(long, help_heading = "Deadlines", value_name = "SECONDS", default_value_t = Scenario::default().dump_deadline)]
    pub dump_deadline: u64,
    /// Start the machine up to so many times, if it dies before it is about to crash
    #[arg(long, help_heading = "Deadlines", value_name = "TIMES", default_value_t = Scenario::default().boots, value_parser = clap::value_parser!(u32).range(1..))]
    pub boots: u32,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: String::new(),
            kernel: None,
            suite: None,
            flavour: Flavour::Usual,
            arch: None,
            vmlinux: None,
            initramfs: None,
            modules: None,
            headers: None,
            dtb: None,
            image: None,
            machine: None,
            cpu: None,
            memory: 512,
            smp: 2,
            crashkernel: None,
            append: Vec::new(),
            console_apart: false,
            qemu: Vec::new(),
            crash: Way::Sysrq,
            crash_command: None,
            before: String::new(),
            loader: Loader::KexecLoad,
            link: Link::Serial,
            baud: None,
            level: 31,
            compress: None,
            cmdline: String::new(),
            expect_bt: Vec::new(),
            expect_log: Vec::new(),
            max_time: None,
            max_bytes: None,
            expect_outcome: Outcome::Passed,
            expect_reason: None,
            boot_deadline: 240,
            crash_deadline: 120,
            dump_deadline: 600,
            boots: 1,
        }
    }
}

/// A way to crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// `echo c > /proc/sysrq-trigger`
    Sysrq,
    /// A write by a null pointer
    Nullptr,
    /// BUG()
    Bug,
    /// panic() with interrupts off
    PanicIrqoff,
    /// A task that waits for ever
    Hung,
    /// A function that calls itself for ever
    StackOverflow,
}

impl Way {
    /// What the lab's module, or LKDTM, does; sysrq takes neither.
    pub(super) const fn kind(self) -> Option<CrashKind> {
        match self {
            Self::Sysrq => None,
            Self::Nullptr => Some(CrashKind::NullDereference),
            Self::Bug => Some(CrashKind::Bug),
            Self::PanicIrqoff => Some(CrashKind::PanicWithInterruptsOff),
            Self::Hung => Some(CrashKind::HungTask),
            Self::StackOverflow => Some(CrashKind::StackOverflow),
        }
    }
}

/// What a dump goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// A serial line, that of the console unless that is apart
    Serial,
    /// A network card
    Tcp,
}

/// A size: bytes, or with K, M, G or T (powers of 1024) behind the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = memory::parse_number(text).map(Self);
        number.ok_or_else(|| format!("{text:?} is not a size: a number, or one with K, M, G or T"))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ ..1024 => write!(f, "{bytes} B"),
            bytes @ ..1_048_576 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{}.{} MiB", bytes >> 20, ((bytes % (1 << 20)) * 10) >> 20),
        }
    }
}

impl Scenario {
    /// Its name, or one made of what it crashes.
    #[must_use]
    pub fn title(&self) -> String {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        let file = self.kernel.as_deref().and_then(Path::file_name);
        let file = file.map(|name| name.to_string_lossy().into_owned());
        let name = file.or_else(|| self.suite.map(|suite| suite.to_string())).unwrap_or_default();
        name.chars().map(|it| if is_of_name(it) { it } else { '-' }).collect()
    }

    /// Whether all of it makes sense, as far as that can be told before it is run.
    ///
    /// # Errors
    /// [`Error::Malformed`] says what does not.
    pub fn check(&self) -> Result<()> {
        let wrong = |reason: String| Err(Error::malformed(self.title().as_ref(), reason));
        let title = self.title();
        if !title.chars().all(is_of_name) || title.starts_with('.') {
            return wrong("a name is letters, digits, and `-`, `_`, `.`, `+`".into());
        }
        if self.kernel.is_some() == self.suite.is_some() {
            return wrong("either a kernel or a suite, whose kernel it is".into());
        }
        let is_own = self.kernel.is_some();
        // What would have no effect, and is no default of several scenarios that only some of them need.
        let in_vain = [
            (
                is_own && self.arch.is_some(),
                "arch is a suite's: what a kernel of your own runs on is in its file",
            ),
            (
                is_own && self.flavour != Flavour::Usual,
                "flavour is that of a suite's kernel, not of your own",
            ),
            (
                !is_own && self.headers.is_some(),
                "headers are those of a kernel of your own: a suite's are fetched",
            ),
            (
                !is_own && self.modules.is_some(),
                "modules are those of a kernel of your own: a suite's are fetched",
            ),
            (self.crash != Way::Sysrq && self.crash_command.is_some(), "either crash or crash-command"),
            (
                self.expect_reason.is_some() && self.expect_outcome == Outcome::Passed,
                "expect-reason needs an expect-outcome: what passes has no reason",
            ),
        ];
        if let Some((_, reason)) = in_vain.iter().find(|(is_there, _)| *is_there) {
            return wrong((*reason).into());
        }
        let expressions = self.expect_bt.iter().chain(&self.expect_log).chain(&self.expect_reason);
        for text in expressions {
            if let Err(error) = expression(text) {
                return wrong(error.to_string());
            }
        }
        Ok(())
    }

    /// Seconds that the dump has to come.
    pub(super) fn seconds_to_dump(&self) -> u64 {
        self.dump_deadline.max(self.max_time.unwrap_or(0))
    }

    /// Its paths, where they are relative, seen from `directory`.
    pub(super) fn resolve(&mut self, directory: &Path) {
        let paths = [
            &mut self.kernel,
            &mut self.vmlinux,
            &mut self.initramfs,
            &mut self.modules,
            &mut self.headers,
            &mut self.dtb,
            &mut self.image,
        ];
        for path in paths.into_iter().flatten() {
            *path = directory.join(&*path);
        }
    }
}

fn is_of_name(it: char) -> bool {
    it.is_ascii_alphanumeric() || "-_.+".contains(it)
}

/// A regular expression in which `^` and `$` mean lines.
pub(super) fn expression(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).multi_line(true).build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[arg(long)]
        matrix: Option<PathBuf>,
        #[command(flatten)]
        scenario: Scenario,
    }

    fn parse(arguments: &[&str]) -> Scenario {
        Command::parse_from([&["run"], arguments].concat()).scenario
    }

    #[test]
    fn a_kernel_alone_is_a_scenario() {
        let scenario = parse(&["/boot/vmlinuz-6.1.0 rt"]);
        assert_eq!(
            scenario,
            Scenario { kernel: Some("/boot/vmlinuz-6.1.0 rt".into()), ..Scenario::default() }
        );
        assert_eq!(scenario.title(), "vmlinuz-6.1.0-rt");
        scenario.check().unwrap();
    }

    #[test]
    fn options_and_keys_are_the_same_words() {
        let options = parse(&[
            "bzImage",
            "--crash",
            "stack-overflow",
            "--link=tcp",
            "--max-bytes=4M",
            "--append=-x",
            "--level=1",
            "--expect-outcome",
            "not supported",
            "--loader=kexec-file-load",
            "--",
            "-device",
            "edu",
        ]);
        let keys: Scenario = toml::from_str(
            "kernel = 'bzImage'\ncrash = 'stack-overflow'\nlink = 'tcp'\nmax-bytes = '4M'\nappend = ['-x']\nlevel = 1\n\
             expect-outcome = 'not supported'\nloader = 'kexec-file-load'\nqemu = ['-device', 'edu']\n",
        )
        .unwrap();
        assert_eq!(options, keys);
        assert_eq!(options.max_bytes, Some(Bytes(4 << 20)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_runs() {
        let kernel = Some(PathBuf::from("bzImage"));
        for wrong in [
            Scenario::default(),
            Scenario { name: "../x".into(), kernel: kernel.clone(), ..Scenario::default() },
            Scenario { expect_bt: vec!["(".into()], kernel: kernel.clone(), ..Scenario::default() },
            Scenario { suite: Some(Suite::Sid), kernel: kernel.clone(), ..Scenario::default() },
            Scenario { arch: Some(Arch::Arm), kernel: kernel.clone(), ..Scenario::default() },
            Scenario { flavour: Flavour::Rt, kernel: kernel.clone(), ..Scenario::default() },
            Scenario { expect_reason: Some("x".into()), kernel: kernel.clone(), ..Scenario::default() },
            Scenario { headers: kernel.clone(), suite: Some(Suite::Sid), ..Scenario::default() },
            Scenario { modules: kernel.clone(), suite: Some(Suite::Sid), ..Scenario::default() },
            Scenario { crash: Way::Bug, crash_command: Some("x".into()), kernel, ..Scenario::default() },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
        for wrong in [vec![], vec!["a", "--suite=sid"], vec!["a", "--crash=sysrq", "--crash-command=x"]] {
            assert!(Command::try_parse_from([vec!["run"], wrong].concat()).is_err());
        }
    }

    #[test]
    fn sizes_are_written_and_read_by_people() {
        for (text, bytes) in [("0", 0), ("4M", 4 << 20), ("12k", 12 << 10), ("1G", 1 << 30)] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)));
        }
        for wrong in ["", "M", "4X", "-1", "99999999999G"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong}");
        }
        assert_eq!([5, 2048, 3 << 19].map(|bytes| Bytes(bytes).to_string()), ["5 B", "2 KiB", "1.5 MiB"]);
    }
}
