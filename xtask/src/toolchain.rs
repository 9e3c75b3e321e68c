//! Which compiler builds for a bare machine, and how.
//!
//! The default toolchain does if it has the target's `core`. Otherwise the system's (Debian's rustc with its library
//! source) builds `core` and `alloc` once, into a sysroot of its own that an ordinary build then uses. Neither needs a
//! nightly compiler.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use xshell::{Cmd, Shell, cmd};

const SYSTEM_RUSTC: &str = "/usr/bin/rustc";
const SYSTEM_CARGO: &str = "/usr/bin/cargo";
/// What makes the system's compiler able to build its own libraries, and the Debian packages it is in.
const SYSTEM_COMPILER: [(&str, &str); 3] = [
    (SYSTEM_RUSTC, "rustc-web"),
    (SYSTEM_CARGO, "cargo-web"),
    ("/usr/lib/rustlib/src/rust/library/core/Cargo.toml", "rust-web-src"),
];
/// The oldest compiler that takes our code.
const RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");
/// In a sysroot of ours: runs the system's rustc with it.
const WRAPPER: &str = "rustc";
/// The empty crate for which cargo builds the libraries.
const CORE_MANIFEST: &str = r#"
[package]
name = "sysroot"
version = "0.0.0"
edition = "2024"

[workspace]

[profile.release]
opt-level = "s"
panic = "abort"
"#;
/// The image is linked with LTO, for which the libraries must hold bitcode.
const CORE_RUSTFLAGS: &str = "-Cembed-bitcode=yes";

/// A compiler that can build for the target.
pub(crate) struct Toolchain {
    /// The cargo to run.
    pub(crate) cargo: OsString,
    /// What RUSTC must be set to.
    pub(crate) rustc: OsString,
    /// The linker, where the compiler has none of its own.
    pub(crate) linker: Option<PathBuf>,
    /// Differs where cargo cannot see for itself that what one compiler built is of no use to another.
    pub(crate) id: OsString,
}

/// Takes away what the cargo that runs us has set, and what the user set for other builds: the nested build stands on
/// its own. rustup's shims set some of it too.
pub(crate) fn without_cargo(command: Cmd<'_>) -> Cmd<'_> {
    let kept = ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_TERM_COLOR", "CARGO_BUILD_JOBS"];
    std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| {
            let others =
                ["LD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "RUSTUP_TOOLCHAIN", "__CARGO_FIX_YOLO"];
            let is_ours = name == "CARGO" || name.starts_with("CARGO_") || name.starts_with("RUSTC");
            (is_ours || name.starts_with("RUSTFLAGS") || others.contains(&name.as_str()))
                && !kept.contains(&name.as_str())
        })
        .fold(command, |command, name| command.env_remove(name))
}

/// The Debian packages without which nothing here can build for `triple`; none if something can.
pub(crate) fn missing_packages(shell: &Shell, triple: &str) -> Vec<&'static str> {
    if has_core(shell, "rustc", triple) {
        return Vec::new();
    }
    let is_too_old = system_release(shell).is_some_and(|release| is_older(&release, RUST_VERSION));
    let mut missing: Vec<_> = SYSTEM_COMPILER
        .iter()
        .filter(|(file, _)| is_too_old || !Path::new(file).exists())
        .map(|(_, package)| *package)
        .collect();
    if find_linker(shell).is_none() {
        missing.push("lld");
    }
    missing
}

/// The version of the system's compiler, if it is there.
fn system_release(shell: &Shell) -> Option<String> {
    let version = without_cargo(cmd!(shell, "{SYSTEM_RUSTC} -vV")).quiet().ignore_stderr().read().ok()?;
    release_in(&version).map(str::to_owned)
}

/// The version in what `rustc -vV` says.
fn release_in(version: &str) -> Option<&str> {
    version.lines().find_map(|line| line.strip_prefix("release: "))
}

/// Whether `release`, such as 1.85.0, comes before `wanted`, such as 1.95.
fn is_older(release: &str, wanted: &str) -> bool {
    let numbers = |version: &str| -> Vec<u32> {
        version.split(['.', '-']).map_while(|number| number.parse().ok()).collect()
    };
    numbers(release) < numbers(wanted)
}

impl Toolchain {
    /// Finds or makes one for `triple`.
    pub(crate) fn find(shell: &Shell, root: &Path, triple: &str) -> Result<Self> {
        if has_core(shell, "rustc", triple) {
            return Ok(Self {
                cargo: "cargo".into(),
                rustc: "rustc".into(),
                linker: None,
                id: "default".into(),
            });
        }
        let missing = missing_packages(shell, triple);
        ensure!(
            missing.is_empty(),
            "no compiler here can build for {triple}: `rustup target add {triple}`, or on Debian `apt-get update && apt-get install {}`",
            missing.join(" ")
        );
        let linker = find_linker(shell).context("the linker has just gone")?;
        if has_core(shell, SYSTEM_RUSTC, triple) {
            let rustc = SYSTEM_RUSTC.into();
            return Ok(Self { cargo: SYSTEM_CARGO.into(), rustc, linker: Some(linker), id: "system".into() });
        }
        let sysroot = sysroot(shell, root, triple, &linker)?;
        let rustc = sysroot.join(WRAPPER).into();
        let id = sysroot.file_name().context("a sysroot without a name")?.to_owned();
        Ok(Self { cargo: SYSTEM_CARGO.into(), rustc, linker: Some(linker), id })
    }
}

