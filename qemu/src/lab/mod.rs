//! What the lab works with: stock kernels, their debug information, a userland for the guest, crash(8), makedumpfile.
//!
//! Everything comes as packages of Debian's archive, fetched once by a private apt ([`Mirror`] says from
//! where) into `$XDG_CACHE_HOME/rcapture`, and is used from there without the network.

mod apt;
mod cache;
mod flavour;
mod mirror;
mod module;
mod suite;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

pub use flavour::Flavour;
pub use mirror::Mirror;
pub use module::{CrashKind, make_crash_module};
pub use suite::Suite;

use crate::arch::Arch;
use crate::boot_files::BootFiles;
use crate::crash::Crash;
use crate::drgn::Drgn;
use crate::makedumpfile::Makedumpfile;
use crate::outcome::{Error, IoContext, Result};
use crate::root::Root;
use apt::{Apt, Package, unpack};
use cache::{Cache, Manifest};

/// The suite the guest's kexec-tools and busybox come from: kexec-tools 2.0.25.
const USERLAND_SUITE: Suite = Suite::Bookworm;
/// crash before version 9 misreads the task list of recent 6.1 kernels.
const CRASH_SUITE: Suite = Suite::Sid;
/// makedumpfile knows the kernels of its day: before 1.7.8 not how Linux 6.12 marks its pages.
const MAKEDUMPFILE_SUITE: Suite = Suite::Sid;

/// What all suites' machines of an architecture share.
const SHARED: [&str; 3] = ["userland", "crash", "makedumpfile"];
/// What needs no emulator here.
const HOST: Arch = Arch::X86_64;

/// The lab's store of kernels and tools.
///
/// ```no_run
/// use rcapture_qemu::{Lab, Suite};
/// let lab = Lab::open()?;
/// let kernel = lab.kernel(Suite::Bookworm)?;
/// println!("{} from {}", kernel.vmlinuz.display(), kernel.version);
/// # Ok::<(), rcapture_qemu::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lab {
    cache: Cache,
    mirror: Option<Mirror>,
    arch: Arch,
    flavour: Flavour,
}

/// A stock kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What it runs on.
    pub arch: Arch,
    /// The suite it came from.
    pub suite: Suite,
    /// Which of its kernels.
    pub flavour: Flavour,
    /// What `uname -r` says, such as `6.1.0-50-cloud-amd64`.
    pub release: String,
    /// The package's version, such as `6.1.176-1`.
    pub version: String,
    /// The bzImage, Image or zImage.
    pub vmlinuz: PathBuf,
    /// Its modules (`lib/modules/RELEASE`).
    pub modules: PathBuf,
    /// The device trees of the boards it knows, where the architecture has boards that need one.
    pub device_trees: PathBuf,
}

impl Kernel {
    /// [`BootFiles::module_files`].
    ///
    /// # Errors
    /// If a directory cannot be read.
    pub fn module_files(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        BootFiles::from(self.clone()).module_files(names)
    }
}

/// The programs that run in the guest, and the libraries they need.
#[derive(Clone, Debug)]
pub struct Userland {
    /// A static busybox.
    pub busybox: PathBuf,
    /// kexec of kexec-tools.
    pub kexec: PathBuf,
    pub(crate) root: Root,
}

impl Lab {
    /// The lab with its cache in `$XDG_CACHE_HOME/rcapture` (`~/.cache/rcapture`). Fetches nothing yet.
    ///
    /// # Errors
    /// [`Error::ToolMissing`] if neither variable says where the cache is.
    pub fn open() -> Result<Self> {
        let base = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
        base.map(|base| Self::open_at(base.join("rcapture"))).ok_or_else(|| {
            Error::missing("a cache directory", "neither XDG_CACHE_HOME nor HOME is set", "set one")
        })
    }

    /// The lab with its cache in `cache`.
    pub const fn open_at(cache: PathBuf) -> Self {
        Self { cache: Cache::at(cache), mirror: None, arch: HOST, flavour: Flavour::Usual }
    }

