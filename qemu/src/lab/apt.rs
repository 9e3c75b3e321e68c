//! A private apt: its own lists, cache and sources, so that any suite's packages can be had without root
//! and without touching the system.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::mirror::Mirror;
use super::suite::Suite;
use crate::arch::Arch;
use crate::outcome::{Error, IoContext, Result};
use crate::process::{self, end, last_words, spawn};

/// No list or package of the archive takes longer on a line that is worth using.
const DOWNLOAD_DEADLINE: Duration = Duration::from_secs(30 * 60);
const QUERY_DEADLINE: Duration = Duration::from_secs(60);

/// apt for one suite and architecture.
#[derive(Debug)]
pub(crate) struct Apt {
    directory: PathBuf,
    suite: Suite,
    arch: Arch,
    mirror: Mirror,
}

/// What the archive says about a package.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Bytes to download.
    pub(crate) size: u64,
    /// Names of the first alternatives of `Depends`, without versions.
    pub(crate) depends: Vec<String>,
}

impl Apt {
    /// Sets up apt for packages of `suite` for `arch` in `directory`, and fetches their list.
    pub(crate) fn update(directory: &Path, suite: Suite, arch: Arch, mirror: Mirror) -> Result<Self> {
        for needed in ["lists/partial", "archives/partial"] {
            let path = directory.join(needed);
            fs::create_dir_all(&path).on("create", &path)?;
        }
        let apt = Self { directory: directory.to_owned(), suite, arch, mirror };
        apt.write("status", "")?;
        apt.write("sources.list", &apt.sources())?;
        apt.write("apt.conf", &apt.configuration())?;
        eprintln!("lab: reading the package list of {suite} from {}", apt.mirror.url);
        let finished = process::run(
            apt.get().args(["-o", "APT::Update::Error-Mode=any", "update"]),
            DOWNLOAD_DEADLINE,
            || eprintln!("lab: still reading the package list of {suite}"),
        )?;
        if finished.status.success() {
            return Ok(apt);
        }
        let reason = finished
            .stderr
            .lines()
            .find(|line| line.starts_with("E:"))
            .map(str::to_owned)
            .or_else(|| last_words(&finished.stderr))
            .unwrap_or_default();
        Err(Error::missing(
            format!("Debian's suite {suite} on {}", apt.mirror.url),
            reason,
            "check the network, or name another mirror with --mirror URL",
        ))
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.directory.join(name);
        fs::write(&path, text).on("write", &path)
    }

    fn sources(&self) -> String {
        let options = self.mirror.signed_by.as_ref().map(|keys| format!("[signed-by={}] ", keys.display()));
        format!("deb {}{} {} main\n", options.unwrap_or_default(), self.mirror.url, self.suite)
    }

    /// Read after the system's own configuration, which may name a proxy.
    fn configuration(&self) -> String {
        let (here, arch) = (self.directory.display(), self.arch.debian());
        format!(
            r#"Dir::State "{here}";
Dir::State::lists "{here}/lists";
Dir::State::status "{here}/status";
Dir::Cache "{here}";
Dir::Cache::archives "{here}/archives";
Dir::Etc::sourcelist "{here}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
#clear APT::Architectures;
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::http::Timeout "30";
Acquire::Retries "2";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
"#
        )
    }

