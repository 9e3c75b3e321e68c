//! The command as a user meets it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rcapture::dump;
use rcapture::write::Options;
use rustix::process::{Pid, Signal, kill_process};
use support::{Memory, log_text, options, pages_of, receive};

const DEADLINE: Duration = Duration::from_secs(60);

fn rcapture(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rcapture"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str]) -> Output {
    rcapture(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn wait(mut child: Child) -> Output {
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > DEADLINE {
            child.kill().unwrap();
            panic!("rcapture did not end: {}", stderr(&child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// The only dump directory in `parent`.
fn dump_directory(parent: &Path) -> PathBuf {
    let all: Vec<PathBuf> = std::fs::read_dir(parent)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

/// `rcapture recv`, and the machine's end of its line.
struct Receiving {
    _directory: tempfile::TempDir,
    line: UnixStream,
    child: Child,
    /// Where its dumps go.
    out: PathBuf,
}

impl Receiving {
    fn start(more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [socket, out] = ["line", "crash"].map(|name| directory.path().join(name));
        let listener = UnixListener::bind(&socket).unwrap();
        let common = ["recv", "--unix", text(&socket), "-o", text(&out)];
        let child = rcapture(&[&common, more].concat()).spawn().unwrap();
        let (line, _) = listener.accept().unwrap();
        Self { _directory: directory, line, child, out }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_dump_over_a_socket_that_comes_late_is_only_listened_to_on_request() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("line");
    let out = directory.path().join("crash");
    let child =
        rcapture(&["recv", "--unix", text(&socket), "-o", text(&out), "--wait", "30", "--listen-only"])
            .spawn()
            .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let listener = UnixListener::bind(&socket).unwrap();
    let (mut line, _) = listener.accept().unwrap();
    let memory = Memory::new();
    line.write_all(&memory.line()).unwrap();
    // The line stays open: the end in the session is what counts.
    let output = wait(child);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let vmcore = dump_directory(&out).join("vmcore");
    let told = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(told.ends_with(&format!("crash vmlinux {}\n", vmcore.display())), "{told}");
    assert_eq!(pages_of(&*dump::open(&vmcore).unwrap()), memory.pages());
    // And nothing was written to the line.
    let mut heard = Vec::new();
    line.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"");
}

#[test]
fn a_stopped_receiver_leaves_a_usable_vmcore_and_says_so() {
    let Receiving { _directory, mut line, child, out } = Receiving::start(&[]);
    let memory = Memory::new();
    let bytes = memory.line();
    line.write_all(&bytes[..bytes.len() / 2]).unwrap();
    let started = Instant::now();
    while !out.exists()
        || dump_directory(&out).join("journal").metadata().map_or(0, |journal| journal.len()) < 100_000
    {
        assert!(started.elapsed() < DEADLINE);
        std::thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = wait(child);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let dump_directory = dump_directory(&out);
    assert!(dump_directory.join("journal").exists());
    let dump = dump::open(&dump_directory.join("vmcore")).unwrap();
    assert!(!dump.facts().is_complete);
    for (pfn, page) in pages_of(&*dump).into_iter().filter(|(_, page)| page.is_some()) {
        assert!(page == memory.pages()[&pfn], "page {pfn:#x}");
    }
    let output = run(&["info", text(&dump_directory.join("journal"))]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stdout).contains("complete      no"));
}

#[test]
fn a_disk_that_fills_up_costs_nothing_that_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let recording = directory.path().join("line.raw");
    let memory = Memory::new();
    std::fs::write(&recording, memory.line()).unwrap();
    // Files may have 200 blocks of 512 bytes.
    let script = "ulimit -f 200; exec \"$0\" recv --stdin -o \"$1\" <\"$2\"";
    let out = directory.path().join("crash");
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_rcapture"), text(&out), text(&recording)])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let errors = stderr(&output);
    assert!(errors.lines().last().unwrap().starts_with("rcapture: write journal: "), "{errors}");
    let journal = dump::open(&dump_directory(&out).join("journal")).unwrap();
    let pages = pages_of(&*journal);
    assert!(pages.values().flatten().count() > 10);
    for (pfn, page) in pages.into_iter().filter(|(_, page)| page.is_some()) {
        assert!(page == memory.pages()[&pfn], "page {pfn:#x}");
    }
}

#[test]
fn a_recording_is_converted_to_a_pipe_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let recording = directory.path().join("line.raw");
    let memory = Memory::new();
    std::fs::write(&recording, memory.line()).unwrap();
    let output =
        run(&["convert", text(&recording), "-o", "-", "--format", "flattened", "--compress", "zstd"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let flattened = directory.path().join("flattened");
    std::fs::write(&flattened, &output.stdout).unwrap();
    assert_eq!(pages_of(&*dump::open(&flattened).unwrap()), memory.pages());
    let output = run(&["info", text(&flattened)]);
    let info = String::from_utf8(output.stdout).unwrap();
    assert!(info.contains("kernel        6.1.0-test\n"), "{info}");
    assert!(info.contains("crashed       2023-11-14 22:13:20 UTC\n"), "{info}");
    assert!(info.contains("0x000000001000-0x00000009fbff"), "{info}");
}

#[test]
fn wrong_inputs_are_one_clear_line_and_wrong_usage_is_status_2() {
    let directory = tempfile::tempdir().unwrap();
    let random = directory.path().join("random");
    std::fs::write(&random, b"nothing of the kind").unwrap();
    let out = directory.path().join("vmcore");
    for (arguments, code, expected) in [
        (&["convert", text(&random), "-o", text(&out)][..], 1, "neither an ELF core"),
        (&["info", "/nonexistent"], 1, "rcapture: open: /nonexistent: No such file"),
        (&["recv", "--unix", "/nonexistent", "--wait", "0"], 1, "rcapture: connect to: /nonexistent: "),
        (&["recv", "--serial", "/dev/null"], 1, "rcapture: set up serial port: /dev/null: "),
        (&["recv", "--stdin"], 1, "no rcapture session in 0 bytes"),
        (&["convert", text(&random), "-o", "-"], 1, "only `--format flattened`"),
        (&["convert", "-d", "32", text(&random), text(&out)], 2, "a number from 0 to 31"),
        (&["convert", text(&random)], 2, "required"),
        (&["recv"], 2, "required"),
        (&["recv", "--serial", "/dev/ttyS0,fast"], 2, "no speed"),
        (&["recv", "--stdin", "--json"], 2, "cannot be used with"),
        (&["recv", "--stdin", "--keep-free", "2G"], 2, "cannot be used with"),
        (&["recv", "--listen", "127.0.0.1:0", "--listen-only"], 2, "cannot be used with"),
        (&["recv", "--listen", "127.0.0.1:0", "--mount", text(directory.path())], 2, "--once"),
        (&["frobnicate"], 2, "unrecognized subcommand"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
        if code == 1 {
            assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
        }
    }
    assert!(!out.exists());
}

#[test]
fn help_shows_examples() {
    for command in ["", "recv", "convert", "mount", "release"] {
        let arguments: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains("Examples:"), "{arguments:?}");
    }
}

/// Controller, slave and the slave's name.
fn pseudo_terminal() -> (File, File, String) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
    let slave = File::options().read(true).write(true).open(&name).unwrap();
    (controller.into(), slave, name)
}

#[test]
fn a_person_at_a_terminal_sees_how_far_the_writing_is() {
    let directory = tempfile::tempdir().unwrap();
    let recording = directory.path().join("line.raw");
    std::fs::write(&recording, Memory::new().line()).unwrap();
    let vmcore = directory.path().join("vmcore");
    let (mut controller, slave, _name) = pseudo_terminal();
    let child = rcapture(&["convert", text(&recording), "-o", text(&vmcore)])
        .env("TERM", "xterm")
        .stderr(slave)
        .spawn()
        .unwrap();
    let output = wait(child);
    assert_eq!(output.status.code(), Some(0));
    let mut shown = vec![0; 64 << 10];
    let count = controller.read(&mut shown).unwrap();
    let shown = String::from_utf8_lossy(&shown[..count]);
    assert!(shown.contains("writing vmcore "), "{shown}");
    // Elsewhere nothing is: a log file is no terminal.
    let output = run(&["convert", text(&recording), "-o", text(&vmcore)]);
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_terminal_is_raw_while_receiving_and_itself_again_afterwards() {
    use rustix::termios::{LocalModes, tcgetattr};

    // The slave is kept open: a pty without one forgets its settings.
    let (controller, _slave, name) = pseudo_terminal();
    let canonical = || tcgetattr(&controller).unwrap().local_modes.contains(LocalModes::ICANON);
    assert!(canonical());

    let directory = tempfile::tempdir().unwrap();
    let serial = format!("{name},115200");
    let child = rcapture(&["recv", "--serial", &serial, "-o", text(directory.path())]).spawn().unwrap();
    let started = Instant::now();
    while canonical() {
        assert!(started.elapsed() < DEADLINE);
        std::thread::sleep(Duration::from_millis(10));
    }
    let memory = Memory::new();
    (&controller).write_all(&memory.line()).unwrap();
    let output = wait(child);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(canonical());
    let vmcore = dump_directory(directory.path()).join("vmcore");
    assert_eq!(pages_of(&*dump::open(&vmcore).unwrap()), memory.pages());
}

#[test]
fn the_kernel_log_is_written_beside_the_vmcore_and_printed_as_far_as_somebody_reads() {
    let directory = tempfile::tempdir().unwrap();
    let memory = Memory::with_log(4000);
    let outcome = receive(&memory.line(), &options(directory.path(), Options::default())).unwrap();
    let vmcore = outcome.directory.join("vmcore");
    let output = run(&["log", text(&vmcore)]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let log = String::from_utf8(output.stdout).unwrap();
    assert_eq!(log.lines().count(), 4000);
    assert_eq!(log.lines().nth(1234), Some(format!("[    1.234000] {}", log_text(1234)).as_str()));
    assert_eq!(std::fs::read_to_string(outcome.directory.join("vmcore-dmesg.txt")).unwrap(), log);

    // More than a pipe holds.
    assert!(log.len() > 64 << 10);
    let output = Command::new("sh")
        .args(["-c", "{ \"$0\" log \"$1\"; echo $? >&2; } | head -n 1"])
        .args([env!("CARGO_BIN_EXE_rcapture"), text(&vmcore)])
        .output()
        .unwrap();
    assert_eq!(stderr(&output), "0\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("[    0.000000] {}\n", log_text(0)));
}

#[test]
fn the_kernel_log_can_be_read_while_the_rest_of_the_dump_comes() {
    let Receiving { _directory, mut line, child, out } = Receiving::start(&[]);
    let bytes = Memory::with_log(2000).line();
    let (now, later) = bytes.split_at(bytes.len() / 2);
    line.write_all(now).unwrap();
    let started = Instant::now();
    let log = || std::fs::read_to_string(dump_directory(&out).join("vmcore-dmesg.txt"));
    while !out.exists() || log().is_err() {
        assert!(started.elapsed() < DEADLINE);
        std::thread::sleep(Duration::from_millis(5));
    }
    // It never was there in part.
    let text_of_log = log().unwrap();
    assert_eq!(text_of_log.lines().count(), 2000);
    assert!(text_of_log.ends_with(&format!("[    1.999000] {}\n", log_text(1999))));
    line.write_all(later).unwrap();
    let output = wait(child);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("rcapture: the kernel log is in "), "{}", stderr(&output));
    assert_eq!(log().unwrap(), text_of_log);
}

#[test]
fn a_session_that_falls_silent_ends_after_the_time_that_was_given() {
    let Receiving { _directory, mut line, child, out } = Receiving::start(&["--timeout", "1"]);
    let bytes = Memory::new().line();
    line.write_all(&bytes[..bytes.len() / 2]).unwrap();
    let output = wait(child);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("the line fell silent before the end"), "{}", stderr(&output));
    assert!(!dump::open(&dump_directory(&out).join("vmcore")).unwrap().facts().is_complete);
}

#[test]
fn a_line_behind_a_tcp_port_is_received() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let child = rcapture(&["recv", "--tcp", &address, "-o", text(directory.path())]).spawn().unwrap();
    let (mut line, _) = listener.accept().unwrap();
    let memory = Memory::new();
    line.write_all(&memory.line()).unwrap();
    let output = wait(child);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let vmcore = dump_directory(directory.path()).join("vmcore");
    assert_eq!(pages_of(&*dump::open(&vmcore).unwrap()), memory.pages());
    // It answered: the session had begun.
    let mut heard = Vec::new();
    line.read_to_end(&mut heard).unwrap();
    assert!(!heard.is_empty());
}

#[test]
fn a_disk_too_small_for_the_vmcore_leaves_a_whole_journal_to_convert() {
    let directory = tempfile::tempdir().unwrap();
    let recording = directory.path().join("line.raw");
    let memory = Memory::new();
    std::fs::write(&recording, memory.line()).unwrap();
    let out = directory.path().join("crash");
    // In blocks of 512 bytes: the journal fits, an ELF core does not.
    let limit = recording.metadata().unwrap().len().div_ceil(512) + 100;
    let script = format!("ulimit -f {limit}; exec \"$0\" recv --stdin --format elf -o \"$1\" <\"$2\"");
    let output = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_rcapture"), text(&out), text(&recording)])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let errors = stderr(&output);
    assert!(errors.lines().last().unwrap().starts_with("rcapture: write: "), "{errors}");
    let dump_directory = dump_directory(&out);
    let mut left: Vec<_> = std::fs::read_dir(&dump_directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["console.log", "journal"]);

    let vmcore = directory.path().join("vmcore");
    let output = run(&["convert", text(&dump_directory.join("journal")), "-o", text(&vmcore)]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let dump = dump::open(&vmcore).unwrap();
    assert_eq!(pages_of(&*dump), memory.pages());
}

#[test]
fn a_dump_level_that_cannot_be_obeyed_keeps_all_pages_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let recording = directory.path().join("line.raw");
    let memory = Memory::new();
    std::fs::write(&recording, memory.line()).unwrap();
    let vmcore = directory.path().join("vmcore");
    let output = run(&["convert", "-d", "31", text(&recording), text(&vmcore)]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains(": all its pages are kept\n"), "{}", stderr(&output));
    assert_eq!(pages_of(&*dump::open(&vmcore).unwrap()), memory.pages());
}
