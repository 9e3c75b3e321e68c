//! What a person has of a dump while most of it is still to come, at 115200: a machine of 1 GiB that crashed in QEMU, sent
//! again over a line with a virtual clock.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "tests")]

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use capture::Budget;
use end_to_end::replay::{Replay, Replayed};
use end_to_end::{CRASH, DUMP, SLOW_LINE, Spec, info, is_full, rcapture, write_full};
use memory::{DumpLevel, PhysAddr, PhysMemory};
use rcapture::dump::{self, Dump, DumpMemory, PageState};
use rcapture_qemu::Lab;
use rcapture_qemu::crash::normalised_log;
use tempfile::TempDir;
use wire::{Block, Event, MetaKind, Pass, Receiver, Record, Records};

const BAUD: u64 = 115_200;

/// A crashed machine, and what its capture kernel would send of it at dump level 31.
struct Sent {
    spec: Spec,
    /// All of its memory. Has no name any more: it goes with this process.
    full: File,
    dmesg: Vec<u8>,
    replayed: Replayed,
}

impl Sent {
    fn full(&self) -> Box<dyn Dump> {
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.full.as_raw_fd());
        dump::open(Path::new(&path)).unwrap()
    }
}

static SENT: LazyLock<Sent> = LazyLock::new(|| {
    let spec = Spec { memory_mib: 1024, dump_level: 31, ..Spec::default() };
    let mut crashed = spec.crash();
    let received = crashed.receive(&[], DUMP);
    let path = crashed.path("full");
    write_full(&received.vmcore(), &crashed.truth, &path);
    let full = File::open(&path).unwrap();
    let dmesg = fs::read(received.directory.join("vmcore-dmesg.txt")).unwrap();
    let dump = dump::open(&path).unwrap();
    let replay = Replay::of(&*dump).unwrap();
    let replayed = replay.send(SLOW_LINE.encoder(), DumpLevel::SMALLEST, Budget::default(), BAUD);
    Sent { spec, full, dmesg, replayed: replayed.unwrap() }
});

/// The blocks that had come by a time, as their pass and their records' bytes.
fn blocks_until(time: Duration) -> Vec<(Option<Pass>, Vec<u8>)> {
    let mut blocks = Vec::new();
    Receiver::new(1).push(SENT.replayed.until(time), |event| {
        if let Event::Block { encoded, .. } = event {
            let block = Block::decode(encoded).unwrap();
            blocks.push((Pass::from_number(block.header.start.pass), block.raw));
        }
    });
    blocks
}

/// A vmcore of what the line had carried when it was cut after so many bytes.
fn cut(bytes: usize, directory: &TempDir) -> PathBuf {
    let (recording, vmcore) = (directory.path().join("line.raw"), directory.path().join("vmcore"));
    fs::write(&recording, &SENT.replayed.line[..bytes]).unwrap();
    let output = rcapture().arg("convert").arg(&recording).arg("-o").arg(&vmcore).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    vmcore
}

/// Every page that `vmcore` has is what was in the crashed machine. Returns how many these are.
fn every_page_is_right(vmcore: &Path) -> usize {
    let (part, full) = (dump::open(vmcore).unwrap(), SENT.full());
    let (part_memory, full_memory) = (DumpMemory::new(&*part), DumpMemory::new(&*full));
    let (mut ours, mut theirs) = ([0; 4096], [0; 4096]);
    let mut present = 0;
    for run in dump::runs(&*part).unwrap() {
        if !matches!(run.state, PageState::Data | PageState::Filled(_)) {
            continue;
        }
        for pfn in run.first..run.first + run.pages {
            // The first range of RAM ends inside a page.
            let bytes = if part_memory.read(PhysAddr(pfn << 12), &mut ours).is_ok() { 4096 } else { 1024 };
            part_memory.read(PhysAddr(pfn << 12), &mut ours[..bytes]).unwrap();
            full_memory.read(PhysAddr(pfn << 12), &mut theirs[..bytes]).unwrap();
            assert!(ours[..bytes] == theirs[..bytes], "page {pfn:#x} differs");
            present += 1;
        }
    }
    present
}

