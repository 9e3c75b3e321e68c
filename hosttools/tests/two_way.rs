//! A receiver that answers, and a target that hears it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rcapture::write;
use support::{CONSOLE_TEXT, Memory, Target, Trouble, options, receive};

const DEADLINE: Duration = Duration::from_secs(90);

const CLEAN: Trouble =
    Trouble { damage_every: None, bytes_per_second: 4_000_000, waits: true, text_at: None };

/// The command receiving from `socket` into `out`.
fn recv(socket: &Path, out: &Path, more: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_rcapture"))
        .args(["recv", "--wait", "30", "--unix"])
        .arg(socket)
        .arg("-o")
        .arg(out)
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait(mut child: Child) -> Output {
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > DEADLINE {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("rcapture did not end: {}", String::from_utf8_lossy(&output.stderr));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

fn assert_complete(child: Child) {
    let output = wait(child);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The only dump directory in `parent`, once it is there.
fn dump_directory(parent: &Path) -> PathBuf {
    let started = Instant::now();
    loop {
        let entries = std::fs::read_dir(parent).into_iter().flatten();
        let all: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        assert!(all.len() <= 1, "{all:?}");
        if let Some(only) = all.first() {
            return only.clone();
        }
        assert!(started.elapsed() < DEADLINE);
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn journal_bytes(directory: &Path) -> u64 {
    directory.join("journal").metadata().map_or(0, |journal| journal.len())
}

/// What the dump is on a line without trouble that nobody answers on.
fn expected() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let outcome = receive(&Memory::new().line(), &options(directory.path(), write::Options::default()));
    std::fs::read(outcome.unwrap().directory.join("vmcore")).unwrap()
}

fn assert_expected(out: &Path) {
    let vmcore = std::fs::read(dump_directory(out).join("vmcore")).unwrap();
    assert!(vmcore == expected(), "the vmcore depends on how it was received");
}

struct Place {
    _directory: tempfile::TempDir,
    socket: PathBuf,
    out: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            socket: directory.path().join("line"),
            out: directory.path().join("crash"),
            _directory: directory,
        }
    }
}

#[test]
fn a_sender_that_is_answered_learns_that_all_is_stored_and_the_line_is_silent_then() {
    let place = Place::new();
    let child = recv(&place.socket, &place.out, &[]);
    let target = Target::crash(Memory::new(), &place.socket, CLEAN);
    let (_, mut line) = target.finish();
    // Answers to its last frames may be under way.
    line.hear_for(Duration::from_millis(300));
    assert_eq!(line.hear_for(Duration::from_millis(1500)), b"");
    assert_complete(child);
    assert_expected(&place.out);
}

#[test]
fn what_a_bad_line_damages_is_sent_again() {
    let place = Place::new();
    let child = recv(&place.socket, &place.out, &[]);
    let trouble = Trouble { damage_every: Some(10_000), text_at: Some(300_000), ..CLEAN };
    let target = Target::crash(Memory::new(), &place.socket, trouble);
    assert_complete(child);
    target.finish();
    assert_expected(&place.out);
    let console = std::fs::read_to_string(dump_directory(&place.out).join("console.log")).unwrap();
    assert!(console.contains(CONSOLE_TEXT), "{console}");
}

#[test]
fn a_receiver_that_is_only_to_listen_takes_a_whole_dump_and_says_nothing() {
    let place = Place::new();
    let child = recv(&place.socket, &place.out, &["--listen-only"]);
    let target = Target::crash(Memory::new(), &place.socket, CLEAN);
    assert_complete(child);
    assert_expected(&place.out);
    let (_, mut line) = target.finish();
    assert_eq!(line.hear_for(Duration::from_millis(10)), b"");
    assert_eq!(line.heard, 0);
}

#[test]
fn a_receiver_that_starts_when_all_is_said_still_gets_it() {
    let place = Place::new();
    let target = Target::crash(Memory::new(), &place.socket, Trouble { waits: false, ..CLEAN });
    std::thread::sleep(Duration::from_millis(1500));
    assert_complete(recv(&place.socket, &place.out, &[]));
    target.finish();
    assert_expected(&place.out);
}

#[test]
fn a_receiver_that_is_killed_again_and_again_goes_on_where_it_was() {
    let place = Place::new();
    let trouble = Trouble { bytes_per_second: 400_000, ..CLEAN };
    let target = Target::crash(Memory::new(), &place.socket, trouble);
    for journal in [150_000, 400_000, 700_000] {
        let mut child = recv(&place.socket, &place.out, &[]);
        let started = Instant::now();
        while journal_bytes(&dump_directory(&place.out)) < journal {
            assert!(started.elapsed() < DEADLINE && !target.is_finished());
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let output = wait(recv(&place.socket, &place.out, &[]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("going on in "), "{said}");
    let (end, _) = target.finish();
    assert_eq!(end.first_block, 0, "nothing that is durable was made again");
    assert_expected(&place.out);
}

#[test]
fn a_second_receiver_of_the_same_dump_is_refused() {
    let place = Place::new();
    let other = place.out.with_file_name("other line");
    let trouble = Trouble { bytes_per_second: 200_000, ..CLEAN };
    let target = Target::crash(Memory::new(), &place.socket, trouble);
    let first = recv(&place.socket, &place.out, &[]);
    while journal_bytes(&dump_directory(&place.out)) < 50_000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let listener = UnixListener::bind(&other).unwrap();
    let second = recv(&other, &place.out, &[]);
    let (mut line, _) = listener.accept().unwrap();
    std::io::Write::write_all(&mut line, &Memory::new().line()[..20_000]).unwrap();
    let output = wait(second);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("in use by another receiver"), "{said}");
    assert_complete(first);
    target.finish();
    assert_expected(&place.out);
}

#[test]
fn a_receiver_that_finds_no_journal_has_the_dump_begin_anew() {
    let place = Place::new();
    let trouble = Trouble { bytes_per_second: 400_000, ..CLEAN };
    let target = Target::crash(Memory::new(), &place.socket, trouble);
    let mut child = recv(&place.socket, &place.out, &[]);
    while journal_bytes(&dump_directory(&place.out)) < 300_000 {
        assert!(!target.is_finished());
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_dir_all(&place.out).unwrap();
    assert_complete(recv(&place.socket, &place.out, &["--keep-journal"]));
    target.finish();
    assert_expected(&place.out);
    // What came before the sender went back is in the journal, and does not count twice.
    let journal = rcapture::dump::open(&dump_directory(&place.out).join("journal")).unwrap();
    assert!(journal.facts().is_complete);
}
