//! From the architecture's entry to the end: the capture kernel's one thread.

use alloc::vec::Vec;
use core::time::Duration;

use capture::config::{Config, Link as ConfiguredLink, SerialLink as SerialConfig, TcpLink as TcpConfig};
use capture::{Clock as _, Crash, HEAP_BESIDE_ENCODER_BYTES, Link, Options, compress};
use codec::Method;
use rcapture_payload::net::TcpLink;
use wire::SessionId;

use crate::arch::boot::Boot;
use crate::arch::clock;
use crate::drivers::uart::UartError;
use crate::drivers::{cards, console, watchdog};
use crate::link::SerialLink;
use crate::memory::heap;
use crate::memory::window::Physical;
use crate::platform::Platform;
use crate::{arch, fatal};

/// For so long all links are tried again if none of them works.
const TRY_FOR: Duration = Duration::from_secs(10 * 60);

/// And so long it takes until they are.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Runs on the image's own stack with its exception handlers loaded. `handover_pa` is where the loader left what it has to say.
pub(crate) fn run(handover_pa: u64) -> ! {
    heap::start();
    let boot = Boot::read(handover_pa);
    let config = Config::parse_on(boot.cmdline(), boot.console());
    fatal::set_final(config.final_action, None);

    if let Err(error) = boot.take_over() {
        open_console(&config, &boot);
        fatal::report(format_args!("{error}"));
    }
    watchdog::start(boot.watchdogs(), config.watchdogs);
    let console = open_console(&config, &boot);
    if let Some(fault) = boot.fault() {
        console::line(format_args!("rcapture: device tree: {fault}"));
    }
    for remark in &config.remarks {
        console::line(format_args!("rcapture: {remark}"));
    }

    watchdog::report(boot.watchdogs(), config.watchdogs);
    let platform = boot.platform(&config);
    fatal::set_final(config.final_action, platform.soft_off);
    if let Some(hertz) = platform.clock.0.guessed_hertz() {
        console::line(format_args!("rcapture: no timer answers: taking the clock for {hertz} Hz"));
    }
    if config.selftest_panic {
        #[expect(clippy::panic, reason = "it is what was asked for")]
        {
            panic!("asked for by rcapture.selftest=panic");
        }
    }
    capture(&config, &boot, &platform, console);
    fatal::finish()
}

/// Opens the first UART that answers, and says hello on it. Gives it with its speed; `None`: there is none.
fn open_console(config: &Config, boot: &Boot) -> Option<SerialConfig> {
    let mut failures = Vec::new();
    let of_links = config.links.iter().filter_map(|link| match link {
        ConfiguredLink::Serial(serial) => Some(*serial),
        ConfiguredLink::Tcp(_) => None,
    });
    let open = |serial: SerialConfig| match boot.uart(serial.registers) {
        Some(place) => console::open(place, serial.baud),
        None => Err(UartError::Unknown),
    };
    // The machine's own last: text has to go somewhere.
    let mut candidates = of_links.chain([config.console, boot.console()]);
    let console = candidates.find_map(|serial| match open(serial) {
        Ok(baud) => Some(SerialConfig { baud: Some(baud), ..serial }),
        Err(error) => {
            failures.push((serial, error));
            None
        }
    })?;
    let version = env!("CARGO_PKG_VERSION");
    let link = match config.links.first() {
        Some(tcp @ ConfiguredLink::Tcp(_)) => *tcp,
        _ => ConfiguredLink::Serial(console),
    };
    console::line(format_args!("\nrcapture {version} {}: capture kernel started, link {link}", arch::NAME));
    for (serial, error) in failures {
        console::line(format_args!("rcapture: serial:{serial}: {error}"));
    }
    Some(console)
}

/// Sends the dump over the first link that works; what goes wrong is said on the console.
fn capture(config: &Config, boot: &Boot, platform: &Platform, console: Option<SerialConfig>) {
    let Some(elfcorehdr) = config.elfcorehdr.or(boot.elfcorehdr()) else {
        console::line(format_args!(
            "rcapture: no elfcorehdr{}: load this image with kexec -p, which puts it there",
            arch::boot::ELFCOREHDR_IS
        ));
        return;
    };
    let clock = &platform.clock;
    let crash = match Crash::read_in(elfcorehdr.start_pa, boot.ram(), &Physical) {
        Ok(crash) => crash,
        Err(error) => {
            console::line(format_args!("rcapture: elfcorehdr: {error}"));
            return;
        }
    };
    let dump = Dump { config, platform, crash: &crash, session: session_id(&crash) };
    let mut failing_since = None;
    while !config.links.iter().any(|link| dump.send_over(*link, console)) {
        // From the first failure on: it may come late in a long dump.
        let first = *failing_since.get_or_insert(clock.now());
        if clock.now().saturating_sub(first) >= TRY_FOR {
            console::line(format_args!("rcapture: no link worked for {} minutes", TRY_FOR.as_secs() / 60));
            return;
        }
        console::line(format_args!(
            "rcapture: no link works: trying again in {} s",
            TRY_AGAIN_AFTER.as_secs()
        ));
        let since = clock.now();
        while clock.now().saturating_sub(since) < TRY_AGAIN_AFTER {
            core::hint::spin_loop();
        }
    }
}

