//! A finished dump as a directory.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use rcapture::write::{Compression, Format, Options};
use rustix::process::Signal;
use support::mounted::{Mounted, NOBODY, can_mount, can_nobody_mount, is_mounted};
use support::{Memory, log_text, options, receive};

struct Place {
    directory: tempfile::TempDir,
    on: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let on = directory.path().join("on");
        std::fs::create_dir(&on).unwrap();
        Self { directory, on }
    }

    /// A dump of `memory`, whole or of which so many bytes were sent, in this format; and its journal.
    fn dump(&self, memory: &Memory, bytes: Option<u64>, format: Format) -> (PathBuf, PathBuf) {
        let write = Options { format, compression: Compression::Zlib };
        let mut options = options(self.directory.path(), write);
        options.keep_journal = true;
        let directory = receive(&memory.line_within(bytes), &options).unwrap().directory;
        (directory.join("vmcore"), directory.join("journal"))
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, Vec<u8>) {
        let command = env!("CARGO_BIN_EXE_rcapture");
        let output = Command::new(command).args(arguments).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), output.stdout)
    }

    /// What `convert --format elf` makes of `input`.
    fn converted(&self, input: &Path) -> Vec<u8> {
        let out = self.directory.path().join("converted");
        let (input, path) = (input.to_str().unwrap(), out.to_str().unwrap());
        let (code, said, _) = self.run(&["convert", "--format", "elf", input, path]);
        assert!(matches!(code, Some(0 | 3)), "{said}");
        std::fs::read(out).unwrap()
    }
}

#[test]
fn every_kind_of_dump_is_mounted_as_the_elf_core_that_convert_makes_of_it() {
    if !can_mount() {
        return;
    }
    let memory = Memory::with_log(20);
    for bytes in [None, Some(60_000)] {
        for format in [Format::Kdump, Format::Elf, Format::Flattened] {
            let place = Place::new();
            let (vmcore, journal) = place.dump(&memory, bytes, format);
            let recording = place.directory.path().join("line.raw");
            std::fs::write(&recording, memory.line_within(bytes)).unwrap();
            for input in [vmcore, journal, recording] {
                let expected = place.converted(&input);
                let (is_complete, ..) = place.run(&["info", input.to_str().unwrap()]);
                let mounted = Mounted::stored(&input, &place.on);
                let found = std::fs::read(mounted.vmcore()).unwrap();
                assert!(found == expected, "{} of {format:?}", input.display());
                assert_eq!(mounted.vmcore().metadata().unwrap().len(), expected.len() as u64);
                assert_eq!(mounted.stop().0, is_complete);
                assert!(!is_mounted(&place.on));
            }
        }
    }
}

#[test]
fn many_readers_find_the_same_bytes_wherever_they_read() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let (_, journal) = place.dump(&Memory::new(), None, Format::Kdump);
    let expected = place.converted(&journal);
    let mounted = Mounted::stored(&journal, &place.on);
    thread::scope(|scope| {
        for reader in 0..16_u64 {
            let (expected, path) = (&expected, mounted.vmcore());
            scope.spawn(move || {
                let file = File::open(path).unwrap();
                let mut state = reader;
                for _ in 0..50 {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(reader | 1);
                    let offset = usize::try_from(state >> 33).unwrap() % (expected.len() + 5000);
                    let length = usize::try_from(state >> 20).unwrap() % 40_000;
                    let mut found = vec![0; length];
                    let count = file.read_at(&mut found, offset as u64).unwrap();
                    let rest = expected.get(offset..).unwrap_or_default();
                    let rest = &rest[..rest.len().min(length)];
                    assert!(found[..count] == *rest, "reader {reader}, {length} bytes from {offset:#x}");
                }
            });
        }
    });
    assert_eq!(mounted.stop().0, Some(0));
}

