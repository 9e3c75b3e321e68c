//! What a machine costs on the line: bytes by codec, next to the file of `makedumpfile -c -d 31`, and when each pass has come
//! at 115200. Needs the lab.
//!
//! `cargo bench -p end-to-end --bench wire_bytes -- [FULL_DUMP…]`; without a dump, machines are crashed. With
//! `--record=FILE --seconds=N` what the line had carried until then is written to a file that `rcapture convert` takes.
#![allow(clippy::unwrap_used, missing_docs, reason = "a program")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use capture::Budget;
use codec::Method;
use end_to_end::replay::{Replay, Replayed};
use end_to_end::{DUMP, SLOW_LINE, Spec};
use memory::DumpLevel;
use rcapture_qemu::{Arch, Lab, Suite};
use rustix::time::{ClockId, clock_gettime};
use support::FullDump;
use vmcore::headers::Machine;
use wire::{Block, Event, Pass, Receiver, Record, Records};

const BAUD: u64 = 115_200;

fn main() -> Result<()> {
    if !support::is_chosen("wire_bytes") {
        return Ok(());
    }
    let mut costs = Costs::default();
    let dumps = support::given_dumps();
    for dump in &dumps {
        costs.measure(dump)?;
    }
    if dumps.is_empty() {
        let specs = Suite::ALL.map(|suite| Spec { suite, ..Spec::default() });
        let quick = [Spec::default()];
        let specs =
            if support::is_quick() { quick.to_vec() } else { [&specs[..], &[Spec::aarch64()]].concat() };
        for spec in specs {
            costs.measure(&FullDump::of(Spec { has_every_class: true, ..spec }).path())?;
        }
    }
    costs.publish()
}

/// The value of the option `--NAME=VALUE`.
fn option(name: &str) -> Option<String> {
    std::env::args().find_map(|argument| {
        Some(argument.strip_prefix("--")?.strip_prefix(name)?.strip_prefix('=')?.to_owned())
    })
}

/// The table.
#[derive(Default)]
struct Costs {
    rows: String,
    /// Bytes on a slow line, as a share of makedumpfile's, by kernel.
    shares: Vec<f64>,
}

impl Costs {
    fn measure(&mut self, path: &Path) -> Result<()> {
        let dump = rcapture::dump::open(path)?;
        let filtered = tempfile::NamedTempFile::new()?;
        let makedumpfile = Lab::open()?.for_arch(arch_of(dump.facts().machine)?).makedumpfile()?;
        makedumpfile.filter(path, filtered.path(), DumpLevel::SMALLEST.number(), &["-c"], DUMP)?;
        let theirs = fs::metadata(filtered.path())?.len();
        let kernel = dump.facts().uts(2);
        writeln!(self.rows, "| {kernel} | `makedumpfile -c` | {theirs} | 1.00 | | |")?;
        let replay = Replay::of(&*dump)?;
        for method in Method::ALL {
            let started = cpu_time();
            let replayed = replay.send(method.encoder(), DumpLevel::SMALLEST, Budget::default(), BAUD)?;
            let cpu = (cpu_time() - started).as_secs_f64();
            let bytes = replayed.line.len();
            let share = bytes as f64 / theirs as f64;
            let seconds = bytes as f64 * 10.0 / BAUD as f64;
            writeln!(self.rows, "| | {method} | {bytes} | {share:.3} | {seconds:.0} s | {cpu:.1} s |")?;
            if method == SLOW_LINE {
                self.shares.push(share);
            }
            println!("{kernel}, {method}: {bytes} bytes, {seconds:.1} s at {BAUD}, {cpu:.1} s here");
            by_pass(&replayed);
            if let Some(record) = option("record") {
                let seconds = option("seconds").map(|seconds| seconds.parse()).transpose()?;
                fs::write(record, replayed.until(seconds.map_or(Duration::MAX, Duration::from_secs)))?;
            }
        }
        Ok(())
    }

    fn publish(&self) -> Result<()> {
        let logarithms: f64 = self.shares.iter().map(|share| share.ln()).sum();
        let mean = (logarithms / self.shares.len() as f64).exp();
        let table = format!(
            "| kernel | codec | bytes | of makedumpfile's | at {BAUD} baud | processor time here |\n\
            | --- | --- | ---: | ---: | ---: | ---: |\n{}\n\
            {SLOW_LINE}, geometric mean over the kernels: **{mean:.3}** of makedumpfile's. makedumpfile {}.\n",
            self.rows,
            Lab::open()?.makedumpfile()?.version()
        );
        support::publish("wire_bytes", &table);
        Ok(())
    }
}

/// The lab's machines of this kind.
fn arch_of(machine: Machine) -> Result<Arch> {
    let name = machine.name();
    Arch::ALL
        .into_iter()
        .find(|arch| name.starts_with(arch.name()))
        .with_context(|| format!("no lab for {name}"))
}

/// Processor time of this program so far.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap()
}

#[derive(Default)]
struct Sum {
    blocks: u64,
    pages: u64,
    fills: u64,
    raw_bytes: u64,
    bytes: u64,
}

/// A line for each pass.
fn by_pass(replayed: &Replayed) {
    let mut passes: BTreeMap<u8, Sum> = BTreeMap::new();
    let mut text = Vec::new();
    Receiver::new(1).push(&replayed.line, |event| match event {
        Event::Block { encoded, .. } => {
            if let Ok(block) = Block::decode(encoded) {
                let sum = passes.entry(block.header.start.pass).or_default();
                sum.blocks += 1;
                sum.bytes += encoded.len() as u64;
                sum.raw_bytes += block.raw.len() as u64;
                for record in Records::new(&block.raw, 12).flatten() {
                    match record.record {
                        Record::Page { .. } => sum.pages += 1,
                        Record::Fill { pages, .. } => sum.fills += u64::from(pages),
                        _ => {}
                    }
                }
            }
        }
        Event::Text(line) => text.extend_from_slice(line),
        _ => {}
    });
    let mut bytes = 0;
    for (pass, sum) in passes {
        bytes += sum.bytes;
        println!(
            "  {:20} {:5} blocks {:7} pages {:7} filled {:10} bytes raw {:9} compressed ({:.2}), {:7.1} s",
            Pass::from_number(pass).map_or("?", Pass::name),
            sum.blocks,
            sum.pages,
            sum.fills,
            sum.raw_bytes,
            sum.bytes,
            sum.raw_bytes as f64 / sum.bytes as f64,
            bytes as f64 * 10.0 / BAUD as f64,
        );
    }
    for line in String::from_utf8_lossy(&text).lines().filter(|line| !line.contains('%')) {
        println!("  {line}");
    }
}
