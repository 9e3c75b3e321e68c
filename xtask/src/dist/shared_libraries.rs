//! What a program needs of the system it is installed on, as packages of Debian: read off the program, so that it is the same on
//! whatever system it is packed. (dpkg-shlibdeps, which says the same, needs Debian.)

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use goblin::elf::Elf;
use goblin::elf::header::{EM_AARCH64, EM_ARM, EM_X86_64};

/// The version of a package, by its parts.
type Version = Vec<u32>;

/// Debian's name for the architecture of `program`.
///
/// # Errors
/// If it is no ELF file, or of an architecture that Debian's name is not known of.
pub(crate) fn architecture(program: &[u8]) -> Result<&'static str> {
    match Elf::parse(program)?.header.e_machine {
        EM_X86_64 => Ok("amd64"),
        EM_AARCH64 => Ok("arm64"),
        EM_ARM => Ok("armhf"),
        machine => bail!("no Debian package can be made for ELF machine {machine}"),
    }
}

/// The value of `Depends` for `programs`: the packages with their shared libraries, each of a version that has all symbols.
///
/// # Errors
/// If one is no ELF file, or needs a library whose package is not known.
pub(crate) fn depends(programs: &[&[u8]]) -> Result<String> {
    let mut packages = BTreeMap::new();
    for program in programs {
        add_packages(&Elf::parse(program)?, &mut packages)?;
    }
    let relation = |(package, version): (&&str, &Version)| {
        let version: Vec<String> = version.iter().map(u32::to_string).collect();
        if version.is_empty() {
            (*package).to_owned()
        } else {
            format!("{package} (>= {})", version.join("."))
        }
    };
    Ok(packages.iter().map(relation).collect::<Vec<_>>().join(", "))
}

fn add_packages(elf: &Elf<'_>, packages: &mut BTreeMap<&'static str, Version>) -> Result<()> {
    for library in &elf.libraries {
        packages.entry(package(library)?.0).or_default();
    }
    for needed in elf.verneed.iter().flat_map(|section| section.iter()) {
        let library = elf.dynstrtab.get_at(needed.vn_file).context("a library without a name")?;
        let (package, prefix) = package(library)?;
        for symbol in needed.iter() {
            let name = elf.dynstrtab.get_at(symbol.vna_name).context("a symbol's version without a name")?;
            // The ABI of relocations, as GLIBC_ABI_DT_RELR, is not numbered.
            let Some(version) = name.strip_prefix(prefix).and_then(parsed) else { continue };
            let known = packages.entry(package).or_default();
            *known = version.max(std::mem::take(known));
        }
    }
    Ok(())
}

/// Debian's package of a shared library, and what stands before the package's version in its symbols' versions.
fn package(library: &str) -> Result<(&'static str, &'static str)> {
    match library.split('.').next().unwrap_or_default() {
        "libc" | "libm" | "libdl" | "libpthread" | "librt" => Ok(("libc6", "GLIBC_")),
        name if name.starts_with("ld-linux") => Ok(("libc6", "GLIBC_")),
        "libgcc_s" => Ok(("libgcc-s1", "GCC_")),
        _ => bail!("a program needs {library}, and nobody has said which Debian package has it"),
    }
}

/// 4.2.0 is what Debian calls 4.2.
fn parsed(text: &str) -> Option<Version> {
    let mut parts: Version = text.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
    while parts.len() > 2 && parts.last() == Some(&0) {
        parts.pop();
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(parsed("2.34") > parsed("2.9"));
        assert_eq!(parsed("4.2.0"), Some(vec![4, 2]));
        assert_eq!(parsed("ABI_DT_RELR"), None);
    }

    #[test]
    fn a_library_of_an_unknown_package_is_refused() {
        let error = package("libssl.so.3").unwrap_err();
        assert!(error.to_string().contains("libssl.so.3"), "{error}");
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(depends(&[b"#!/bin/sh"]).is_err());
        assert!(architecture(b"").is_err());
    }

    #[test]
    fn a_program_depends_on_what_dpkg_shlibdeps_says() {
        let program = std::env::current_exe().unwrap();
        let ours = depends(&[&fs::read(&program).unwrap()]).unwrap();
        assert!(ours.contains("libc6 (>= 2."), "{ours}");
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("debian")).unwrap();
        fs::write(scratch.path().join("debian/control"), "Source: x\n\nPackage: x\nArchitecture: any\n")
            .unwrap();
        let shlibdeps =
            Command::new("dpkg-shlibdeps").args(["-O", "-e"]).arg(&program).current_dir(&scratch).output();
        let Ok(said) = shlibdeps else {
            println!("left out: there is no dpkg-shlibdeps");
            return;
        };
        let said = String::from_utf8(said.stdout).unwrap();
        let theirs = said.trim().strip_prefix("shlibs:Depends=").unwrap();
        let sorted = |list: &str| {
            let mut list: Vec<String> = list.split(", ").map(str::to_owned).collect();
            list.sort();
            list
        };
        assert_eq!(sorted(&ours), sorted(theirs));
    }
}
