//! The corpus, replayed: every input that was ever worth keeping still does no harm.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rcapture_fuzz::TARGETS;
use rcapture_fuzz::seeds::seeds;

fn fuzz_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Names of what is in a folder of this crate, without extensions.
fn names_in(folder: &str) -> BTreeSet<String> {
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    fs::read_dir(fuzz_dir().join(folder)).unwrap().map(|entry| stem(entry.unwrap().path())).collect()
}

#[test]
fn every_input_is_read_without_harm() {
    for (name, target) in TARGETS {
        let mut inputs = 0;
        for entry in fs::read_dir(fuzz_dir().join("corpus").join(name)).unwrap() {
            let path = entry.unwrap().path();
            // A panic does not say which input it was.
            eprintln!("{}", path.display());
            target(&fs::read(path).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has no corpus");
    }
}

#[test]
fn targets_have_their_file_and_their_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names_in("fuzz_targets"), targets);
    assert_eq!(names_in("corpus"), targets);
}

#[test]
fn the_seeds_are_in_the_corpus() {
    for (target, name, bytes) in seeds() {
        let path = fuzz_dir().join("corpus").join(target).join(name);
        assert!(
            fs::read(&path).is_ok_and(|found| found == bytes),
            "{} is out of date: cargo run --no-default-features --example write_seeds",
            path.display()
        );
    }
}

#[test]
fn seeds_cut_short_are_read_without_harm() {
    for (target, _, bytes) in seeds() {
        let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
        for length in (0..bytes.len()).step_by(bytes.len() / 500 + 1) {
            run(&bytes[..length]);
        }
    }
}
