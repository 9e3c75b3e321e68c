//! A machine on which `rcapture-load` runs, as files below a directory and programs that only say what they are asked.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rcapture_qemu::Arch;
use tempfile::TempDir;

/// The program.
#[must_use]
pub fn script() -> PathBuf {
    packaging().join("rcapture-load")
}

/// Where it lies, with what belongs to it.
#[must_use]
pub fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/target")
}

/// What the program runs, but for what a test plays.
const TOOLS: [&str; 15] = [
    "cat", "cut", "dd", "grep", "gzip", "head", "ls", "mkdir", "readlink", "rm", "sed", "sync", "tail", "tr",
    "wc",
];

/// Answers of the programs that are played.
const PROGRAMS: [(&str, &str); 6] = [
    ("dmesg", ":"),
    ("id", "echo 0"),
    // Of two addresses of eth0 one leads to 10.0.2.0/24.
    (
        "ip",
        r#"case "$*" in
        "-4 route get 10.0.2."*) echo "$4 dev eth0 src 10.0.2.15 uid 0" ;;
        "-4 route get 192.0.2.1") echo "$4 via 10.0.2.2 dev eth0  src 10.0.2.15" ;;
        "-4 addr show dev "*) printf '    inet 10.0.3.1/16 brd\n    inet 10.0.2.15/22 brd 10.0.3.255\n' ;;
        *) exit 2 ;;
        esac"#,
    ),
    (
        "kexec",
        r#"case "$*" in
        --version) echo "kexec-tools 2.0.25"; exit ;;
        *-u) echo 0 >"$RCAPTURE_ROOT/sys/kernel/kexec_crash_loaded" ;;
        *) echo 1 >"$RCAPTURE_ROOT/sys/kernel/kexec_crash_loaded" ;;
        esac
        printf '<%s>' "$@" >>"$RCAPTURE_ROOT/called"
        echo >>"$RCAPTURE_ROOT/called""#,
    ),
    ("stty", "echo 19200"),
    ("uname", r#"case $1 in -m) echo x86_64 ;; *) echo 6.1.0-test ;; esac"#),
];

/// A shell that runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetShell {
    /// The system's `sh`, with the system's tools: on Debian dash.
    System,
    /// busybox' shell, with its tools only.
    Busybox,
}

impl TargetShell {
    /// Those that are here. It is said if one is left out.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut shells = vec![Self::System];
        match in_path("busybox") {
            Some(_) => shells.push(Self::Busybox),
            None => println!("left out: busybox: it is not installed"),
        }
        shells
    }
}

/// A program that the `PATH` leads to.
#[must_use]
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|place| place.join(name)).find(|program| program.is_file())
}

/// The machine.
pub struct Target {
    directory: TempDir,
    shell: TargetShell,
}

/// How the program ended, and what it said.
#[derive(Debug)]
pub struct Said {
    /// Its exit status.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Said {
    /// The lines of the check about `topic`.
    #[must_use]
    pub fn about(&self, topic: &str) -> Vec<&str> {
        let is_about =
            |line: &&str| line.get(6..).is_some_and(|rest| rest.starts_with(&format!("{topic}: ")));
        self.out.lines().filter(is_about).collect()
    }

    /// Checks that the check says one thing about `topic`, with this verdict, and all of `texts` in it.
    ///
    /// # Panics
    /// If it does not.
    pub fn says(&self, verdict: &str, topic: &str, texts: &[&str]) {
        let lines = self.about(topic);
        let is_it = |line: &&&str| line.starts_with(verdict) && texts.iter().all(|text| line.contains(text));
        assert_eq!(lines.iter().filter(is_it).count(), 1, "{verdict} {topic} {texts:?}: {self:#?}");
        // Who reads of a failure reads how to mend it.
        assert!(verdict == "ok" || lines.iter().any(|line| line.contains(". Mend: ")), "{lines:?}");
    }
}

