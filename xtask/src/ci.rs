//! `cargo xtask ci`: everything a change must pass.

use std::process::ExitCode;

use anyhow::Result;
use xshell::Shell;

use crate::cargo::cargo;
use crate::image::Target;
use crate::interrupt::Interrupt;
use crate::steps::step;
use crate::test;
use crate::toolchain;

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
    clippy_of_the_payload(&shell)?;
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

/// On the host the payload's binary is a stub: most of it exists for the bare machine only.
fn clippy_of_the_payload(shell: &Shell) -> Result<()> {
    let triple = Target::X86_64.triple();
    if !toolchain::default_builds_for(shell, triple) {
        eprintln!(
            "==> clippy for {triple}: not run, the default toolchain has no such target (it is compiled later)"
        );
        return Ok(());
    }
    step(&format!("clippy for {triple}"), || {
        clippy(shell, &["--package", "rcapture-payload", "--target", triple])
    })
}
