//! How a machine is put together.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::board::Board;
use super::console::Console;
use super::qmp::{Qmp, QmpError};
use super::{Machine, START_DEADLINE};
use crate::arch::Arch;
use crate::boot_files::BootFiles;
use crate::initramfs::{self, Contents, Loader, Trigger, quoted};
use crate::lab::Userland;
use crate::line::{Endpoint, Line};
use crate::outcome::{Error, IoContext, Result};
use crate::process;

/// Where the machine's line leads: the serial port that is its console, unless that has a
/// [port of its own](MachineBuilder::console_apart). What it sends is in the serial log in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Serial {
    /// Into the log only.
    #[default]
    Log,
    /// To the unix socket somebody listens on. Whoever it is must keep reading: see [`crate::line`].
    Connect(PathBuf),
    /// Through the named pipes `PATH.in` and `PATH.out`.
    Pipe(PathBuf),
    /// QEMU listens on this unix socket; what is sent while nobody is connected is lost.
    Listen(PathBuf),
}

/// The file of what a console with a port of its own says.
const CONSOLE_LOG: &str = "console.log";

/// Time that a QEMU has to end whose monitor does not answer any more.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What is said instead of a size where nothing is to be reserved.
const NO_RESERVATION: &str = "none";

/// What a balloon and a port for the report need, each after what it needs itself.
const VIRTIO_MODULES: [&str; 7] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_balloon",
    "virtio_console",
];

/// The parts of a machine. Made by [`Machine::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until start()"]
pub struct MachineBuilder {
    kernel: BootFiles,
    userland: Userland,
    contents: Contents,
    memory_mib: u32,
    board: String,
    cpu: String,
    smp: u32,
    crashkernel: String,
    append: Vec<String>,
    arguments: Vec<String>,
    serial: Serial,
    is_console_apart: bool,
    device_tree: Option<PathBuf>,
    /// What the guest's report is written to.
    report: Option<PathBuf>,
    /// Where somebody else already keeps what the machine sends.
    record: Option<PathBuf>,
    /// Where QEMU's messages are to stay.
    messages: Option<PathBuf>,
    restore_from: Option<PathBuf>,
    processor_limit: Duration,
}

impl MachineBuilder {
    pub(super) fn new(kernel: BootFiles, userland: Userland) -> Self {
        let (arch, board) = (kernel.arch, kernel.arch.board());
        Self {
            kernel,
            userland,
            contents: Contents {
                capture_image: None,
                capture_initrd: None,
                loader: Loader::default(),
                capture_cmdline: String::new(),
                load_command: String::new(),
                files: Vec::new(),
                trigger: Trigger::default(),
                power_off: Board::of(arch, board).power_off,
                delay_seconds: 0,
                populate: true,
                balloon_mib: 0,
                report: false,
                modules: Vec::new(),
                before: String::new(),
                beside: None,
            },
            memory_mib: 512,
            board: board.into(),
            cpu: arch.cpu().into(),
            smp: 2,
            crashkernel: "4M".into(),
            append: Vec::new(),
            arguments: Vec::new(),
            serial: Serial::Log,
            is_console_apart: false,
            device_tree: None,
            report: None,
            record: None,
            messages: None,
            restore_from: None,
            processor_limit: Duration::from_secs(3600),
        }
    }

    /// RAM in MiB (512).
    pub const fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// QEMU's machine and its properties (`q35`, a PC; `virt`, an Arm board, with `virtualization=on` at EL2; `sabrelite`, one with an
    /// i.MX6; `microvm` has neither PCI's ports nor, unless told, a bus).
    pub fn board(mut self, machine: impl Into<String>) -> Self {
        self.board = machine.into();
        self
    }

    /// QEMU's CPU model (of a PC `max`: with 5-level paging and 1 GiB pages; `qemu64`: without).
    pub fn cpu(mut self, model: impl Into<String>) -> Self {
        self.cpu = model.into();
        self
    }

