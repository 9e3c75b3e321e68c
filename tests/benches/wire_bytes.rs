//! What a machine costs on the line: bytes by pass and codec, and when each pass has come at 115200.
//!
//! `cargo bench -p end-to-end --bench wire_bytes -- FULL_DUMP…`; with `--record FILE --seconds N` what the line had carried
//! until then is written to a file that `rcapture convert` takes.
#![allow(missing_docs, reason = "a program")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use capture::Budget;
use codec::Method;
use end_to_end::replay::{Replay, Replayed};
use memory::DumpLevel;
use wire::{Block, Event, Pass, Receiver, Record, Records};

const BAUD: u64 = 115_200;

fn main() -> Result<()> {
    let mut dumps: Vec<PathBuf> = Vec::new();
    let (mut record, mut seconds) = (None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {}
            "--record" => record = arguments.next(),
            "--seconds" => seconds = arguments.next().and_then(|seconds| seconds.parse().ok()),
            path => dumps.push(path.into()),
        }
    }
    for path in dumps {
        let dump = rcapture::dump::open(&path)?;
        let replay = Replay::of(&*dump)?;
        for method in Method::ALL {
            let started = std::time::Instant::now();
            let replayed = replay.send(method.encoder(), DumpLevel::SMALLEST, Budget::default(), BAUD)?;
            println!(
                "{}: {method}: {} bytes, {:.1} s at {BAUD}, {:.1} s here",
                path.display(),
                replayed.line.len(),
                replayed.line.len() as f64 * 10.0 / BAUD as f64,
                started.elapsed().as_secs_f64()
            );
            by_pass(&replayed);
            if let Some(record) = &record {
                let until = seconds.map_or(Duration::MAX, Duration::from_secs);
                std::fs::write(record, replayed.until(until))?;
            }
        }
    }
    Ok(())
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
