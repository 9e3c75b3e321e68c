//! From a scenario to what can be started.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::receiver::Ear;
use super::scenario::{Link, Scenario};
use crate::arch::Arch;
use crate::boot_files::BootFiles;
use crate::initramfs::Trigger;
use crate::lab::{Lab, make_crash_module};
use crate::line::{Endpoint, LineOptions};
use crate::machine::{Machine, MachineBuilder};
use crate::outcome::{Error, IoContext, Result};
use crate::programs::{capture_image, free_port, rcapture};

/// How far a kernel came is of interest when it came no further.
const VERBOSE: &str = "loglevel=7";

/// Where what the machine sends on its line is kept, before any fault of the line.
pub(super) const SERIAL_LOG: &str = "serial.log";

/// What QEMU says.
pub(super) const QEMU_LOG: &str = "qemu.log";

/// What the build of the module that crashes the kernel said.
const MODULE_LOG: &str = "module.log";

/// QEMU's network as the guest sees it: the host, and an address for the card.
const HOST: &str = "10.0.2.2";
const ADDRESS: &str = "ip=10.0.2.15::10.0.2.2:255.255.255.0";

/// Everything that a run of a scenario needs.
pub(super) struct Setup<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) lab: &'a Lab,
    pub(super) kernel: BootFiles,
    /// With which backtraces are made, if there is one.
    pub(super) vmlinux: Option<PathBuf>,
    /// The lab's module that crashes it, if it is one.
    pub(super) crash_module: Option<PathBuf>,
    pub(super) machine: MachineBuilder,
    pub(super) ear: Ear,
    pub(super) line: LineOptions,
    /// Where all of this run's files go.
    pub(super) directory: PathBuf,
}

impl<'a> Setup<'a> {
    pub(super) fn of(scenario: &'a Scenario, lab: &'a Lab, directory: &Path) -> Result<Self> {
        let directory = std::path::absolute(directory).on("find", directory)?;
        scenario.find_files()?;
        let subject = Subject::of(scenario, lab, &directory)?;
        let arch = subject.kernel.arch;
        let image = match &scenario.image {
            Some(image) => image.clone(),
            None => capture_image(arch)?,
        };
        let crash_module = match &subject.trigger {
            Trigger::Module(file, _) => Some(file.clone()),
            _ => None,
        };
        let (ear, host) = match scenario.link {
            Link::Serial => (Ear::Line, None),
            // The console's text goes into the log alone.
            Link::Tcp => (Ear::Port(free_port()?), Some(Endpoint::Null)),
        };
        let userland = lab.clone().for_arch(arch).userland()?;
        let machine = scenario
            .machine(Machine::builder(subject.kernel.clone(), userland).append(VERBOSE), arch, ear.port())
            .capture_image(image)
            .messages(directory.join(QEMU_LOG))
            .processor_limit(scenario.processor_limit())
            .trigger(subject.trigger);
        // Found now, not when there is a dump to take.
        rcapture()?;
        Ok(Self {
            scenario,
            lab,
            kernel: subject.kernel,
            vmlinux: subject.vmlinux,
            crash_module,
            machine,
            ear,
            line: LineOptions {
                host,
                baud: scenario.baud,
                record: Some(directory.join(SERIAL_LOG)),
                ..LineOptions::default()
            },
            directory,
        })
    }
}

/// The kernel, and how it is crashed.
struct Subject {
    kernel: BootFiles,
    vmlinux: Option<PathBuf>,
    trigger: Trigger,
}

impl Subject {
    fn of(scenario: &Scenario, lab: &Lab, directory: &Path) -> Result<Self> {
        let mut this = match (&scenario.kernel, scenario.suite) {
            (Some(image), _) => Self::own(scenario, image, directory)?,
            (None, Some(suite)) => {
                let arch = scenario.arch.unwrap_or_default();
                let lab = lab.clone().for_arch(arch).with_flavour(scenario.flavour);
                let kernel = lab.kernel(suite)?;
                let is_read = !scenario.expect_bt.is_empty();
                Self {
                    vmlinux: is_read.then(|| lab.vmlinux(&kernel)).transpose()?,
                    trigger: match scenario.crash.kind() {
                        None => Trigger::SysRq,
                        Some(kind) => Trigger::Module(lab.crash_module(&kernel)?, kind),
                    },
                    kernel: kernel.into(),
                }
            }
            (None, None) => {
                return Err(Error::malformed(Path::new("scenario"), "has neither a kernel nor a suite"));
            }
        };
        if let Some(command) = &scenario.crash_command {
            this.trigger = Trigger::Command(command.clone());
        }
        if scenario.vmlinux.is_some() {
            this.vmlinux.clone_from(&scenario.vmlinux);
        }
        Ok(this)
    }

    /// A user's own kernel.
    fn own(scenario: &Scenario, image: &Path, directory: &Path) -> Result<Self> {
        let kernel = BootFiles { modules: scenario.modules.clone(), ..BootFiles::of_image(image)? };
        let trigger = match (scenario.crash.kind(), &scenario.headers) {
            (None, _) => Trigger::SysRq,
            (Some(kind), None) => Trigger::Provoke(kind),
            (Some(kind), Some(headers)) => {
                let place = directory.join("crash-module");
                fs::create_dir(&place).on("create", &place)?;
                eprintln!("{}: building the module that crashes it", scenario.title());
                let headers = std::path::absolute(headers).on("find", headers)?;
                let module = make_crash_module(kernel.arch, &headers, &place, &directory.join(MODULE_LOG))?;
                Trigger::Module(module, kind)
            }
        };
        Ok(Self { kernel, vmlinux: None, trigger })
    }
}