    /// Number of CPUs (2).
    pub const fn smp(mut self, cpus: u32) -> Self {
        self.smp = cpus;
        self
    }

    /// The image that kexec loads to run after the crash. None: the crash ends the machine.
    pub fn capture_image(mut self, image: impl Into<PathBuf>) -> Self {
        self.contents.capture_image = Some(image.into());
        self
    }

    /// The initramfs that it gets, if it is a Linux.
    pub fn capture_initrd(mut self, initrd: impl Into<PathBuf>) -> Self {
        self.contents.capture_initrd = Some(initrd.into());
        self
    }

    /// How it is loaded ([`Loader::KexecLoad`]).
    pub const fn loader(mut self, loader: Loader) -> Self {
        self.contents.loader = loader;
        self
    }

    /// The capture image's command line, to which the loader adds `elfcorehdr=`.
    pub fn capture_cmdline(mut self, cmdline: impl Into<String>) -> Self {
        self.contents.capture_cmdline = cmdline.into();
        self
    }

    /// What the guest's shell does to load it, instead of calling kexec. The image is `/capture.bin`, the command line
    /// `$LAB_CMDLINE`; what is to be seen goes to `/dev/console`, and what is said otherwise is the reason if it fails.
    pub fn load_by(mut self, command: impl Into<String>) -> Self {
        self.contents.load_command = command.into();
        self
    }

    /// A program or another file for the guest: `bin/NAME` is in its `PATH`.
    pub fn file(mut self, name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.contents.files.push((name.into(), path.into()));
        self
    }