#[test]
fn beside_the_vmcore_are_the_kernels_log_and_a_word_about_the_dump() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let (_, journal) = place.dump(&Memory::with_log(30), None, Format::Kdump);
    let mut mounted = Mounted::stored(&journal, &place.on);
    let mut names: Vec<_> =
        std::fs::read_dir(&place.on).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["status", "vmcore", "vmcore-dmesg.txt"]);
    let (_, _, log) = place.run(&["log", journal.to_str().unwrap()]);
    assert_eq!(std::fs::read(place.on.join("vmcore-dmesg.txt")).unwrap(), log);
    assert!(String::from_utf8(log).unwrap().contains(&log_text(29)));
    let status = std::fs::read_to_string(place.on.join("status")).unwrap();
    for said in [
        "complete         yes\n",
        "unknown, Linux 6.1.0-test, x86_64\n",
        "2023-11-14",
        "pages missing    0\n",
        "readers waiting  0\n",
    ] {
        assert!(status.contains(said), "{said} in {status}");
    }
    assert_eq!(mounted.first_line(), format!("crash vmlinux {}\n", mounted.vmcore().display()));
    let refused = File::options().write(true).open(mounted.vmcore()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(mounted.stop().0, Some(0));
}

#[test]
fn it_ends_when_it_is_unmounted_or_stopped_also_while_somebody_reads() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let (_, journal) = place.dump(&Memory::new(), None, Format::Kdump);
    let mounted = Mounted::stored(&journal, &place.on);
    rustix::mount::unmount(&place.on, rustix::mount::UnmountFlags::empty()).unwrap();
    assert_eq!(mounted.end().0, Some(0));
    for signal in [Signal::INT, Signal::TERM] {
        let mounted = Mounted::stored(&journal, &place.on);
        let open = File::open(mounted.vmcore()).unwrap();
        mounted.signal(signal);
        assert_eq!(mounted.end().0, Some(0));
        assert!(!is_mounted(&place.on));
        assert!(open.read_at(&mut [0; 8], 0).is_err());
    }
}

#[test]
fn who_may_not_mount_stops_it_as_fast_while_somebody_has_a_file_open() {
    if !can_nobody_mount() {
        return;
    }
    let place = Place::new();
    let (_, journal) = place.dump(&Memory::new(), None, Format::Kdump);
    for path in [place.directory.path(), journal.parent().unwrap(), &place.on, &journal] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_rcapture"));
    command.arg("mount").args([&journal, &place.on]).uid(NOBODY).gid(NOBODY);
    let mounted = Mounted::spawn(&mut command, &place.on);
    let mut reader = Command::new("sh")
        .args(["-c", "exec < \"$0\" && echo open && exec sleep 100"])
        .arg(mounted.vmcore())
        .uid(NOBODY)
        .gid(NOBODY)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(reader.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let ended = mounted.stop().0;
    let is_reading = reader.try_wait().unwrap().is_none();
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert_eq!((said.as_str(), ended, is_reading), ("open\n", Some(0), true));
    assert!(!is_mounted(&place.on));
}

#[test]
fn a_directory_that_cannot_be_mounted_on_is_refused_with_what_to_do() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let (_, journal) = place.dump(&Memory::new(), None, Format::Kdump);
    let mount = |on: &Path| {
        let (code, said, _) = place.run(&["mount", journal.to_str().unwrap(), on.to_str().unwrap()]);
        assert_eq!(code, Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    let absent = place.on.join("absent");
    assert!(mount(&absent).contains(&format!("`mkdir -p {}`", absent.display())));
    assert!(mount(&journal).contains("not a directory"));
    assert!(mount(place.directory.path()).contains("not empty"));
    // Mounted already: not empty either.
    let mounted = Mounted::stored(&journal, &place.on);
    assert!(mount(&place.on).contains("not empty"));
    mounted.signal(Signal::KILL);
    assert_eq!(mounted.end().0, None);
    // (Dropping what was mounted has unmounted it.)
    let mounted = Mounted::stored(&journal, &place.on);
    let id = mounted.id();
    rustix::process::kill_process(id, Signal::KILL).unwrap();
    while std::fs::metadata(&place.on).is_ok() {
        thread::yield_now();
    }
    let said = mount(&place.on);
    assert!(said.contains(&format!("`umount {}`", place.on.display())), "{said}");
    drop(mounted);
    assert_eq!(Mounted::stored(&journal, &place.on).stop().0, Some(0));
}

#[test]
fn what_is_no_dump_is_not_mounted() {
    let place = Place::new();
    let path = place.directory.path().join("text");
    std::fs::write(&path, "no dump").unwrap();
    let (code, said, _) = place.run(&["mount", path.to_str().unwrap(), place.on.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(said.contains("neither an ELF core"), "{said}");
    assert!(!is_mounted(&place.on));
}
