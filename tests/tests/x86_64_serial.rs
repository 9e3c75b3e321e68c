//! x86_64 over a serial line: a stock kernel crashes, every page of it arrives, and crash(8) reads it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use end_to_end::{CRASH, DUMP, Spec, drgn, is_left_to_full, rcapture};
use rcapture_qemu::crash::normalised_log;
use rcapture_qemu::{Lab, Loader, Suite};

/// Crashes a machine, and compares every page of every range of RAM with what QEMU saw at the banner.
fn every_page_arrives(spec: &Spec) {
    let mut crashed = spec.crash();
    let comparison = crashed.receive(&[], DUMP).compare(&crashed.truth);
    // Firmware, the reservation and holes are not RAM to the dump; hardly more than that is missing.
    assert!(comparison.equal > u64::from(spec.memory_mib) * 256 * 95 / 100, "{comparison}");
    comparison.assert_every_page();
}

// One machine for each pair of: loader, page-table depth, size, number of CPUs, kernel. `--full` takes them all.

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn kexec_file_load_4_levels_512_mib_1_cpu_linux_6_12() {
    every_page_arrives(&Spec {
        suite: Suite::Trixie,
        loader: Loader::KexecFileLoad,
        cpu: "qemu64",
        smp: 1,
        ..Spec::default()
    });
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn kexec_file_load_5_levels_2_gib_1_cpu_linux_6_1() {
    every_page_arrives(&Spec { loader: Loader::KexecFileLoad, memory_mib: 2048, smp: 1, ..Spec::default() });
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn kexec_load_4_levels_2_gib_4_cpus_linux_6_12() {
    every_page_arrives(&Spec {
        suite: Suite::Trixie,
        cpu: "qemu64",
        memory_mib: 2048,
        smp: 4,
        ..Spec::default()
    });
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn kexec_load_4_levels_6_gib_1_cpu_linux_6_1() {
    every_page_arrives(&Spec { cpu: "qemu64", memory_mib: 6144, smp: 1, ..Spec::default() });
}

#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn kexec_file_load_5_levels_6_gib_4_cpus_linux_6_12() {
    every_page_arrives(&Spec {
        suite: Suite::Trixie,
        loader: Loader::KexecFileLoad,
        memory_mib: 6144,
        smp: 4,
        ..Spec::default()
    });
}

#[test]
#[ignore = "needs QEMU: cargo xtask test --full"]
fn the_other_machines() {
    if is_left_to_full() {
        return;
    }
    for suite in [Suite::Bookworm, Suite::Trixie] {
        for loader in [Loader::KexecLoad, Loader::KexecFileLoad] {
            for cpu in ["max", "qemu64"] {
                for memory_mib in [512, 2048, 6144] {
                    for smp in [1, 4] {
                        let spec = Spec { suite, loader, cpu, memory_mib, smp, ..Spec::default() };
                        println!("{spec:?}");
                        every_page_arrives(&spec);
                    }
                }
            }
        }
    }
}

/// What crash says that is no answer.
fn complaints(output: &str) -> BTreeSet<String> {
    let is_complaint = |line: &&str| {
        let line = line.to_lowercase();
        [
            "warning",
            "error",
            "cannot",
            "invalid",
            "excluded",
            "incomplete",
            "unable",
            "crash:",
            "bt:",
            "ps:",
            "log:",
        ]
        .iter()
        .any(|word| line.contains(word))
    };
    // The kernel's own log may well speak of errors.
    output.lines().filter(|line| !line.starts_with('[')).filter(is_complaint).map(str::to_owned).collect()
}

/// `ps` without the figures that QEMU's registers change: which CPU is where.
fn tasks(ps: &str) -> Vec<String> {
    let columns =
        |line: &str| line.trim_start_matches('>').split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    ps.lines().filter(|line| line.contains("  ")).map(|line| columns(line).join(" ")).collect()
}

/// The whole way on one machine: the formats, the tools that read them, the console, and the recording of the line.
#[test]
#[ignore = "needs QEMU: cargo xtask test"]
fn kexec_load_5_levels_512_mib_4_cpus_linux_6_1_as_crash_sees_it() {
    let spec = Spec { smp: 4, cmdline: "rcapture.final=poweroff", ..Spec::default() };
    let mut crashed = spec.crash();
    let received = crashed.receive(&[], DUMP);
    received.compare(&crashed.truth).assert_every_page();
    let vmcore = received.vmcore();
    let status = crashed.machine.wait_for_end(DUMP).unwrap();
    assert!(status.success(), "the machine was turned off as rcapture.final says");

    the_console_is_in_its_log_and_not_in_the_dump(&received.directory);
    a_recording_of_the_line_gives_the_same_vmcore(crashed.line.record(), &vmcore);

    let elf = crashed.path("vmcore.elf");
    let flattened = crashed.path("vmcore.flat");
    convert(&vmcore, &elf, &["--format", "elf"]);
    convert(&vmcore, &flattened, &["--format", "flattened"]);
    let vmlinux = spec.vmlinux();
    let crash = Lab::open().unwrap().crash().unwrap();
    let commands = ["sys", "bt", "ps", "log"];
    let run = |dump: &Path| crash.run(&vmlinux, dump, &commands, CRASH).unwrap();
    let truth = run(&crashed.path("truth"));
    let log = rcapture().arg("log").arg(&vmcore).output().unwrap();
    assert!(log.status.success(), "{}", String::from_utf8_lossy(&log.stderr));
    assert_eq!(fs::read(received.directory.join("vmcore-dmesg.txt")).unwrap(), log.stdout);
    for dump in [&vmcore, &elf, &flattened] {
        let sections = run(dump);
        let name = dump.display();
        for (command, (ours, theirs)) in commands.iter().zip(sections.iter().zip(&truth)) {
            let (ours, theirs) = (complaints(ours), complaints(theirs));
            let new: Vec<_> = ours.difference(&theirs).collect();
            assert!(new.is_empty(), "{name}: {command} complains: {new:?}");
        }
        assert!(sections[0].contains("sysrq"), "{name}: {}", sections[0]);
        assert!(sections[1].contains("sysrq_handle_crash"), "{name}: {}", sections[1]);
        let (ours, theirs) = (tasks(&sections[2]), tasks(&truth[2]));
        assert!(ours.len() > 40, "{name}: {}", sections[2]);
        assert_same_lines(&ours, &theirs, &dump.display());
        let (ours, theirs) = (normalised_log(&log.stdout), normalised_log(sections[3].as_bytes()));
        assert_same_lines(&as_crash_prints(&ours, &theirs), &theirs, &dump.display());
    }
    // Another reader of both formats (of the kdump one through libkdumpfile). A prime number of pages apart: all kinds of pages.
    let addresses: Vec<u64> =
        (0x10_0000..0x1e00_0000).step_by(4096 * 977).filter(|&pa| crashed.truth.contains(pa, 16)).collect();
    drgn::reads_what_was_there(&[&vmcore, &elf], &crashed.truth, &addresses);
}

/// A log is long: only where it differs is shown.
fn assert_same_lines(ours: &[String], theirs: &[String], what: &dyn std::fmt::Display) {
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours, theirs, "{what}");
    }
    assert_eq!(ours.len(), theirs.len(), "{what}: one is longer");
}

