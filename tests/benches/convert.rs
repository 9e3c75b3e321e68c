//! Filtering and compressing a dump, next to makedumpfile: `rcapture convert -d 31` and `makedumpfile -c -d 31`, on the same
//! processors, into memory. Needs the lab.
//!
//! `cargo build --release -p rcapture && cargo bench -p end-to-end --bench convert -- [FULL_DUMP]`
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use end_to_end::{KeptPages, Spec, rcapture};
use rcapture_qemu::{Lab, Makedumpfile};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use support::FullDump;

const LEVEL: u8 = 31;
const PAGE_BYTES: f64 = 4096.0;

/// Where written files cost no disk.
const MEMORY: &str = "/dev/shm";

/// Processors, and what makedumpfile is told of them.
const TRIALS: [(usize, &[&str]); 3] = [(1, &["-c"]), (2, &["-c"]), (2, &["-c", "--num-threads", "2"])];

fn main() {
    if !support::is_chosen("convert") {
        return;
    }
    match support::given_dumps().first() {
        Some(dump) => compare(dump),
        None => compare(&FullDump::of(Spec { has_every_class: true, ..Spec::default() }).path()),
    }
}

fn compare(dump: &Path) {
    let makedumpfile = Lab::open().unwrap().makedumpfile().unwrap();
    let release = rcapture::dump::open(dump).unwrap().facts().uts(2).to_owned();
    let all = sched_getaffinity(None).unwrap();
    let output = tempfile::tempdir_in(MEMORY).unwrap();
    let (ours, theirs) = (output.path().join("ours"), output.path().join("theirs"));
    let mut table = String::from(
        "| cores | `rcapture convert -d 31` | `makedumpfile -d 31` with | | our time / its |\n\
        | ---: | ---: | --- | ---: | ---: |\n",
    );
    let mut files = None;
    let runs = support::runs(5);
    for (cores, options) in TRIALS {
        run_on(cores, &all);
        let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            our_times.extend(time(&mut convert(dump, &ours), &ours));
            their_times.extend(time(&mut filter(&makedumpfile, dump, &theirs, options), &theirs));
        }
        let [our_time, their_time] = [&mut our_times, &mut their_times].map(|times| median(times));
        // Both keep the same pages: see the tests of dump levels.
        let kept_bytes = KeptPages::read(&ours).kept.count() as f64 * PAGE_BYTES;
        files.get_or_insert_with(|| [&ours, &theirs].map(|file| fs::metadata(file).unwrap().len()));
        let ratio =
            our_time.zip(their_time).map_or_else(String::new, |(us, them)| format!("{:.2}", us / them));
        writeln!(
            table,
            "| {cores} | {} | `{}` | {} | {ratio} |",
            speed(our_time, runs - our_times.len(), kept_bytes),
            options.join(" "),
            speed(their_time, runs - their_times.len(), kept_bytes),
        )
        .unwrap();
    }
    let [ours, theirs] = files.unwrap();
    let version = makedumpfile.version();
    writeln!(
        table,
        "\nLinux {release}, makedumpfile {version}. Files: ours {ours} bytes, its {theirs} bytes."
    )
    .unwrap();
    support::publish("convert", &table);
}

fn convert(dump: &Path, output: &Path) -> Command {
    let mut command = rcapture();
    command.args(["convert", "-d", &LEVEL.to_string()]).arg(dump).arg(output);
    command
}

fn filter(makedumpfile: &Makedumpfile, dump: &Path, output: &Path, options: &[&str]) -> Command {
    makedumpfile.command(dump, output, LEVEL, options).unwrap()
}

/// This program, and those it starts, run on so many of `all` processors.
fn run_on(cores: usize, all: &CpuSet) {
    let mut some = CpuSet::new();
    (0..CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu)).take(cores).for_each(|cpu| some.set(cpu));
    assert_eq!(some.count() as usize, cores, "there are not so many processors");
    sched_setaffinity(None, &some).unwrap();
}

/// How long it takes to write `output` anew; `None` if it fails.
fn time(command: &mut Command, output: &Path) -> Option<Duration> {
    // Only the first time there is nothing to remove.
    let _ = fs::remove_file(output);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status().unwrap();
    let time = start.elapsed();
    eprintln!("{time:?}: {status}: {}", output.display());
    status.success().then_some(time)
}

/// In seconds, if there are any.
fn median(times: &mut [Duration]) -> Option<f64> {
    times.sort_unstable();
    times.get(times.len() / 2).map(Duration::as_secs_f64)
}

/// A time, the speed that it is for `bytes`, and how many runs failed.
fn speed(seconds: Option<f64>, failed: usize, bytes: f64) -> String {
    let Some(seconds) = seconds else { return "failed".to_owned() };
    let failed = if failed > 0 { format!("; {failed} runs failed") } else { String::new() };
    format!("{seconds:.2} s, {:.0} MB/s{failed}", bytes / 1e6 / seconds)
}
