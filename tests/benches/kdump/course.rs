//! How a dump came to the host, and from where on one can read it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::ops::Add;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use end_to_end::{CRASH, Spec};
use rcapture::dump::{Kind, kind_of};
use rcapture_qemu::{Arch, Debugger, Lab};
use tempfile::TempDir;

/// What the stack of the crash has on it. What called `panic`, crash(8) takes for a neighbour of its on 32-bit Arm.
const CRASHED_IN: [&str; 2] = ["sysrq_handle_crash", "(panic)"];

/// A file is cut at so many places, to find out how much of it a debugger needs.
const PARTS: u64 = 64;

/// A dump on its way.
pub(crate) struct Course {
    pub(crate) directory: TempDir,
    /// The panic's first line.
    pub(crate) panicked: Instant,
    pub(crate) first_byte: Instant,
    /// All of the kernel's log was there.
    pub(crate) log: Instant,
    /// All was.
    pub(crate) complete: Instant,
    /// What came, as it came.
    pub(crate) file: PathBuf,
    /// How much of the file there was at which moment.
    pub(crate) growth: Vec<(u64, Instant)>,
}

/// Times since the panic's first line.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) first_byte: Duration,
    pub(crate) log: Duration,
    pub(crate) stack: Duration,
    pub(crate) complete: Duration,
}

impl Add<Duration> for Times {
    type Output = Self;

    /// All of them later.
    fn add(self, by: Duration) -> Self {
        let Self { first_byte, log, stack, complete } = self;
        Self { first_byte: first_byte + by, log: log + by, stack: stack + by, complete: complete + by }
    }
}

impl Times {
    pub(crate) const NAMES: [&str; 4] = ["first byte", "kernel log", "stack of the crash", "complete"];

    pub(crate) fn all(self) -> [Duration; 4] {
        [self.first_byte, self.log, self.stack, self.complete]
    }

    /// The median of each.
    pub(crate) fn median(all: &[Self]) -> Self {
        let median = |of: fn(&Self) -> Duration| {
            let mut times: Vec<Duration> = all.iter().map(of).collect();
            times.sort_unstable();
            times[times.len() / 2]
        };
        Self {
            first_byte: median(|times| times.first_byte),
            log: median(|times| times.log),
            stack: median(|times| times.stack),
            complete: median(|times| times.complete),
        }
    }
}

impl Course {
    pub(crate) fn bytes(&self) -> u64 {
        fs::metadata(&self.file).unwrap().len()
    }

    /// When what came, as far as it had come, was enough for a debugger's stack of the crash.
    pub(crate) fn times(&self, spec: &Spec) -> Times {
        let bytes = least_readable(spec, &self.file, self.bytes());
        let (_, stack) =
            self.growth.iter().find(|(come, _)| *come >= bytes).copied().unwrap_or((0, self.complete));
        Times {
            first_byte: self.first_byte - self.panicked,
            log: self.log - self.panicked,
            stack: stack - self.panicked,
            complete: self.complete - self.panicked,
        }
    }
}

/// How much of `file` from its beginning a debugger needs.
pub(crate) fn least_readable(spec: &Spec, file: &Path, bytes: u64) -> u64 {
    assert!(is_readable(spec, file, bytes), "a debugger finds nothing in all of it: {}", file.display());
    // Most dumps are of use as a whole only, and that is seen at once.
    if !is_readable(spec, file, bytes / PARTS * (PARTS - 1)) {
        return bytes;
    }
    let parts: Vec<u64> = (1..PARTS).map(|parts| bytes / PARTS * parts).collect();
    parts.get(parts.partition_point(|&part| !is_readable(spec, file, part))).copied().unwrap_or(bytes)
}

/// Whether a debugger finds where the crash was in the first `bytes` of `file`: of ours after `rcapture convert`, of a dump in
/// makedumpfile's flattened format as it is.
fn is_readable(spec: &Spec, file: &Path, bytes: u64) -> bool {
    let directory = tempfile::Builder::new().prefix("rcapture-bench-").tempdir().unwrap();
    let part = directory.path().join("part");
    io::copy(&mut File::open(file).unwrap().take(bytes), &mut File::create(&part).unwrap()).unwrap();
    let lab = Lab::open().unwrap().for_arch(spec.arch);
    let (vmcore, debugger) = if is_flattened(file) {
        // drgn reads no such file of 32-bit Arm.
        let debugger =
            if spec.arch == Arch::Arm { lab.crash().map(Debugger::Crash) } else { lab.debugger(spec.arch) };
        (part, debugger)
    } else {
        let vmcore = directory.path().join("vmcore");
        let output =
            end_to_end::rcapture().arg("convert").arg(&part).arg("-o").arg(&vmcore).output().unwrap();
        if !vmcore.exists() {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr).trim());
            return false;
        }
        (vmcore, lab.debugger(spec.arch))
    };
    let said = debugger.unwrap().backtrace(&spec.vmlinux(), &[], &vmcore, true, CRASH);
    said.is_ok_and(|said| CRASHED_IN.iter().any(|name| said.contains(name)))
}

/// Whether it is makedumpfile's flattened format.
fn is_flattened(file: &Path) -> bool {
    let mut start = [0; 16];
    File::open(file).unwrap().read_exact(&mut start).is_ok() && kind_of(&start) == Some(Kind::Flattened)
}
