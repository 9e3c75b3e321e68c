//! A mounted dump.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use rcapture::dump::{self, Dump};

use super::{PAGE, RAM};

const DEADLINE: Duration = Duration::from_secs(90);

/// Whether tests can mount something here; says so if not.
pub fn can_mount() -> bool {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let has_helper = Command::new("fusermount3").arg("-V").output().is_ok();
    let why = match device {
        Ok(_) if has_helper || may_mount() => return true,
        Ok(_) => "this user may not mount, and there is no fusermount3 (package fuse3)".to_owned(),
        Err(error) => format!("/dev/fuse: {error}"),
    };
    println!("outcome: not run: {why}");
    false
}

/// A user who may not mount.
pub const NOBODY: u32 = 65534;

/// Whether tests can mount something as [`NOBODY`], who has fusermount3 do it; says so if not.
pub fn can_nobody_mount() -> bool {
    let fusermount = std::env::var_os("FUSERMOUNT_PATH").unwrap_or_else(|| "fusermount3".into());
    let rcapture = env!("CARGO_BIN_EXE_rcapture");
    let is_run = |command: &mut Command| command.uid(NOBODY).gid(NOBODY).output().is_ok();
    let why = if !rustix::process::geteuid().is_root() {
        "only root can become another user"
    } else if !is_run(Command::new(fusermount).arg("-V")) {
        "there is no fusermount3 (package fuse3)"
    } else if std::fs::metadata("/dev/fuse").is_ok_and(|device| device.mode() & 0o6 != 0o6) {
        "/dev/fuse is root's only"
    } else if !is_run(Command::new(rcapture).arg("--version")) {
        "nobody cannot run rcapture where it was built"
    } else {
        return can_mount();
    };
    println!("outcome: not run: {why}");
    false
}

/// Whether this process has CAP_SYS_ADMIN: in a container root may lack it.
fn may_mount() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    u64::from_str_radix(capabilities, 16).unwrap() >> CAP_SYS_ADMIN & 1 == 1
}

/// The command `rcapture` with a directory that it has mounted, or is about to.
pub struct Mounted {
    child: Option<Child>,
    pub directory: PathBuf,
}

impl Mounted {
    /// Runs `rcapture` with `arguments`, which mounts on `directory`, and waits until it has.
    pub fn run(arguments: &[&str], directory: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rcapture"));
        Self::spawn(command.args(arguments), directory)
    }

    /// Runs `command`, which mounts on `directory`, and waits until it has.
    pub fn spawn(command: &mut Command, directory: &Path) -> Self {
        let pipes = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = pipes.spawn().unwrap();
        let mut mounted = Self { child: Some(child), directory: directory.to_owned() };
        let started = Instant::now();
        while !is_mounted(directory) {
            if mounted.child.as_mut().unwrap().try_wait().unwrap().is_some() || started.elapsed() > DEADLINE {
                let (code, said) = mounted.end();
                panic!("rcapture has not mounted: {code:?}: {said}");
            }
            thread::sleep(Duration::from_millis(5));
        }
        mounted
    }

    /// Mounts a finished dump.
    pub fn stored(input: &Path, directory: &Path) -> Self {
        Self::run(&["mount", input.to_str().unwrap(), directory.to_str().unwrap()], directory)
    }

    pub fn vmcore(&self) -> PathBuf {
        self.directory.join("vmcore")
    }

