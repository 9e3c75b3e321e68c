//! A dump as a directory while it is being received, from a machine that can be asked for pages.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rcapture::dump;
use rustix::io::Errno;
use support::mounted::{Place, await_that, is_mounted, offsets, read_page};
use support::serving::{ALL, HALF, Serving, Setup};
use support::{FAULTY_PFN, Memory, Network, PAGE, TcpTarget, page, pages_of};

const DEADLINE: Duration = Duration::from_secs(60);

/// A machine whose passes do not begin.
const WAITING: Setup = Setup { waits: true, ..ALL };

#[test]
fn pages_that_are_not_here_yet_are_asked_for_and_right() {
    let Some(place) = Place::new() else { return };
    let expected = Memory::new().pages();
    let machine = Serving::crash(&place.socket, WAITING);
    let mounted = place.recv(&[]);
    let vmcore = File::open(mounted.vmcore()).unwrap();
    let bytes = vmcore.metadata().unwrap().len();
    let offsets = offsets(&vmcore);
    // (The last page of the first range is RAM only in part.)
    assert_eq!(offsets.len(), expected.len());
    for (pfn, &offset) in offsets.iter().step_by(37) {
        match expected[pfn].as_ref() {
            Some(page) => assert!(read_page(&vmcore, offset).unwrap() == *page, "page {pfn:#x}"),
            None => assert_eq!(read_page(&vmcore, offset).unwrap_err(), Some(Errno::IO)),
        }
    }
    assert_eq!(vmcore.metadata().unwrap().len(), bytes);
    let asked = machine.control.requests.lock().unwrap().len();
    assert!(asked >= offsets.len() / 37, "{asked} requests");
    assert_eq!(machine.control.sent.load(Ordering::Relaxed), 1, "what describes the machine");
    // What is here already is not asked for again.
    let (pfn, offset) = offsets.iter().next().unwrap();
    assert!(read_page(&vmcore, *offset).unwrap() == *expected[pfn].as_ref().unwrap());
    assert_eq!(machine.control.requests.lock().unwrap().len(), asked);
    let pulled = offsets.keys().step_by(37).filter(|pfn| expected[pfn].is_some()).count();
    place.await_status(&format!("pages here       0\npages pulled     {pulled}\n"));
    assert_eq!(mounted.stop().0, Some(3));
    machine.finish();
}

#[test]
fn a_page_that_cannot_be_read_is_an_error_at_once() {
    let Some(place) = Place::new() else { return };
    let machine = Serving::crash(&place.socket, WAITING);
    let mounted = place.recv(&["--read-timeout", "600"]);
    let vmcore = File::open(mounted.vmcore()).unwrap();
    let offset = offsets(&vmcore)[&FAULTY_PFN];
    assert_eq!(read_page(&vmcore, offset).unwrap_err(), Some(Errno::IO));
    // Of a longer read what is before it is there.
    let before = 3 * PAGE;
    let mut pages = vec![0; 5 * PAGE];
    assert_eq!(vmcore.read_at(&mut pages, offset - before as u64).unwrap(), before);
    let start = usize::try_from(FAULTY_PFN).unwrap() * PAGE - before;
    assert!(pages[..before] == Memory::new().bytes[start..start + before]);
    mounted.stop();
    machine.finish();
}

#[test]
fn whoever_opens_the_vmcore_before_the_machine_has_crashed_waits_for_it() {
    let Some(place) = Place::new() else { return };
    let listener = std::os::unix::net::UnixListener::bind(&place.socket).unwrap();
    let mounted = place.recv(&["--read-timeout", "1"]);
    let (_line, _) = listener.accept().unwrap();
    assert!(place.status().contains("session          none yet\n"));
    assert_eq!(mounted.vmcore().metadata().unwrap().len(), 0);
    let refused = File::open(mounted.vmcore()).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::IO.raw_os_error()));
    let (code, said) = mounted.stop();
    assert_eq!(code, Some(1));
    assert!(said.contains("stopped before a session began"), "{said}");
}

