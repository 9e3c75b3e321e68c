//! `cargo xtask ci`: everything a change must pass.

use std::process::ExitCode;

use anyhow::Result;
use xshell::Shell;

use crate::cargo::cargo;
use crate::interrupt::Interrupt;
use crate::steps::step;
use crate::test;

/// A workspace of its own.
const FUZZ: &str = "fuzz/Cargo.toml";

/// Runs the checks one after the other; the first that fails ends it.
///
/// # Errors
/// The check that failed.
pub(crate) fn run(interrupt: &Interrupt) -> Result<ExitCode> {
    let shell = Shell::new()?;
    shell.change_dir(crate::workspace_root());
    step("formatting", || {
        cargo(&shell, &["fmt", "--all", "--check"]).quiet().run()?;
        Ok(cargo(&shell, &["fmt", "--manifest-path", FUZZ, "--check"]).quiet().run()?)
    })?;
    step("clippy", || {
        clippy(&shell, &["--workspace", "--all-targets"])?;
        clippy(&shell, &["--manifest-path", FUZZ, "--all-targets", "--no-default-features"])
    })?;
    step("documentation", || {
        let build = cargo(&shell, &["doc", "--quiet", "--workspace", "--no-deps"]);
        Ok(build.env("RUSTDOCFLAGS", "--deny warnings").quiet().run()?)
    })?;
    test::run(&test::Args::default(), interrupt)
}

fn clippy(shell: &Shell, arguments: &[&str]) -> Result<()> {
    let arguments = [&["clippy", "--quiet"], arguments, &["--", "--deny", "warnings"]].concat();
    Ok(cargo(shell, &arguments).quiet().run()?)
}
