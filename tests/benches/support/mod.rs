//! What the programs have in common whose tables are in docs/benchmarks.md.
#![allow(dead_code, unreachable_pub, reason = "not every program needs all of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "benchmarks")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use end_to_end::{BOOT, DUMP, Spec, write_full};
use rcapture_qemu::Line;
use tempfile::TempDir;

/// Whether a program was asked for by a part of its name, which is criterion's way to choose, or everything was.
pub fn is_chosen(name: &str) -> bool {
    let is_filter = |argument: &String| !argument.starts_with('-') && !Path::new(argument).is_file();
    std::env::args().skip(1).find(is_filter).is_none_or(|filter| name.contains(&filter))
}

/// Whether an answer within minutes is wanted (`cargo xtask bench --quick`): fewer runs, smaller machines.
pub fn is_quick() -> bool {
    std::env::var_os("RCAPTURE_BENCH_QUICK").is_some()
}

/// How often a thing is measured: so many times, or once for a quick answer.
pub fn runs(usually: usize) -> usize {
    if is_quick() { 1 } else { usually }
}

/// Full dumps that were named, instead of machines to crash.
pub fn given_dumps() -> Vec<PathBuf> {
    std::env::args().skip(1).map(PathBuf::from).filter(|path| path.is_file()).collect()
}

/// Prints a table between the marks by which `cargo xtask bench` finds it, and its place in docs/benchmarks.md.
pub fn publish(name: &str, table: &str) {
    println!("<!-- begin {name} -->\n{table}<!-- end {name} -->");
}

/// The panic's first line.
pub const PANIC: &str = "Kernel panic - not syncing";

/// When each byte came over a line.
pub struct Timeline {
    said: Vec<u8>,
    /// How much had come at which moment.
    moments: Vec<(usize, Instant)>,
}

impl Timeline {
    /// Looks at the line until `text` comes.
    pub fn until(line: &Line, text: &str) -> Self {
        let start = Instant::now();
        let mut timeline = Self { said: Vec::new(), moments: Vec::new() };
        while timeline.find(text).is_none() {
            assert!(start.elapsed() < BOOT, "it does not come: {text}");
            std::thread::sleep(Duration::from_micros(500));
            timeline.said = fs::read(line.record()).unwrap();
            timeline.moments.push((timeline.said.len(), Instant::now()));
        }
        timeline
    }

    /// When `text` had come.
    pub fn when(&self, text: &str) -> Instant {
        self.at(self.find(text).unwrap() + text.len())
    }

    /// When the last line in front of `text` had come.
    pub fn before(&self, text: &str) -> Instant {
        let before = &self.said[..self.find(text).unwrap()];
        let is_text = |byte: &u8| byte.is_ascii_graphic();
        self.at(before.iter().rposition(is_text).unwrap() + 1)
    }

    fn at(&self, bytes: usize) -> Instant {
        self.moments.iter().find(|(come, _)| *come >= bytes).unwrap().1
    }

    fn find(&self, text: &str) -> Option<usize> {
        self.said.windows(text.len()).position(|window| window == text.as_bytes())
    }
}

/// All of the memory of a machine that crashed, as a file.
pub struct FullDump(TempDir);

impl FullDump {
    /// Crashes the machine that `spec` says.
    pub fn of(spec: Spec) -> Self {
        let spec = Spec { dump_level: 31, ..spec };
        let mut crashed = spec.crash();
        let received = crashed.receive(&[], DUMP);
        let full = Self(tempfile::Builder::new().prefix("rcapture-bench-").tempdir().unwrap());
        write_full(&received.vmcore(), &crashed.truth, &full.path());
        full
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("vmcore")
    }
}
