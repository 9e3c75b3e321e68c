//! A machine to crash, and what comes of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcapture_qemu::programs;
use rcapture_qemu::run::Scenario;
use rcapture_qemu::{
    Arch, Flavour, Kernel, Lab, Line, LineOptions, Loader, Machine, MachineBuilder, Report, Suite, Truth,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{BANNER, BOOT, Comparison, compare};

/// Times that a machine is booted.
const BOOTS: usize = 3;

/// Memory that a guest with pages of every class has given to the host.
const BALLOON_MIB: u32 = 32;

/// How long a receiver that is not wanted any more takes to leave.
const LEAVING: Duration = Duration::from_secs(5);

/// The file of a guest's report.
const REPORT: &str = "report";

/// What is crashed, and how.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What kind of machine.
    pub arch: Arch,
    /// QEMU's board, if it is not the usual one of its kind.
    pub board: Option<&'static str>,
    /// Whose kernel.
    pub suite: Suite,
    /// Which of its kernels.
    pub flavour: Flavour,
    /// `kexec -p` or `kexec -s -p`.
    pub loader: Loader,
    /// Of a PC: `max` has 5-level paging, `qemu64` has not. A board with an i.MX6 has its own.
    pub cpu: &'static str,
    /// MiB of RAM.
    pub memory_mib: u32,
    /// Processors.
    pub smp: u32,
    /// The reservation.
    pub crashkernel: &'static str,
    /// Whether the kernel's console is on another port than the line.
    pub is_console_apart: bool,
    /// What the capture kernel leaves out: nothing, unless it is said.
    pub dump_level: u8,
    /// How it compresses. A serial port of QEMU carries 30 times what its speed says: with the codec for that speed, LZMA, the
    /// emulated processor would be what takes the time.
    pub compress: &'static str,
    /// More of the capture kernel's command line.
    pub cmdline: &'static str,
    /// Whether the guest has pages of every class, and reports what they are ([`Crashed::report`]).
    pub has_every_class: bool,
    /// The line.
    pub line: LineOptions,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            arch: Arch::X86_64,
            board: None,
            suite: Suite::Bookworm,
            flavour: Flavour::Usual,
            loader: Loader::KexecLoad,
            cpu: "max",
            memory_mib: 512,
            smp: 2,
            crashkernel: "4M",
            is_console_apart: false,
            dump_level: 0,
            compress: "deflate",
            cmdline: "",
            has_every_class: false,
            line: LineOptions::default(),
        }
    }
}

impl Spec {
    /// A board with an Arm processor, at EL1.
    #[must_use]
    pub fn aarch64() -> Self {
        Self { arch: Arch::Aarch64, cpu: "cortex-a57", ..Self::default() }
    }

    /// A board with a processor of 32-bit Arm, version 7. It has 1 MiB of device tree, which the loader puts into the reservation.
    #[must_use]
    pub fn arm() -> Self {
        Self { arch: Arch::Arm, cpu: "cortex-a15", crashkernel: "5M", ..Self::default() }
    }

    /// [`arm`](Self::arm), with a kernel that reaches beyond 4 GiB.
    #[must_use]
    pub fn arm_lpae() -> Self {
        Self { flavour: Flavour::Lpae, ..Self::arm() }
    }

    /// A board with an i.MX6. Its console is its second UART, and so is the line, unless that is apart.
    #[must_use]
    pub fn sabrelite() -> Self {
        Self { board: Some("sabrelite"), cpu: "cortex-a9", crashkernel: "4M", ..Self::arm() }
    }

    /// Where its kernel and tools are.
    pub(crate) fn lab(&self) -> Lab {
        Lab::open().unwrap().for_arch(self.arch).with_flavour(self.flavour)
    }

    /// The kernel that crashes.
    #[must_use]
    pub fn kernel(&self) -> Kernel {
        self.lab().kernel(self.suite).unwrap()
    }

    /// Its `vmlinux` with debug information.
    #[must_use]
    pub fn vmlinux(&self) -> PathBuf {
        self.lab().vmlinux(&self.kernel()).unwrap()
    }

