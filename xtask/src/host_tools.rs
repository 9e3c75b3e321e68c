//! The programs of the host's side: `rcapture`, and `rcapture-qemu` for the lab.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cargo::cargo_for_reading;
use crate::interrupt::Interrupt;
use crate::process::{self, End};

const DEADLINE: Duration = Duration::from_secs(30 * 60);

/// Builds them; returns the directory they are in, beside this program, where the lab looks for its own.
///
/// # Errors
/// If they do not compile.
pub(crate) fn build(interrupt: &Interrupt) -> Result<PathBuf> {
    let arguments = ["build", "--quiet", "--package", "rcapture", "--package", "rcapture-qemu", "--bins"];
    let command = cargo_for_reading(&arguments);
    let end = process::run_lines(command, DEADLINE, interrupt, |line| eprintln!("{line}"))?;
    ensure!(matches!(end, End::Exited(status) if status.success()), "`cargo {}` {end}", arguments.join(" "));
    let this = std::env::current_exe().context("finding this program")?;
    Ok(this.parent().map(Path::to_owned).unwrap_or_default())
}
