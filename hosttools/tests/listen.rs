//! A receiver that many machines connect to, and others.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use capture::Serve;
use rcapture::dump;
use rcapture::info::Pages;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::mounted::{Place, offsets, read_page};
use support::{Memory, Network, PAGE, TcpTarget, pages_of};
use wire::{
    BlockHeader, Body, Cursor, Fragment, Frame, MetaKind, Record, Records, Run, SessionEnd, SessionHeader,
    SessionId,
};

const DEADLINE: Duration = Duration::from_secs(120);

/// The command, listening, and what it tells.
struct Listener {
    child: Child,
    events: Receiver<Value>,
    seen: Vec<Value>,
    address: SocketAddr,
}

impl Listener {
    fn start(out: &Path, more: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", out, more)
    }

    fn start_at(address: &str, out: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rcapture"))
            .args(["recv", "--json", "--listen", address, "-o"])
            .arg(out)
            .args(if more.contains(&"--keep-free") { &[][..] } else { &["--keep-free", "0"] })
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let told = BufReader::new(child.stdout.take().unwrap());
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in told.lines() {
                let event = serde_json::from_str(&line.unwrap()).unwrap();
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        let address = ([127, 0, 0, 1], 0).into();
        let mut listener = Self { child, events, seen: Vec::new(), address };
        listener.address = listener.next("listening")["address"].as_str().unwrap().parse().unwrap();
        listener
    }

    /// The next event of this kind; all before it are kept in [`Self::seen`].
    fn next(&mut self, kind: &str) -> Value {
        self.next_with(kind, |_| true)
    }

    fn next_with(&mut self, kind: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            match self.events.recv_timeout(DEADLINE.saturating_sub(started.elapsed())) {
                Ok(event) => {
                    self.seen.push(event.clone());
                    if event["event"] == kind && is_it(&event) {
                        return event;
                    }
                }
                Err(error @ (RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) => {
                    panic!("no {kind}: {error}; {:#?}", self.seen)
                }
            }
        }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    fn peak_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    fn is_over(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // All it told is worth a look.
                self.seen.extend(self.events.iter());
                return status;
            }
            assert!(started.elapsed() < DEADLINE, "{:#?}", self.seen);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn stop(mut self) -> Vec<Value> {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        assert!(self.is_over().success());
        std::mem::take(&mut self.seen)
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn directory(event: &Value) -> PathBuf {
    event["directory"].as_str().unwrap().into()
}

fn assert_dump_of(directory: &Path, memory: &Memory) {
    let dump = dump::open(&directory.join("vmcore")).unwrap();
    assert!(pages_of(&*dump) == memory.pages(), "{}", directory.display());
}

/// So many bytes a second that a dump takes some seconds.
fn slowly() -> Network {
    Network { bytes_per_second: Some(400_000), ..Network::default() }
}

fn journal_bytes(directory: &Path) -> u64 {
    directory.join("journal").metadata().map_or(0, |journal| journal.len())
}

fn await_journal(directory: &Path, bytes: u64) {
    let started = Instant::now();
    while journal_bytes(directory) < bytes {
        assert!(started.elapsed() < DEADLINE);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn sixteen_machines_at_once_leave_sixteen_right_dumps() {
    let out = tempfile::tempdir().unwrap();
    let mut listener = Listener::start(out.path(), &[]);
    let targets: Vec<TcpTarget> = (0..16)
        .map(|n| TcpTarget::crash(Memory::of_machine(n), n, listener.address, Network::default()))
        .collect();
    let mut machines = Vec::new();
    for _ in 0..16 {
        listener.next("complete");
    }
    for session in listener.seen.iter().filter(|event| event["event"] == "session") {
        let number = u16::try_from(session["session"].as_u64().unwrap()).unwrap();
        assert_dump_of(&directory(session), &Memory::of_machine(number));
        machines.push(number);
    }
    machines.sort_unstable();
    assert_eq!(machines, (0..16).collect::<Vec<_>>());
    for target in targets {
        assert_eq!(target.finish().first_block, 0);
    }
    let peak = listener.peak_memory_bytes();
    assert!(peak < (64 + 16 * 4) << 20, "{peak} bytes");
    println!("peak memory of the receiver: {} KiB", peak >> 10);
    let told = listener.stop();
    assert!(!told.iter().any(|event| event["event"] == "rejected"), "{told:#?}");
}

#[test]
fn files_are_for_their_owner_only_and_in_the_directory_given() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("crash");
    let mut listener = Listener::start(&out, &["--keep-journal"]);
    let (mut peer, mut utsname) = (listener.connect(), [0; wire::UTSNAME_BYTES]);
    utsname[65..80].copy_from_slice(b"../../../escape");
    peer.write_all(&header_frame(1, &SessionHeader { utsname, ..header() })).unwrap();
    peer.write_all(&block_frame(1, 0, b"nothing that decodes")).unwrap();
    let session = directory(&listener.next("session"));
    assert!(session.starts_with(&out) && session.parent() == Some(&out), "{}", session.display());
    TcpTarget::crash(Memory::new(), 2, listener.address, Network::default()).finish();
    let dump = directory(&listener.next("complete"));
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dump), 0o700);
    for file in std::fs::read_dir(&dump).unwrap() {
        let file = file.unwrap().path();
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
}

#[test]
fn a_dump_goes_on_when_its_connection_breaks() {
    for is_half_open in [false, true] {
        let out = tempfile::tempdir().unwrap();
        let mut listener = Listener::start(out.path(), &[]);
        let network = Network { breaks_at: vec![200_000, 500_000, 501_000], is_half_open, ..slowly() };
        let target = TcpTarget::crash(Memory::new(), 1, listener.address, network);
        let dump = listener.next("complete");
        assert_dump_of(&directory(&dump), &Memory::new());
        assert_eq!(target.finish().first_block, 0, "nothing that is durable was made again");
        let told = listener.stop();
        let again = told.iter().filter(|event| event["event"] == "reconnected").count();
        assert!(again >= 2, "{told:#?}");
        assert_eq!(told.iter().filter(|event| event["event"] == "session").count(), 1);
    }
}

#[test]
fn a_dump_goes_on_when_the_receiver_is_killed_and_started_again() {
    let out = tempfile::tempdir().unwrap();
    let mut listener = Listener::start(out.path(), &[]);
    let address = listener.address;
    let target = TcpTarget::crash(Memory::new(), 1, address, slowly());
    let first = directory(&listener.next("session"));
    for bytes in [150_000, 400_000] {
        await_journal(&first, bytes);
        listener.kill();
        listener = Listener::start_at(&address.to_string(), out.path(), &[]);
        let session = listener.next("session");
        assert_eq!((directory(&session), &session["goes_on"]), (first.clone(), &Value::Bool(true)));
    }
    let dump = listener.next("complete");
    assert_eq!(directory(&dump), first);
    assert_dump_of(&first, &Memory::new());
    assert_eq!(target.finish().first_block, 0, "nothing that is durable was made again");
}

#[test]
fn a_listener_that_is_started_again_knows_which_dumps_are_complete() {
    for more in [&[][..], &["--keep-journal"]] {
        let out = tempfile::tempdir().unwrap();
        let mut listener = Listener::start(out.path(), more);
        let target = TcpTarget::crash(Memory::new(), 0x1234, listener.address, Network::default());
        let dump = directory(&listener.next("complete"));
        target.finish();
        listener.kill();

        let mut listener = Listener::start(out.path(), more);
        let mut peer = listener.connect();
        // Its last replies got lost.
        peer.write_all(&Memory::new().line()).unwrap();
        assert_eq!(why(&listener.next("rejected")), "its dump is complete");
        // Another crash of the same machine in the same second.
        let target = TcpTarget::crash(Memory::new(), 0x1235, listener.address, Network::default());
        assert_ne!(directory(&listener.next("complete")), dump);
        target.finish();
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 2);
    }
}

/// A way to the listener that carries so many bytes of the first connection, and from then on nothing back; the connection
/// breaks when the dump is complete.
fn without_last_replies(listener: SocketAddr, bytes: usize, broken: Receiver<()>) -> SocketAddr {
    let way = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = way.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut broken = Some(broken);
        for target in way.incoming() {
            let (mut target, mut host) = (target.unwrap(), TcpStream::connect(listener).unwrap());
            let (mut replies, mut back) = (host.try_clone().unwrap(), target.try_clone().unwrap());
            let is_deaf = Arc::new(AtomicBool::new(false));
            let deaf = is_deaf.clone();
            std::thread::spawn(move || {
                let mut buf = [0; 1000];
                while let Ok(count @ 1..) = replies.read(&mut buf) {
                    if !deaf.load(Ordering::Relaxed) && back.write_all(&buf[..count]).is_err() {
                        break;
                    }
                }
            });
            let broken = broken.take();
            std::thread::spawn(move || {
                let (mut buf, mut carried) = ([0; 1000], 0);
                target.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                loop {
                    match target.read(&mut buf) {
                        Ok(0) => break,
                        Ok(count) => {
                            carried += count;
                            let is_first = broken.is_some();
                            is_deaf.store(is_first && carried >= bytes, Ordering::Relaxed);
                            // It may have had enough; the target is not to learn that from us.
                            let _ = host.write_all(&buf[..count]);
                        }
                        Err(_) if broken.as_ref().is_some_and(|broken| broken.try_recv().is_ok()) => break,
                        Err(_) => {}
                    }
                }
                let _ = target.shutdown(Shutdown::Both);
                let _ = host.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

#[test]
fn a_sender_that_has_not_heard_that_its_dump_is_complete_is_told_when_it_comes_back() {
    let out = tempfile::tempdir().unwrap();
    let mut listener = Listener::start(out.path(), &[]);
    let (break_it, broken) = channel();
    let carried = Memory::new().line().len() - 50_000;
    let way = without_last_replies(listener.address, carried, broken);
    let target = TcpTarget::crash(Memory::new(), 1, way, slowly());
    let dump = directory(&listener.next("complete"));
    assert!(!target.is_finished(), "it is to miss the last replies");
    break_it.send(()).unwrap();
    let started = Instant::now();
    while !target.is_finished() {
        assert!(started.elapsed() < Duration::from_secs(20), "it waits");
        std::thread::sleep(Duration::from_millis(10));
    }
    // Or one that has begun anew.
    let target = TcpTarget::crash(Memory::new(), 1, listener.address, Network::default());
    target.finish();
    assert_dump_of(&dump, &Memory::new());
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);
}

#[test]
fn a_machine_that_stays_is_let_go_by_a_listener_that_has_its_dump() {
    let out = tempfile::tempdir().unwrap();
    let mut listener = Listener::start(out.path(), &[]);
    let serve = Some(Serve { limit: None });
    let target = TcpTarget::crash_to_stay(Memory::new(), 1, listener.address, Network::default(), serve);
    let dump = directory(&listener.next("complete"));
    let started = Instant::now();
    while !target.is_finished() {
        assert!(started.elapsed() < DEADLINE, "it stays");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_dump_of(&dump, &Memory::new());
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);
}

#[test]
fn a_listener_that_is_stopped_leaves_a_usable_vmcore_of_each_session() {
    let out = tempfile::tempdir().unwrap();
    let mut listener = Listener::start(out.path(), &[]);
    let network = Network { bytes_per_second: Some(100_000), ..Network::default() };
    let _targets: Vec<TcpTarget> = (1..4)
        .map(|n| TcpTarget::crash(Memory::of_machine(n), n, listener.address, network.clone()))
        .collect();
    let sessions: Vec<Value> = (1..4).map(|_| listener.next("session")).collect();
    sessions.iter().for_each(|session| await_journal(&directory(session), 100_000));
    let told = listener.stop();
    assert_eq!(told.iter().filter(|event| event["event"] == "incomplete").count(), 3, "{told:#?}");
    for session in sessions {
        let number = u16::try_from(session["session"].as_u64().unwrap()).unwrap();
        let dump = dump::open(&directory(&session).join("vmcore")).unwrap();
        assert!(!dump.facts().is_complete);
        let pages = Memory::of_machine(number).pages();
        let came: Vec<_> = pages_of(&*dump).into_iter().filter(|(_, page)| page.is_some()).collect();
        assert!(came.len() > 10);
        assert!(came.into_iter().all(|(pfn, page)| page == pages[&pfn]));
    }
}

#[test]
fn a_listener_for_one_dump_runs_a_command_on_it_and_ends_with_its_status() {
    let out = tempfile::tempdir().unwrap();
    let mut listener = Listener::start(out.path(), &["--once", "--exec", "ls"]);
    let target = TcpTarget::crash(Memory::new(), 1, listener.address, Network::default());
    assert_eq!(listener.is_over().code(), Some(0));
    target.finish();
    let executed = listener.seen.iter().find(|event| event["event"] == "executed").unwrap();
    assert_eq!(executed["status"], "exit status: 0");
    let mut listener = Listener::start(out.path(), &["--once", "--exec", "/nowhere", "--timeout", "1"]);
    let mut peer = listener.connect();
    let line = Memory::new().line();
    peer.write_all(&line[..line.len() / 2]).unwrap();
    assert_eq!(listener.is_over().code(), Some(3));
    let executed = listener.seen.iter().find(|event| event["event"] == "executed").unwrap();
    assert!(executed["status"].as_str().unwrap().contains("No such file"), "{executed}");
}

#[test]
fn limits_hold_and_are_told_of() {
    let out = tempfile::tempdir().unwrap();
    let mut listener = Listener::start(out.path(), &["--max-sessions", "1", "--max-bytes", "200K"]);
    let first = TcpTarget::crash(Memory::of_machine(1), 1, listener.address, slowly());
    listener.next("session");
    let mut second = listener.connect();
    second.write_all(&header_frame(2, &header())).unwrap();
    assert!(why(&listener.next("rejected")).contains("as many sessions as allowed"));
    let dump = listener.next("incomplete");
    assert!(dump["summary"].as_str().unwrap().contains("the limit of bytes per session was reached"));
    assert!(journal_bytes(&directory(&dump)) < 400_000);
    // It comes back, and does not get more.
    assert!(why(&listener.next("rejected")).contains("its limit of bytes was reached"));
    listener.kill();
    drop(first);

    let mut listener = Listener::start(out.path(), &["--keep-free", "1000000T"]);
    let mut peer = listener.connect();
    peer.write_all(&header_frame(3, &header())).unwrap();
    assert!(why(&listener.next("rejected")).contains("too little is free"));
}

#[test]
fn whoever_comes_back_while_a_session_that_is_over_is_looked_at_is_rejected() {
    let Some(place) = Place::new() else { return };
    let on = place.on.to_str().unwrap();
    let mut listener = Listener::start(&place.out, &["--once", "--mount", on, "--max-bytes", "1K"]);
    let mut peer = listener.connect();
    peer.write_all(&[header_frame(1, &header()), block_frame(1, 0, &[1; 1000])].concat()).unwrap();
    place.await_status("over: nothing more comes");
    for _ in 0..3 {
        let mut again = listener.connect();
        again.write_all(&header_frame(1, &header())).unwrap();
        assert_eq!(why(&listener.next("rejected")), "its session is over");
    }
    listener.kill();
}

#[test]
fn after_a_session_that_is_suspended_another_machine_is_mounted_as_itself() {
    let Some(place) = Place::new() else { return };
    std::fs::create_dir(&place.out).unwrap();
    let disk = Command::new("mount").args(["-t", "tmpfs", "-o", "size=32m", "none"]).arg(&place.out).output();
    if !disk.is_ok_and(|output| output.status.success()) {
        println!("outcome: not run: this user may not mount a disk that can be filled");
        return;
    }
    let _disk = Disk(&place.out);
    let on = place.on.to_str().unwrap();
    let more = ["--once", "--mount", on, "--read-timeout", "2", "--keep-free", "16M"];
    let mut listener = Listener::start(&place.out, &more);
    let mut first = listener.connect();
    let line = Memory::of_machine(1).line();
    first.write_all(&line[..line.len() / 2]).unwrap();
    let vmcore = File::open(place.on.join("vmcore")).unwrap();
    for (_, offset) in offsets(&vmcore).range(0x200..0x202) {
        let _ = read_page(&vmcore, *offset);
    }
    let filler = place.out.join("filler");
    std::fs::write(&filler, vec![1; 20 << 20]).unwrap();
    listener.next("suspended");
    drop(vmcore);
    std::fs::remove_file(filler).unwrap();
    let target = TcpTarget::crash(Memory::of_machine(2), 2, listener.address, Network::default());
    let session = directory(&listener.next_with("session", |event| event["session"] == 2));
    place.await_status(session.to_str().unwrap());
    let vmcore = File::open(place.on.join("vmcore")).unwrap();
    let expected = Memory::of_machine(2).pages();
    for (pfn, offset) in offsets(&vmcore).range(0x200..0x240) {
        assert!(read_page(&vmcore, *offset).ok() == expected[pfn], "page {pfn:#x}");
    }
    drop(vmcore);
    place.await_status("the machine stays until it is released");
    assert_eq!(place.release().0, Some(0));
    assert!(listener.is_over().success());
    target.finish();
}

/// A disk of a test's own.
struct Disk<'a>(&'a Path);

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_session_header_and_nothing_else_does_not_keep_the_mount_from_a_crashed_machine() {
    let Some(place) = Place::new() else { return };
    let on = place.on.to_str().unwrap();
    let mut listener = Listener::start(&place.out, &["--once", "--mount", on, "--timeout", "2"]);
    let mut peer = listener.connect();
    peer.write_all(&header_frame(1, &header())).unwrap();
    assert_eq!(why(&listener.next("rejected")), "nothing came but a session header");
    let target = TcpTarget::crash(Memory::new(), 2, listener.address, Network::default());
    place.await_status("the machine stays until it is released");
    assert_eq!(place.release().0, Some(0));
    assert_eq!(listener.is_over().code(), Some(0));
    target.finish();
}

#[test]
fn a_sender_that_is_turned_away_does_not_take_its_dump_for_sent() {
    let out = tempfile::tempdir().unwrap();
    let mut listener = Listener::start(out.path(), &["--keep-free", "1000000T"]);
    let target = TcpTarget::crash(Memory::new(), 1, listener.address, Network::default());
    // In as many connections all of the dump would fit.
    for _ in 0..8 {
        assert!(why(&listener.next("rejected")).contains("too little is free"));
    }
    assert!(!target.is_finished());
}

fn why(event: &Value) -> &str {
    event["why"].as_str().unwrap()
}

fn header() -> SessionHeader {
    SessionHeader {
        e_machine: 62,
        page_shift: 12,
        dump_level: 0,
        crash_time: 1,
        ram_pages: 1 << 60,
        utsname: [0; wire::UTSNAME_BYTES],
    }
}

fn frame(session: u16, body: Body<'_>) -> Vec<u8> {
    let (mut bytes, mut line) = (Vec::new(), vec![0]);
    Frame { session: SessionId(session), sequence: 0, body }.encode(&mut bytes);
    wire::line::encode(&bytes, &mut line);
    line
}

fn header_frame(session: u16, header: &SessionHeader) -> Vec<u8> {
    frame(session, Body::Session(&[&Run::default().encode()[..], &header.encode()].concat()))
}

/// Block `block`, whole in one frame.
fn block_frame(session: u16, block: u32, bytes: &[u8]) -> Vec<u8> {
    let generation = wire::generation(bytes);
    frame(session, Body::Fragment(Fragment { stream: 0, block, generation, index: 0, count: 1, bytes }))
}

/// Says whatever it likes until it is told to go away, and what it is told then.
fn lie(listener: SocketAddr, mut lies: impl FnMut(u64) -> Vec<u8>) {
    let mut peer = TcpStream::connect(listener).unwrap();
    peer.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    for number in 0..4000 {
        if peer.write_all(&lies(number)).is_err() {
            return;
        }
    }
}

#[test]
fn hostile_peers_cost_themselves_only() {
    let out = tempfile::tempdir().unwrap();
    let mut listener = Listener::start(out.path(), &["--timeout", "2"]);
    let address = listener.address;
    let very_slowly = Network { bytes_per_second: Some(60_000), ..Network::default() };
    let target = TcpTarget::crash(Memory::new(), 1, address, very_slowly);
    let good = listener.next("session");

    let mut random = 1_u64;
    lie(address, |_| {
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33).to_be_bytes()[7]
        };
        (0..4096).map(|_| next()).collect()
    });
    let half_open: Vec<TcpStream> = (0..300).map(|_| listener.connect()).collect();
    // A frame that is long in coming.
    let slow_loris = std::thread::spawn(move || {
        let mut peer = TcpStream::connect(address).unwrap();
        for byte in header_frame(9, &header()).into_iter().take(100) {
            if peer.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    });
    // A header, and nothing behind it.
    let mut promise = listener.connect();
    promise.write_all(&header_frame(2, &header())).unwrap();
    // Blocks that are never whole, each of another generation, and of lengths no block has.
    lie(address, |number| {
        let first = if number == 0 { header_frame(3, &header()) } else { Vec::new() };
        let block = u32::try_from(number * 1000).unwrap();
        let bytes = vec![7; 1000];
        let fragment =
            Fragment { stream: 0, block, generation: block, index: 254, count: 255, bytes: &bytes };
        [first, frame(3, Body::Fragment(fragment))].concat()
    });
    // Whole blocks that promise more than they have; and an end that promises more than there can be.
    lie(address, |number| {
        let mut bytes = BlockHeader {
            start: Cursor::START,
            end: Cursor { pass: 255, position: u64::MAX },
            codec: codec::CodecId::Deflate,
            filter: codec::Filter::None,
            raw_bytes: u32::MAX,
        }
        .encode()
        .to_vec();
        bytes.extend(number.to_le_bytes());
        let end = SessionEnd { blocks: u32::MAX, pages: u64::MAX, ..SessionEnd::default() }.encode();
        let first = if number == 0 { header_frame(4, &header()) } else { Vec::new() };
        let block = u32::MAX - u32::try_from(number).unwrap();
        [first, block_frame(4, block, &bytes), frame(4, Body::End(&end))].concat()
    });
    // The same session from elsewhere.
    let _impostor = TcpTarget::crash(Memory::new(), 1, address, slowly());
    // The same machine's name and time of crash, another session.
    let line = Memory::new().line();
    let mut same_name = listener.connect();
    same_name.write_all(&line[..line.len() / 3]).unwrap();
    let _ = listener.next_with("session", |event| event["session"] == 0x1234);

    listener.next_with("rejected", |event| {
        event["why"] == "its session is being received over another connection"
    });
    let dump = listener.next_with("complete", |event| event["directory"] == good["directory"]);
    assert_dump_of(&directory(&dump), &Memory::new());
    assert_eq!(target.finish().first_block, 0);
    drop((half_open, promise, same_name));
    slow_loris.join().unwrap();
    let peak = listener.peak_memory_bytes();
    println!("peak memory of the receiver: {} KiB", peak >> 10);
    assert!(peak < (64 + 5 * 4) << 20, "{peak} bytes");
    let told = listener.stop();
    let count = |kind: &str| told.iter().filter(|event| event["event"] == kind).count();
    assert!(count("rejected") >= 300, "{}", count("rejected"));
    assert!(told.iter().any(|event| event["why"] == "what it sends is no rcapture session"));
    assert!(told.iter().any(|event| event["why"] == "nothing came but a session header"));
    assert_eq!(count("failed"), 0, "{told:#?}");
}

/// All that a machine with 64 GiB sends that keeps each 64th of its pages, no two alike.
fn send_64_gib(listener: SocketAddr, session: u16) {
    const PAGES: u64 = 64 << 18;
    const PAGES_OF_BLOCK: u64 = 80;
    let mut peer = BufWriter::new(TcpStream::connect(listener).unwrap());
    peer.write_all(&header_frame(session, &SessionHeader { ram_pages: PAGES, ..header() })).unwrap();
    let mut end = SessionEnd::default();
    let mut send = |raw: &[u8], from: Cursor, to: Cursor| {
        for located in Records::new(raw, 12).map(Result::unwrap) {
            end.count(&located.record, located.encoded);
        }
        let raw_bytes = u32::try_from(raw.len()).unwrap();
        let (codec, filter) = (codec::CodecId::None, codec::Filter::None);
        let head = BlockHeader { start: from, end: to, codec, filter, raw_bytes }.encode();
        peer.write_all(&block_frame(session, end.blocks, &[&head[..], raw].concat())).unwrap();
        end.blocks += 1;
    };
    let elfcorehdr = support::elfcorehdr_of(&[(0xffff_8880_0000_0000, 0, PAGES << 12)]);
    let mut raw = Vec::new();
    let total = u32::try_from(elfcorehdr.len()).unwrap();
    Record::Meta { kind: MetaKind::Elfcorehdr, offset: 0, total, bytes: &elfcorehdr }.encode(&mut raw);
    let mut at = Cursor { pass: 14, position: 0 };
    send(&raw, Cursor::START, at);
    while at.position < PAGES {
        let next = PAGES.min(at.position + PAGES_OF_BLOCK);
        raw.clear();
        for pfn in (at.position..next).filter(|pfn| pfn % 64 == 0) {
            Record::Fill { pfn, pages: 1, word: pfn }.encode(&mut raw);
        }
        send(&raw, at, Cursor { pass: 14, position: next });
        at.position = next;
    }
    peer.write_all(&frame(session, Body::End(&end.encode()))).unwrap();
    // Until the receiver has had enough.
    let mut peer = peer.into_inner().unwrap();
    let _ = peer.read_to_end(&mut Vec::new());
}

#[test]
fn a_machine_with_64_gib_costs_the_receiver_little_memory() {
    ["kdump", "elf"].into_iter().for_each(receive_64_gib);
}

fn receive_64_gib(format: &str) {
    let out = tempfile::tempdir().unwrap();
    let mut listener = Listener::start(out.path(), &["--format", format]);
    let address = listener.address;
    let peer = std::thread::spawn(move || send_64_gib(address, 1));
    let dump = listener.next("complete");
    peer.join().unwrap();
    let dump = dump::open(&directory(&dump).join("vmcore")).unwrap();
    assert_eq!(Pages::of(&*dump).unwrap().filled, 0);
    assert_eq!(Pages::of(&*dump).unwrap().data, 1 << 18);
    let peak = listener.peak_memory_bytes();
    println!("{format}: peak memory of the receiver: {} KiB", peak >> 10);
    assert!(peak < (64 + 4) << 20, "{peak} bytes");
}

#[test]
fn nothing_is_said_to_a_peer_that_has_not_said_whose_it_is() {
    let out = tempfile::tempdir().unwrap();
    let mut listener = Listener::start(out.path(), &[]);
    let mut peer = listener.connect();
    peer.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    peer.write_all(&vec![b'a'; 300 * PAGE]).unwrap();
    let mut heard = Vec::new();
    // It may be a reset.
    let _ = peer.read_to_end(&mut heard);
    assert_eq!(heard, b"");
    assert!(why(&listener.next("rejected")).contains("no rcapture session"));
}