    /// Fetches from `mirror` what has to be fetched, not from where the system takes its packages.
    #[must_use]
    pub fn with_mirror(mut self, mirror: Mirror) -> Self {
        self.mirror = Some(mirror);
        self
    }

    /// Kernels and userland for `arch`, not for a PC.
    #[must_use]
    pub const fn for_arch(mut self, arch: Arch) -> Self {
        self.arch = arch;
        self
    }

    /// Kernels of that flavour.
    #[must_use]
    pub const fn with_flavour(mut self, flavour: Flavour) -> Self {
        self.flavour = flavour;
        self
    }

    /// The stock kernel of `suite`.
    ///
    /// # Errors
    /// [`Error::ToolMissing`] if it is not in the cache and cannot be fetched.
    pub fn kernel(&self, suite: Suite) -> Result<Kernel> {
        let name = kernel_asset(self.arch, suite, self.flavour);
        let asset = self.cache.get(&name, |directory| self.fetch_kernel(suite, directory))?;
        let release = asset.fact("release")?.to_owned();
        Ok(Kernel {
            arch: self.arch,
            suite,
            flavour: self.flavour,
            version: asset.fact("version")?.to_owned(),
            vmlinuz: asset.directory.join("vmlinuz"),
            modules: asset.directory.join("modules"),
            device_trees: asset.directory.join("device-trees"),
            release,
        })
    }

    /// The kernel's `vmlinux` with debug information (a download of some 300 MB).
    ///
    /// # Errors
    /// [`Error::ToolMissing`] if it is not in the cache and cannot be fetched.
    pub fn vmlinux(&self, kernel: &Kernel) -> Result<PathBuf> {
        let name = vmlinux_asset(kernel.arch, kernel.suite, kernel.flavour);
        // One kernel per suite is kept, and its vmlinux must be the same build.
        if self.cache.find(&name).is_some_and(|asset| asset.fact("version").ok() != Some(&kernel.version)) {
            self.cache.forget(&name)?;
        }
        let asset = self.cache.get(&name, |directory| self.fetch_vmlinux(kernel, directory))?;
        Ok(asset.directory.join("vmlinux"))
    }

    /// busybox and kexec for the guest.
    ///
    /// # Errors
    /// [`Error::ToolMissing`] if they are not in the cache and cannot be fetched.
    pub fn userland(&self) -> Result<Userland> {
        let (root, _) = self.root("userland", USERLAND_SUITE, &["busybox-static", "kexec-tools"])?;
        Ok(Userland { busybox: root.program("busybox")?, kexec: root.program("kexec")?, root })
    }

    /// crash(8) for dumps of the lab's machines, with its own libraries.
    ///
    /// # Errors
    /// [`Error::ToolMissing`] if it is not in the cache and cannot be fetched.
    pub fn crash(&self) -> Result<Crash> {
        let (root, version) = self.root("crash", CRASH_SUITE, &["crash"])?;
        Crash::in_root(root, version)
    }

    /// makedumpfile(8) for dumps of the lab's machines, with its own libraries.
    ///
    /// # Errors
    /// [`Error::ToolMissing`] if it is not in the cache and cannot be fetched.
    pub fn makedumpfile(&self) -> Result<Makedumpfile> {
        let (root, version) = self.root("makedumpfile", MAKEDUMPFILE_SUITE, &["makedumpfile"])?;
        Makedumpfile::in_root(root, version)
    }

    /// drgn, which reads dumps of any architecture.
    ///
    /// # Errors
    /// [`Error::ToolMissing`] if it is not in the cache and cannot be installed.
    pub fn drgn(&self) -> Result<Drgn> {
        let environment = self.cache.root().join("drgn");
        let drgn = Drgn::in_environment(&environment);
        if !drgn.is_there() {
            let _lock = self.cache.lock()?;
            // Another process may have installed it while we waited.
            if !drgn.is_there() {
                drgn.install(&environment)?;
            }
        }
        Ok(drgn)
    }

