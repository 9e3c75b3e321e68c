//! The licences of what others wrote and the programs contain.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use xshell::Shell;

use crate::cargo::cargo;

/// What files with a licence or a copyright are called.
const NAMES: [&str; 6] = ["license", "licence", "copying", "copyright", "notice", "unlicense"];
/// How far below a crate's directory they are looked for: a crate with another project's sources has them in a directory.
const DEPTH: usize = 2;

/// A list of the crates of others that `programs` (packages of this workspace) contain, and the texts of their licences.
///
/// # Errors
/// If cargo does not know them, or a text cannot be read.
pub(crate) fn of(root: &Path, programs: &[&str]) -> Result<String> {
    let shell = Shell::new()?;
    shell.change_dir(root);
    let rustc = xshell::cmd!(shell, "rustc --print host-tuple").quiet().read()?;
    let arguments = ["metadata", "--format-version", "1", "--locked", "--filter-platform", &rustc];
    let metadata = cargo(&shell, &arguments).quiet().ignore_stderr().read()?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("cargo metadata")?;
    let mut linked: Vec<&Package> =
        linked(&metadata, programs).into_iter().filter(|package| package.source.is_some()).collect();
    linked.sort_by_key(|package| (&package.name, &package.version));
    text(&linked)
}

fn text(packages: &[&Package]) -> Result<String> {
    let mut text = String::from(
        "The programs contain the standard library of Rust (MIT OR Apache-2.0; https://github.com/rust-lang/rust) and these \
         crates.\nBelow the list are the texts that their packages have.\n\n",
    );
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for Package { name, version, license, repository, manifest_path, .. } in packages {
        let license = license.as_deref().unwrap_or("see below");
        let repository = repository.as_deref().unwrap_or_default();
        writeln!(text, "{name} {version}: {license} {repository}")?;
        for path in licence_files(manifest_path.parent().unwrap_or(Path::new("")), DEPTH)? {
            let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let of_file = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            texts.entry(of_file).or_default().insert(format!("{name} {version}"));
        }
    }
    let mut texts: Vec<(String, BTreeSet<String>)> = texts.into_iter().collect();
    texts.sort_by(|(_, a), (_, b)| a.cmp(b));
    for (licence, of) in texts {
        let of: Vec<String> = of.into_iter().collect();
        write!(text, "\n{}\n{}:\n\n{licence}\n", "-".repeat(80), of.join(", "))?;
    }
    Ok(text)
}

/// The packages that end up in the programs: dependencies that are neither for building nor for testing, without what runs in
/// the compiler.
fn linked<'a>(metadata: &'a Metadata, programs: &[&str]) -> Vec<&'a Package> {
    let packages: HashMap<&str, &Package> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package)).collect();
    let nodes: HashMap<&str, &Node> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut found = BTreeSet::new();
    let of_ours = metadata.packages.iter().filter(|package| programs.contains(&package.name.as_str()));
    let mut open: Vec<&str> = of_ours.map(|package| package.id.as_str()).collect();
    while let Some(id) = open.pop() {
        let Some(package) = packages.get(id) else { continue };
        let runs_in_compiler =
            package.targets.iter().any(|target| target.kind.contains(&"proc-macro".into()));
        if runs_in_compiler || !found.insert(id) {
            continue;
        }
        let depends = nodes.get(id).into_iter().flat_map(|node| &node.deps);
        let normal = depends.filter(|dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none()));
        open.extend(normal.map(|dependency| dependency.pkg.as_str()));
    }
    found.into_iter().filter_map(|id| packages.get(id).copied()).collect()
}

fn licence_files(directory: &Path, depth: usize) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if entry.file_type()?.is_dir() {
            if depth > 1 {
                found.extend(licence_files(&entry.path(), depth - 1)?);
            }
        } else if NAMES.iter().any(|start| name.starts_with(start)) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// What of `cargo metadata` matters here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    repository: Option<String>,
    /// None: of this workspace.
    source: Option<String>,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// None: neither `dev` nor `build`.
    kind: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_listed_with_its_licence_and_what_only_builds_or_tests_is_not() {
        let text = of(&crate::workspace_root(), &["rcapture"]).unwrap();
        let (list, texts) = text.split_once(&"-".repeat(80)).unwrap();
        for name in ["clap ", "zstd-sys ", "libdeflate-sys "] {
            assert!(list.lines().any(|line| line.starts_with(name)), "{name}: {list}");
        }
        // A procedural macro, a test's crate, one of another program's, one of ours.
        for name in ["clap_derive ", "proptest ", "xshell ", "wire "] {
            assert!(!list.lines().any(|line| line.starts_with(name)), "{name}: {list}");
        }
        assert!(texts.contains("Permission is hereby granted, free of charge"));
        // C code in a directory of its crate.
        assert!(texts.contains("Eric Biggers"));
    }
}
