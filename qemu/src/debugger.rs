//! Who says what is on the stack of a crashed kernel: crash(8), or drgn.

use std::path::Path;
use std::time::Duration;

use crate::arch::Arch;
use crate::crash::Crash;
use crate::drgn::Drgn;
use crate::lab::Lab;
use crate::outcome::Result;

/// A debugger for vmcores.
#[derive(Clone, Debug)]
pub enum Debugger {
    /// crash(8).
    Crash(Crash),
    /// drgn.
    Drgn(Drgn),
}

impl Lab {
    /// The debugger for dumps of this lab's machines.
    ///
    /// # Errors
    /// [`Error::ToolMissing`](crate::Error::ToolMissing) if it is not there, and cannot be fetched.
    pub fn debugger(&self, arch: Arch) -> Result<Debugger> {
        Ok(match arch {
            Arch::X86_64 => Debugger::Crash(self.clone().for_arch(arch).crash()?),
            // A crash for another architecture would run in an emulator, for minutes.
            Arch::Aarch64 | Arch::Arm => Debugger::Drgn(self.drgn()?),
        })
    }
}

impl Debugger {
    /// Its name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Crash(_) => "crash(8)",
            Self::Drgn(_) => "drgn",
        }
    }

    /// The stack of the task that crashed, after a word on what crashed, by the debug information of `vmlinux` and `modules`. A
    /// dump that `is_cut` lacks pages that were to be there.
    ///
    /// # Errors
    /// If it cannot read the dump, or does not end within `deadline`.
    pub fn backtrace(
        &self,
        vmlinux: &Path,
        modules: &[&Path],
        vmcore: &Path,
        is_cut: bool,
        deadline: Duration,
    ) -> Result<String> {
        let commands = ["sys", "bt"];
        match self {
            Self::Crash(crash) if is_cut => crash.run_on_part(vmlinux, vmcore, &commands, deadline),
            Self::Crash(crash) => crash.run(vmlinux, vmcore, &commands, deadline),
            Self::Drgn(drgn) => {
                let files = [&[vmlinux], modules].concat();
                return drgn.crashed_task(vmcore, &files, deadline).map(|task| task.to_string());
            }
        }
        .map(|sections| sections.concat())
    }

    /// What one would type to look further.
    #[must_use]
    pub fn command(&self, vmlinux: &Path, vmcore: &Path) -> String {
        let (vmlinux, vmcore) = (vmlinux.display(), vmcore.display());
        match self {
            Self::Crash(_) => format!("crash {vmlinux} {vmcore}"),
            Self::Drgn(_) => format!("drgn -s {vmlinux} -c {vmcore}"),
        }
    }
}