fn has_core(shell: &Shell, rustc: &str, triple: &str) -> bool {
    let query = cmd!(shell, "{rustc} --print target-libdir --target {triple}");
    let Ok(directory) = without_cargo(query).quiet().ignore_stderr().read() else { return false };
    has_library(Path::new(&directory), "core")
}

fn has_library(directory: &Path, name: &str) -> bool {
    libraries(directory).is_ok_and(|paths| {
        paths
            .iter()
            .filter_map(|path| path.file_name()?.to_str())
            .any(|file| file.starts_with(&format!("lib{name}-")))
    })
}

fn libraries(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rlib") {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// LLD of the system, or the one rustup's toolchain brings.
fn find_linker(shell: &Shell) -> Option<PathBuf> {
    let rustup = without_cargo(cmd!(shell, "rustc --print sysroot")).quiet().ignore_stderr().read().ok();
    let bundled = rustup
        .map(|sysroot| Path::new(&sysroot).join("lib/rustlib/x86_64-unknown-linux-gnu/bin/gcc-ld/ld.lld"));
    [Some(PathBuf::from("/usr/bin/ld.lld")), bundled].into_iter().flatten().find(|path| path.exists())
}

/// A directory with a rustc that knows the target's `core` and `alloc`; they are built the first time.
fn sysroot(shell: &Shell, root: &Path, triple: &str, linker: &Path) -> Result<PathBuf> {
    let version = without_cargo(cmd!(shell, "{SYSTEM_RUSTC} -vV")).quiet().read()?;
    let release = release_in(&version).unwrap_or("unknown");
    let host =
        version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    // What the sysroot depends on: compiler, and this recipe.
    let mut hasher = DefaultHasher::new();
    (&version, CORE_MANIFEST, CORE_RUSTFLAGS).hash(&mut hasher);
    let sysroot = root.join(format!("target/sysroot/{release}-{:016x}", hasher.finish()));
    let wrapper = sysroot.join(WRAPPER);
    let libdir = sysroot.join("lib/rustlib").join(triple).join("lib");
    if wrapper.exists()
        && ["core", "alloc", "compiler_builtins"].iter().all(|name| has_library(&libdir, name))
    {
        return Ok(sysroot);
    }
    eprintln!("building core and alloc for {triple} with rustc {release}, once");
    build_core(shell, &sysroot, triple, linker)?;
    let built = sysroot.join("build/target").join(triple).join("release/deps");
    fs::create_dir_all(&libdir)?;
    for library in libraries(&built)? {
        let name = library.file_name().context("a library without a name")?;
        // The stand-in crate of `build_core` is no part of the sysroot.
        if !name.to_string_lossy().starts_with("libsysroot") {
            fs::copy(&library, libdir.join(name))?;
        }
    }
    ensure!(
        has_library(&libdir, "core"),
        "{SYSTEM_CARGO} built no core for {triple}: see {}",
        built.display()
    );

    // Build scripts and procedural macros run on the host, whose libraries are the system's.
    let host_libraries = sysroot.join("lib/rustlib").join(host);
    if !host_libraries.exists() {
        symlink(Path::new("/usr/lib/rustlib").join(host), &host_libraries)?;
    }
    fs::write(
        &wrapper,
        format!("#!/bin/sh\nexec {SYSTEM_RUSTC} --sysroot '{}' \"$@\"\n", sysroot.display()),
    )?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    Ok(sysroot)
}

/// Lets cargo build the libraries for an empty crate. Building the standard library is not stable: only this step asks
/// the compiler for it.
fn build_core(shell: &Shell, sysroot: &Path, triple: &str, linker: &Path) -> Result<()> {
    let project = sysroot.join("build");
    shell.write_file(project.join("Cargo.toml"), CORE_MANIFEST)?;
    shell.write_file(project.join("src/lib.rs"), "#![no_std]\n")?;
    let _directory = shell.push_dir(&project);
    let target_dir = project.join("target");
    let build = cmd!(
        shell,
        "{SYSTEM_CARGO} build --quiet --release --target {triple} --target-dir {target_dir} -Zbuild-std=core,alloc,compiler_builtins"
    );
    without_cargo(build)
        .env("RUSTC", SYSTEM_RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", CORE_RUSTFLAGS)
        .env(format!("CARGO_TARGET_{}_LINKER", triple.to_uppercase().replace('-', "_")), linker)
        .quiet()
        .run()
        .with_context(|| format!("building core and alloc for {triple}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_is_too_old_by_its_numbers_not_its_letters() {
        assert!(is_older("1.85.0", "1.95"));
        assert!(is_older("1.9.0", "1.85"));
        assert!(!is_older("1.95.0", "1.95"));
        assert!(!is_older("1.96.0-nightly", "1.95"));
        assert!(!is_older("1.100.0", "1.95"));
    }
}
