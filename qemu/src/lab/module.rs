//! The lab's own kernel module, which crashes the kernel it is inserted into.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::apt::{Package, unpack};
use super::{Flavour, HOST, Kernel, Lab, Suite, manifest};
use crate::arch::Arch;
use crate::outcome::{Error, IoContext, Result};
use crate::process;

const SOURCE: &str = include_str!("../../modules/crash.c");
const BUILD_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// How the lab's module crashes a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashKind {
    /// A write by a null pointer.
    NullDereference,
    /// `BUG()`.
    Bug,
    /// `panic()` while the processor takes no interrupts.
    PanicWithInterruptsOff,
    /// A write by a null pointer while an interrupt is handled.
    NullDereferenceInInterrupt,
    /// A task that waits for ever, and a kernel that panics for it.
    HungTask,
    /// A function that calls itself for ever.
    StackOverflow,
}

impl CrashKind {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::NullDereference,
        Self::Bug,
        Self::PanicWithInterruptsOff,
        Self::NullDereferenceInInterrupt,
        Self::HungTask,
        Self::StackOverflow,
    ];

    /// What the module's parameter `kind` is for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NullDereference => "null_dereference",
            Self::Bug => "bug",
            Self::PanicWithInterruptsOff => "panic_with_interrupts_off",
            Self::NullDereferenceInInterrupt => "null_dereference_in_interrupt",
            Self::HungTask => "hung_task",
            Self::StackOverflow => "stack_overflow",
        }
    }

    /// What LKDTM calls it, the newest name first (Linux, drivers/misc/lkdtm).
    pub(crate) const fn lkdtm(self) -> &'static [&'static str] {
        match self {
            Self::NullDereference => &["EXCEPTION"],
            Self::Bug => &["BUG"],
            Self::PanicWithInterruptsOff => &["PANIC_IN_HARDIRQ", "PANIC_STOP_IRQOFF"],
            Self::NullDereferenceInInterrupt => &["PANIC_IN_HARDIRQ"],
            Self::HungTask => &["HUNG_TASK"],
            Self::StackOverflow => &["EXHAUST_STACK", "OVERFLOW"],
        }
    }

    /// The module's function that crashes.
    pub fn function(self) -> String {
        format!("crash_{}", self.name())
    }
}

impl Lab {
    /// The module that crashes `kernel`, built against its headers, with debug information.
    ///
    /// # Errors
    /// [`Error::ToolMissing`] if it is not in the cache, and headers or compiler cannot be had.
    pub fn crash_module(&self, kernel: &Kernel) -> Result<PathBuf> {
        let name = asset(kernel.arch, kernel.suite, kernel.flavour);
        let source: String = Sha256::digest(SOURCE).iter().map(|byte| format!("{byte:02x}")).collect();
        let facts = [("version", kernel.version.clone()), ("source", source)];
        if self.cache.find(&name).is_some_and(|asset| {
            facts.iter().any(|(fact, value)| asset.fact(fact).ok() != Some(value.as_str()))
        }) {
            self.cache.forget(&name)?;
        }
        let asset = self.cache.get(&name, |directory| {
            let packages = self.build_crash_module(kernel, directory)?;
            Ok(manifest(&packages, facts))
        })?;
        Ok(asset.directory.join("crash.ko"))
    }

    /// Makes `crash.ko` in `directory`. Returns the packages it took.
    fn build_crash_module(&self, kernel: &Kernel, directory: &Path) -> Result<Vec<Package>> {
        let apt = self.apt(kernel.suite, kernel.arch)?;
        let pinned = |package: Package| Package { version: kernel.version.clone(), ..package };
        let headers = apt.package(&format!("linux-headers-{}", kernel.release))?;
        let dependency = |is_it: fn(&str) -> bool| {
            headers.depends.iter().find(|name| is_it(name)).ok_or_else(|| {
                Error::missing(&headers.name, "it does not depend on what it did", "report it")
            })
        };
        let common = apt.package(dependency(|name| name.ends_with("-common"))?)?;
        // The programs that build are the host's.
        let tools = self.apt(kernel.suite, HOST)?;
        let kbuild = tools.package(dependency(|name| name.starts_with("linux-kbuild-"))?)?;
        let root = directory.join("root");
        fs::create_dir(&root).on("create", &root)?;
        let packages = [pinned(headers.clone()), pinned(common.clone()), pinned(kbuild)];
        let (of_kernel, of_host) = packages.split_at(2);
        // The two may be the same archive: what one has downloaded is to be gone when the other one looks.
        for (apt, packages) in [(&apt, of_kernel), (&tools, of_host)] {
            for file in apt.download(packages)? {
                unpack(&file, &root, None)?;
                fs::remove_file(&file).on("remove", &file)?;
            }
        }
        let sources = root.join("usr/src");
        let headers = sources.join(&headers.name);
        let makefile = headers.join("Makefile");
        // It names the common headers where they would be installed.
        let text = format!("include {}\n", sources.join(&common.name).join("Makefile").display());
        fs::write(&makefile, text).on("write", &makefile)?;
        make_crash_module(kernel.arch, &headers, directory, &directory.join("make.log"))?;
        keep_only("crash.ko", directory)?;
        Ok(packages.to_vec())
    }
}

