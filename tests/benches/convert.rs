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

use end_to_end::{KeptPages, rcapture};
use rcapture_qemu::{Lab, Makedumpfile, Suite};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use support::FullDump;

const RUNS: usize = 5;
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
        None => compare(&FullDump::of(Suite::Bookworm).path()),
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
    for (cores, options) in TRIALS {
        run_on(cores, &all);
        let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            our_times.extend(time(&mut convert(dump, &ours), &ours));
            their_times.extend(time(&mut filter(&makedumpfile, dump, &theirs, options), &theirs));
        }
        let [our_time, their_time] = [&mut our_times, &mut their_times].map(|times| median(times));
        let ratio = our_time.zip(their_time).map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64());
        writeln!(
            table,
            "| {cores} | {} | `{}` | {} | {} |",
            speed(our_time, our_times.len(), &ours),
            options.join(" "),
            speed(their_time, their_times.len(), &theirs),
            ratio.map_or_else(|| "–".into(), |ratio| format!("{ratio:.2}")),
        )
        .unwrap();
    }
    let bytes = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    writeln!(
        table,
        "\nLinux {release}, makedumpfile {}. Files: ours {} bytes, its {} bytes.",
        makedumpfile.version(),
        bytes(&ours),
        bytes(&theirs)
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

fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// A time, the speed that it is for the pages kept, and how many runs failed.
fn speed(time: Option<Duration>, runs: usize, output: &Path) -> String {
    let failed = if runs < RUNS { format!("{} of {RUNS} runs failed", RUNS - runs) } else { String::new() };
    let Some(time) = time else { return failed };
    let megabytes = KeptPages::read(output).kept.count() as f64 * PAGE_BYTES / 1e6;
    let separator = if failed.is_empty() { "" } else { "; " };
    format!("{:.2} s, {:.0} MB/s{separator}{failed}", time.as_secs_f64(), megabytes / time.as_secs_f64())
}
