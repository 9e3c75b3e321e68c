//! Linux as the capture kernel, with makedumpfile(8) and a network: what rcapture is compared with.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::archive::{Archive, module_names};
use crate::initramfs::quoted;
use crate::lab::Userland;
use crate::makedumpfile::Makedumpfile;
use crate::outcome::Result;

const INIT: &str = include_str!("../guest/kdump.sh");

/// What the capture kernel's userland does.
#[derive(Clone, Debug)]
pub struct Kdump {
    /// Modules of the network card, in the order of insertion.
    pub modules: Vec<PathBuf>,
    /// The address of its card.
    pub address: String,
    /// The shell command that takes `/proc/vmcore` away. It has makedumpfile and busybox's `nc`.
    pub command: String,
}

impl Kdump {
    /// Writes the initramfs of the capture kernel to `path`, for
    /// [`MachineBuilder::capture_initrd`](crate::MachineBuilder::capture_initrd).
    ///
    /// # Errors
    /// If one of its files cannot be read, or it cannot be written.
    pub fn write_initramfs(
        &self,
        path: &Path,
        userland: &Userland,
        makedumpfile: &Makedumpfile,
    ) -> Result<()> {
        let mut archive = Archive::create(path)?;
        archive.directories()?;
        archive.executable("init", INIT.as_bytes())?;
        archive.file("kdump.conf", self.configuration()?.as_bytes())?;
        archive.executable_of("busybox", &userland.busybox)?;
        archive.program(makedumpfile.root(), &makedumpfile.program()?)?;
        archive.modules(&self.modules)?;
        archive.finish()
    }

    /// The shell variables that `guest/kdump.sh` reads.
    fn configuration(&self) -> Result<String> {
        let mut text = String::new();
        for (name, value) in [
            ("KDUMP_MODULES", &module_names(&self.modules)?),
            ("KDUMP_ADDRESS", &self.address),
            ("KDUMP_COMMAND", &self.command),
        ] {
            let _ = writeln!(text, "{name}={}", quoted(value));
        }
        Ok(text)
    }
}