    /// The machine on `line`, not yet started.
    pub fn machine(&self, line: &Line) -> MachineBuilder {
        let scenario = Scenario {
            machine: self.board.map(str::to_owned),
            cpu: Some(self.cpu.into()),
            memory: self.memory_mib,
            smp: self.smp,
            crashkernel: Some(self.crashkernel.into()),
            console_apart: self.is_console_apart,
            loader: self.loader,
            level: self.dump_level,
            compress: Some(self.compress.into()),
            cmdline: self.cmdline.into(),
            ..Scenario::default()
        };
        let machine = Machine::builder(self.kernel(), self.lab().userland().unwrap());
        let machine = scenario.machine(machine, self.arch, None);
        let machine = machine.capture_image(image(self.arch)).populate(self.has_every_class).line(line);
        if self.has_every_class {
            // Struct pages of a huge page share a frame (Linux 5.14).
            machine.balloon_mib(BALLOON_MIB).append("hugetlb_free_vmemmap=on")
        } else {
            // A serial port in QEMU is slow: memory that is free is zeros, and goes over it as a word.
            machine.append("init_on_free=1")
        }
    }

    /// Starts the machine, and waits until it is about to crash.
    ///
    /// Under QEMU's TCG a stock kernel dies at boot now and then: it runs into an instruction that another CPU is just
    /// patching, or into garbage behind a cmpxchg16b. That says nothing about us; it is said, and tried again.
    #[must_use]
    pub fn start(&self) -> (Line, Machine) {
        self.start_with(|machine| machine)
    }

    /// [`start`](Self::start), with a change to the machine.
    #[must_use]
    pub fn start_with(&self, change: impl Fn(MachineBuilder) -> MachineBuilder) -> (Line, Machine) {
        self.start_until("LAB: crashing", change)
    }

    /// [`start_with`](Self::start_with), and waits until the machine says `text`.
    #[must_use]
    pub fn start_until(
        &self,
        text: &str,
        change: impl Fn(MachineBuilder) -> MachineBuilder,
    ) -> (Line, Machine) {
        for left in (0..BOOTS).rev() {
            let line = Line::spawn(self.line.clone()).unwrap();
            let mut machine = change(self.machine(&line)).start().unwrap();
            match machine.wait_for_line_text(text, BOOT) {
                Ok(()) => return (line, machine),
                Err(error) if left == 0 => panic!("MachineLost: it died at boot {BOOTS} times: {error}"),
                Err(error) => println!("the machine did not boot, again: {error}"),
            }
        }
        unreachable!("the last boot returns or ends the test")
    }

    /// Crashes the machine, stops it when the capture kernel reports its start, and looks at its memory.
    #[must_use]
    pub fn crash(&self) -> Crashed {
        self.crash_at(BANNER, |machine| machine)
    }

    /// [`crash`](Self::crash), with a change to the machine, and stopped when the capture kernel says `text`.
    #[must_use]
    pub fn crash_at(&self, text: &str, change: impl Fn(MachineBuilder) -> MachineBuilder) -> Crashed {
        self.crash_after(text, change, |_| ())
    }

    /// [`crash_at`](Self::crash_at), with something done to the machine when it is about to crash.
    #[must_use]
    pub fn crash_after(
        &self,
        text: &str,
        change: impl Fn(MachineBuilder) -> MachineBuilder,
        meanwhile: impl Fn(&mut Machine),
    ) -> Crashed {
        let directory = tempfile::Builder::new().prefix("rcapture-test-").tempdir().unwrap();
        let report = directory.path().join(REPORT);
        let (line, mut machine) = self.start_with(|machine| match self.has_every_class {
            true => change(machine.report(&report)),
            false => change(machine),
        });
        meanwhile(&mut machine);
        machine.wait_for_line_text(text, BOOT).unwrap();
        machine.stop().unwrap();
        let truth = Arc::new(machine.dump_truth(&directory.path().join("truth")).unwrap());
        Crashed { directory, line, machine, truth }
    }
}

/// The image that `cargo xtask image` builds.
pub(crate) fn image(arch: Arch) -> PathBuf {
    programs::capture_image(arch).unwrap()
}

/// A port of the local host that was free a moment ago.
#[must_use]
pub fn free_port() -> u16 {
    programs::free_port().unwrap()
}

/// The program `rcapture`, ready for arguments.
#[must_use]
pub fn rcapture() -> Command {
    Command::new(programs::rcapture().unwrap())
}