    fn get(&self) -> Command {
        self.command("apt-get")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.directory.join("apt.conf"));
        command.env("LC_ALL", "C").current_dir(self.directory.join("archives"));
        command
    }

    /// What the suite says about `name`, if it has it.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Package>> {
        let mut command = self.command("apt-cache");
        command.args(["show", "--no-all-versions", name]);
        let finished = process::run(&mut command, QUERY_DEADLINE, || {})?;
        Ok(finished.status.success().then(|| parse_package(&finished.stdout)).flatten())
    }

    /// As [`find`](Self::find); a package that is not there is a missing tool.
    pub(crate) fn package(&self, name: &str) -> Result<Package> {
        self.find(name)?.ok_or_else(|| {
            Error::missing(
                format!("package {name}"),
                format!("not in {} on {}", self.suite, self.mirror.url),
                "the archive may have moved on: `rcapture-qemu fetch --refresh`, or name another --mirror URL",
            )
        })
    }

    /// Downloads exactly these packages, and returns their files.
    pub(crate) fn download(&self, packages: &[Package]) -> Result<Vec<PathBuf>> {
        let names = packages.iter().map(|package| format!("{}={}", package.name, package.version));
        let size: u64 = packages.iter().map(|package| package.size).sum();
        let first = packages.first().map_or("", |package| &package.name);
        eprintln!("lab: downloading {first} ({} MB)", size / 1_000_000);
        let mut command = self.get();
        command.arg("download").args(names);
        self.fetch(&mut command, first)
    }

    /// Downloads packages with everything they depend on, and returns their files.
    pub(crate) fn download_with_dependencies(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        eprintln!("lab: downloading {} and what it depends on", names.join(", "));
        let mut command = self.get();
        command.args(["install", "--yes", "--no-install-recommends", "--download-only"]);
        command.args(["-o", "Debug::NoLocking=1"]).args(names);
        self.fetch(&mut command, &names.join(", "))
    }

    fn fetch(&self, command: &mut Command, what: &str) -> Result<Vec<PathBuf>> {
        let archives = self.directory.join("archives");
        let finished = process::run(command, DOWNLOAD_DEADLINE, || {
            eprintln!("lab: {what}: {} MB so far", bytes_under(&archives) / 1_000_000);
        })?;
        finished.success("apt-get").map_err(|error| {
            Error::missing(
                format!("package {what} of {}", self.suite),
                error.to_string(),
                "check the network, or name another mirror with --mirror URL",
            )
        })?;
        let mut files: Vec<PathBuf> = fs::read_dir(&archives)
            .on("list", &archives)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect();
        files.sort();
        Ok(files)
    }
}

/// Unpacks the members of a package that match `pattern` (all: `None`) under `root`.
pub(crate) fn unpack(package: &Path, root: &Path, pattern: Option<&str>) -> Result<()> {
    let mut dpkg = spawn(Command::new("dpkg-deb").arg("--fsys-tarfile").arg(package).stdout(Stdio::piped()))?;
    let Some(stream) = dpkg.stdout.take() else {
        end(&mut dpkg);
        return Err(Error::malformed(package, "dpkg-deb gave no stream"));
    };
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--no-same-owner", "--directory"]).arg(root);
    if let Some(pattern) = pattern {
        tar.args(["--wildcards", "--", pattern]);
    }
    let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let unpacked = process::run_with_input(&mut tar, stream.into(), DOWNLOAD_DEADLINE, || {
        eprintln!("lab: still unpacking {name}");
    });
    // After tar's end dpkg-deb has ended too, or has nobody left to write to.
    end(&mut dpkg);
    unpacked?.success("tar").map(drop)
}

fn bytes_under(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let metadata = entry.metadata().ok()?;
            Some(if metadata.is_dir() { bytes_under(&entry.path()) } else { metadata.len() })
        })
        .sum()
}

/// The first stanza of `apt-cache show`.
fn parse_package(text: &str) -> Option<Package> {
    let fields: BTreeMap<&str, &str> = text
        .lines()
        .take_while(|line| !line.trim().is_empty())
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_once(": "))
        .collect();
    let depends = fields.get("Depends").copied().unwrap_or_default();
    Some(Package {
        name: (*fields.get("Package")?).to_owned(),
        version: (*fields.get("Version")?).to_owned(),
        size: fields.get("Size").and_then(|size| size.parse().ok()).unwrap_or(0),
        depends: depends
            .split(',')
            .filter_map(|alternatives| alternatives.split_whitespace().next())
            .map(str::to_owned)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_package_names_the_kernel_it_stands_for() {
        let text = "Package: linux-image-cloud-amd64\nVersion: 7.2.13-1\nSize: 1500\n\
                    Depends: linux-base-cloud-amd64 (= 7.2.13-1), linux-image-7.2.13+deb14-cloud-amd64 (= 7.2.13-1)\n\
                    Description: Linux\n more of it: here\n\nPackage: another\nVersion: 1\n";
        let package = parse_package(text).unwrap();
        assert_eq!(package.version, "7.2.13-1");
        assert_eq!(package.size, 1500);
        assert_eq!(package.depends, ["linux-base-cloud-amd64", "linux-image-7.2.13+deb14-cloud-amd64"]);
    }
}
