//! A machine that crashes, all of whose memory arrives over its serial line, and another reader's view of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcapture_qemu::Truth;
use tempfile::TempDir;

use crate::{BOOT, Crashed, DUMP, Received, Spec, drgn};

/// Tasks of a kernel that has just booted, at the least.
const MANY_TASKS: usize = 30;

/// A dump with all of a machine's memory.
pub struct Whole {
    /// What the receiver made.
    pub received: Received,
    /// The machine's memory.
    pub truth: Arc<Truth>,
    _directory: TempDir,
}

impl Whole {
    /// Crashes a machine, and compares every page of every range of RAM with what QEMU saw at the banner. In the end the machine
    /// is off, or reset, which ends QEMU too.
    ///
    /// # Panics
    /// If a page differs.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        Self::received_from(spec, spec.crash())
    }

    /// [`of`](Self::of) a machine that has crashed already.
    ///
    /// # Panics
    /// If a page differs.
    #[must_use]
    pub fn received_from(spec: &Spec, mut crashed: Crashed) -> Self {
        let received = crashed.receive(&[], DUMP);
        let comparison = received.compare(&crashed.truth);
        // The reservation is not RAM to the dump; hardly more than that is missing.
        assert!(comparison.equal > u64::from(spec.memory_mib) * 256 * 97 / 100, "{comparison}");
        comparison.assert_every_page();
        let status = crashed.machine.wait_for_end(BOOT).unwrap();
        assert!(status.success(), "the machine ended as rcapture.final says");
        Self { received, truth: crashed.truth, _directory: crashed.directory }
    }

    /// The receiver's vmcore.
    #[must_use]
    pub fn vmcore(&self) -> PathBuf {
        self.received.vmcore()
    }

    /// A text that the receiver made: `console.log`, `vmcore-dmesg.txt`.
    ///
    /// # Panics
    /// If it is not there, or lacks one of `texts`.
    pub fn has_said(&self, file: &str, texts: &[&str]) {
        let said = fs::read(self.received.directory.join(file)).unwrap();
        let said = String::from_utf8_lossy(&said);
        for text in texts {
            assert!(said.contains(text), "{text:?} is not in {file}:\n{said}");
        }
    }

    /// drgn finds many tasks, and the log that the receiver wrote.
    ///
    /// # Panics
    /// If it does not.
    pub fn drgn_reads_tasks_and_log(&self, vmlinux: &Path) {
        match drgn::tasks_and_log(&self.vmcore(), vmlinux) {
            Ok((tasks, log)) => {
                assert!(tasks > MANY_TASKS, "{tasks} tasks");
                let ours = fs::read(self.received.directory.join("vmcore-dmesg.txt")).unwrap();
                assert_eq!(String::from_utf8_lossy(&ours).trim_end(), log.trim_end());
            }
            Err(reason) => println!("left out: drgn: {reason}"),
        }
    }

    /// drgn, another reader of vmcores, walks page tables, and the stack of the task that crashed.
    ///
    /// # Panics
    /// If one of `functions` is not on it.
    pub fn drgn_finds_on_the_stack(&self, vmlinux: &Path, functions: &[&str]) {
        match drgn::crashed_stack(&self.vmcore(), &[vmlinux]) {
            Ok(stack) => {
                for function in functions {
                    assert!(stack.iter().any(|name| name == function), "{function}: {stack:?}");
                }
            }
            Err(reason) => println!("left out: drgn: {reason}"),
        }
    }

    /// drgn reads the same bytes at `addresses` as QEMU.
    ///
    /// # Panics
    /// If it does not.
    pub fn drgn_reads_what_was_there(&self, addresses: &[u64]) {
        drgn::reads_what_was_there(&[&self.vmcore()], &self.truth, addresses);
    }
}
