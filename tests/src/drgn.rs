//! What drgn, another reader of vmcores, sees in one.

use std::path::Path;

use rcapture_qemu::{Drgn, Lab, Truth};

use crate::DUMP;

/// Reads 16 bytes at each physical address of each dump, and prints them: one line a dump.
const READ: &str = "
import sys, drgn
addresses = [int(word) for word in sys.argv[1].split(',')]
for path in sys.argv[2:]:
    program = drgn.Program()
    program.set_core_dump(path)
    assert b'OSRELEASE=' in program['VMCOREINFO'].string_()
    print(','.join(program.read(address, 16, physical=True).hex() for address in addresses))
";

/// Prints how many tasks there are, and the kernel's log.
const TASKS_AND_LOG: &str = "
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.printk import get_dmesg
print(len(list(for_each_task(program))))
print(get_dmesg(program).decode(errors='replace'))
";

/// How many tasks drgn finds, and the kernel's log. `Err`: there is no drgn here.
///
/// # Errors
/// Why drgn could not be had.
pub fn tasks_and_log(dump: &Path, vmlinux: &Path) -> Result<(usize, String), String> {
    let said = drgn()?.run_on(dump, &[vmlinux], TASKS_AND_LOG, DUMP).unwrap();
    let (tasks, log) = said.split_once('\n').unwrap();
    Ok((tasks.parse().unwrap(), log.to_owned()))
}

/// The functions on the stack of the task that crashed, innermost first, by the debug information of these files. `Err`:
/// there is no drgn here.
///
/// # Errors
/// Why drgn could not be had.
pub fn crashed_stack(dump: &Path, debug_files: &[&Path]) -> Result<Vec<String>, String> {
    Ok(drgn()?.crashed_task(dump, debug_files, DUMP).unwrap().functions)
}

/// drgn reads the same bytes at `addresses` of each dump as QEMU; left out if there is no drgn here.
///
/// # Panics
/// If it does not.
pub fn reads_what_was_there(dumps: &[&Path], truth: &Truth, addresses: &[u64]) {
    let bytes_at = |pa: &u64| {
        let mut bytes = [0; 16];
        truth.read(*pa, &mut bytes).unwrap();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let expected: Vec<String> = addresses.iter().map(bytes_at).collect();
    match read_16_bytes(dumps, addresses) {
        Ok(read) => assert_eq!(read, vec![expected; dumps.len()], "at {addresses:x?}"),
        Err(reason) => println!("left out: drgn: {reason}"),
    }
}

/// What drgn reads at `addresses`: for each dump a list of 16 bytes in hexadecimal.
fn read_16_bytes(dumps: &[&Path], addresses: &[u64]) -> Result<Vec<Vec<String>>, String> {
    let list = addresses.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let arguments = [Path::new(&list)].into_iter().chain(dumps.iter().copied());
    let said = drgn()?.run(READ, arguments, DUMP).unwrap();
    Ok(said.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect())
}

fn drgn() -> Result<Drgn, String> {
    Lab::open().and_then(|lab| lab.drgn()).map_err(|error| error.to_string())
}
