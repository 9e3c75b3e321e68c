//! `rcapture-qemu run`, with real machines: how each kind of run ends, and what it leaves.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests")]

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rcapture_qemu::{Flavour, Lab, Suite};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

fn command(output: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rcapture-qemu"));
    command.arg("run").arg("-o").arg(output);
    command
}

/// What became of the first scenario, its reason, and all that is known of it.
fn result(output: &Path) -> (String, String, Value) {
    let results: Value = serde_json::from_slice(&fs::read(output.join("results.json")).unwrap()).unwrap();
    let text = |name: &str| results[0][name].as_str().unwrap_or_default().to_owned();
    (text("outcome"), text("reason"), results[0].clone())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn wrong_usage_is_told_before_anything_is_run() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("output");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let scenario = "[[scenario]]\nname = 'x'\nsuite = 'sid'\n";
    let good = file("good.toml", scenario);
    let misspelt = file("misspelt.toml", &format!("{scenario}memroy = 1\n"));
    for (arguments, word) in [
        (&["--matrix", "no-such-file"][..], "no-such-file"),
        (&["--matrix", &misspelt], "memroy"),
        (&["--matrix", &good, "--only", "nobody"], "nobody"),
        (&["--matrix", &good, "--memory", "1024"], "--memory"),
        (&["--matrix", &good, "--link", "tcp"], "cannot be used with '--link"),
        (&["--matrix", &good, "--", "-s"], "[QEMU]"),
        (&["bzImage", "--expect-log", "("], "unclosed group"),
        (&["bzImage", "--arch", "arm"], "arch is a suite's"),
        (&["--suite", "sid", "--headers", "."], "headers"),
        (&[], "<KERNEL"),
    ] {
        let said = command(&output).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(word), "{arguments:?}: {text}");
    }
    assert!(!output.exists());
}

#[test]
#[ignore = "needs QEMU and Debian's archive"]
fn a_kernel_that_nobody_has_tried_passes_with_nothing_but_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = Lab::open().unwrap().with_flavour(Flavour::Rt).kernel(Suite::Bookworm).unwrap();
    let output = command(directory.path()).arg(&kernel.vmlinuz).output().unwrap();
    println!("{}", said(&output));
    assert_eq!(output.status.code(), Some(0));
    let (outcome, _, report) = result(directory.path());
    assert_eq!((outcome.as_str(), report["arch"].as_str().unwrap()), ("passed", "x86_64"));
    let dump = Path::new(report["dump"].as_str().unwrap());
    assert!(fs::read_to_string(dump.join("vmcore-dmesg.txt")).unwrap().contains(&kernel.release));
    assert!(report["vmcore"].as_str().is_some() && report["bytes"].as_u64().unwrap() > 1 << 20, "{report}");
    for file in ["serial.log", "recv.log", "result.json"] {
        assert!(directory.path().join("vmlinuz").join(file).exists(), "{file}");
    }
}

#[test]
#[ignore = "needs QEMU and Debian's archive"]
fn what_a_kernel_cannot_do_is_not_supported() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = Lab::open().unwrap().kernel(Suite::Bookworm).unwrap();
    // Debian's kernels have no LKDTM, and of headers nothing is said.
    let output =
        command(directory.path()).arg(&kernel.vmlinuz).args(["--crash", "nullptr"]).output().unwrap();
    println!("{}", said(&output));
    assert_eq!(output.status.code(), Some(6));
    let (outcome, reason, _) = result(directory.path());
    assert_eq!(outcome, "not supported");
    assert!(reason.contains("CONFIG_LKDTM") && reason.contains("--headers"), "{reason}");
}

