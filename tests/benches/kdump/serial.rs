//! Over a serial line. Its time is a virtual clock's: a dump that takes half an hour at 115200 baud is known to the byte without
//! waiting for it. What comes before the first byte is measured in the machine.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use capture::Budget;
use capture::compress::method_for;
use end_to_end::Spec;
use end_to_end::replay::Replay;
use memory::DumpLevel;
use rcapture_qemu::Arch;
use tempfile::NamedTempFile;
use wire::{Block, Event, MetaKind, Receiver, Record, Records};

use crate::course::{Course, Times, least_readable};
use crate::mount::{self, Stacks, stack_of_mounted, time_of_stack};
use crate::network::{head, rows};
use crate::plot::{self, Bars};
use crate::support::{FullDump, is_quick, publish};
use crate::{kdump_reservation, machine, ours, theirs};

const RATES: [u64; 2] = [115_200, 921_600];

/// Start, eight bits, stop.
const BITS_PER_BYTE: u64 = 10;

/// Bytes that LZMA takes in a second, on a small processor. Any from half a megabyte on makes the same choice.
const LZMA_SPEED: u64 = 4_000_000;

pub(crate) fn measure() {
    let archs: &[Arch] = if is_quick() { &[Arch::X86_64] } else { &Arch::ALL };
    let rates = if is_quick() { &RATES[..1] } else { &RATES };
    let mut table = head();
    let (mut bars, mut stacks) = (Vec::new(), Vec::new());
    for &arch in archs {
        let spec = machine(arch, 512);
        let us = ours::dump(&spec);
        let our_start = us.first_byte - us.panicked;
        let full = FullDump::of(spec.clone());
        let them = theirs::dump(&spec, kdump_reservation(arch), "-c");
        let them = them.map(|them| Theirs::of(&them, &spec));
        for &baud in rates {
            let us = ours_at(baud, &spec, &full);
            let us = (us.0 + our_start, us.1);
            let them = them.as_ref().map(|them| them.at(baud));
            let name = format!("{}, {baud} baud", arch.name());
            rows(&mut table, &name, us, them);
            if baud == RATES[0] {
                let debugger = time_of_stack(&spec, &full.path());
                stacks.push(Stacks {
                    name: name.clone(),
                    mounted: our_start + stack_of_mounted(&spec, baud),
                    whole: us.0.complete + debugger,
                    kdump: them.map(|(times, _)| times.complete + debugger),
                });
            }
            let minutes = |(times, _): (Times, u64)| times.complete.as_secs_f64() / 60.0;
            bars.push(Bars { name, ours: minutes(us), theirs: them.map(minutes) });
        }
    }
    publish("kdump.serial", &table);
    publish("kdump.mount", &mount::table(&stacks));
    plot::draw("kdump-serial", "From panic to the whole dump, over a serial line, 512 MiB", "minutes", &bars);
}

/// What kdump sends.
struct Theirs {
    start: Duration,
    log_bytes: u64,
    /// Of the dump, what a debugger needs.
    readable_bytes: u64,
    bytes: u64,
}

impl Theirs {
    fn of(course: &Course, spec: &Spec) -> Self {
        Self {
            start: course.first_byte - course.panicked,
            log_bytes: fs::metadata(course.directory.path().join("log")).unwrap().len(),
            readable_bytes: least_readable(spec, &course.file, course.bytes()),
            bytes: course.bytes(),
        }
    }

    /// Times since the panic, and bytes, at so many baud.
    fn at(&self, baud: u64) -> (Times, u64) {
        let bytes = self.log_bytes + self.bytes;
        let times = Times {
            first_byte: Duration::ZERO,
            log: on_line(self.log_bytes, baud),
            stack: on_line(self.log_bytes + self.readable_bytes, baud),
            complete: on_line(bytes, baud),
        };
        (times + self.start, bytes)
    }
}

/// How long bytes take.
fn on_line(bytes: u64, baud: u64) -> Duration {
    Duration::from_secs_f64((bytes * BITS_PER_BYTE) as f64 / baud as f64)
}

/// Times since the session's begin, and bytes, of what our capture kernel would send of `full`.
fn ours_at(baud: u64, spec: &Spec, full: &FullDump) -> (Times, u64) {
    let dump = rcapture::dump::open(&full.path()).unwrap();
    // What `rcapture.compress=auto` takes.
    let method = method_for(baud / BITS_PER_BYTE, LZMA_SPEED);
    let replay = Replay::of(&*dump).unwrap();
    let sent = replay.send(method.encoder(), DumpLevel::SMALLEST, Budget::default(), baud).unwrap();
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&sent.line).unwrap();
    let bytes = sent.line.len() as u64;
    let times = Times {
        first_byte: Duration::ZERO,
        log: on_line(bytes_of_log(&sent.line), baud),
        stack: on_line(least_readable(spec, file.path(), bytes), baud),
        complete: on_line(bytes, baud),
    };
    (times, bytes)
}

/// How much of a line has the whole log.
fn bytes_of_log(line: &[u8]) -> u64 {
    let is_whole = |bytes: usize| {
        let (mut come, mut whole) = (0, None);
        Receiver::new(1).push(&line[..bytes], |event| {
            let Event::Block { encoded, .. } = event else { return };
            let block = Block::decode(encoded).unwrap();
            for record in Records::new(&block.raw, 12) {
                if let Record::Meta { kind: MetaKind::Log, total, bytes, .. } = record.unwrap().record {
                    come += bytes.len();
                    whole = Some(total as usize);
                }
            }
        });
        whole == Some(come)
    };
    let sizes: Vec<usize> = (0..=line.len()).step_by(1024).collect();
    sizes[sizes.partition_point(|&bytes| !is_whole(bytes))] as u64
}
