//! A crashed machine is read while its dump is still coming, over a line of 115200 baud: what a debugger says of it then is what
//! it says of the whole dump, which takes a quarter of an hour. How long it takes is in docs/benchmarks.md.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::Command;

use end_to_end::{BANNER, CRASH, DUMP, Mounted, Spec, compare, drgn, free_port, info, is_left_to_full};
use memory::{PhysAddr, PhysMemory};
use rcapture::dump::{self, DumpMemory};
use rcapture_qemu::{Lab, LineOptions, Truth};

/// A machine at the end of a slow line.
fn at_115200(spec: Spec) -> Spec {
    let line = LineOptions { baud: Some(115_200), ..LineOptions::default() };
    Spec { dump_level: 31, line, ..spec }
}

/// Pages with which files begin that the guest has loaded: page cache, which the dump level leaves out, and a few of the kernel's own.
fn files_in(vmcore: &Path, truth: &Truth) -> Vec<u64> {
    let dump = dump::open(vmcore).unwrap();
    let mut start = [0; 4];
    let pages = dump.facts().ram_runs().into_iter().flat_map(|(first, pages)| first..first + pages);
    let pages = pages.map(|pfn| pfn << 12);
    pages.filter(|&pa| truth.read(pa, &mut start).is_ok() && start == *b"\x7fELF").take(32).collect()
}

/// The pages at `addresses` are what was in the machine.
fn has(vmcore: &Path, truth: &Truth, addresses: &[u64]) {
    let dump = dump::open(vmcore).unwrap();
    let memory = DumpMemory::new(&*dump);
    let (mut is, mut should) = ([0; 4096], [0; 4096]);
    for &pa in addresses {
        memory.read(PhysAddr(pa), &mut is).unwrap();
        truth.read(pa, &mut should).unwrap();
        assert!(is == should, "{}: the page at {pa:#x} differs", vmcore.display());
    }
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn crash_says_of_the_mounted_machine_what_it_says_of_the_whole_dump() {
    let spec = at_115200(Spec { memory_mib: 2048, ..Spec::default() });
    let crash = Lab::open().unwrap().crash().unwrap();
    let commands = ["sys", "bt", "ps", "log"];
    let mounted = Mounted::of(spec.crash());
    let early = crash.say(&spec.vmlinux(), &mounted.vmcore, &commands, CRASH).unwrap();
    println!("crash has said it {:.1} s after the session header", mounted.begun.elapsed().as_secs_f64());
    println!("{}", early.sections[1]);
    println!("{}", fs::read_to_string(mounted.vmcore.with_file_name("status")).unwrap());
    let files = files_in(&mounted.vmcore, &mounted.crashed.truth);
    has(&mounted.vmcore, &mounted.crashed.truth, &files);

    let (crashed, received) = mounted.finish(DUMP);
    let whole = received.vmcore();
    assert!(received.compare(&crashed.truth).different.is_empty());
    has(&whole, &crashed.truth, &files);
    let info = info(&whole);
    assert!(info.contains("\npulled ") && info.contains(" 0 missing"), "{info}");
    let late = crash.say(&spec.vmlinux(), &whole, &commands, CRASH).unwrap();
    assert!(early.sections[1].contains("sysrq_handle_crash"), "{}", early.sections[1]);
    assert_eq!(early.differences(&late), Vec::<String>::new());
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn all_of_a_machine_that_sends_little_by_itself_is_read_over_tcp() {
    let port = free_port();
    let settings = format!(
        "rcapture.dump_level=31 rcapture.link=tcp:10.0.2.2:{port} ip=10.0.2.15::10.0.2.2:255.255.255.0 rcapture.final=serve:60s"
    );
    let spec = Spec { memory_mib: 128, ..Spec::default() };
    let crashed = spec.crash_at(BANNER, |machine| machine.network_card().capture_cmdline(settings.clone()));
    let mounted = Mounted::over_tcp(crashed, port);
    let copy = mounted.crashed.path("copy");
    let mut dd = Command::new("dd");
    dd.arg(format!("if={}", mounted.vmcore.display())).arg(format!("of={}", copy.display())).arg("bs=1M");
    assert!(dd.status().unwrap().success());
    println!("all has been read {:.1} s after the session header", mounted.begun.elapsed().as_secs_f64());
    compare(&copy, &mounted.crashed.truth, &[]).assert_every_page();
    let (crashed, received) = mounted.finish(DUMP);
    received.compare(&crashed.truth).assert_every_page();
    let console = fs::read(crashed.machine.serial_log()).unwrap();
    let console = String::from_utf8_lossy(&console).into_owned();
    assert!(
        console.contains(BANNER) && !console.contains("rcapture.final"),
        "a setting is refused: {console}"
    );
}

/// drgn says of the mounted machine what it says of the whole dump.
fn drgn_says_the_same(spec: &Spec) {
    let vmlinux = spec.vmlinux();
    let ask = |vmcore: &Path| {
        let stack = drgn::crashed_stack(vmcore, &[&vmlinux])?;
        drgn::tasks_and_log(vmcore, &vmlinux).map(|(tasks, log)| (stack, tasks, log))
    };
    let mounted = Mounted::of(spec.crash());
    let early = match ask(&mounted.vmcore) {
        Ok(said) => said,
        Err(reason) => return println!("left out: drgn: {reason}"),
    };
    println!("drgn has said it {:.1} s after the session header", mounted.begun.elapsed().as_secs_f64());
    let (crashed, received) = mounted.finish(DUMP);
    assert!(received.compare(&crashed.truth).different.is_empty());
    assert!(early.0.iter().any(|function| function == "sysrq_handle_crash"), "{:?}", early.0);
    assert_eq!(early, ask(&received.vmcore()).unwrap());
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn drgn_says_of_the_mounted_imx6_what_it_says_of_the_whole_dump() {
    drgn_says_the_same(&at_115200(Spec::sabrelite()));
}

#[test]
#[ignore = "needs QEMU: cargo xtask test --full"]
fn drgn_says_of_the_other_mounted_machines_what_it_says_of_the_whole_dump() {
    if is_left_to_full() {
        return;
    }
    for spec in [Spec { memory_mib: 2048, ..Spec::default() }, Spec::aarch64()] {
        println!("{spec:?}");
        drgn_says_the_same(&at_115200(spec));
    }
}