#[test]
#[ignore = "needs QEMU and Debian's archive"]
fn what_qemu_has_against_its_arguments_stays() {
    let directory = tempfile::tempdir().unwrap();
    let output =
        command(directory.path()).args(["--suite", "bookworm", "--", "-device", "nosuch"]).output().unwrap();
    println!("{}", said(&output));
    assert_eq!(output.status.code(), Some(5));
    let (_, reason, _) = result(directory.path());
    assert!(reason.contains("'nosuch' is not"), "{reason}");
    let messages = fs::read_to_string(directory.path().join("bookworm/qemu.log")).unwrap();
    assert!(messages.contains("nosuch"), "{messages}");
}

#[test]
#[ignore = "needs QEMU and Debian's archive"]
fn an_expectation_that_is_not_met_fails_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let matrix = directory.path().join("matrix.toml");
    let scenarios = r#"
        [defaults]
        suite = "bookworm"

        [[scenario]]
        name = "expects-too-much"
        expect-log = ["sysrq: Trigger a crash", "this was never said"]
        expect-bt = ["sysrq_handle_crash"]
        max-bytes = "1K"

        [[scenario]]
        name = "expects-what-comes"
        crashkernel = "none"
        expect-outcome = "failed"
        expect-reason = "no memory is reserved"
        "#;
    fs::write(&matrix, scenarios).unwrap();
    let output = command(directory.path()).arg("--matrix").arg(&matrix).output().unwrap();
    println!("{}", said(&output));
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8(output.stdout).unwrap();
    let outcomes: Vec<&str> = table.lines().skip(1).filter_map(|row| row.split_whitespace().nth(1)).collect();
    assert_eq!(outcomes, ["failed", "passed"]);
    let (outcome, reason, report) = result(directory.path());
    assert_eq!(outcome, "failed");
    assert!(reason.contains("this was never said") && reason.contains("of 1 KiB"), "{reason}");
    let met: Vec<(&str, bool)> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| (check["name"].as_str().unwrap(), check["passed"].as_bool().unwrap()))
        .collect();
    assert_eq!(
        met,
        [("complete", true), ("log", true), ("log", false), ("backtrace", true), ("bytes", false)]
    );
    let backtrace = fs::read_to_string(directory.path().join("expects-too-much/backtrace.txt")).unwrap();
    assert!(backtrace.contains("sysrq_handle_crash"), "{backtrace}");
    let junit = fs::read_to_string(directory.path().join("junit.xml")).unwrap();
    for text in ["tests=\"2\"", "failures=\"1\"", "errors=\"0\"", "this was never said"] {
        assert!(junit.contains(text), "no {text}: {junit}");
    }
}

#[test]
#[ignore = "needs QEMU and Debian's archive"]
fn ctrl_c_leaves_what_has_come() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = command(directory.path());
    run.args(["--suite", "bookworm", "--baud", "115200"]).stdout(Stdio::null());
    // A terminal tells the whole group.
    let mut child = run.process_group(0).spawn().unwrap();
    let begun = Instant::now();
    let journal = || {
        let dumps = fs::read_dir(directory.path().join("bookworm/dump")).ok()?;
        dumps
            .filter_map(|dump| fs::metadata(dump.ok()?.path().join("journal")).ok())
            .map(|file| file.len())
            .max()
    };
    // Its first passes have the kernel's log.
    while journal().is_none_or(|bytes| bytes < 200 << 10) {
        assert!(begun.elapsed() < Duration::from_secs(300) && child.try_wait().unwrap().is_none());
        thread::sleep(Duration::from_millis(50));
    }
    kill_process_group(Pid::from_child(&child), Signal::INT).unwrap();
    let status = child.wait().unwrap();
    let (outcome, reason, report) = result(directory.path());
    assert_eq!((status.code(), outcome.as_str()), (Some(1), "failed"));
    assert!(reason.contains("interrupted while receiving the dump"), "{reason}");
    let log = Path::new(report["dump"].as_str().unwrap()).join("vmcore-dmesg.txt");
    assert!(fs::read_to_string(log).unwrap().contains("sysrq: Trigger a crash"));
    assert!(Path::new(report["vmcore"].as_str().unwrap()).exists());
    assert!(directory.path().join("junit.xml").exists());
}
