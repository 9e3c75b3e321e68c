//! A dump as a directory while it is being received from the capture kernel's own pipeline.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use capture::Serve;
use rustix::io::Errno;
use support::mounted::{Place, free_address, offsets, read_page};
use support::{
    FAULTY_PFN, Memory, Network, PAGE, Target, TcpTarget, Trouble, options, page, pages_of, receive,
};

/// The vmcore of a machine that nobody has looked at.
fn vmcore_of(memory: &Memory) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path(), rcapture::write::Options::default());
    std::fs::read(receive(&memory.line(), &options).unwrap().directory.join("vmcore")).unwrap()
}

#[test]
fn the_capture_kernels_own_pipeline_answers_and_the_vmcore_is_the_same_file_as_ever() {
    let Some(place) = Place::new() else { return };
    // The line is slow, and damages a byte now and then.
    let trouble =
        Trouble { damage_every: Some(30_000), bytes_per_second: 100_000, waits: true, text_at: None };
    let target = Target::crash(Memory::new(), &place.socket, trouble);
    let mounted = place.recv(&[]);
    let expected = Memory::new().pages();
    let vmcore = File::open(mounted.vmcore()).unwrap();
    let offsets = offsets(&vmcore);
    thread::scope(|scope| {
        for reader in 0..4_u64 {
            let (vmcore, offsets, expected) = (&vmcore, &offsets, &expected);
            scope.spawn(move || {
                for pfn in (0x370 - reader..0x380).step_by(4).chain([0x9f, 0x31f - reader]) {
                    let page = read_page(vmcore, offsets[&pfn]).unwrap();
                    assert!(page == *expected[&pfn].as_ref().unwrap(), "page {pfn:#x}");
                }
            });
        }
    });
    assert!(!place.status().contains("pages pulled     0\n"), "{}", place.status());
    assert_eq!(read_page(&vmcore, offsets[&FAULTY_PFN]).unwrap_err(), Some(Errno::IO));
    drop(vmcore);
    assert_eq!(place.release().0, Some(0));
    let (code, said) = mounted.end();
    assert_eq!(code, Some(0), "{said}");
    target.finish();
    let vmcore = std::fs::read(place.dump_directory().join("vmcore")).unwrap();
    assert!(vmcore == vmcore_of(&Memory::new()), "the vmcore depends on who looked");
}

#[test]
fn a_receiver_that_was_killed_has_what_was_read_when_it_is_started_again() {
    let Some(place) = Place::new() else { return };
    let trouble = Trouble { damage_every: None, bytes_per_second: 100_000, waits: true, text_at: None };
    let target = Target::crash(Memory::new(), &place.socket, trouble);
    let mounted = place.recv(&["--on-demand"]);
    let vmcore = File::open(mounted.vmcore()).unwrap();
    let offset = offsets(&vmcore)[&0x374];
    assert!(read_page(&vmcore, offset).is_ok());
    drop(vmcore);
    mounted.signal(rustix::process::Signal::KILL);
    assert_eq!(mounted.end().0, None);
    let mounted = place.recv(&["--on-demand"]);
    let vmcore = File::open(mounted.vmcore()).unwrap();
    assert!(read_page(&vmcore, offset).unwrap() == page(0x374));
    place.await_status("pages pulled     1\n");
    // The next one is not taken for an answer to the one before.
    assert!(read_page(&vmcore, offset - 4096).unwrap() == page(0x373));
    drop(vmcore);
    assert_eq!(place.release().0, Some(0));
    let (code, said) = mounted.end();
    assert_eq!(code, Some(3), "{said}");
    assert!(target.finish().0.is_cut);
    let dump = place.dump();
    for pfn in [0x373, 0x374] {
        assert!(pages_of(&*dump)[&pfn] == Memory::new().pages()[&pfn]);
    }
}

#[test]
fn a_machine_that_stays_can_be_looked_at_when_its_dump_is_there_already() {
    let Some(place) = Place::new() else { return };
    let address = free_address();
    let serve = Some(Serve { limit: None });
    let machine = TcpTarget::crash_to_stay(Memory::new(), 7, address, Network::default(), serve);
    let (listen, out) = (address.to_string(), place.out.to_str().unwrap());
    let (code, said) = place.run(&["recv", "--listen", &listen, "--once", "--keep-free", "0", "-o", out]);
    assert_eq!(code, Some(0), "{said}");
    let mounted = place.listen_at(address, &["--on-demand"]);
    let vmcore = File::open(mounted.vmcore()).unwrap();
    let offset = offsets(&vmcore)[&0x204];
    assert!(read_page(&vmcore, offset).unwrap() == page(0x204));
    assert!(!machine.is_finished());
    drop(vmcore);
    assert_eq!(place.release().0, Some(0));
    assert_eq!(mounted.end().0, Some(3));
    machine.finish();
}

#[test]
fn readers_that_are_busy_keep_no_half_open_connection_alive() {
    let Some(place) = Place::new() else { return };
    let (mounted, address) = place.listen(&["--on-demand"]);
    let network = Network { breaks_at: vec![30_000], is_half_open: true, ..Network::default() };
    let machine = TcpTarget::crash(Memory::new(), 7, address, network);
    let vmcore = File::open(mounted.vmcore()).unwrap();
    let offsets: Vec<u64> = offsets(&vmcore).range(0x200..0x280).map(|(_, &offset)| offset).collect();
    let (read, is_done) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        // Reads again and again what leads to the page that does not come.
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                if let Some(before) = read.load(Ordering::Relaxed).checked_sub(2) {
                    let _ = vmcore.read_at(&mut [0; 2 * PAGE], offsets[before]);
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        let errors = offsets.iter().filter(|&&offset| {
            let is_error = read_page(&vmcore, offset).is_err();
            read.fetch_add(1, Ordering::Relaxed);
            is_error
        });
        let errors = errors.count();
        is_done.store(true, Ordering::Relaxed);
        assert_eq!(errors, 0);
    });
    drop(vmcore);
    assert_eq!(place.release().0, Some(0));
    assert_eq!(mounted.end().0, Some(3));
    machine.finish();
}

#[test]
fn a_connection_that_breaks_costs_a_reader_time_only() {
    let Some(place) = Place::new() else { return };
    let (mounted, address) = place.listen(&["--on-demand", "--read-timeout", "60"]);
    let network = Network { breaks_at: (1..10).map(|at| at * 30_000).collect(), ..Network::default() };
    let machine = TcpTarget::crash(Memory::new(), 7, address, network);
    let vmcore = File::open(mounted.vmcore()).unwrap();
    let offsets = offsets(&vmcore);
    let expected = Memory::new().pages();
    for (pfn, offset) in offsets.iter().skip(1).step_by(3) {
        assert!(read_page(&vmcore, *offset).ok() == expected[pfn], "page {pfn:#x}");
    }
    drop(vmcore);
    assert_eq!(place.release().0, Some(0));
    let (code, said) = mounted.end();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("the machine was released before the end"), "{said}");
    assert!(machine.finish().is_cut);
}