impl Target {
    /// A machine where nothing is amiss.
    #[must_use]
    pub fn new(shell: TargetShell, arch: Arch) -> Self {
        let target = Self { directory: tempfile::tempdir().unwrap(), shell };
        fs::create_dir(target.programs()).unwrap();
        for tool in TOOLS {
            let real = match shell {
                TargetShell::System => in_path(tool),
                TargetShell::Busybox => in_path("busybox"),
            };
            symlink(real.unwrap(), target.programs().join(tool)).unwrap();
        }
        for (name, answer) in PROGRAMS {
            target.program(name, answer);
        }
        target.image("usr/lib/rcapture/rcapture.bin", arch, "rcapture: connected to ");
        for (path, text) in [
            ("proc/cmdline", "root=/dev/sda1 crashkernel=5M console=tty0 console=ttyS0,115200n8 quiet"),
            ("proc/consoles", "ttyS0                -W- (EC p a)    4:64\n"),
            ("proc/cpuinfo", "flags : fpu sme sev sev_es pdpe1gb\n"),
            ("proc/iomem", "00100000-1fffffff : System RAM\n  1b000000-1b4fffff : Crash kernel\n"),
            ("proc/meminfo", "MemTotal:         507112 kB\n"),
            ("proc/sys/kernel/kexec_load_disabled", "0"),
            ("proc/sys/kernel/panic", "10"),
            ("proc/sys/kernel/panic_on_oops", "1"),
            ("proc/sys/kernel/random/boot_id", "a1"),
            ("proc/sysrq-trigger", ""),
            ("sys/kernel/kexec_crash_size", "5242880"),
            ("sys/kernel/kexec_crash_loaded", "0"),
            ("sys/kernel/vmcoreinfo", "0x1000 0x1024"),
            ("sys/kernel/security/lockdown", "[none] integrity confidentiality"),
            ("sys/class/tty/console/active", "tty0 ttyS0"),
            ("sys/class/tty/ttyS0/io_type", "0"),
            ("sys/class/tty/ttyS0/port", "0x3F8"),
            ("sys/class/tty/ttyS0/type", "4"),
            ("sys/class/tty/ttyS0/uartclk", "1843200"),
            ("sys/class/net/eth0/address", "52:54:00:12:34:56"),
        ] {
            target.file(path, &format!("{text}\n"));
        }
        target.link("sys/class/net/eth0/device/driver", "../../../bus/virtio/drivers/virtio_net");
        target.config("CONFIG_KEXEC_CORE=y\nCONFIG_KEXEC=y\nCONFIG_KEXEC_FILE=y\nCONFIG_KEXEC_SIG=y\nCONFIG_CRASH_DUMP=y\n");
        if arch != Arch::X86_64 {
            let (machine, port) = match arch {
                Arch::Arm => ("armv7l", "ttymxc1"),
                _ => ("aarch64", "ttyAMA0"),
            };
            target.program("uname", &format!("case $1 in -m) echo {machine} ;; *) echo 6.1.0-test ;; esac"));
            target.file("sys/firmware/devicetree/base/compatible", "boundary,imx6q-sabrelite\0fsl,imx6q\0");
            target.file("sys/firmware/fdt", "a small tree");
            target.file(&format!("sys/class/tty/{port}/uevent"), "");
            target.file("proc/cmdline", &format!("crashkernel=5M console={port},115200"));
            target.remove("proc/consoles");
            target.remove("sys/class/tty/ttyS0");
        }
        target
    }

    /// A machine of each architecture under each shell.
    pub fn each(mut test: impl FnMut(Arch, Self)) {
        for shell in TargetShell::all() {
            for arch in Arch::ALL {
                test(arch, Self::new(shell, arch));
            }
        }
    }

    /// A PC under each shell.
    pub fn each_pc(mut test: impl FnMut(Self)) {
        Self::each(|arch, target| {
            if arch == Arch::X86_64 {
                test(target);
            }
        });
    }

    fn programs(&self) -> PathBuf {
        self.directory.path().join("bin")
    }

    /// A path on the machine.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a file.
    pub fn file(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// What is in a file.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Makes a symbolic link.
    pub fn link(&self, name: &str, to: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        symlink(to, path).unwrap();
    }

    /// Removes a file or directory.
    pub fn remove(&self, name: &str) {
        let path = self.path(name);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    /// Makes a program of the shell's language.
    pub fn program(&self, name: &str, body: &str) {
        let path = self.programs().join(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Makes the kernel's configuration.
    pub fn config(&self, text: &str) {
        self.file("boot/config-6.1.0-test", text);
    }

    /// Makes a boot image of an architecture, with a text somewhere in it.
    pub fn image(&self, name: &str, arch: Arch, text: &str) {
        let (at, magic): (usize, &[u8]) = match arch {
            Arch::X86_64 => (0x202, b"HdrS"),
            Arch::Aarch64 => (56, b"ARM\x64"),
            Arch::Arm => (0x24, &[0x18, 0x28, 0x6f, 0x01]),
        };
        let mut bytes = vec![0; 1024];
        bytes[at..at + 4].copy_from_slice(magic);
        bytes.extend_from_slice(text.as_bytes());
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Runs the program; nobody is at the terminal.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Said {
        let mut command = match self.shell {
            TargetShell::System => Command::new("/bin/sh"),
            TargetShell::Busybox => Command::new(in_path("busybox").unwrap()),
        };
        if self.shell == TargetShell::Busybox {
            command.arg("sh");
        }
        command.arg(script()).args(arguments).env_clear().stdin(Stdio::null());
        command.env("PATH", self.programs()).env("RCAPTURE_ROOT", self.directory.path());
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
    }

    /// The command line that it would load the image with.
    #[must_use]
    pub fn command_line(&self) -> String {
        let said = self.run(&["load", "--dry-run"]);
        assert_eq!(said.code, 0, "{said:?}");
        let line = said.out.split_once("--command-line=\"").unwrap().1;
        line.strip_suffix("\"\n").unwrap().to_owned()
    }
}
