//! `rcapture-qemu`: the lab as a command.

mod commands;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use rcapture_qemu::{Error, Outcome};

/// Crashes stock kernels in QEMU, to test a crash capture.
///
/// Exit status: 0 passed, 1 failed, 2 wrong usage, 4 the machine was lost, 5 a tool is missing, 6 not supported.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Boot(Box<commands::boot::Boot>),
    Ether(commands::ether::Ether),
    Fetch(commands::fetch::Fetch),
    Line(commands::line::Line),
    Run(Box<commands::run::Run>),
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// Where they go
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Boot(boot) => boot.run(),
        Command::Ether(ether) => ether.run(),
        Command::Fetch(fetch) => fetch.run(),
        Command::Line(line) => line.run(),
        Command::Run(run) => run.run(),
        Command::Man { directory } => clap_mangen::generate_to(Arguments::command(), &directory)
            .with_context(|| format!("write manual pages to {}", directory.display()))
            .map(|()| Outcome::Passed),
    };
    let outcome = outcome.unwrap_or_else(|error| {
        eprintln!("rcapture-qemu: {error:#}");
        error.downcast_ref::<Error>().map_or(Outcome::Failed, Error::outcome)
    });
    outcome.into()
}
