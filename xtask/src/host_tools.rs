//! The programs of the host's side: `rcapture`, and `rcapture-qemu` for the lab.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cargo::cargo_for_reading;
use crate::interrupt::Interrupt;
use crate::process::{self, End};

const DEADLINE: Duration = Duration::from_secs(30 * 60);

/// How they are compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As this program is.
    Dev,
    /// As they are installed.
    Release,
}

/// Builds them; returns the directory they are in. That of [`Profile::Dev`] is beside this program, where the lab looks for its
/// own.
///
/// # Errors
/// If they do not compile.
pub(crate) fn build(profile: Profile, interrupt: &Interrupt) -> Result<PathBuf> {
    let this = std::env::current_exe().context("finding this program")?;
    let mut directory = this.parent().map(Path::to_owned).unwrap_or_default();
    let mut arguments =
        vec!["build", "--quiet", "--package", "rcapture", "--package", "rcapture-qemu", "--bins"];
    if profile == Profile::Release {
        arguments.push("--release");
        directory.set_file_name("release");
    }
    let command = cargo_for_reading(&arguments);
    let end = process::run_lines(command, DEADLINE, interrupt, |line| eprintln!("{line}"))?;
    ensure!(matches!(end, End::Exited(status) if status.success()), "`cargo {}` {end}", arguments.join(" "));
    Ok(directory)
}
