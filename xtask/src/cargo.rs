//! Running cargo for this workspace, from a program that cargo runs.

use std::process::Command;

use xshell::{Cmd, Shell, cmd};

/// What `cargo run` tells the program it runs about itself; it is not true of the programs we run.
fn is_of_this_run(name: &str) -> bool {
    // A path of the libraries of the toolchain that built us.
    name == "LD_LIBRARY_PATH"
        || name == "OUT_DIR"
        || name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
}

fn variables_of_this_run() -> impl Iterator<Item = String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(|name| is_of_this_run(name))
}

/// `cargo ARGUMENTS`, with the toolchain and settings the user has chosen.
pub(crate) fn cargo<'a>(shell: &'a Shell, arguments: &[&str]) -> Cmd<'a> {
    variables_of_this_run()
        .fold(cmd!(shell, "cargo {arguments...}"), |command, name| command.env_remove(name))
}

/// As [`cargo`], for [`crate::process::run_lines`]; output is without colours and bars.
pub(crate) fn cargo_for_reading(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(crate::workspace_root());
    for name in variables_of_this_run() {
        command.env_remove(name);
    }
    command.env("CARGO_TERM_COLOR", "never").env("CARGO_TERM_PROGRESS_WHEN", "never");
    command
}
