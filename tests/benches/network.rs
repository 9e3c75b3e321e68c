//! From the panic to the whole dump on the host, over a virtio network card: rcapture beside Linux's kdump with makedumpfile,
//! in turns, on the same machine. Needs the lab, the image and `rcapture`: `cargo xtask image`, and `$RCAPTURE_QEMU` naming
//! the program `rcapture-qemu`, beside which `rcapture` is.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "a benchmark")]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use end_to_end::{CARD_MODULES, DUMP, Spec, free_port};
use rcapture_qemu::{Kdump, Lab, Loader};
use support::{PANIC, Timeline, seconds};
use tempfile::TempDir;

const RUNS: usize = 3;
const MEMORY_MIB: u32 = 2048;

/// What a smaller one cannot do: 72M runs out of memory.
const KDUMP_RESERVATION: &str = "256M";

/// A dump's way from panic to host.
struct Measured {
    time: Duration,
    bytes: u64,
}

fn main() {
    if !support::is_chosen("network") {
        return;
    }
    let directory = tempfile::Builder::new().prefix("rcapture-bench-").tempdir().unwrap();
    let mut table = String::from(
        "| level | rcapture | kdump | of kdump's time | rcapture's vmcore | kdump's |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for level in [31, 0] {
        // In turns: whatever else the host has to do meets both.
        let runs: Vec<(Measured, Measured)> =
            (0..RUNS).map(|_| (by_rcapture(level, &directory), by_kdump(level, &directory))).collect();
        let bytes = [&runs[0].0, &runs[0].1].map(|measured| measured.bytes);
        let (ours, theirs): (Vec<_>, Vec<_>) = runs.into_iter().map(|(a, b)| (a.time, b.time)).unzip();
        eprintln!("level {level}: {ours:?} and {theirs:?}");
        let ((our_median, ours), (their_median, theirs)) = (seconds(ours), seconds(theirs));
        let ratio = our_median.as_secs_f64() / their_median.as_secs_f64();
        let [our_bytes, their_bytes] = bytes;
        writeln!(table, "| {level} | {ours} | {theirs} | **{ratio:.2}** | {our_bytes} | {their_bytes} |")
            .unwrap();
    }
    support::publish("network", &table);
}

/// The machine, without what makes the capture kernel.
fn spec() -> Spec {
    Spec { memory_mib: MEMORY_MIB, ..Spec::default() }
}

fn by_rcapture(level: u8, directory: &TempDir) -> Measured {
    let output = directory.path().join("rcapture");
    fs::create_dir(&output).unwrap();
    let port = free_port();
    let mut receiver = Command::new(rcapture())
        .args(["recv", "--once", "--listen", &format!("127.0.0.1:{port}"), "-o"])
        .arg(&output)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let cmdline = format!(
        "rcapture.dump_level={level} rcapture.link=tcp:10.0.2.2:{port} ip=10.0.2.15::10.0.2.2:255.255.255.0"
    );
    let (line, _machine) =
        spec().start_with(|machine| machine.network_card().capture_cmdline(cmdline.clone()));
    let panicked = Timeline::until(&line, PANIC).when(PANIC);
    let start = Instant::now();
    // What is left to wait for: the vmcore is written.
    while receiver.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < DUMP, "rcapture does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    let time = panicked.elapsed();
    assert!(receiver.wait().unwrap().success());
    let dump = fs::read_dir(&output).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::metadata(dump.join("vmcore")).unwrap().len();
    fs::remove_dir_all(&output).unwrap();
    Measured { time, bytes }
}

fn by_kdump(level: u8, directory: &TempDir) -> Measured {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let path = directory.path().join("kdump.flat");
    let receiver = {
        let path = path.clone();
        std::thread::spawn(move || -> io::Result<(Instant, u64)> {
            let (mut connection, _) = listener.accept()?;
            connection.set_read_timeout(Some(DUMP))?;
            let bytes = io::copy(&mut connection, &mut fs::File::create(path)?)?;
            Ok((Instant::now(), bytes))
        })
    };
    let lab = Lab::open().unwrap();
    let spec = spec();
    let kernel = spec.kernel();
    let initrd = directory.path().join("kdump.initrd");
    let kdump = Kdump {
        modules: kernel.module_files(&CARD_MODULES).unwrap(),
        address: "10.0.2.15".to_owned(),
        command: format!("makedumpfile -F -l -d {level} /proc/vmcore | nc 10.0.2.2 {port}"),
    };
    kdump.write_initramfs(&initrd, &lab.userland().unwrap(), &lab.makedumpfile().unwrap()).unwrap();
    let (line, mut machine) = spec.start_with(|machine| {
        machine
            .network_card()
            .capture_image(&kernel.vmlinuz)
            .capture_initrd(&initrd)
            .loader(Loader::KexecLoad)
            .crashkernel(KDUMP_RESERVATION)
            // What distributions tell it.
            .capture_cmdline("console=ttyS0 quiet nr_cpus=1 irqpoll reset_devices")
    });
    let panicked = Timeline::until(&line, PANIC).when(PANIC);
    // It turns itself off once all is sent.
    machine.wait_for_end(DUMP).unwrap();
    let (ended, bytes) = receiver.join().unwrap().unwrap();
    assert!(bytes > 1 << 20, "makedumpfile sent {bytes} bytes");
    fs::remove_file(&path).unwrap();
    Measured { time: ended - panicked, bytes }
}

/// The program beside `$RCAPTURE_QEMU`, as it is built for users.
fn rcapture() -> PathBuf {
    Path::new(&std::env::var_os("RCAPTURE_QEMU").unwrap()).with_file_name("rcapture")
}
