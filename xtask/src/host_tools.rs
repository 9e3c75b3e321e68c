//! The programs of the host's side: `rcapture`, and `rcapture-qemu` for the lab.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cargo::{cargo_for_reading, encoded, remapped_paths};
use crate::interrupt::Interrupt;
use crate::process::{self, End};
use crate::workspace_root;

const DEADLINE: Duration = Duration::from_secs(30 * 60);

/// How they are compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As this program is.
    Dev,
    /// As they are installed.
    Release,
    /// As they are packed: the same wherever they are built.
    Package,
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
    let mut flags = None;
    match profile {
        Profile::Dev => {}
        Profile::Release => {
            arguments.push("--release");
            directory.set_file_name("release");
        }
        Profile::Package => {
            let root = workspace_root();
            // Other flags than the user's: in a directory of their own, neither builds again what the other has built.
            arguments.extend(["--locked", "--profile", "dist", "--target-dir", "target/packages"]);
            directory = root.join("target/packages/dist");
            flags = Some(encoded(&remapped_paths(&root)));
        }
    }
    let mut command = cargo_for_reading(&arguments);
    command.envs(flags.map(|flags| ("CARGO_ENCODED_RUSTFLAGS", flags)));
    let end = process::run_lines(command, DEADLINE, interrupt, |line| eprintln!("{line}"))?;
    ensure!(matches!(end, End::Exited(status) if status.success()), "`cargo {}` {end}", arguments.join(" "));
    Ok(directory)
}