impl Scenario {
    /// Processor time that QEMU can take within the deadlines: each CPU a thread, and one for all else.
    fn processor_limit(&self) -> Duration {
        let seconds = [self.crash_deadline, self.seconds_to_dump()];
        let seconds = seconds.into_iter().fold(self.boot_deadline, u64::saturating_add);
        Duration::from_secs(seconds.saturating_mul(u64::from(self.smp).saturating_add(1)))
    }

    /// Whether what it names is there: some of it would be missed only when there is a dump.
    fn find_files(&self) -> Result<()> {
        let files = [
            ("kernel", &self.kernel),
            ("vmlinux", &self.vmlinux),
            ("initramfs", &self.initramfs),
            ("dtb", &self.dtb),
            ("image", &self.image),
        ];
        let directories = [("modules", &self.modules), ("headers", &self.headers)];
        let files = files.map(|(name, path)| (name, path, "file", path.as_deref().is_none_or(Path::is_file)));
        let directories = directories
            .map(|(name, path)| (name, path, "directory", path.as_deref().is_none_or(Path::is_dir)));
        match files.iter().chain(&directories).find(|(.., is_there)| !is_there) {
            Some((name, Some(path), kind, _)) => Err(Error::missing(
                path.display().to_string(),
                format!("there is no such {kind}"),
                format!("name the one that is the {name}"),
            )),
            _ => Ok(()),
        }
    }

    /// `builder` with the machine and the capture kernel's settings that this scenario says. The dump goes to TCP `port` of
    /// the host, or over the serial line.
    pub fn machine(&self, mut builder: MachineBuilder, arch: Arch, port: Option<u16>) -> MachineBuilder {
        builder = builder
            .memory_mib(self.memory)
            .smp(self.smp)
            .loader(self.loader)
            .populate(false)
            .before(self.before.as_str());
        if let Some(board) = &self.machine {
            builder = builder.board(board);
        }
        if let Some(cpu) = &self.cpu {
            builder = builder.cpu(cpu);
        }
        if let Some(tree) = &self.dtb {
            builder = builder.device_tree(tree);
        }
        if let Some(initramfs) = &self.initramfs {
            builder = builder.initramfs(initramfs);
        }
        if self.console_apart {
            builder = builder.console_apart();
        }
        let board = self.machine.as_deref().unwrap_or(arch.board()).split(',').next().unwrap_or_default();
        let crashkernel = match (&self.crashkernel, arch, board) {
            (Some(size), ..) => size,
            // Its device tree has a megabyte, which the loader puts into the reservation.
            (None, Arch::Arm, "virt") => "5M",
            (None, ..) => "4M",
        };
        builder = builder.crashkernel(crashkernel);
        if port.is_some() {
            builder = builder.network_card();
        }
        let settings = self.settings(&builder, port);
        builder = builder.capture_cmdline(settings);
        builder = self.append.iter().fold(builder, MachineBuilder::append);
        self.qemu.iter().fold(builder, MachineBuilder::argument)
    }

    /// The capture kernel's command line.
    fn settings(&self, builder: &MachineBuilder, port: Option<u16>) -> String {
        let mut words = vec![format!("rcapture.dump_level={}", self.level)];
        // A serial port of QEMU carries 30 times what its speed says: with the codec for that speed, LZMA, the
        // emulated processor would be what takes the time.
        let is_fast_line = port.is_none() && self.baud.is_none();
        let compress = self.compress.as_deref().or(is_fast_line.then_some("deflate"));
        words.extend(compress.map(|method| format!("rcapture.compress={method}")));
        match port {
            Some(port) => words.push(format!("rcapture.link=tcp:{HOST}:{port} {ADDRESS}")),
            None if self.console_apart && !self.cmdline.contains("rcapture.link=") => {
                words.extend(builder.line_port().map(|name| format!("rcapture.link=serial:{name},115200n8")));
            }
            None => {}
        }
        words.push(self.cmdline.clone());
        words.join(" ").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::outcome::Outcome;

    #[test]
    fn processor_time_ends_no_machine_before_its_deadlines_do() {
        let scenario = |dump_deadline, smp| Scenario { dump_deadline, smp, ..Scenario::default() };
        assert_eq!(scenario(7200, 4).processor_limit(), Duration::from_secs((240 + 120 + 7200) * 5));
        let max_time = Scenario { max_time: Some(7200), ..scenario(600, 4) };
        assert_eq!(max_time.processor_limit(), scenario(7200, 4).processor_limit());
        assert_eq!(scenario(u64::MAX, u32::MAX).processor_limit(), Duration::from_secs(u64::MAX));
    }

    #[test]
    fn what_a_scenario_names_and_is_not_there_is_missed_before_anything_boots() {
        let directory = tempfile::tempdir().unwrap();
        let kernel = directory.path().join("bzImage");
        std::fs::write(&kernel, "").unwrap();
        let there = Scenario {
            kernel: Some(kernel.clone()),
            headers: Some(directory.path().to_owned()),
            ..Scenario::default()
        };
        there.find_files().unwrap();
        let typo = Some(directory.path().join("vmlinx"));
        for missing in [
            Scenario { vmlinux: typo.clone(), ..there.clone() },
            Scenario { initramfs: typo.clone(), ..there.clone() },
            Scenario { modules: typo, ..there.clone() },
            Scenario { headers: Some(kernel), ..there },
        ] {
            let error = missing.find_files().unwrap_err();
            assert_eq!(error.outcome(), Outcome::ToolMissing);
            assert!(error.to_string().contains("there is no such"), "{error}");
        }
    }
}
