//! The chores of rcapture: `cargo xtask --help`.

mod bench;
mod cargo;
mod ci;
mod demo;
mod dist;
mod fuzz;
mod host_tools;
mod image;
mod interrupt;
mod process;
mod setup;
mod steps;
mod test;
mod toolchain;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use interrupt::Interrupt;

/// Chores of rcapture.
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the capture kernel: dist/ARCH/rcapture.bin, for `kexec -p`.
    Image(image::Args),
    /// Pack what a target needs, dist/rcapture-VERSION-ARCH.tar.gz, and the host tools as a Debian package.
    Dist(dist::Args),
    /// Crash a machine in QEMU, receive its memory, and look at it with crash(8).
    Demo(demo::Args),
    /// Run all tests, those that crash machines in QEMU too.
    Test(test::Args),
    /// Measure how fast the parts are.
    Bench(bench::Args),
    /// Fuzz everything that reads foreign bytes.
    Fuzz(fuzz::Args),
    /// Run every check that a change must pass: formatting, lints, documentation, tests.
    Ci,
}

fn main() -> ExitCode {
    let interrupt = match Interrupt::install() {
        Ok(interrupt) => interrupt,
        Err(error) => {
            eprintln!("error: cannot handle Ctrl-C: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run(Cli::parse().command, &interrupt) {
        Ok(code) => code,
        Err(_) if interrupt.is_set() => {
            eprintln!("interrupted");
            ExitCode::from(interrupt::EXIT_CODE)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, interrupt: &Interrupt) -> Result<ExitCode> {
    match command {
        Command::Image(args) => image::run(&args)?,
        Command::Dist(args) => dist::run(&args, interrupt)?,
        Command::Demo(args) => demo::run(&args, interrupt)?,
        Command::Test(args) => return test::run(&args, interrupt),
        Command::Bench(args) => bench::run(&args, interrupt)?,
        Command::Fuzz(args) => fuzz::run(&args)?,
        Command::Ci => return ci::run(interrupt),
    }
    Ok(ExitCode::SUCCESS)
}

/// The root of the workspace.
fn workspace_root() -> PathBuf {
    // Cargo sets it while it runs us; the path at build time serves a copied binary.
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let manifest = PathBuf::from(manifest);
    manifest.parent().map_or_else(|| manifest.clone(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// What is typed of an example's line; behind two spaces it is explained.
    fn typed(line: &str) -> Option<&str> {
        line.trim_start().split("  ").next().filter(|words| words.starts_with("cargo xtask "))
    }

    #[test]
    fn every_example_in_a_help_can_be_typed() {
        let mut tried = 0;
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for words in help.lines().filter_map(typed) {
                let arguments = words.split(' ').skip(1);
                assert!(Cli::try_parse_from(arguments).is_ok(), "{words}");
                tried += 1;
            }
        }
        assert!(tried > 4, "{tried}");
    }
}
