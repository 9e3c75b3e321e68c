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

/// When `text` came over the line.
pub fn wait_for(line: &Line, text: &str) -> Instant {
    let start = Instant::now();
    loop {
        let said = fs::read(line.record()).unwrap();
        if said.windows(text.len()).any(|window| window == text.as_bytes()) {
            return Instant::now();
        }
        assert!(start.elapsed() < BOOT, "it does not come: {text}");
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// The median, the least and the most of some times, as cells of a table in seconds.
pub fn seconds(mut times: Vec<Duration>) -> (Duration, String) {
    times.sort_unstable();
    let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    let cell =
        format!("{:.1} s ({:.1}–{:.1})", median.as_secs_f64(), least.as_secs_f64(), most.as_secs_f64());
    (median, cell)
}

/// All of the memory of a machine that crashed, as a file.
pub struct FullDump(TempDir);

impl FullDump {
    /// Crashes the machine that `spec` says, with pages of every class.
    pub fn of(spec: Spec) -> Self {
        let spec = Spec { dump_level: 31, has_every_class: true, ..spec };
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
