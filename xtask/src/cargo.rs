//! Running cargo for this workspace, from a program that cargo runs.

use std::path::{Path, PathBuf};
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

/// Flags by which the same source gives the same bytes wherever it is built: no absolute path gets in.
pub(crate) fn remapped_paths(root: &Path) -> Vec<String> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let library = PathBuf::from("/usr/lib/rustlib/src/rust");
    [(cargo_home, "cargo"), (library, "rust"), (root.to_path_buf(), ".")]
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
        .to_vec()
}

/// Compiler flags as `CARGO_ENCODED_RUSTFLAGS` has them.
pub(crate) fn encoded(flags: &[String]) -> String {
    flags.join("\u{1f}")
}