    /// What crashes the machine ([`Trigger::SysRq`]).
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.contents.trigger = trigger;
        self
    }

    /// A shell command in the guest before the capture image is loaded.
    pub fn before(mut self, command: impl Into<String>) -> Self {
        self.contents.before = command.into();
        self
    }

    /// An initramfs whose files are there too. Its own init is not run, unless the [trigger](Self::trigger) does it.
    pub fn initramfs(mut self, file: impl Into<PathBuf>) -> Self {
        self.contents.beside = Some(file.into());
        self
    }

    /// Seconds between loading and crashing (0).
    pub const fn delay_seconds(mut self, seconds: u32) -> Self {
        self.contents.delay_seconds = seconds;
        self
    }

    /// Whether processes and files are made before the crash, so that every class of page occurs (yes).
    pub const fn populate(mut self, populate: bool) -> Self {
        self.contents.populate = populate;
        self
    }

    /// MiB of RAM that a balloon takes from the guest while it is populated (0).
    pub const fn balloon_mib(mut self, mib: u32) -> Self {
        self.contents.balloon_mib = mib;
        self
    }

    /// Where the guest reports the state of its pages right before it crashes: see [`Report`](crate::Report).
    pub fn report(mut self, path: impl Into<PathBuf>) -> Self {
        self.report = Some(path.into());
        self.contents.report = true;
        self
    }

    /// A kernel module to insert before anything else, in the order given.
    pub fn module(mut self, module: impl Into<PathBuf>) -> Self {
        self.contents.modules.push(module.into());
        self
    }

    /// Linux' name for the port of the console.
    #[must_use = "it is all that this does"]
    pub fn console_port(&self) -> &'static str {
        self.machine_board().console_name()
    }

    /// Linux' name for the port of the line, if there is one.
    #[must_use = "it is all that this does"]
    pub fn line_port(&self) -> Option<&'static str> {
        let board = self.machine_board();
        let port = if self.is_console_apart { board.port_apart() } else { Some(board.console) };
        port.and_then(|port| board.ports.get(port)).copied()
    }

    /// The value of `crashkernel=` (`4M`), or `none`.
    pub fn crashkernel(mut self, value: impl Into<String>) -> Self {
        self.crashkernel = value.into();
        self
    }

    /// More of the crashing kernel's command line.
    pub fn append(mut self, parameters: impl Into<String>) -> Self {
        self.append.push(parameters.into());
        self
    }

    /// One more argument for QEMU.
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// A network card that the capture kernel has a driver for, in QEMU's own network: the host is 10.0.2.2.
    pub fn network_card(self) -> Self {
        let board = self.board.split(',').next().unwrap_or_default();
        let arguments: &[&str] = match (self.kernel.arch, board) {
            (Arch::Arm, "sabrelite") => &["-nic", "user,model=imx.enet"],
            (Arch::Arm, _) | (_, "microvm") => {
                &["-netdev", "user,id=net", "-device", "virtio-net-device,netdev=net"]
            }
            _ => &["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net"],
        };
        arguments.iter().fold(self, |machine, argument| machine.argument(*argument))
    }

    /// Where the serial port leads ([`Serial::Log`]).
    pub fn serial(mut self, serial: Serial) -> Self {
        self.serial = serial;
        self
    }

    /// Connects the serial port to the target's end of `line`, whose record is the serial log.
    pub fn line(mut self, line: &Line) -> Self {
        self.record = Some(line.record().to_owned());
        self.serial(match line.target() {
            Endpoint::UnixListen(path) => Serial::Connect(path.clone()),
            Endpoint::UnixConnect(path) => Serial::Listen(path.clone()),
            Endpoint::Fifo(path) => Serial::Pipe(path.clone()),
            // Somebody else's end: what comes from this machine is only logged.
            _ => Serial::Log,
        })
    }

    /// Gives the console a port of its own, and the line another one: on a PC `ttyS1`, on `sabrelite` `ttymxc0`.
    pub const fn console_apart(mut self) -> Self {
        self.is_console_apart = true;
        self
    }

    /// The device tree that the kernel gets, not the one that QEMU makes or that came with the kernel.
    pub fn device_tree(mut self, file: impl Into<PathBuf>) -> Self {
        self.device_tree = Some(file.into());
        self
    }

    /// The file for QEMU's messages, which stays (`qemu.log` in the machine's [own directory](Machine::logs)).
    pub fn messages(mut self, file: impl Into<PathBuf>) -> Self {
        self.messages = Some(file.into());
        self
    }

    /// Starts from a snapshot ([`Machine::snapshot`]) of a machine with the same parts. The machine is
    /// stopped as it was when the snapshot was taken: [`Machine::cont`] lets it go on.
    pub fn restore_from(mut self, snapshot: impl Into<PathBuf>) -> Self {
        self.restore_from = Some(snapshot.into());
        self
    }

    /// Processor time after which the kernel ends QEMU (one hour), should we not be there to do it.
    pub const fn processor_limit(mut self, limit: Duration) -> Self {
        self.processor_limit = limit;
        self
    }

    /// Starts the machine.
    ///
    /// # Errors
    /// [`Error::ToolMissing`] without QEMU, or without one that takes these arguments; [`Error::NotSupported`] if the board has
    /// no port for a console apart; [`Error::MachineLost`] if QEMU does not answer.
    pub fn start(self) -> Result<Machine> {
        // In the system's temporary directory: a socket's path has at most 107 bytes.
        let directory = tempfile::Builder::new().prefix("rcapture-lab-").tempdir();
        let mut directory = directory.on("make a directory in", std::env::temp_dir())?;
        let initrd = directory.path().join("initrd.gz");
        if self.restore_from.is_none() {
            let power_off = self.machine_board().power_off;
            let mut contents = Contents { power_off, ..self.contents.clone() };
            contents.modules = [self.modules()?, contents.modules].concat();
            initramfs::write(&initrd, &self.userland, &contents)?;
        }
        let log = self.record.clone().unwrap_or_else(|| directory.path().join("serial.log"));
        let line = Console::open(&log)?;
        let console =
            self.is_console_apart.then(|| Console::open(&directory.path().join(CONSOLE_LOG))).transpose()?;
        let messages = self.messages.clone().unwrap_or_else(|| directory.path().join("qemu.log"));
        let monitor = directory.path().join("qmp");
        let mut command =
            self.command(&initrd, line.path(), console.as_ref().map(Console::path), &monitor)?;
        let log = fs::File::create(&messages).on("create", &messages)?;
        command.stdin(Stdio::null()).stdout(log.try_clone().on("share", &messages)?).stderr(log);
        let mut child = process::spawn(&mut command)?;
        limit_processor_time(child.id(), self.processor_limit);
        let connected = Qmp::connect(&monitor, START_DEADLINE, || matches!(child.try_wait(), Ok(None)));
        match connected {
            Ok(qmp) => {
                let mut machine = Machine { child, qmp, line, console, messages, directory };
                if self.restore_from.is_some() {
                    machine.wait_for_migration()?;
                } else if self.contents.balloon_mib > 0 {
                    machine.leave_mib(self.memory_mib.saturating_sub(self.contents.balloon_mib))?;
                }
                Ok(machine)
            }
            Err(error) => {
                let status = process::ended_within(&mut child, LAST_WORDS);
                process::end(&mut child);
                let said = fs::read_to_string(&messages).ok();
                let reason = said.as_deref().and_then(complaint).unwrap_or_else(|| match error {
                    QmpError::Refused(reason) => reason,
                    QmpError::Lost(error) => error.to_string(),
                });
                if status.is_some_and(|status| status.code().is_some()) {
                    let remedy = "mend them, or install another QEMU";
                    return Err(Error::missing("a QEMU that takes these arguments", reason, remedy));
                }
                directory.disable_cleanup(true);
                let logs = directory.path().to_owned();
                Err(Error::MachineLost { doing: "starting QEMU".into(), reason, logs })
            }
        }
    }

    /// The modules without which the guest cannot be populated, or crashed.
    fn modules(&self) -> Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        if let Trigger::Provoke(_) = self.contents.trigger {
            names.push("lkdtm");
        }
        if self.contents.populate {
            names.push("loop");
        }
        if self.contents.balloon_mib > 0 || self.contents.report {
            names.extend(VIRTIO_MODULES);
        }
        self.kernel.module_files(&names)
    }

    /// The file of the device tree that QEMU has to be given.
    fn tree_for(&self, board: Board) -> Result<Option<PathBuf>> {
        if self.device_tree.is_some() {
            return Ok(self.device_tree.clone());
        }
        let Some(name) = board.device_tree else { return Ok(None) };
        let trees = self.kernel.device_trees.as_ref().ok_or_else(|| {
            let reason = format!("{} has none of its own", self.board);
            Error::missing(format!("the device tree {name}"), reason, "name the file with --dtb")
        })?;
        Ok(Some(trees.join(name)))
    }

    fn machine_board(&self) -> Board {
        Board::of(self.kernel.arch, &self.board)
    }

    fn command(&self, initrd: &Path, log: &Path, console: Option<&Path>, monitor: &Path) -> Result<Command> {
        let board = self.machine_board();
        let mut serial = match &self.serial {
            Serial::Log => "null,id=line".to_owned(),
            Serial::Connect(path) => format!("socket,id=line,server=off,path={}", comma_doubled(path)),
            Serial::Listen(path) => format!("socket,id=line,server=on,wait=off,path={}", comma_doubled(path)),
            Serial::Pipe(path) => format!("pipe,id=line,path={}", comma_doubled(path)),
        };
        // A second write for every byte: only where nobody else keeps them.
        if self.record.is_none() {
            serial = format!("{serial},logfile={},logappend=on", comma_doubled(log));
        }
        let mut command = Command::new(self.kernel.arch.qemu());
        command.args(["-M", &self.board, "-accel", "tcg", "-no-reboot", "-display", "none", "-nodefaults"]);
        command.arg("-no-user-config");
        if board.takes_cpu {
            command.args(["-cpu", &format!("{}{}", self.cpu, self.kernel.arch.cpu_without())]);
        }
        command.args(["-smp", &self.smp.to_string(), "-m", &format!("{}M", self.memory_mib)]);
        command.args(["-chardev", &serial]);
        let line = match console {
            None => board.console,
            Some(log) => {
                command.arg("-chardev").arg(format!("file,id=console,path={}", comma_doubled(log)));
                board.port_apart().ok_or_else(|| {
                    let reason = format!("{} has one serial port", self.board);
                    let remedy = "take another board, or one port for both".into();
                    Error::NotSupported { what: "a console apart from the line".into(), reason, remedy }
                })?
            }
        };
        for port in 0..=line.max(board.console) {
            let chardev = match port {
                _ if port == line => "chardev:line",
                _ if port == board.console => "chardev:console",
                _ => "null",
            };
            command.args(["-serial", chardev]);
        }
        if let Some(report) = &self.report {
            command.arg("-chardev").arg(format!("file,id=report,path={}", comma_doubled(report)));
            command.args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=report"]);
        }
        if self.contents.balloon_mib > 0 {
            command.args(["-device", "virtio-balloon-pci"]);
        }
        command.args(["-qmp", &format!("unix:{},server=on,wait=off", comma_doubled(monitor))]);
        command.arg("-kernel").arg(&self.kernel.image);
        if let Some(tree) = self.tree_for(board)? {
            command.arg("-dtb").arg(tree);
        }
        // A restored machine has its initramfs in memory, but the same ROMs must be there.
        if self.restore_from.is_none() {
            command.arg("-initrd").arg(initrd);
        }
        command.args(["-append", &self.kernel_cmdline()]);
        if let Some(snapshot) = &self.restore_from {
            command.arg("-incoming");
            command.arg(format!("exec:cat {}", quoted(&snapshot.to_string_lossy())));
        }
        command.args(&self.arguments);
        Ok(command)
    }

    fn kernel_cmdline(&self) -> String {
        let console = self.machine_board().console_name();
        let mut parameters = vec![format!("console={console}"), "panic=-1".into(), "quiet".into()];
        if self.contents.capture_image.is_some() && self.crashkernel != NO_RESERVATION {
            parameters.push(format!("crashkernel={}", self.crashkernel));
        }
        if self.contents.trigger == Trigger::Nmi {
            parameters.push("unknown_nmi_panic".into());
        }
        if self.contents.beside.is_some() {
            parameters.push(format!("rdinit={}/init", self.contents.base()));
        }
        parameters.extend(self.append.iter().cloned());
        parameters.join(" ")
    }
}

/// What QEMU says last of itself. What follows may be how it is to be called.
fn complaint(messages: &str) -> Option<String> {
    let is_complaint = |line: &&str| line.starts_with("qemu-system-") && !line.contains(": warning: ");
    messages.lines().rfind(is_complaint).map(str::to_owned).or_else(|| process::last_words(messages))
}

/// QEMU's options are separated by commas; one in a value is written twice.
fn comma_doubled(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// An orphan that spins must not spin for ever.
fn limit_processor_time(pid: u32, limit: Duration) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let seconds = Some(limit.as_secs());
    // A precaution: if it is refused, the deadlines of every wait still hold.
    let _ = prlimit(pid, Resource::Cpu, Rlimit { current: seconds, maximum: seconds });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_qemu_complains_of_is_neither_a_warning_nor_its_usage() {
        let messages = "qemu-system-x86_64: warning: slow\nqemu-system-x86_64: unsupported machine type\n\
                        Use -machine help to list supported machines\n";
        assert_eq!(complaint(messages).unwrap(), "qemu-system-x86_64: unsupported machine type");
        assert_eq!(complaint("Segmentation fault\n").unwrap(), "Segmentation fault");
        assert_eq!(complaint("\n"), None);
    }
}