/// Makes `crash.ko` in `directory`, against the headers (or the build directory) of the kernel that is to crash. All that make
/// says goes into the file `log`.
///
/// # Errors
/// [`Error::ToolMissing`] without make or compiler, and if it cannot be built.
pub fn make_crash_module(arch: Arch, headers: &Path, directory: &Path, log: &Path) -> Result<PathBuf> {
    for (name, text) in [("crash.c", SOURCE), ("Kbuild", "obj-m := crash.o\n")] {
        let path = directory.join(name);
        fs::write(&path, text).on("write", &path)?;
    }
    let mut make = Command::new("make");
    make.arg("-C").arg(headers).arg(format!("M={}", directory.display())).args(variables(arch, headers));
    let finished = process::run(make.arg("modules"), BUILD_DEADLINE, || {})?;
    fs::write(log, format!("{}{}", finished.stdout, finished.stderr)).on("write", log)?;
    finished.success("make").map_err(|error| {
        let reason = format!("{error} (all it said: {})", log.display());
        let remedy = format!(
            "it takes the headers or build directory of the kernel, which {} is to be, and its compiler",
            headers.display()
        );
        Error::missing("the module that crashes the kernel", reason, remedy)
    })?;
    Ok(directory.join("crash.ko"))
}

/// Those with which the kernel was built (Linux, Documentation/kbuild/kbuild.rst and llvm.rst).
fn variables(arch: Arch, headers: &Path) -> Vec<String> {
    let configuration = fs::read_to_string(headers.join("include/config/auto.conf")).unwrap_or_default();
    let prefix = arch.compiler_prefix();
    let compiler = if configuration.lines().any(|line| line == "CONFIG_CC_IS_CLANG=y") {
        "LLVM=1".to_owned()
    } else {
        // Headers of a distribution name a compiler that need not be here.
        format!("CC={prefix}gcc")
    };
    vec![format!("ARCH={}", arch.kbuild()), format!("CROSS_COMPILE={prefix}"), compiler]
}

/// Its name in the cache.
pub(super) fn asset(arch: Arch, suite: Suite, flavour: Flavour) -> String {
    format!("crash-module/{suite}-{}{}", arch.debian(), flavour.suffix())
}

fn keep_only(name: &str, directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory).on("list", directory)? {
        let path = entry.on("list", directory)?.path();
        if path.is_dir() {
            fs::remove_dir_all(&path).on("remove", &path)?;
        } else if path.file_name().is_some_and(|file| file != name) {
            fs::remove_file(&path).on("remove", &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;

    /// A build directory whose `modules` does `recipe`.
    fn headers(recipe: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("Makefile"), format!("modules:\n\t{recipe}\n")).unwrap();
        directory
    }

    #[test]
    fn a_kernels_build_is_told_what_it_was_built_for_and_by_which_compiler() {
        let headers = headers("");
        assert_eq!(
            variables(Arch::Aarch64, headers.path()),
            ["ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-", "CC=aarch64-linux-gnu-gcc"]
        );
        assert_eq!(variables(Arch::X86_64, headers.path()), ["ARCH=x86_64", "CROSS_COMPILE=", "CC=gcc"]);
        let config = headers.path().join("include/config");
        fs::create_dir_all(&config).unwrap();
        fs::write(config.join("auto.conf"), "CONFIG_ARM=y\nCONFIG_CC_IS_CLANG=y\n").unwrap();
        let clang = variables(Arch::Arm, headers.path());
        assert_eq!(clang, ["ARCH=arm", "CROSS_COMPILE=arm-linux-gnueabihf-", "LLVM=1"]);
    }

    #[test]
    fn all_that_a_build_says_is_kept_and_named_if_it_fails() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("module.log");
        let builds = headers("@echo for $(ARCH); touch $(M)/crash.ko");
        let module = make_crash_module(Arch::Arm, builds.path(), directory.path(), &log).unwrap();
        assert!(module.exists() && fs::read_to_string(&log).unwrap().contains("for arm\n"));
        let fails = headers("@echo the reason >&2; echo more; false");
        let error = make_crash_module(Arch::X86_64, fails.path(), directory.path(), &log).unwrap_err();
        assert_eq!(error.outcome(), Outcome::ToolMissing);
        assert!(error.to_string().contains("module.log"), "{error}");
        let said = fs::read_to_string(&log).unwrap();
        assert!(said.contains("the reason") && said.contains("more"), "{said}");
    }
}
