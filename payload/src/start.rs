//! From the architecture's entry to the end: the capture kernel's one thread.

use alloc::boxed::Box;
use alloc::vec::Vec;

use capture::config::{Config, Link as ConfiguredLink, SerialLink as SerialConfig};
use capture::{Clock as _, Crash, Options, compress};
use codec::Encoder;
use memory::PhysAddr;
use rcapture_payload::boot::{acpi, boot_params};
use wire::SessionId;

use crate::arch::clock::{self, Clock};
use crate::arch::power::SoftOff;
use crate::arch::{encryption, paging};
use crate::drivers::console;
use crate::link::SerialLink;
use crate::memory::heap;
use crate::memory::window::{LoaderMapping, Physical};
use crate::{arch, fatal};

/// Runs on the image's own stack with its exception handlers loaded; page tables are still the loader's.
pub(crate) fn run(boot_params_pa: u64) -> ! {
    heap::start();
    let boot = boot_params::read(&LoaderMapping, PhysAddr(boot_params_pa)).unwrap_or_default();
    let config = Config::parse(&boot.cmdline);
    fatal::set_final(config.final_action, None);

    if let Some(reason) = encryption::guest_encryption() {
        // Own page tables would not know the encryption bit: the loader's stay.
        open_console(&config);
        fatal::report(format_args!(
            "{reason}: its memory is encrypted and cannot be read by a capture kernel"
        ));
    }
    if let Err(error) = paging::take_over() {
        open_console(&config);
        fatal::report(format_args!("{error}"));
    }
    let baud = open_console(&config);
    for remark in &config.remarks {
        console::line(format_args!("rcapture: {remark}"));
    }

    let rsdp = config.acpi_rsdp.map(PhysAddr).or(boot.acpi_rsdp);
    let acpi = acpi::read(&Physical, rsdp);
    fatal::set_final(config.final_action, soft_off(&acpi));
    let clock = Clock::calibrate(acpi.pm_timer);
    if let (hertz, clock::Source::Guess) = clock.rate() {
        console::line(format_args!("rcapture: no timer answers: taking the clock for {hertz} Hz"));
    }
    if config.selftest_panic {
        #[expect(clippy::panic, reason = "it is what was asked for")]
        {
            panic!("asked for by rcapture.selftest=panic");
        }
    }
    capture(&config, baud, &clock);
    fatal::finish()
}

/// Opens the first link that works, and says hello on it. Gives its bits per second.
fn open_console(config: &Config) -> u32 {
    let mut failures = Vec::new();
    for link in &config.links {
        let ConfiguredLink::Serial(serial) = *link;
        let baud = match console::open(serial) {
            Ok(baud) => baud,
            Err(error) => {
                failures.push((link, error));
                continue;
            }
        };
        let serial = SerialConfig { baud: Some(baud), ..serial };
        let (version, link) = (env!("CARGO_PKG_VERSION"), ConfiguredLink::Serial(serial));
        console::line(format_args!(
            "\nrcapture {version} {}: capture kernel started, link {link}",
            arch::NAME
        ));
        for (link, error) in failures {
            console::line(format_args!("rcapture: {link}: {error}"));
        }
        return baud;
    }
    // Without a line there is nobody to tell, and nowhere to send to.
    fatal::finish()
}

fn soft_off(acpi: &acpi::Acpi) -> Option<SoftOff> {
    let [type_a, type_b] = acpi.s5?;
    Some(SoftOff { pm1a: (acpi.pm1a_control?, type_a), pm1b: acpi.pm1b_control.map(|port| (port, type_b)) })
}

/// Sends the dump; what goes wrong is said on the line.
fn capture(config: &Config, baud: u32, clock: &Clock) {
    let Some(elfcorehdr) = config.elfcorehdr else {
        console::line(format_args!(
            "rcapture: no elfcorehdr= on the command line: load this image with kexec -p, which puts it there"
        ));
        return;
    };
    let crash = match Crash::read(elfcorehdr.start_pa, &Physical) {
        Ok(crash) => crash,
        Err(error) => {
            console::line(format_args!("rcapture: elfcorehdr: {error}"));
            return;
        }
    };
    let options = Options {
        session: session_id(&crash),
        encoder: encoder(config, baud, &crash, clock),
        level: config.dump_level,
        budget: config.budget,
    };
    let result = capture::send(&crash, &Physical, &mut SerialLink::new(), clock, options);
    console::drain();
    match result {
        Ok(_) => {
            let (used, size) = heap::usage();
            console::line(format_args!(
                "rcapture: done in {} s; heap {} of {} KiB",
                clock.now().as_secs(),
                used / 1024,
                size / 1024
            ));
        }
        Err(error) => console::line(format_args!("rcapture: {error}")),
    }
}

/// The encoder that was asked for, or that suits the line. VMCOREINFO, some 3 KiB of text, is what the processor is tried on.
fn encoder(config: &Config, baud: u32, crash: &Crash, clock: &Clock) -> Box<dyn Encoder> {
    // A byte is ten bits on the line.
    let line = u64::from(baud / 10);
    let mut lzma = 0;
    let method = compress::choose(config.compress, line, || {
        lzma = compress::lzma_speed(&crash.vmcoreinfo, clock);
        lzma
    });
    let encoder = method.encoder();
    let codec = encoder.id();
    console::line(format_args!("rcapture: compressing with {method}"));
    if lzma > 0 {
        console::line(format_args!(
            "rcapture: the line carries {} KB/s, the processor compresses {} KB/s with LZMA",
            line / 1000,
            lzma / 1000
        ));
    }
    if codec != method.codec() {
        console::line(format_args!("rcapture: there is no memory for it: {codec} instead"));
    }
    encoder
}

/// Differs from one crash to the next: when it was, and how long the processor had been running.
fn session_id(crash: &Crash) -> SessionId {
    let seed = clock::ticks() ^ crash.info().crash_time().unwrap_or(0).rotate_left(32);
    let folded = seed ^ seed >> 16 ^ seed >> 32 ^ seed >> 48;
    let [low, high, ..] = folded.to_le_bytes();
    SessionId(u16::from_le_bytes([low, high]))
}