/// Lines of our log, without their time where crash gives none: it says it once for a record of several lines.
fn as_crash_prints(ours: &[String], theirs: &[String]) -> Vec<String> {
    let without_time = |line: &str| line.split_once("] ").map_or(line, |(_, text)| text).trim().to_owned();
    let pairs =
        ours.iter().zip(theirs.iter().map(|line| line.starts_with('[')).chain(std::iter::repeat(true)));
    pairs.map(|(line, has_time)| if has_time { line.clone() } else { without_time(line) }).collect()
}

fn convert(input: &Path, output: &Path, arguments: &[&str]) {
    let result = rcapture().arg("convert").arg(input).arg("-o").arg(output).args(arguments).output().unwrap();
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
}

fn the_console_is_in_its_log_and_not_in_the_dump(directory: &Path) {
    let console = fs::read_to_string(directory.join("console.log")).unwrap();
    for text in ["Kernel panic - not syncing: sysrq triggered crash", "capture kernel started", "KiB sent"] {
        assert!(console.contains(text), "{text:?} is not in console.log:\n{console}");
    }
    assert!(!console.contains('\u{1b}'));
}

fn a_recording_of_the_line_gives_the_same_vmcore(record: &Path, vmcore: &Path) {
    let again = vmcore.with_file_name("again");
    convert(record, &again, &[]);
    assert!(fs::read(vmcore).unwrap() == fs::read(&again).unwrap(), "the recording gives another vmcore");
}
