//! `cargo xtask fuzz`: libFuzzer against everything that reads foreign bytes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use xshell::{Shell, cmd};

use crate::toolchain::without_cargo;

/// What to fuzz.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz                          every target, a minute each
  cargo xtask fuzz device_tree --seconds 600")]
pub(crate) struct Args {
    /// Only this target (a file of fuzz/fuzz_targets)
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Fuzzes one target after the other; the first crash ends it, and its input is kept in fuzz/artifacts.
///
/// # Errors
/// If a tool is missing, or a target crashed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let shell = Shell::new()?;
    let root = crate::workspace_root();
    shell.change_dir(&root);
    require_tools(&shell)?;
    let all = targets(&root.join("fuzz/fuzz_targets"))?;
    let chosen: Vec<&String> =
        all.iter().filter(|name| args.target.as_ref().is_none_or(|wanted| wanted == *name)).collect();
    ensure!(!chosen.is_empty(), "there is no such target; there are: {}", all.join(", "));
    for target in chosen {
        eprintln!("==> fuzzing {target} for {} s", args.seconds);
        let seconds = format!("-max_total_time={}", args.seconds);
        // The first directory takes what is found on the way: not all of it belongs into the corpus.
        let found = root.join("fuzz/target/found").join(target);
        fs::create_dir_all(&found).with_context(|| format!("making {}", found.display()))?;
        // A scope's threads may still be ending when it is over: what they then hold is taken for leaked.
        let corpus = root.join("fuzz/corpus").join(target);
        let options = [seconds.as_str(), "-detect_leaks=0"];
        let fuzz = cmd!(shell, "rustup run nightly cargo fuzz run {target} {found} {corpus} -- {options...}");
        without_cargo(fuzz).quiet().run().with_context(|| format!("fuzzing {target}"))?;
    }
    Ok(())
}

/// libFuzzer's instrumentation needs a nightly compiler.
fn require_tools(shell: &Shell) -> Result<()> {
    if without_cargo(cmd!(shell, "rustup run nightly rustc --version"))
        .quiet()
        .ignore_stderr()
        .read()
        .is_err()
    {
        bail!("fuzzing needs a nightly compiler; run: rustup toolchain install nightly --profile minimal");
    }
    if without_cargo(cmd!(shell, "rustup run nightly cargo fuzz --version"))
        .quiet()
        .ignore_stderr()
        .read()
        .is_err()
    {
        bail!("fuzzing needs cargo-fuzz; run: cargo install --locked cargo-fuzz");
    }
    Ok(())
}

/// The targets' names, in alphabetical order.
fn targets(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}