    /// Drops what was fetched of `suite` and what all suites share, so that the next use fetches it anew.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn forget(&self, suite: Suite) -> Result<()> {
        let (arch, flavour) = (self.arch, self.flavour);
        let of_suite = [
            kernel_asset(arch, suite, flavour),
            vmlinux_asset(arch, suite, flavour),
            module::asset(arch, suite, flavour),
        ];
        let shared = SHARED.map(|name| root_asset(name, arch));
        for name in of_suite.into_iter().chain(shared) {
            self.cache.forget(&name)?;
        }
        Ok(())
    }

    /// Reads everything in the cache again and compares it with the digests taken when it was fetched.
    /// Returns the names of what is whole.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the first file that changed.
    pub fn verify(&self) -> Result<Vec<String>> {
        let of = |arch| {
            let suites = Suite::ALL.into_iter();
            let kernels = suites.flat_map(|suite| Flavour::ALL.map(|flavour| (suite, flavour)));
            let kernels = kernels.flat_map(move |(suite, flavour)| {
                [
                    kernel_asset(arch, suite, flavour),
                    vmlinux_asset(arch, suite, flavour),
                    module::asset(arch, suite, flavour),
                ]
            });
            kernels.chain(SHARED.map(|name| root_asset(name, arch)))
        };
        Arch::ALL
            .into_iter()
            .flat_map(of)
            .filter_map(|name| self.cache.find(&name).map(|asset| asset.verify().map(|()| name)))
            .collect()
    }

    fn apt(&self, suite: Suite, arch: Arch) -> Result<Apt> {
        let mirror = self.mirror.clone().map_or_else(Mirror::of_system, Ok)?;
        let name = match arch {
            HOST => suite.name().to_owned(),
            _ => format!("{suite}-{}", arch.debian()),
        };
        Apt::update(&self.cache.root().join("apt").join(name), suite, arch, mirror)
    }

    fn fetch_kernel(&self, suite: Suite, directory: &Path) -> Result<Manifest> {
        let flavour = self.flavour.debian(self.arch).ok_or_else(|| {
            let what = format!("a kernel of this flavour for {}", self.arch.name());
            Error::missing(what, "Debian builds none", "take the usual one")
        })?;
        let apt = self.apt(suite, self.arch)?;
        let meta = apt.package(&format!("linux-image-{flavour}"))?;
        let image = meta.depends.iter().find(|name| name.starts_with("linux-image-")).ok_or_else(|| {
            Error::missing(format!("a kernel of {suite}"), "its meta package names none", "report it")
        })?;
        let image = apt.package(image)?;
        let release = image.name.trim_start_matches("linux-image-").to_owned();
        let packages = kernel_packages(&apt, &release, image)?;
        for file in apt.download(&packages)? {
            unpack(&file, directory, None)?;
            fs::remove_file(&file).on("remove", &file)?;
        }
        keep_kernel_files(directory, &release)?;
        let version = packages.first().map(|package| package.version.clone()).unwrap_or_default();
        Ok(manifest(&packages, [("release", release), ("version", version)]))
    }

    fn fetch_vmlinux(&self, kernel: &Kernel, directory: &Path) -> Result<Manifest> {
        let apt = self.apt(kernel.suite, kernel.arch)?;
        let package = Package {
            version: kernel.version.clone(),
            ..apt.package(&format!("linux-image-{}-dbg", kernel.release))?
        };
        let packages = [package];
        for file in apt.download(&packages)? {
            // That one file, not the 1.7 GB of modules beside it.
            unpack(&file, directory, Some("./usr/lib/debug/*vmlinux*"))?;
            fs::remove_file(&file).on("remove", &file)?;
        }
        let debug = directory.join("usr/lib/debug");
        let places = [
            debug.join(format!("boot/vmlinux-{}", kernel.release)),
            debug.join(format!("lib/modules/{}/vmlinux", kernel.release)),
            debug.join(format!("usr/lib/modules/{}/vmlinux", kernel.release)),
        ];
        let is_file = |path: &&PathBuf| fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
        let found = places.iter().find(is_file).ok_or_else(|| {
            Error::missing("vmlinux", "the debug package holds none where it is looked for", "report it")
        })?;
        let place = directory.join("vmlinux");
        fs::rename(found, &place).on("move", &place)?;
        fs::remove_dir_all(directory.join("usr")).on("remove", &debug)?;
        Ok(manifest(&packages, [("version", kernel.version.clone())]))
    }

    /// `packages` and what they depend on, unpacked, and the version of the last one.
    fn root(&self, name: &str, suite: Suite, packages: &[&str]) -> Result<(Root, String)> {
        let asset = self.cache.get(&root_asset(name, self.arch), |directory| {
            let apt = self.apt(suite, self.arch)?;
            for file in apt.download_with_dependencies(packages)? {
                unpack(&file, directory, None)?;
                fs::remove_file(&file).on("remove", &file)?;
            }
            let found: Result<Vec<Package>> = packages.iter().map(|name| apt.package(name)).collect();
            Ok(manifest(&found?, []))
        })?;
        let version = packages.last().and_then(|&name| asset.manifest.packages.get(name));
        let version = version.cloned().unwrap_or_default();
        Ok((Root::at(asset.directory, self.arch), version))
    }
}

