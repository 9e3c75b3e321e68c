//! Linux's way: the same kernel once more, with nothing but busybox, the card's driver and makedumpfile.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::network::ARM_MMIO_MODULES;
use end_to_end::{CARD_MODULES, DUMP, Spec};
use rcapture_qemu::{Arch, Kdump, Lab, Line, Loader};

use crate::course::Course;
use crate::support::{PANIC, Timeline};

/// What came through one connection.
struct Came {
    first_byte: Instant,
    growth: Vec<(u64, Instant)>,
}

impl Came {
    fn last_byte(&self) -> Instant {
        self.growth.last().map_or(self.first_byte, |&(_, moment)| moment)
    }
}

/// Times that it is tried: QEMU's emulator loses a machine at boot now and then.
const TIMES: usize = 3;

/// kexec-tools 2.0.25 takes a zImage's kernel for smaller than it is: it would unpack itself over the initramfs.
const ARM_LOADER: &str =
    "kexec -p /capture.bin --initrd=/capture.initrd --image-size=0x2800000 --command-line=\"$LAB_CMDLINE\"";

/// Why there is no dump.
pub(crate) enum Failure {
    /// The machine got through, and sent none.
    NoDump,
    /// It did not get through.
    Machine,
}

/// A dump over a network, the log first, as distributions do it; none if makedumpfile makes none of this kernel. `options` are
/// makedumpfile's.
pub(crate) fn dump(spec: &Spec, reservation: &str, options: &str) -> Option<Course> {
    for _ in 0..TIMES {
        match try_dump(spec, reservation, options, DUMP) {
            Ok(course) => return Some(course),
            Err(Failure::NoDump) => return None,
            Err(Failure::Machine) => {}
        }
    }
    panic!("kdump does not get through with {reservation}")
}

/// [`dump`] within `deadline`.
pub(crate) fn try_dump(
    spec: &Spec,
    reservation: &str,
    options: &str,
    deadline: Duration,
) -> Result<Course, Failure> {
    let directory = tempfile::Builder::new().prefix("rcapture-bench-").tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let host = format!("10.0.2.2 {port}");
    let lab = Lab::open().unwrap().for_arch(spec.arch);
    let kernel = spec.kernel();
    let modules: &[&str] = if spec.arch == Arch::Arm { &ARM_MMIO_MODULES } else { &CARD_MODULES };
    let level = spec.dump_level;
    let kdump = Kdump {
        modules: kernel.module_files(modules).unwrap(),
        address: "10.0.2.15".to_owned(),
        command: format!(
            "makedumpfile --dump-dmesg /proc/vmcore /tmp/log && nc {host} </tmp/log; \
             makedumpfile -F {options} -d {level} /proc/vmcore | nc {host}"
        ),
    };
    let initrd = directory.path().join("kdump.initrd");
    kdump.write_initramfs(&initrd, &lab.userland().unwrap(), &lab.makedumpfile().unwrap()).unwrap();

    let is_over = Arc::new(AtomicBool::new(false));
    let receiver = {
        let (log, dump) = (directory.path().join("log"), directory.path().join("kdump.flat"));
        let is_over = Arc::clone(&is_over);
        thread::spawn(move || -> Option<(Came, Came)> {
            Some((take(&listener, &log, &is_over)?, take(&listener, &dump, &is_over)?))
        })
    };
    let panicked = run(spec, reservation, &initrd, deadline);
    is_over.store(true, Ordering::Relaxed);
    let came = receiver.join().unwrap();
    let panicked = panicked.ok_or(Failure::Machine)?;
    let (log, dump) = came.ok_or(Failure::NoDump)?;
    let file = directory.path().join("kdump.flat");
    let course = Course {
        directory,
        panicked,
        first_byte: log.first_byte,
        log: log.last_byte(),
        complete: dump.last_byte(),
        file,
        growth: dump.growth,
    };
    // A makedumpfile that runs out of memory leaves a part.
    if course.bytes() > 1 << 20 { Ok(course) } else { Err(Failure::NoDump) }
}

/// Lets the machine crash, and Linux dump it. Returns when it panicked, if it got so far, and through.
fn run(spec: &Spec, reservation: &str, initrd: &Path, deadline: Duration) -> Option<Instant> {
    let line = Line::spawn(spec.line.clone()).unwrap();
    let machine = spec.machine(&line).network_card();
    // What distributions tell it; and a machine that has no memory left is to end.
    let cmdline = format!(
        "console={} quiet nr_cpus=1 irqpoll reset_devices vm.panic_on_oom=1 panic=-1",
        machine.console_port()
    );
    let machine = machine
        .capture_image(&spec.kernel().vmlinuz)
        .capture_initrd(initrd)
        .loader(Loader::KexecLoad)
        .crashkernel(reservation)
        .capture_cmdline(cmdline);
    let machine = if spec.arch == Arch::Arm { machine.load_by(ARM_LOADER) } else { machine };
    let mut machine = machine.start().unwrap();
    let report = |error| eprintln!("kdump: {error}");
    machine.wait_for_line_text("LAB: crashing", end_to_end::BOOT).map_err(report).ok()?;
    let panicked = Timeline::until(&line, PANIC).when(PANIC);
    // It turns itself off once all is sent.
    machine.wait_for_end(deadline).map_err(report).ok()?;
    Some(panicked)
}

/// Writes what the next connection brings into `path`; `None` if `is_over` before there is one.
fn take(listener: &TcpListener, path: &Path, is_over: &AtomicBool) -> Option<Came> {
    let mut connection = loop {
        if let Ok((connection, _)) = listener.accept() {
            break connection;
        }
        if is_over.load(Ordering::Relaxed) {
            return None;
        }
        thread::sleep(Duration::from_millis(1));
    };
    copy(&mut connection, &mut File::create(path).unwrap()).ok()
}

fn copy(from: &mut TcpStream, to: &mut File) -> io::Result<Came> {
    from.set_nonblocking(false)?;
    from.set_read_timeout(Some(DUMP))?;
    let (mut buffer, mut bytes, mut growth) = (vec![0; 64 << 10], 0, Vec::new());
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        to.write_all(&buffer[..n])?;
        bytes += n as u64;
        growth.push((bytes, Instant::now()));
    }
    let first_byte = growth.first().map(|&(_, moment)| moment).ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(Came { first_byte, growth })
}
