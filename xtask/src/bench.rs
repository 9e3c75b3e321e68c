//! `cargo xtask bench`: how fast the parts are, by criterion, and how soon the capture kernel speaks.

use anyhow::Result;
use xshell::Shell;

use crate::cargo::cargo;
use crate::host_tools;
use crate::image::{self, Target};
use crate::interrupt::Interrupt;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only benchmarks whose name contains this
    filter: Option<String>,
    /// Arguments for criterion, such as `--save-baseline before`
    #[arg(last = true)]
    criterion: Vec<String>,
}

/// Runs every benchmark of the workspace. Results stay in target/criterion and are compared with the run before.
///
/// # Errors
/// If one cannot be built or run.
pub(crate) fn run(args: &Args, interrupt: &Interrupt) -> Result<()> {
    // One of them crashes machines.
    image::build(Target::X86_64)?;
    let tools = host_tools::build(interrupt)?;
    let shell = Shell::new()?;
    shell.change_dir(crate::workspace_root());
    // By name: libtest's stand-ins for benchmarks do not take criterion's arguments.
    let mut arguments = vec!["bench", "--workspace", "--bench", "*", "--"];
    arguments.extend(args.filter.as_deref());
    arguments.extend(args.criterion.iter().map(String::as_str));
    Ok(cargo(&shell, &arguments).env("RCAPTURE_QEMU", tools.join("rcapture-qemu")).quiet().run()?)
}