fn kernel_asset(arch: Arch, suite: Suite, flavour: Flavour) -> String {
    format!("kernel/{suite}-{}{}", arch.debian(), flavour.suffix())
}

fn vmlinux_asset(arch: Arch, suite: Suite, flavour: Flavour) -> String {
    format!("vmlinux/{suite}-{}{}", arch.debian(), flavour.suffix())
}

fn root_asset(name: &str, arch: Arch) -> String {
    match arch {
        HOST => name.to_owned(),
        _ => format!("{name}-{}", arch.debian()),
    }
}

/// The packages that hold the image, modules and device trees: from Linux 7 on they are packages of their own, and
/// linux-image is a shell.
fn kernel_packages(apt: &Apt, release: &str, image: Package) -> Result<Vec<Package>> {
    match apt.find(&format!("linux-binary-{release}"))? {
        Some(binary) => {
            let package = |kind| apt.package(&format!("linux-{kind}-{release}"));
            Ok(vec![binary, package("modules")?, package("base")?])
        }
        None => Ok(vec![image]),
    }
}

/// Brings the image, modules and device trees of an unpacked kernel to `vmlinuz`, `modules` and `device-trees`, and drops the
/// rest.
fn keep_kernel_files(directory: &Path, release: &str) -> Result<()> {
    // Among the modules from Linux 7 on; many a kernel has none.
    let trees = [format!("usr/lib/modules/{release}/dtb"), format!("usr/lib/linux-image-{release}")];
    if let Some(found) = trees.iter().map(|name| directory.join(name)).find(|path| path.is_dir()) {
        fs::rename(&found, directory.join("device-trees")).on("move", &found)?;
    }
    let modules = [format!("lib/modules/{release}"), format!("usr/lib/modules/{release}")];
    let images = [format!("boot/vmlinuz-{release}"), format!("usr/lib/modules/{release}/vmlinuz")];
    for (place, candidates) in [("vmlinuz", images), ("modules", modules)] {
        let found = candidates.iter().map(|name| directory.join(name)).find(|path| path.exists());
        let found = found.ok_or_else(|| {
            Error::missing(place, format!("not in the packages of kernel {release}"), "report it")
        })?;
        fs::rename(&found, directory.join(place)).on("move", &found)?;
    }
    for leftover in ["boot", "lib", "usr"] {
        match fs::remove_dir_all(directory.join(leftover)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).on("remove", directory.join(leftover));
            }
            _ => {}
        }
    }
    Ok(())
}

fn manifest<const N: usize>(packages: &[Package], facts: [(&str, String); N]) -> Manifest {
    Manifest {
        packages: packages.iter().map(|found| (found.name.clone(), found.version.clone())).collect(),
        facts: facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        ..Manifest::default()
    }
}