#[test]
fn a_cut_line_costs_a_reader_an_error_in_the_stated_time_and_nothing_else() {
    let Some(place) = Place::new() else { return };
    let machine = Serving::crash(&place.socket, WAITING);
    let mounted = place.recv(&["--read-timeout", "1"]);
    let vmcore = File::open(mounted.vmcore()).unwrap();
    let offset = offsets(&vmcore)[&0x204];
    machine.control.is_cut.store(true, Ordering::Relaxed);
    let started = Instant::now();
    assert_eq!(read_page(&vmcore, offset).unwrap_err(), Some(Errno::IO));
    assert!(started.elapsed() >= Duration::from_secs(1));
    place.await_status("readers waiting  0\n");
    place.await_status("quiet for ");
    machine.control.is_cut.store(false, Ordering::Relaxed);
    place.await_status("in use");
    await_that("the line is back", || read_page(&vmcore, offset).is_ok());
    assert!(read_page(&vmcore, offset).unwrap() == page(0x204));
    mounted.stop();
    machine.finish();
}

#[test]
fn a_reader_that_is_killed_while_it_waits_leaves_nothing_behind() {
    let Some(place) = Place::new() else { return };
    let machine = Serving::crash(&place.socket, WAITING);
    let mounted = place.recv(&["--read-timeout", "3600"]);
    let offset = offsets(&File::open(mounted.vmcore()).unwrap())[&0x204];
    machine.control.is_cut.store(true, Ordering::Relaxed);
    let mut readers: Vec<_> = (0..8)
        .map(|reader| {
            Command::new("dd")
                .arg(format!("if={}", mounted.vmcore().display()))
                .args(["bs=4096", "count=1", "iflag=skip_bytes"])
                .arg(format!("skip={}", offset + reader * 4096))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    place.await_status("readers waiting  8\n");
    let started = Instant::now();
    for reader in &mut readers {
        reader.kill().unwrap();
    }
    for reader in &mut readers {
        reader.wait().unwrap();
    }
    assert!(started.elapsed() < DEADLINE);
    place.await_status("readers waiting  0\n");
    // What they wanted is not asked for any more: the next reader's page is the only one that somebody waits for.
    thread::sleep(Duration::from_millis(1500));
    machine.control.requests.lock().unwrap().clear();
    machine.control.is_cut.store(false, Ordering::Relaxed);
    let vmcore = File::open(mounted.vmcore()).unwrap();
    assert!(read_page(&vmcore, offset + 100 * 4096).is_ok());
    let requests = machine.control.requests.lock().unwrap();
    let asked: Vec<u64> =
        requests.iter().filter(|(.., urgency)| *urgency == 0).map(|(first, ..)| *first).collect();
    drop(requests);
    assert_eq!(asked, [0x204 + 100]);
    mounted.stop();
    machine.finish();
}

#[test]
fn many_readers_get_their_pages() {
    let Some(place) = Place::new() else { return };
    let machine = Serving::crash(&place.socket, Setup { rate: 600_000, ..WAITING });
    let mounted = place.recv(&[]);
    let expected = Memory::new().pages();
    let offsets = offsets(&File::open(mounted.vmcore()).unwrap());
    let frames: Vec<u64> = offsets.keys().copied().filter(|pfn| expected[pfn].is_some()).collect();
    thread::scope(|scope| {
        for reader in 0..64_u64 {
            let (expected, offsets, frames, path) = (&expected, &offsets, &frames, mounted.vmcore());
            scope.spawn(move || {
                let vmcore = File::open(path).unwrap();
                let mut state = reader;
                for _ in 0..6 {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(reader | 1);
                    let pfn = frames[usize::try_from(state >> 33).unwrap() % frames.len()];
                    let page = read_page(&vmcore, offsets[&pfn]);
                    assert!(page.unwrap() == *expected[&pfn].as_ref().unwrap(), "reader {reader}: {pfn:#x}");
                }
            });
        }
    });
    place.await_status("readers waiting  0\n");
    mounted.stop();
    machine.finish();
}

#[test]
fn answers_that_nobody_has_asked_for_are_passed_over() {
    let Some(place) = Place::new() else { return };
    let machine = Serving::crash(&place.socket, WAITING);
    let mounted = place.recv(&["--read-timeout", "1"]);
    let vmcore = File::open(mounted.vmcore()).unwrap();
    let offsets = offsets(&vmcore);
    machine.control.lies.store(true, Ordering::Relaxed);
    for pfn in [0x200, 0x210, 0x220] {
        assert_eq!(read_page(&vmcore, offsets[&pfn]).unwrap_err(), Some(Errno::IO));
    }
    assert!(place.status().contains("pages pulled     0\n"), "{}", place.status());
    let journal = place.dump_directory().join("journal").metadata().unwrap().len();
    assert!(journal < 20_000, "{journal} bytes");
    machine.control.lies.store(false, Ordering::Relaxed);
    assert!(read_page(&vmcore, offsets[&0x230]).unwrap() == page(0x230));
    let (code, said) = mounted.stop();
    assert_eq!(code, Some(3));
    assert_eq!(said.matches("warning: it answered what nobody had asked").count(), 1, "{said}");
    machine.finish();
}

#[test]
fn pages_that_come_ahead_of_readers_do_not_keep_another_one_waiting() {
    let Some(place) = Place::new() else { return };
    let machine = Serving::crash(&place.socket, HALF);
    let mounted = place.recv(&["--read-timeout", "2"]);
    let vmcore = File::open(mounted.vmcore()).unwrap();
    let offsets = offsets(&vmcore);
    await_that("all of it has come", || place.is_complete());
    machine.control.ignores.store(0x204, Ordering::Relaxed);
    let reader = thread::spawn({
        let (vmcore, offset) = (vmcore.try_clone().unwrap(), offsets[&0x204]);
        move || {
            let started = Instant::now();
            (read_page(&vmcore, offset), started.elapsed())
        }
    });
    // The end of a page that is here leads to one that is not.
    for (_, offset) in offsets.range(0x205..).step_by(2) {
        if reader.is_finished() {
            break;
        }
        assert_eq!(vmcore.read_at(&mut [0; 8], offset + PAGE as u64 - 8).unwrap(), 8);
        thread::sleep(Duration::from_millis(100));
    }
    let (read, waited) = reader.join().unwrap();
    assert_eq!(read.unwrap_err(), Some(Errno::IO));
    assert!(waited < Duration::from_secs(8), "{waited:?}");
    let pulled = "pages pulled     0\n";
    assert!(!place.status().contains(pulled), "{}", place.status());
    mounted.stop();
    machine.finish();
}

#[test]
fn a_dump_that_was_looked_at_is_the_same_and_has_the_pages_that_were_read() {
    let mut dumps = Vec::new();
    for is_looked_at in [false, true] {
        let Some(place) = Place::new() else { return };
        let machine = Serving::crash(&place.socket, Setup { rate: 1_500_000, ..HALF });
        let mounted = place.recv(&["--keep-journal"]);
        if is_looked_at {
            let vmcore = File::open(mounted.vmcore()).unwrap();
            let offsets = offsets(&vmcore);
            for pfn in [0x200, 0x201, 0x202, 0x301, 0x304, 0x9f] {
                let _ = read_page(&vmcore, offsets[&pfn]).unwrap();
            }
        }
        place.await_status("the machine stays");
        await_that("all of it has come", || place.is_complete());
        // A page that the dump leaves out, when the passes are over.
        if is_looked_at {
            let vmcore = File::open(mounted.vmcore()).unwrap();
            assert!(read_page(&vmcore, offsets(&vmcore)[&0x306]).unwrap() == page(0x306));
        }
        rustix::mount::unmount(&place.on, rustix::mount::UnmountFlags::empty()).unwrap();
        let (code, said) = mounted.end();
        assert_eq!(code, Some(0), "{said}");
        machine.finish();
        let directory = place.dump_directory();
        let pulled = "pages came only because they were asked for";
        assert_eq!(said.contains(&format!("4 {pulled}")), is_looked_at, "{said}");
        let journal = directory.join("journal");
        for dump in [&journal, &directory.join("vmcore")] {
            let (_, told) = place.run(&["info", dump.to_str().unwrap()]);
            assert_eq!(told.contains(&format!("pulled        4 {pulled}\n")), is_looked_at, "{told}");
        }
        let of_journal = pages_of(&*dump::open(&journal).unwrap());
        let of_vmcore = pages_of(&*dump::open(&directory.join("vmcore")).unwrap());
        assert!(of_journal == of_vmcore);
        dumps.push((of_vmcore, place));
    }
    let [(mut plain, _first), (looked_at, _second)] = <[_; 2]>::try_from(dumps).ok().unwrap();
    for pfn in [0x200, 0x202, 0x304, 0x306] {
        assert!(plain.insert(pfn, Memory::new().pages()[&pfn].clone()).is_none());
    }
    assert!(plain == looked_at);
}

#[test]
fn on_demand_only_what_is_read_is_sent() {
    let Some(place) = Place::new() else { return };
    let machine = Serving::crash(&place.socket, Setup { rate: 30_000, ..ALL });
    let mounted = place.recv(&["--on-demand", "--keep-journal"]);
    let vmcore = File::open(mounted.vmcore()).unwrap();
    let offsets = offsets(&vmcore);
    await_that("the passes are held", || machine.course() == 1);
    let sent = machine.control.sent.load(Ordering::Relaxed);
    for pfn in [0x333, 0x200] {
        assert!(read_page(&vmcore, offsets[&pfn]).unwrap() == page(pfn));
    }
    assert_eq!(machine.control.sent.load(Ordering::Relaxed), sent);
    drop(vmcore);
    rustix::mount::unmount(&place.on, rustix::mount::UnmountFlags::empty()).unwrap();
    let (code, said) = mounted.end();
    assert_eq!(code, Some(3), "{said}");
    machine.finish();
    let dump = place.dump();
    assert!(!dump.facts().is_complete);
    let found = pages_of(&*dump);
    for pfn in [0x333, 0x200] {
        assert!(found[&pfn] == Memory::new().pages()[&pfn]);
    }
}

#[test]
fn a_machine_stays_until_it_is_released() {
    for more in [&[][..], &["--on-demand"]] {
        let Some(place) = Place::new() else { return };
        let machine = Serving::crash(&place.socket, ALL);
        let mut mounted = place.recv(more);
        place.await_status("the machine stays until it is released");
        thread::sleep(Duration::from_millis(500));
        assert!(mounted.is_running() && !machine.is_gone());
        let vmcore = File::open(mounted.vmcore()).unwrap();
        assert!(read_page(&vmcore, offsets(&vmcore)[&0x204]).is_ok());
        let (code, said) = place.release();
        assert_eq!(code, Some(0), "{said}");
        let (code, said) = mounted.end();
        if more.is_empty() {
            assert_eq!(code, Some(0), "{said}");
        } else {
            assert_eq!(code, Some(3), "{said}");
            assert!(said.contains("the machine was released before the end"), "{said}");
        }
        assert_eq!(machine.course(), 2);
        machine.finish();
        let (code, said) = place.release();
        assert_eq!(code, Some(1));
        assert!(said.contains("no session is shown there"), "{said}");
    }
}

#[test]
fn a_machine_that_has_forgotten_that_it_is_held_ends_where_it_is_when_it_is_released() {
    let Some(place) = Place::new() else { return };
    let machine = Serving::crash(&place.socket, Setup { rate: 30_000, ..ALL });
    let mounted = place.recv(&["--on-demand"]);
    await_that("it is held", || machine.course() == 1);
    machine.control.is_cut.store(true, Ordering::Relaxed);
    assert_eq!(place.release().0, Some(0));
    // By then nothing is said to it until it says something.
    place.await_status("quiet for ");
    machine.control.forgets.store(true, Ordering::Relaxed);
    machine.control.is_cut.store(false, Ordering::Relaxed);
    let (code, said) = mounted.end();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("the machine was released before the end"), "{said}");
    assert_eq!(machine.course(), 2);
    machine.finish();
}

#[test]
fn a_machine_that_is_released_is_asked_for_nothing_more() {
    let Some(place) = Place::new() else { return };
    let machine = Serving::crash(&place.socket, WAITING);
    let mounted = place.recv(&["--read-timeout", "60"]);
    let vmcore = File::open(mounted.vmcore()).unwrap();
    let offset = offsets(&vmcore)[&0x345];
    assert_eq!(place.release().0, Some(0));
    await_that("it is released", || machine.course() == 2);
    let reader = thread::spawn(move || read_page(&vmcore, offset));
    place.await_status("readers waiting  1\n");
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(*machine.control.requests.lock().unwrap(), []);
    // It comes in its turn.
    machine.control.waits.store(false, Ordering::Relaxed);
    assert!(reader.join().unwrap().unwrap() == page(0x345));
    assert_eq!(mounted.end().0, Some(0));
    machine.finish();
}

#[test]
fn a_shell_can_release_it_too_and_can_write_nothing_else() {
    let Some(place) = Place::new() else { return };
    let machine = Serving::crash(&place.socket, ALL);
    let mounted = place.recv(&[]);
    let shell = |script: &str| {
        let output = Command::new("sh").args(["-c", script]).current_dir(&place.on).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for script in
        ["echo x > vmcore", "echo x > status", "echo x > new", "rm vmcore", "mkdir d", "mv status x"]
    {
        let (success, said) = shell(script);
        assert!(!success, "{script}: {said}");
    }
    assert_eq!(shell("echo > release"), (true, String::new()));
    assert_eq!(mounted.end().0, Some(0));
    machine.finish();
}

#[test]
fn unmounted_before_the_end_the_dump_goes_on_and_stopped_it_is_usable() {
    let slow = Setup { rate: 1_000_000, ..ALL };
    let Some(place) = Place::new() else { return };
    let machine = Serving::crash(&place.socket, slow);
    let mounted = place.recv(&[]);
    drop(File::open(mounted.vmcore()).unwrap());
    rustix::mount::unmount(&place.on, rustix::mount::UnmountFlags::empty()).unwrap();
    assert_eq!(mounted.end().0, Some(0));
    machine.finish();

    let Some(place) = Place::new() else { return };
    let machine = Serving::crash(&place.socket, slow);
    let mounted = place.recv(&[]);
    let vmcore = File::open(mounted.vmcore()).unwrap();
    assert!(read_page(&vmcore, offsets(&vmcore)[&0x345]).is_ok());
    machine.control.is_cut.store(true, Ordering::Relaxed);
    // Somebody waits, and has it open.
    let waiting = thread::spawn({
        let offset = offsets(&vmcore)[&0x204];
        move || read_page(&vmcore, offset)
    });
    place.await_status("readers waiting  1\n");
    assert_eq!(mounted.stop().0, Some(3));
    assert!(waiting.join().unwrap().is_err());
    assert!(!is_mounted(&place.on));
    machine.finish();
    let dump = place.dump();
    assert!(pages_of(&*dump)[&0x345] == Memory::new().pages()[&0x345]);
}

#[test]
fn a_machine_that_is_gone_leaves_what_it_has_sent() {
    let Some(place) = Place::new() else { return };
    // It knows of no requests: it goes when its dump is stored.
    let machine = Serving::crash(&place.socket, Setup { serves: false, ..HALF });
    let mounted = place.recv(&["--read-timeout", "600"]);
    machine.finish();
    place.await_status("over: nothing more comes");
    let vmcore = File::open(mounted.vmcore()).unwrap();
    let offsets = offsets(&vmcore);
    assert!(read_page(&vmcore, offsets[&0x305]).unwrap() == page(0x305));
    assert_eq!(read_page(&vmcore, offsets[&0x304]).unwrap_err(), Some(Errno::IO));
    drop(vmcore);
    let (code, said) = mounted.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the machine cannot be asked for pages"), "{said}");
}

#[test]
fn the_whole_file_of_a_machine_that_sends_everything_over_tcp_is_the_truth_but_for_holes() {
    let Some(place) = Place::new() else { return };
    let (mounted, address) = place.listen(&[]);
    // The network breaks twice.
    let network = Network { breaks_at: vec![30_000, 200_000], ..Network::default() };
    let machine = TcpTarget::crash(Memory::new(), 7, address, network);
    let vmcore = File::open(mounted.vmcore()).unwrap();
    let offsets = offsets(&vmcore);
    let expected = Memory::new().pages();
    for (pfn, offset) in &offsets {
        assert!(read_page(&vmcore, *offset).ok() == expected[pfn], "page {pfn:#x}");
    }
    // All of it in large pieces, up to the hole.
    let hole = offsets[&FAULTY_PFN];
    let copied = Command::new("dd")
        .args([&format!("if={}", mounted.vmcore().display()), "bs=1M"])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(copied.stdout.len() as u64, hole);
    drop(vmcore);
    await_that("all of it has come", || place.is_complete());
    assert_eq!(place.release().0, Some(0));
    let (code, said) = mounted.end();
    assert_eq!(code, Some(0), "{said}");
    machine.finish();
    let found = pages_of(&*place.dump());
    assert!(found == expected);
}
