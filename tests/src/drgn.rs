//! drgn (with libkdumpfile inside), another reader of vmcores: from PyPI, in a virtual environment of the lab's cache.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Reads 16 bytes at each physical address of each dump, and prints them: one line a dump.
const SCRIPT: &str = "
import sys, drgn
addresses = [int(word) for word in sys.argv[1].split(',')]
for path in sys.argv[2:]:
    program = drgn.Program()
    program.set_core_dump(path)
    assert b'OSRELEASE=' in program['VMCOREINFO'].string_()
    print(','.join(program.read(address, 16, physical=True).hex() for address in addresses))
";

/// Prints the functions on the stack of the task that crashed, innermost first.
const STACK: &str = "
import sys, drgn
program = drgn.Program()
program.set_core_dump(sys.argv[1])
program.load_debug_info(sys.argv[2:])
print(','.join(frame.name or '?' for frame in program.crashed_thread().stack_trace()))
";

/// The functions on the stack of the task that crashed, innermost first, by the debug information of these files. `Err`:
/// there is no drgn here.
///
/// # Errors
/// Why drgn could not be had.
pub fn crashed_stack(dump: &Path, debug_files: &[&Path]) -> Result<Vec<String>, String> {
    let output = Command::new(python()?).args(["-c", STACK]).arg(dump).args(debug_files).output().unwrap();
    assert!(output.status.success(), "drgn: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().split(',').map(str::to_owned).collect())
}

/// What drgn reads at `addresses`: for each dump a list of 16 bytes in hexadecimal. `Err`: there is no drgn here.
///
/// # Errors
/// Why drgn could not be had.
pub fn read_16_bytes(dumps: &[&Path], addresses: &[u64]) -> Result<Vec<Vec<String>>, String> {
    let python = python()?;
    let list = addresses.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let output = Command::new(python).args(["-c", SCRIPT, &list]).args(dumps).output().unwrap();
    assert!(output.status.success(), "drgn: {}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect())
}

/// A Python with drgn.
fn python() -> Result<PathBuf, String> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let environment = cache.ok_or("neither $XDG_CACHE_HOME nor $HOME is set")?.join("rcapture/drgn");
    let python = environment.join("bin/python");
    let has_drgn = |python: &Path| {
        Command::new(python).args(["-c", "import drgn"]).output().is_ok_and(|it| it.status.success())
    };
    if !has_drgn(&python) {
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--timeout", "30", "drgn"]))?;
    }
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    output
        .status
        .success()
        .then_some(())
        .ok_or_else(|| format!("{}: {last}", command.get_program().display()))
}
