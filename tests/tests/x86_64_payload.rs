//! The capture kernel when things are not as they should be.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "tests")]

use std::time::{Duration, Instant};

use end_to_end::gdb::Gdb;
use end_to_end::{BANNER, BOOT, DUMP, Spec, compare};
use rcapture::dump::{self, PageState};
use rcapture_qemu::{Loader, Machine, Trigger};

const SOON: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_panic_of_its_own_is_reported_and_ends_as_the_command_line_says() {
    let spec = Spec { cmdline: "rcapture.selftest=panic rcapture.final=poweroff", ..Spec::default() };
    let (_line, mut machine) = spec.start();
    machine.wait_for_line_text(BANNER, BOOT).unwrap();
    machine.wait_for_line_text("asked for by rcapture.selftest=panic", SOON).unwrap();
    machine.wait_for_line_text("turning the machine off", SOON).unwrap();
    assert!(machine.wait_for_end(SOON).unwrap().success());
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn an_elfcorehdr_that_points_nowhere_is_named() {
    let spec = Spec {
        // kexec -s puts its own in front: the later one wins.
        loader: Loader::KexecFileLoad,
        cmdline: "elfcorehdr=0x7fff00000000",
        ..Spec::default()
    };
    let (_line, mut machine) = spec.start();
    machine.wait_for_line_text(BANNER, BOOT).unwrap();
    machine.wait_for_line_text("0x7fff00000000", SOON).unwrap();
    machine.wait_for_line_text("rebooting", SOON).unwrap();
    assert!(machine.wait_for_end(SOON).unwrap().success());
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn loaded_without_an_elfcorehdr_it_says_how_to_load_it() {
    let load = "kexec -l /capture.bin --command-line=rcapture.final=reboot && kexec -e";
    let crash = Trigger::Command(load.to_owned());
    let (_line, mut machine) = Spec::default().start_with(|machine| machine.trigger(crash.clone()));
    machine.wait_for_line_text(BANNER, BOOT).unwrap();
    machine
        .wait_for_line_text("no elfcorehdr= on the command line: load this image with kexec -p", SOON)
        .unwrap();
    assert!(machine.wait_for_end(SOON).unwrap().success());
}

/// A check comes at whatever the capture kernel does just then, and at its reading of a page: that is a hole, and nothing
/// ends the dump.
#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn machine_checks_cost_a_page_at_most() {
    const MACHINE_CHECK: u8 = 3;
    // MCi_STATUS: valid, uncorrected, enabled, address valid; MCG_STATUS: RIPV and MCIP (Intel SDM vol. 3, 17.3.2).
    const CHECK: &str = "mce -b 0 1 0xb400000000000000 0x5 0x0 0x0";
    const CHECKS_AT_READS: u64 = 5;
    let mut crashed = Spec { smp: 1, ..Spec::default() }.crash();
    let mut receiver = crashed.start_receiver(&["--keep-journal"]);
    crashed.machine.cont().unwrap();
    crashed.machine.wait_for_line_text("MiB of RAM", SOON).unwrap();
    let start = Instant::now();

    let socket = crashed.path("gdb");
    let mut gdb = Gdb::attach(&mut crashed.machine, &socket);
    let read_va = first_read_instruction(&mut crashed.machine, &mut gdb);
    for _ in 0..CHECKS_AT_READS {
        gdb.go_on_to(read_va);
        crashed.machine.monitor(CHECK).unwrap();
    }
    gdb.detach();

    let mut checks = CHECKS_AT_READS;
    loop {
        // One that comes while the last is being handled resets a processor, which may wait for its turn on the host.
        std::thread::sleep(Duration::from_millis(100));
        // Until the machine turns itself off.
        if !receiver.is_running() || crashed.machine.monitor(CHECK).is_err() {
            break;
        }
        assert!(start.elapsed() < DUMP, "the dump does not go on: {checks} machine checks");
        checks += 1;
    }
    let received = receiver.wait(DUMP);
    assert!(received.status.success(), "{}: {}", received.status, received.stderr);
    let dump = dump::open(&received.directory.join("journal")).unwrap();
    let holes: u64 = dump::runs(&*dump)
        .unwrap()
        .iter()
        .filter(|run| run.state == PageState::Hole(MACHINE_CHECK))
        .map(|run| run.pages)
        .sum();
    println!("{checks} machine checks, {holes} holes");
    // What is read may be another piece of the same page, or what a page is judged by.
    assert!((1..=checks).contains(&holes), "{holes} holes by {checks} machine checks");
}

/// Where the capture kernel's instruction is that copies crashed memory: `guarded_copy` is behind the exceptions' stubs
/// (payload/src/arch/x86_64/exceptions.s), to the first of which the first gate leads.
fn first_read_instruction(machine: &mut Machine, gdb: &mut Gdb) -> u64 {
    const REP_MOVSQ: [u8; 3] = [0xf3, 0x48, 0xa5];
    let registers = machine.monitor("info registers").unwrap();
    let (_, idt) = registers.split_once("IDT=").unwrap();
    let idt_va = u64::from_str_radix(idt.split_whitespace().next().unwrap(), 16).unwrap();
    // Intel SDM vol. 3, figure 6-8.
    let gate = gdb.read(idt_va, 16);
    let stubs_va =
        u64::from_le_bytes([gate[0], gate[1], gate[6], gate[7], gate[8], gate[9], gate[10], gate[11]]);
    let code = gdb.read(stubs_va, 1024);
    let at = memchr::memmem::find(&code, &REP_MOVSQ).unwrap();
    stubs_va + at as u64
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn a_budget_ends_the_dump_with_what_tells_most_and_says_so() {
    const BUDGET_BYTES: u64 = 1 << 20;
    // What was being sent when it was spent.
    const LAST_BLOCK_BYTES: u64 = 128 << 10;
    let cmdline = "rcapture.budget=1M rcapture.final=poweroff";
    let mut crashed = Spec { dump_level: 31, cmdline, ..Spec::default() }.crash();
    let received = crashed.receive(&[], DUMP);
    assert_eq!(received.status.code(), Some(3), "{}", received.stderr);
    assert!(received.stderr.contains("budget was spent"), "{}", received.stderr);
    let journal = received.directory.join("journal");
    let journal_bytes = std::fs::metadata(&journal).unwrap().len();
    assert!((BUDGET_BYTES / 2..BUDGET_BYTES + LAST_BLOCK_BYTES).contains(&journal_bytes), "{journal_bytes}");
    assert!(compare(&received.directory.join("vmcore"), &crashed.truth, &[]).different.is_empty());
    let log = std::fs::read_to_string(received.directory.join("vmcore-dmesg.txt")).unwrap();
    assert!(log.contains("Kernel panic - not syncing: sysrq triggered crash"), "{log}");
    assert!(crashed.machine.wait_for_end(SOON).unwrap().success());
}
