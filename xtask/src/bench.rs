//! `cargo xtask bench`: how fast the parts are, by criterion.

use anyhow::Result;
use xshell::Shell;

use crate::cargo::cargo;

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
pub(crate) fn run(args: &Args) -> Result<()> {
    let shell = Shell::new()?;
    shell.change_dir(crate::workspace_root());
    // By name: libtest's stand-ins for benchmarks do not take criterion's arguments.
    let mut arguments = vec!["bench", "--workspace", "--bench", "*", "--"];
    arguments.extend(args.filter.as_deref());
    arguments.extend(args.criterion.iter().map(String::as_str));
    Ok(cargo(&shell, &arguments).quiet().run()?)
}
