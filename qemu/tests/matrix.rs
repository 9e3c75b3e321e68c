//! Matrices that are part of the project are read as such.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::fs;
use std::path::Path;

use rcapture_qemu::run::{Way, read_matrix};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn the_projects_matrix_has_scenarios_of_every_architecture_and_way_to_crash() {
    let scenarios = read_matrix(&project().join("tests/matrix.toml")).unwrap();
    for arch in rcapture_qemu::Arch::ALL {
        assert!(scenarios.iter().any(|scenario| scenario.arch == Some(arch)), "{}", arch.name());
    }
    for way in [Way::Sysrq, Way::Nullptr, Way::Bug, Way::PanicIrqoff, Way::Hung, Way::StackOverflow] {
        assert!(scenarios.iter().any(|scenario| scenario.crash == way), "{way:?}");
    }
}

#[test]
fn the_manuals_matrix_is_one() {
    let manual = fs::read_to_string(project().join("docs/ci.md")).unwrap();
    let (_, rest) = manual.split_once("```toml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("matrix.toml");
    fs::write(&path, text).unwrap();
    let scenarios = read_matrix(&path).unwrap();
    assert_eq!(scenarios.len(), 3);
    assert!(
        scenarios
            .iter()
            .all(|scenario| scenario.vmlinux.as_deref() == Some(&directory.path().join("build/vmlinux")))
    );
}
