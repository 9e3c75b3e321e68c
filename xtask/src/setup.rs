//! What the machine must have, and how it gets it.
//!
//! On Debian, root has it installed; anybody else is told the one command to run.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use rcapture_qemu::Arch;
use thiserror::Error;
use xshell::Shell;

use crate::image;
use crate::interrupt::Interrupt;
use crate::process::{self, End};
use crate::toolchain;

/// Package lists, or some 150 MB of packages over a slow network.
const DEADLINE: Duration = Duration::from_secs(20 * 60);
/// Seconds to wait for another apt or dpkg.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=300";
/// Lines of a failed apt-get to show.
const LAST_LINES: usize = 15;

/// Something the machine must have is not there, and we cannot mend it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub(crate) struct Missing(String);

/// What a chore is going to need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A compiler that builds the capture kernel.
    ImageCompiler,
    /// A machine to crash.
    Qemu,
    /// What runs crash(8) and makedumpfile(8) of other architectures, and compiles a module for their kernels.
    ForeignTools,
    /// An environment for drgn, another judge of a vmcore.
    PythonVenv,
    /// What runs and judges the scripts for the target. Optional: tests do without.
    TargetShells,
    /// What judges the Debian package and runs the recipes. Optional: tests do without.
    PackagingTools,
}

impl Need {
    /// The Debian packages that are missing for it; none if it is there.
    fn missing_packages(self) -> Result<Vec<&'static str>> {
        match self {
            Self::ImageCompiler => {
                let shell = Shell::new()?;
                let missing = Arch::ALL.map(|arch| toolchain::missing_packages(&shell, image::triple(arch)));
                Ok(missing.into_iter().max_by_key(Vec::len).unwrap_or_default())
            }
            Self::Qemu => Ok(missing_for(&[
                ("qemu-system-x86_64", "qemu-system-x86"),
                // It has those for 32 bits, too.
                ("qemu-system-aarch64", "qemu-system-arm"),
            ])),
            Self::ForeignTools => Ok(missing_for(&[
                // It has the one for 32 bits, too.
                ("qemu-aarch64-static", "qemu-user-static"),
                ("make", "make"),
                ("gcc", "gcc"),
                ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
                ("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf"),
            ])),
            Self::PythonVenv if has_venv() => Ok(Vec::new()),
            Self::PythonVenv => Ok(vec!["python3-venv"]),
            Self::TargetShells => Ok(missing_for(&[("busybox", "busybox"), ("shellcheck", "shellcheck")])),
            // It depends on dpkg and make.
            Self::PackagingTools => Ok(missing_for(&[("dpkg-shlibdeps", "dpkg-dev")])),
        }
    }

    fn is_optional(self) -> bool {
        matches!(self, Self::TargetShells | Self::PackagingTools)
    }
}

/// Sees to it that everything in `needs` is there.
///
/// # Errors
/// If something is missing and cannot be installed; the message says which command does it.
pub(crate) fn run(needs: &[Need], interrupt: &Interrupt) -> Result<()> {
    let packages = missing(needs)?;
    if packages.is_empty() {
        return Ok(());
    }
    let by_hand = format!("apt-get update && apt-get install --no-install-recommends {}", packages.join(" "));
    let is_root = rustix::process::geteuid().is_root();
    let required: Vec<Need> = needs.iter().copied().filter(|need| !need.is_optional()).collect();
    if !(is_root && in_path("apt-get")) && missing(&required)?.is_empty() {
        eprintln!("optional packages are missing ({}): what needs them is left out", packages.join(", "));
        return Ok(());
    }
    if !in_path("apt-get") {
        let packages = packages.join(", ");
        bail!(Missing(format!(
            "this machine lacks what Debian has in the packages {packages}: install that"
        )));
    }
    if !is_root {
        bail!(Missing(format!("packages are missing; run: sudo sh -c '{by_hand}'")));
    }
    eprintln!("installing {}", packages.join(", "));
    // Older lists than the archive's name files that it no longer has, and compilers that are too old. Without a network they may
    // do: what counts is whether the packages come.
    let updated = apt_get(&["update"], interrupt);
    install(&packages, interrupt).or_else(|error| updated.and(Err(error)))?;
    match missing(needs)?.as_slice() {
        [] => Ok(()),
        still => {
            bail!(Missing(format!(
                "apt-get installed {}, but they are still not found, or too old",
                still.join(", ")
            )))
        }
    }
}

fn missing(needs: &[Need]) -> Result<Vec<&'static str>> {
    let mut packages = Vec::new();
    for need in needs {
        packages.extend(need.missing_packages()?);
    }
    Ok(packages)
}

fn install(packages: &[&str], interrupt: &Interrupt) -> Result<()> {
    // QEMU recommends packages that would displace others.
    let fixed = ["install", "--yes", "--no-install-recommends"];
    apt_get(&[&fixed[..], packages].concat(), interrupt)
}

fn apt_get(arguments: &[&str], interrupt: &Interrupt) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["--quiet=2", "--option", LOCK_TIMEOUT]).args(arguments);
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    let mut lines = Vec::new();
    let end = process::run_lines(command, DEADLINE, interrupt, |line| lines.push(line.to_owned()))?;
    if matches!(end, End::Exited(status) if status.success()) {
        return Ok(());
    }
    for line in lines.iter().skip(lines.len().saturating_sub(LAST_LINES)) {
        eprintln!("  apt-get: {line}");
    }
    bail!(Missing(format!("`apt-get {}` {end}", arguments.join(" "))))
}

/// The packages of those programs that are not there.
fn missing_for(programs: &[(&str, &'static str)]) -> Vec<&'static str> {
    programs.iter().filter(|(program, _)| !in_path(program)).map(|&(_, package)| package).collect()
}

/// Debian has the module without the archives it needs in another package.
fn has_venv() -> bool {
    let query = Command::new("python3").args(["-c", "import ensurepip, venv"]).output();
    query.is_ok_and(|output| output.status.success())
}

/// Whether there is such a program.
pub(crate) fn in_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|place| place.join(program).is_file()))
}