/// What `rcapture info` says of a dump.
#[must_use]
pub fn info(dump: &Path) -> String {
    let output = rcapture().arg("info").arg(dump).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A machine that stands still at the capture kernel's banner.
pub struct Crashed {
    /// Where everything of this test lies.
    pub directory: TempDir,
    /// Its serial line.
    pub line: Line,
    /// The machine.
    pub machine: Machine,
    /// Its memory.
    pub truth: Arc<Truth>,
}

/// What `rcapture recv` made.
pub struct Received {
    /// How it ended.
    pub status: ExitStatus,
    /// What it said.
    pub stderr: String,
    /// `HOST-DATE`.
    pub directory: PathBuf,
}

impl Received {
    /// The vmcore.
    ///
    /// # Panics
    /// If the receiver says that the dump is not whole.
    #[must_use]
    pub fn vmcore(&self) -> PathBuf {
        assert!(self.status.success(), "{}: {}", self.status, self.stderr);
        self.directory.join("vmcore")
    }

    /// Compares the [vmcore](Self::vmcore) with the machine's memory.
    #[must_use]
    pub fn compare(&self, truth: &Truth) -> Comparison {
        let comparison = compare(&self.vmcore(), truth, &[]);
        println!("{comparison}");
        comparison
    }
}

impl Crashed {
    /// A path of this test's own.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What the guest said of its pages right before the crash.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::read(&self.path(REPORT)).unwrap()
    }

    /// Starts `rcapture recv` on the line.
    #[must_use]
    pub fn start_receiver(&self, arguments: &[&str]) -> Receiver {
        let output = self.path("dumps");
        fs::create_dir_all(&output).unwrap();
        let mut command = rcapture();
        command.arg("recv").arg("--unix").arg(self.line.host_socket()).arg("-o").arg(&output).args(arguments);
        Receiver::spawn(command, output, self.path("recv.stderr"))
    }

    /// [`start_receiver`](Self::start_receiver), and it hears everything that is sent from now on.
    #[must_use]
    pub fn start_listening(&self) -> Receiver {
        // It makes this file once it has the line.
        let recording = self.path("recording");
        let receiver = self.start_receiver(&["--record", &recording.to_string_lossy()]);
        receiver.wait_until("it listens", BOOT, |_| recording.exists());
        receiver
    }

    /// Starts `rcapture recv --listen` for one dump, on this port of the local host. Another receiver may be on the line.
    #[must_use]
    pub fn start_listener(&self, port: u16, arguments: &[&str]) -> Receiver {
        let output = self.path("over-the-network");
        fs::create_dir_all(&output).unwrap();
        let mut command = rcapture();
        command.args(["recv", "--once", "--listen", &format!("127.0.0.1:{port}"), "-o"]);
        command.arg(&output).args(arguments);
        Receiver::spawn(command, output, self.path("listen.stderr"))
    }

    /// Lets the machine go on, and receives its dump to the end.
    pub fn receive(&mut self, arguments: &[&str], deadline: Duration) -> Received {
        let receiver = self.start_receiver(arguments);
        self.machine.cont().unwrap();
        receiver.wait(deadline)
    }
}

/// A running `rcapture recv`; it is ended when it is dropped.
pub struct Receiver {
    child: Child,
    output: PathBuf,
    errors: PathBuf,
}

impl Receiver {
    /// Starts `command`, which makes its dumps in `output`. What it says goes into the file `errors`.
    #[must_use]
    pub fn spawn(mut command: Command, output: PathBuf, errors: PathBuf) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&errors).unwrap());
        Self { child: command.spawn().unwrap(), output, errors }
    }

    /// Waits for its end.
    #[must_use]
    pub fn wait(mut self, deadline: Duration) -> Received {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < deadline, "recv takes more than {deadline:?}: {}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        };
        let mut dumps: Vec<PathBuf> =
            fs::read_dir(&self.output).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(dumps.len(), 1, "one dump is one directory: {dumps:?}; {}", self.said());
        Received { status, stderr: self.said(), directory: dumps.remove(0) }
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Bytes of the dump that are in its journal.
    #[must_use]
    pub fn journal_bytes(&self) -> u64 {
        let dumps = fs::read_dir(&self.output).unwrap();
        dumps
            .filter_map(|dump| fs::metadata(dump.ok()?.path().join("journal")).ok())
            .map(|file| file.len())
            .sum()
    }

    /// Waits until the journal has so many bytes.
    pub fn wait_for_journal(&self, bytes: u64, deadline: Duration) {
        self.wait_until(&format!("it has {bytes} bytes"), deadline, |this| this.journal_bytes() >= bytes);
    }

    fn wait_until(&self, what: &str, deadline: Duration, is_so: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether a session has begun.
    pub(crate) fn has_begun(&self) -> bool {
        fs::read_dir(&self.output).is_ok_and(|mut dumps| dumps.next().is_some())
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }
}

impl Drop for Receiver {
    /// As a user ends it, who leaves nothing mounted. All of it fails only if it has ended.
    fn drop(&mut self) {
        let start = Instant::now();
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        while start.elapsed() < LEAVING && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