/// What crash(8) says to `commands` of a dump that was cut.
fn crash_on(vmcore: &Path, commands: &[&str]) -> Vec<String> {
    let crash = Lab::open().unwrap().crash().unwrap();
    crash.run_on_part(&SENT.spec.vmlinux(), vmcore, commands, CRASH).unwrap()
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn the_kernel_log_is_there_within_three_seconds() {
    let mut log = Vec::new();
    let mut whole = 0;
    for (_, raw) in blocks_until(Duration::from_secs(3)) {
        for record in Records::new(&raw, 12) {
            if let Record::Meta { kind: MetaKind::Log, total, bytes, .. } = record.unwrap().record {
                log.extend_from_slice(bytes);
                whole = total as usize;
            }
        }
    }
    assert_eq!((log.len(), log.is_empty()), (whole, false));
    assert_eq!(normalised_log(&log), normalised_log(&SENT.dmesg));
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn the_stack_of_the_crash_is_there_within_fifteen_seconds() {
    let passes: Vec<_> = blocks_until(Duration::from_secs(15)).into_iter().map(|(pass, _)| pass).collect();
    let behind_stacks = passes.iter().position(|pass| *pass == Some(Pass::Count)).unwrap();
    assert!(passes[..behind_stacks].contains(&Some(Pass::CpuStacks)), "{passes:?}");
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn crash_shows_the_backtrace_the_tasks_and_the_log_of_what_came_in_two_minutes() {
    let came = SENT.replayed.until(Duration::from_secs(120)).len();
    println!("{came} of {} bytes", SENT.replayed.line.len());
    let directory = TempDir::new().unwrap();
    let vmcore = cut(came, &directory);
    println!("{} pages, all of them right", every_page_is_right(&vmcore));
    let said = crash_on(&vmcore, &["sys", "bt", "ps", "log"]);
    assert!(said[0].contains("PANIC: \"Kernel panic - not syncing: sysrq triggered crash\""), "{}", said[0]);
    assert!(said[1].contains("sysrq_handle_crash"), "{}", said[1]);
    assert!(said[2].contains("[kthreadd]") && said[2].lines().count() > 40, "{}", said[2]);
    assert_eq!(without_times(said[3].as_bytes()), without_times(&SENT.dmesg));
}

/// crash prints the time of a record of several lines only once.
fn without_times(log: &[u8]) -> Vec<String> {
    let text = |line: String| match line.split_once("] ") {
        Some((time, text)) if time.starts_with('[') => text.trim_start().to_owned(),
        _ => line,
    };
    normalised_log(log).into_iter().map(text).collect()
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_dump_cut_anywhere_behind_the_tasks_opens_in_crash_and_no_page_of_it_is_wrong() {
    let start = SENT.replayed.until(Duration::from_secs(120)).len();
    let rest = SENT.replayed.line.len() - start;
    let cuts = if is_full() { 10 } else { 2 };
    let mut before = 0;
    for number in 0..cuts {
        // Somewhere in each part: a fixed sequence, so that a failure can be looked at again.
        let at = start + rest * number / cuts + (number * 7_919) % (rest / cuts);
        let directory = TempDir::new().unwrap();
        let vmcore = cut(at, &directory);
        let pages = every_page_is_right(&vmcore);
        assert!(pages > before, "{pages} pages of {at} bytes");
        before = pages;
        let said = crash_on(&vmcore, &["bt"]);
        assert!(said[0].contains("sysrq_handle_crash"), "cut at {at}: {}", said[0]);
    }
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn what_was_cut_before_the_kernels_data_still_has_the_log() {
    let directory = TempDir::new().unwrap();
    let vmcore = cut(SENT.replayed.until(Duration::from_secs(3)).len(), &directory);
    every_page_is_right(&vmcore);
    let info = info(&vmcore);
    assert!(info.lines().any(|line| line.starts_with("complete") && line.ends_with("no")), "{info}");
    let log = rcapture().arg("log").arg(directory.path().join("line.raw")).output().unwrap();
    assert_eq!(
        normalised_log(&log.stdout),
        normalised_log(&SENT.dmesg),
        "{}",
        String::from_utf8_lossy(&log.stderr)
    );
}