    pub fn id(&self) -> Pid {
        Pid::from_child(self.child.as_ref().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// Waits until the program ends: its exit status, and what it said on stderr.
    pub fn end(mut self) -> (Option<i32>, String) {
        let started = Instant::now();
        let mut child = self.child.take().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let said = thread::spawn(move || {
            let mut said = String::new();
            stderr.read_to_string(&mut said).unwrap();
            said
        });
        while child.try_wait().unwrap().is_none() {
            if started.elapsed() > DEADLINE {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("rcapture does not end: {}", said.join().unwrap());
            }
            thread::sleep(Duration::from_millis(5));
        }
        (child.wait().unwrap().code(), said.join().unwrap())
    }

    /// Ctrl-C.
    pub fn stop(self) -> (Option<i32>, String) {
        self.signal(Signal::INT);
        self.end()
    }

    /// The first line on stdout.
    pub fn first_line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.child.as_mut().unwrap().stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        // A test that failed leaves no mount behind.
        let _ = unmount(&self.directory, UnmountFlags::DETACH);
    }
}

/// Whether something is mounted on `directory`.
pub fn is_mounted(directory: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    // (What is mounted by another user cannot be looked at, nor can what has lost its program.)
    let parent = directory.parent().and_then(|parent| parent.canonicalize().ok()).unwrap();
    let directory = parent.join(directory.file_name().unwrap());
    mounts.lines().any(|line| line.split(' ').nth(4) == directory.to_str())
}

/// Where a test has what it needs.
pub struct Place {
    _directory: tempfile::TempDir,
    /// The line.
    pub socket: PathBuf,
    /// What is mounted on.
    pub on: PathBuf,
    /// Where dumps go.
    pub out: PathBuf,
}

impl Place {
    /// None, if nothing can be mounted here.
    pub fn new() -> Option<Self> {
        can_mount().then(|| {
            let directory = tempfile::tempdir().unwrap();
            let [socket, on, out] = ["line", "on", "out"].map(|name| directory.path().join(name));
            std::fs::create_dir(&on).unwrap();
            Self { socket, on, out, _directory: directory }
        })
    }

    /// Receives from the machine at the line's other end, mounted.
    pub fn recv(&self, more: &[&str]) -> Mounted {
        self.receive(&["--wait", "30", "--unix", self.socket.to_str().unwrap()], more)
    }

    /// Receives from the machine that connects to the address, mounted.
    pub fn listen(&self, more: &[&str]) -> (Mounted, SocketAddr) {
        let address = free_address();
        (self.listen_at(address, more), address)
    }

    pub fn listen_at(&self, address: SocketAddr, more: &[&str]) -> Mounted {
        self.receive(&["--listen", &address.to_string(), "--once", "--keep-free", "0"], more)
    }

    fn receive(&self, link: &[&str], more: &[&str]) -> Mounted {
        let places = ["-o", self.out.to_str().unwrap(), "--mount", self.on.to_str().unwrap()];
        Mounted::run(&[&["recv"], link, &places, more].concat(), &self.on)
    }

    /// Lets go of the machine.
    pub fn release(&self) -> (Option<i32>, String) {
        self.run(&["release", self.on.to_str().unwrap()])
    }

    /// The vmcore that was written.
    pub fn dump(&self) -> Box<dyn Dump> {
        dump::open(&self.dump_directory().join("vmcore")).unwrap()
    }

    pub fn dump_directory(&self) -> PathBuf {
        let all: Vec<_> = std::fs::read_dir(&self.out).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    }

    /// Whether all of the dump is in its journal.
    pub fn is_complete(&self) -> bool {
        let journal = self.dump_directory().join("journal");
        self.run(&["info", journal.to_str().unwrap()]).1.contains("complete      yes")
    }

    pub fn status(&self) -> String {
        std::fs::read_to_string(self.on.join("status")).unwrap()
    }

    pub fn await_status(&self, line: &str) {
        await_that(line, || self.status().contains(line));
    }

    pub fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_rcapture"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }
}

/// Where nobody listens.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Drop for Place {
    fn drop(&mut self) {
        // A test that failed leaves no mount behind.
        let _ = unmount(&self.on, UnmountFlags::DETACH);
    }
}

/// Waits until it is so.
#[track_caller]
pub fn await_that(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < DEADLINE, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Where pages are in a mounted vmcore: each page of RAM.
pub fn offsets(vmcore: &File) -> BTreeMap<u64, u64> {
    let mut read = |offset: u64, buf: &mut [u8]| vmcore.read_exact_at(buf, offset).is_ok();
    let core = vmcore::elfcore::ElfCore::read(&mut read).unwrap();
    let offset_of = |pfn: u64| {
        let load = core
            .loads
            .iter()
            .find(|load| (load.p_paddr..load.p_paddr + load.p_filesz).contains(&(pfn << 12)))?;
        Some((pfn, load.p_offset + ((pfn << 12) - load.p_paddr)))
    };
    RAM.into_iter().flat_map(|(start, end)| start >> 12..end.div_ceil(4096)).filter_map(offset_of).collect()
}

pub fn read_page(vmcore: &File, offset: u64) -> Result<Vec<u8>, Option<Errno>> {
    let mut page = vec![0; PAGE];
    match vmcore.read_exact_at(&mut page, offset) {
        Ok(()) => Ok(page),
        Err(error) => Err(error.raw_os_error().map(Errno::from_raw_os_error)),
    }
}