/// What is the same on every link. The session is: a receiver goes on with what it has.
struct Dump<'a> {
    config: &'a Config,
    platform: &'a Platform,
    crash: &'a Crash,
    session: SessionId,
}

impl Dump<'_> {
    /// Whether the dump was sent over this link.
    fn send_over(&self, link: ConfiguredLink, console: Option<SerialConfig>) -> bool {
        match (link, console) {
            (ConfiguredLink::Tcp(server), _) => self.send_by_tcp(server),
            (ConfiguredLink::Serial(serial), Some(console)) if serial.registers == console.registers => {
                self.send_by_serial(console)
            }
            // It did not answer, or another one did.
            (ConfiguredLink::Serial(_), _) => false,
        }
    }

    fn send_by_serial(&self, serial: SerialConfig) -> bool {
        // A byte is ten bits on the line.
        let method = self.serial_method(serial.baud.unwrap_or(0) / 10);
        let is_done = self.send(method, &mut SerialLink::new(), false);
        console::drain();
        is_done
    }

    #[inline(never)] // what it takes of the stack is not there for a serial line
    fn send_by_tcp(&self, server: TcpConfig) -> bool {
        let Self { config, platform, .. } = *self;
        let clock = &platform.clock;
        let card = match cards::open(config, platform) {
            Ok(card) => card,
            Err(error) => {
                console::line(format_args!("rcapture: tcp:{server}: {error}"));
                return false;
            }
        };
        let mut link = match TcpLink::open(card, &config.network, server, clock::ticks(), clock) {
            Ok(link) => link,
            Err(error) => {
                console::line(format_args!("rcapture: tcp:{server}: {error}"));
                return false;
            }
        };
        console::line(format_args!("rcapture: connected to {server}"));
        let is_done = self.send(compress::for_network(config.compress), &mut link, true);
        if !link.close() {
            console::line(format_args!("rcapture: tcp:{server}: the last bytes may not have arrived"));
        }
        is_done
    }

    /// Whether the dump was sent.
    #[inline(never)] // once
    fn send(&self, method: Method, mut link: &mut dyn Link, needs_answers: bool) -> bool {
        let Self { config, crash, session, platform } = *self;
        let clock = &platform.clock;
        // An encoder that left too little for the rest would be the end of the dump: it gets what is beside that.
        let mut rest: Vec<u8> = Vec::new();
        let _ = rest.try_reserve_exact(HEAP_BESIDE_ENCODER_BYTES);
        let encoder = method.encoder();
        // The compiler may not leave out what nobody looks at.
        drop(core::hint::black_box(rest));
        let codec = encoder.id();
        console::line(format_args!("rcapture: compressing with {method}"));
        if codec != method.codec() {
            console::line(format_args!("rcapture: there is no memory for it: {codec} instead"));
        }
        let (level, budget, serve) = (config.dump_level, config.budget, config.serve);
        let options = Options { session, encoder, level, budget, needs_answers, serve };
        match capture::send(crash, &Physical, &mut link, clock, options) {
            Ok(_) => {
                let (used, size) = heap::usage();
                console::drain();
                console::line(format_args!(
                    "rcapture: done in {}.{} s; heap {} of {} KiB",
                    clock.now().as_secs(),
                    clock.now().subsec_millis() / 100,
                    used / 1024,
                    size / 1024
                ));
                true
            }
            Err(error) => {
                console::drain();
                console::line(format_args!("rcapture: {error}"));
                false
            }
        }
    }

    /// What was asked for, or suits a line that carries so many bytes per second. VMCOREINFO, some 3 KiB of text, is what the
    /// processor is tried on.
    fn serial_method(&self, line: u32) -> Method {
        compress::choose(self.config.compress, line.into(), || {
            let lzma = compress::lzma_speed(&self.crash.vmcoreinfo, &self.platform.clock);
            console::line(format_args!(
                "rcapture: the line carries {} KB/s, the processor compresses {} KB/s with LZMA",
                line / 1000,
                lzma / 1000
            ));
            lzma
        })
    }
}

/// Differs from one crash to the next: when it was, and how long the processor had been running.
fn session_id(crash: &Crash) -> SessionId {
    let seed = clock::ticks() ^ crash.info().crash_time().unwrap_or(0).rotate_left(32);
    let folded = seed ^ seed >> 16 ^ seed >> 32 ^ seed >> 48;
    let [low, high, ..] = folded.to_le_bytes();
    SessionId(u16::from_le_bytes([low, high]))
}
