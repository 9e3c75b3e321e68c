//! What the command line asks for, in the kernel's own conventions.
//!
//! # Terms
//! - **elfcorehdr**: where the crashed kernel left its ELF header; kexec puts `elfcorehdr=` on the line.
//! - **link**: the line the dump goes out on. `rcapture.link=` names it; otherwise it is the UART of the last
//!   `console=ttyS…`; otherwise the machine's own: on a PC ttyS0 at 115200.
//! - **card**: a network card; `ip=` says which, and what address it has.
//! - **remark**: something on the line that could not be used. It is shown to the user and otherwise ignored: a crash
//!   is no time to refuse work over a typing error.

mod network;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use memory::{DumpLevel, parse_number};

use crate::{Budget, Serve};
pub use network::{Address, Card, MmioRegion, Network, TcpLink};

/// Remarks kept; a longer list would only delay the dump.
const MAX_REMARKS: usize = 16;
/// Links kept.
const MAX_LINKS: usize = 4;
/// I/O ports of ttyS0 to ttyS3 on a PC (Linux, arch/x86/include/asm/serial.h).
const LEGACY_PORTS: [u16; 4] = [0x3f8, 0x2f8, 0x3e8, 0x2e8];
/// Of each driver, serial ports are numbered below this.
pub const MAX_TTYS: u8 = 8;
/// Devices kept of those that no bus tells of.
const MAX_MMIO: usize = 8;
/// A PC's first serial port: where there is nothing better.
pub const TTY_S0: SerialLink = SerialLink {
    registers: SerialRegisters::Tty(Tty { driver: TtyDriver::S, number: 0 }),
    baud: Some(115_200),
};

/// Everything the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `elfcorehdr=`: where the crashed kernel's ELF header lies.
    pub elfcorehdr: Option<ElfCoreHdr>,
    /// `acpi_rsdp=`: physical address of the ACPI root pointer.
    pub acpi_rsdp: Option<u64>,
    /// The links to try, in order; never empty.
    pub links: Vec<Link>,
    /// `ip=` and `BOOTIF=`.
    pub network: Network,
    /// `virtio_mmio.device=`: devices that no bus tells of.
    pub virtio_mmio: Vec<MmioRegion>,
    /// Where text goes besides: the UART of the first serial link, else of the last `console=`, else the machine's own.
    pub console: SerialLink,
    /// `rcapture.dump_level=`: what to leave out, in makedumpfile's bits (0 to 31).
    pub dump_level: DumpLevel,
    /// `rcapture.budget=`: bytes on the line (`8M`) or time (`90s`, `15m`, `2h`) after which the dump ends; each counts.
    pub budget: Budget,
    /// `rcapture.compress=`.
    pub compress: Compress,
    /// `rcapture.final=`: what to do when the dump is over.
    pub final_action: FinalAction,
    /// `rcapture.final=serve[:TIME]`: whether to stay before that, and to answer requests.
    pub serve: Option<Serve>,
    /// `rcapture.watchdog=`: which watchdogs to feed meanwhile.
    pub watchdogs: Watchdogs,
    /// `rcapture.selftest=panic`: panic instead of dumping, to see that the report comes through.
    pub selftest_panic: bool,
    /// What could not be used.
    pub remarks: Vec<Remark>,
}

/// Where the ELF header lies: `elfcorehdr=[size@]start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElfCoreHdr {
    /// Physical address of its first byte.
    pub start_pa: u64,
    /// Its size in bytes, if the line says so.
    pub size_bytes: Option<u64>,
}

/// A line the dump can go out on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// A UART.
    Serial(SerialLink),
    /// A connection over a network.
    Tcp(TcpLink),
}

/// A UART and its speed; always 8 bits, no parity, 1 stop bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerialLink {
    /// Where its registers are.
    pub registers: SerialRegisters,
    /// Bits per second; `None`: as the crashed kernel left it.
    pub baud: Option<u32>,
}

/// Where a UART's registers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SerialRegisters {
    /// Where Linux has them under this name.
    Tty(Tty),
    /// Of a 16550: eight I/O ports from this one on.
    Port(u16),
    /// Of a 16550: eight bytes from this physical address on.
    Mmio(u64),
    /// Of a 16550: eight 32-bit words from this physical address on.
    Mmio32(u64),
    /// Of a PL011, from this physical address on.
    Pl011(u64),
}

/// A serial port by Linux' name for it: `ttyS0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tty {
    /// Whose port.
    pub driver: TtyDriver,
    /// From 0 on.
    pub number: u8,
}

/// The drivers that name ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtyDriver {
    /// `ttyS`: a 16550.
    S,
    /// `ttyAMA`: a PL011.
    Ama,
    /// `ttymxc`: that of an i.MX.
    Mxc,
}

impl TtyDriver {
    const ALL: [Self; 3] = [Self::S, Self::Ama, Self::Mxc];

    const fn prefix(self) -> &'static str {
        match self {
            Self::S => "ttyS",
            Self::Ama => "ttyAMA",
            Self::Mxc => "ttymxc",
        }
    }
}

impl Tty {
    /// `None`: no driver known here names a port so.
    fn parse(name: &str) -> Option<Self> {
        TtyDriver::ALL.into_iter().find_map(|driver| {
            let digits = name.strip_prefix(driver.prefix())?;
            let number =
                digits.parse().ok().filter(|number| *number < MAX_TTYS && !digits.starts_with('+'))?;
            Some(Self { driver, number })
        })
    }

    /// On a PC: the first of the port's I/O ports.
    #[must_use]
    pub fn legacy_port(self) -> Option<u16> {
        (self.driver == TtyDriver::S).then(|| LEGACY_PORTS.get(usize::from(self.number)).copied())?
    }
}

impl fmt::Display for Tty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.driver.prefix(), self.number)
    }
}

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    /// As suits the line and the processor.
    #[default]
    Auto,
    /// LZMA.
    Lzma,
    /// DEFLATE (RFC 1951).
    Deflate,
    /// LZ4.
    Lz4,
    /// Not at all.
    None,
}

/// What happens when the dump is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FinalAction {
    /// Reset the machine.
    #[default]
    Reboot,
    /// Turn it off.
    Poweroff,
    /// Stay, for a person to look.
    Halt,
}

/// Which of the watchdogs that the firmware names are fed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watchdogs {
    /// Those whose clock runs for sure: to look at a device without one may stop the machine.
    #[default]
    Auto,
    /// Each of them.
    All,
    /// None.
    None,
}

/// Something on the command line that was ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// A `rcapture.` key nobody knows.
    UnknownKey(String),
    /// A known key with a value that makes no sense.
    BadValue {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey(key) => write!(f, "{key}: unknown, ignored"),
            Self::BadValue { key, value } => write!(f, "{key}={value}: cannot be used, ignored"),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial(serial) => write!(f, "serial:{serial}"),
            Self::Tcp(tcp) => write!(f, "tcp:{tcp}"),
        }
    }
}

impl fmt::Display for SerialLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.registers {
            SerialRegisters::Port(port) => match LEGACY_PORTS.iter().position(|legacy| *legacy == port) {
                Some(index) => write!(f, "ttyS{index}")?,
                None => write!(f, "io,{port:#x}")?,
            },
            SerialRegisters::Tty(tty) => tty.fmt(f)?,
            SerialRegisters::Pl011(address) => write!(f, "pl011,{address:#x}")?,
            SerialRegisters::Mmio(address) => write!(f, "mmio,{address:#x}")?,
            SerialRegisters::Mmio32(address) => write!(f, "mmio32,{address:#x}")?,
        }
        match self.baud {
            Some(baud) => write!(f, ",{baud}n8"),
            None => Ok(()),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::parse(b"")
    }
}

impl Config {
    /// Reads a kernel command line, as [`parse_on`](Self::parse_on), on a PC.
    #[must_use]
    pub fn parse(cmdline: &[u8]) -> Self {
        Self::parse_on(cmdline, TTY_S0)
    }

    /// Reads a kernel command line. Later settings win over earlier ones; links add up. `own` is the machine's own console.
    #[must_use]
    pub fn parse_on(cmdline: &[u8], own: SerialLink) -> Self {
        let text = String::from_utf8_lossy(cmdline);
        let mut config = Self {
            elfcorehdr: None,
            acpi_rsdp: None,
            links: Vec::new(),
            network: Network::default(),
            virtio_mmio: Vec::new(),
            console: own,
            dump_level: DumpLevel::SMALLEST,
            budget: Budget::default(),
            compress: Compress::default(),
            final_action: FinalAction::default(),
            serve: None,
            watchdogs: Watchdogs::default(),
            selftest_panic: false,
            remarks: Vec::new(),
        };
        let mut console = None;
        for (key, value) in Parameters(&text) {
            // A console that is no UART (tty0, hvc0) says nothing about the link, and is no mistake.
            if key == "console" {
                console = parse_console(value).or(console);
            } else if config.set(key, value).is_none() {
                config.remark(Remark::BadValue { key: key.to_string(), value: value.to_string() });
            }
        }
        let serial = config.links.iter().find_map(|link| match link {
            Link::Serial(serial) => Some(*serial),
            Link::Tcp(_) => None,
        });
        config.console = serial.or(console).unwrap_or(own);
        if config.links.is_empty() {
            config.links.push(Link::Serial(config.console));
        }
        config
    }

    /// `None`: the value makes no sense.
    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "elfcorehdr" => self.elfcorehdr = Some(parse_elfcorehdr(value)?),
            "acpi_rsdp" => self.acpi_rsdp = Some(parse_number(value)?),
            // The kernel takes '-' and '_' in a name for the same.
            "rcapture.dump_level" | "rcapture.dump-level" => {
                self.dump_level = value.parse().ok().and_then(DumpLevel::new)?;
            }
            "rcapture.budget" => match parse_time(value) {
                Some(time) => self.budget.time = Some(time),
                None => self.budget.bytes = Some(parse_number(value)?),
            },
            "rcapture.link" if self.links.len() < MAX_LINKS => self.links.push(parse_link(value)?),
            "rcapture.link" => return None,
            "ip" => self.network.set_ip(value)?,
            "virtio_mmio.device" if self.virtio_mmio.len() < MAX_MMIO => {
                self.virtio_mmio.push(MmioRegion::parse(value)?);
            }
            "virtio_mmio.device" => return None,
            "BOOTIF" => self.network.set_bootif(value)?,
            "rcapture.compress" => {
                self.compress = match value {
                    "auto" => Compress::Auto,
                    "lzma" => Compress::Lzma,
                    "deflate" => Compress::Deflate,
                    "lz4" => Compress::Lz4,
                    "none" => Compress::None,
                    _ => return None,
                };
            }
            "rcapture.final" => match value {
                "reboot" => self.final_action = FinalAction::Reboot,
                "poweroff" => self.final_action = FinalAction::Poweroff,
                "halt" => self.final_action = FinalAction::Halt,
                "serve" => self.serve = Some(Serve { limit: None }),
                _ => self.serve = Some(Serve { limit: Some(parse_time(value.strip_prefix("serve:")?)?) }),
            },
            "rcapture.watchdog" => {
                self.watchdogs = match value {
                    "auto" => Watchdogs::Auto,
                    "all" => Watchdogs::All,
                    "none" => Watchdogs::None,
                    _ => return None,
                };
            }
            "rcapture.selftest" => self.selftest_panic = (value == "panic").then_some(true)?,
            _ if key.starts_with("rcapture.") => self.remark(Remark::UnknownKey(key.to_string())),
            _ => {}
        }
        Some(())
    }

    fn remark(&mut self, remark: Remark) {
        if self.remarks.len() < MAX_REMARKS {
            self.remarks.push(remark);
        }
    }
}

/// The parameters of a command line as (key, value), quotes taken off as the kernel does (lib/cmdline.c, `next_arg`):
/// double quotes protect spaces, around the value or around the whole parameter.
struct Parameters<'a>(&'a str);

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.trim_start();
        if rest.is_empty() {
            return None;
        }
        let mut quoted = false;
        let end = rest
            .find(|c: char| {
                quoted ^= c == '"';
                c.is_whitespace() && !quoted
            })
            .unwrap_or(rest.len());
        let (parameter, after) = rest.split_at_checked(end)?;
        self.0 = after;
        let parameter = unquoted(parameter);
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        Some((key, unquoted(value)))
    }
}

fn unquoted(text: &str) -> &str {
    match text.strip_prefix('"') {
        Some(inner) => inner.strip_suffix('"').unwrap_or(inner),
        None => text,
    }
}

/// `[size@]start`, each a number with a suffix.
fn parse_elfcorehdr(value: &str) -> Option<ElfCoreHdr> {
    match value.split_once('@') {
        Some((size, start)) => {
            Some(ElfCoreHdr { start_pa: parse_number(start)?, size_bytes: Some(parse_number(size)?) })
        }
        None => Some(ElfCoreHdr { start_pa: parse_number(value)?, size_bytes: None }),
    }
}

/// A whole number of seconds, minutes or hours: `90s`, `15m`, `2h`. A capital M is a size.
fn parse_time(text: &str) -> Option<Duration> {
    let (digits, seconds) = match text.char_indices().last()? {
        (at, 's') => (text.get(..at)?, 1),
        (at, 'm') => (text.get(..at)?, 60),
        (at, 'h') => (text.get(..at)?, 3600),
        _ => return None,
    };
    parse_number(digits)?.checked_mul(seconds).map(Duration::from_secs)
}

fn parse_link(value: &str) -> Option<Link> {
    match value.split_once(':')? {
        ("serial", serial) => parse_serial(serial).map(Link::Serial),
        ("tcp", tcp) => TcpLink::parse(tcp).map(Link::Tcp),
        _ => None,
    }
}

/// `ttyS0[,115200n8]`, `io,0x3f8[,115200]`, `mmio,ADDRESS[,…]`, `mmio32,ADDRESS[,…]`, `pl011,ADDRESS[,…]`.
fn parse_serial(value: &str) -> Option<SerialLink> {
    let mut parts = value.split(',');
    let place = parts.next()?;
    let registers = match place {
        "io" => {
            let port = u16::try_from(parse_number(parts.next()?)?).ok()?;
            port.checked_add(7)?;
            SerialRegisters::Port(port)
        }
        "mmio" => SerialRegisters::Mmio(parse_mmio_address(parts.next()?)?),
        "mmio32" => SerialRegisters::Mmio32(parse_mmio_address(parts.next()?)?),
        "pl011" => SerialRegisters::Pl011(parse_mmio_address(parts.next()?)?),
        _ => SerialRegisters::Tty(Tty::parse(place)?),
    };
    let baud = match parts.next() {
        Some(mode) => Some(parse_mode(mode)?),
        None => None,
    };
    parts.next().is_none().then_some(SerialLink { registers, baud })
}

/// Word-aligned, and with all its registers inside the address space.
fn parse_mmio_address(text: &str) -> Option<u64> {
    let address = parse_number(text)?;
    (address % 4 == 0 && address != 0 && address.checked_add(0x1000).is_some()).then_some(address)
}

/// `BAUD[n[8]]`: frames are bytes, so that 8 bits without parity are the only mode.
fn parse_mode(mode: &str) -> Option<u32> {
    let digits = mode.strip_suffix("n8").or_else(|| mode.strip_suffix('n')).unwrap_or(mode);
    // A divisor has 16 bits, and there is none for 0.
    digits.parse().ok().filter(|baud| (2..=4_000_000).contains(baud))
}

/// The UART of a `console=`: `ttyS0[,mode]` or `uart[8250],io|mmio32,ADDRESS[,mode]`. A mode that cannot be used
/// (parity, 7 bits) leaves the speed as the crashed kernel set it.
fn parse_console(value: &str) -> Option<SerialLink> {
    let value = value.strip_prefix("uart8250,").or_else(|| value.strip_prefix("uart,")).unwrap_or(value);
    parse_serial(value).or_else(|| {
        let (place, _mode) = value.rsplit_once(',')?;
        parse_serial(place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn parse(cmdline: &str) -> Config {
        Config::parse(cmdline.as_bytes())
    }

    fn serial(cmdline: &str) -> SerialLink {
        let Some(Link::Serial(serial)) = parse(cmdline).links.first().copied() else { panic!("no link") };
        serial
    }

    #[test]
    fn a_selftest_is_asked_for_by_name() {
        assert!(parse("rcapture.selftest=panic").selftest_panic);
        assert!(!parse("rcapture.selftest=yes").selftest_panic);
    }

    #[test]
    fn watchdogs_are_fed_as_it_is_asked() {
        assert_eq!(parse("rcapture.watchdog=all").watchdogs, Watchdogs::All);
        assert_eq!(parse("rcapture.watchdog=all rcapture.watchdog=none").watchdogs, Watchdogs::None);
        let config = parse("rcapture.watchdog=dog");
        assert_eq!((config.watchdogs, config.remarks.len()), (Watchdogs::Auto, 1));
    }

    #[test]
    fn an_empty_line_gives_the_defaults() {
        let config = parse("");
        assert_eq!(config.elfcorehdr, None);
        assert_eq!(config.dump_level, DumpLevel::SMALLEST);
        assert_eq!(config.compress, Compress::Auto);
        assert_eq!(config.final_action, FinalAction::Reboot);
        assert_eq!(config.remarks, []);
        assert_eq!(format!("{}", config.links[0]), "serial:ttyS0,115200n8");
    }

    #[test]
    fn elfcorehdr_is_found_anywhere_in_every_form() {
        let at = |start_pa, size_bytes| Some(ElfCoreHdr { start_pa, size_bytes });
        assert_eq!(parse("quiet elfcorehdr=196608K").elfcorehdr, at(0x0c00_0000, None));
        assert_eq!(parse("elfcorehdr=0x1fff00000 quiet").elfcorehdr, at(0x1_fff0_0000, None));
        assert_eq!(parse("a elfcorehdr=64K@0x2000000 b").elfcorehdr, at(0x200_0000, Some(0x1_0000)));
        assert_eq!(parse("elfcorehdr=3G").elfcorehdr, at(0xc000_0000, None));
    }

    #[test]
    fn a_senseless_elfcorehdr_is_remarked_on() {
        for value in ["", "x", "0x", "-1", "+1", "0x+1", "K", "17179869184G"] {
            let config = parse(&format!("elfcorehdr={value}"));
            assert_eq!(config.elfcorehdr, None, "{value}");
            assert_eq!(config.remarks.len(), 1, "{value}");
        }
    }

    #[test]
    fn the_link_is_named_as_the_kernel_names_ports() {
        let port = |port, baud| SerialLink { registers: SerialRegisters::Port(port), baud };
        let tty = |driver, number, baud| SerialLink {
            registers: SerialRegisters::Tty(Tty { driver, number }),
            baud,
        };
        assert_eq!(serial("rcapture.link=serial:ttyS0,115200n8"), tty(TtyDriver::S, 0, Some(115_200)));
        assert_eq!(serial("rcapture.link=serial:ttyS1,9600"), tty(TtyDriver::S, 1, Some(9600)));
        assert_eq!(serial("rcapture.link=serial:ttyS2"), tty(TtyDriver::S, 2, None));
        assert_eq!(serial("rcapture.link=serial:ttyAMA1,57600"), tty(TtyDriver::Ama, 1, Some(57_600)));
        assert_eq!(serial("rcapture.link=serial:ttymxc0,115200"), tty(TtyDriver::Mxc, 0, Some(115_200)));
        assert_eq!(format!("{}", serial("console=ttymxc1,115200")), "ttymxc1,115200n8");
        assert_eq!(serial("rcapture.link=serial:io,0x2e8,57600n8"), port(0x2e8, Some(57_600)));
        assert_eq!(
            serial("rcapture.link=serial:mmio32,0xfe032000,115200"),
            SerialLink { registers: SerialRegisters::Mmio32(0xfe03_2000), baud: Some(115_200) }
        );
        assert_eq!(
            serial("rcapture.link=serial:pl011,0x9000000"),
            SerialLink { registers: SerialRegisters::Pl011(0x900_0000), baud: None }
        );
    }

    #[test]
    fn a_pc_has_its_ports_where_they_always_were() {
        let port = |name| Tty::parse(name).and_then(Tty::legacy_port);
        let ports = ["ttyS0", "ttyS1", "ttyS2", "ttyS3", "ttyS4", "ttyAMA0", "ttymxc0"].map(port);
        assert_eq!(ports, [Some(0x3f8), Some(0x2f8), Some(0x3e8), Some(0x2e8), None, None, None]);
    }

    #[test]
    fn a_machine_without_a_word_on_it_uses_its_own_console() {
        let own = serial("console=ttyAMA0");
        assert_eq!(Config::parse_on(b"quiet", own).links, [Link::Serial(own)]);
        assert_eq!(Config::parse_on(b"console=ttyAMA1", own).links, parse("console=ttyAMA1").links);
    }

    #[test]
    fn a_link_that_cannot_be_used_is_remarked_on_and_the_next_one_stands() {
        for value in [
            "serial:ttyS9",
            "serial:ttyS+1",
            "serial:ttyX0",
            "serial:ttyS0,115200e7",
            "serial:ttyS0,0",
            "serial:ttyS0,1,2",
            "serial:io,0xfffa",
            "serial:mmio32,0x1",
            "serial:mmio32,0xfffffffffffffffc",
            "pigeon:1",
            "",
        ] {
            let config = parse(&format!("rcapture.link={value} rcapture.link=serial:ttyS1"));
            assert_eq!(config.links.len(), 1, "{value}");
            assert_eq!(config.remarks.len(), 1, "{value}");
        }
    }

    #[test]
    fn several_links_are_kept_in_order() {
        let config = parse("rcapture.link=serial:ttyS1 rcapture.link=serial:ttyS0");
        let names: Vec<_> = config.links.iter().map(|link| format!("{link}")).collect();
        assert_eq!(names, ["serial:ttyS1", "serial:ttyS0"]);
    }

    #[test]
    fn without_a_link_the_last_serial_console_is_taken() {
        let last = serial("console=ttyS0,9600 console=ttyS1,57600n8 console=tty0");
        assert_eq!(format!("{last}"), "ttyS1,57600n8");
        assert_eq!(format!("{}", serial("console=uart8250,io,0x3e8,9600n8")), "ttyS2,9600n8");
        // The kernel's own default speed is not ours to guess: as it was left.
        assert_eq!(serial("console=ttyS0").baud, None);
        assert_eq!(format!("{}", serial("console=ttyS1,9600e7")), "ttyS1");
        assert_eq!(parse("console=tty0 console=hvc0").remarks, []);
    }

    #[test]
    fn a_machine_that_serves_does_afterwards_what_is_asked_besides() {
        let serve = |limit| Some(Serve { limit });
        let config = parse("rcapture.final=serve");
        assert_eq!((config.serve, config.final_action), (serve(None), FinalAction::Reboot));
        for (line, seconds) in [
            ("rcapture.final=serve:90s rcapture.final=poweroff", 90),
            ("rcapture.final=poweroff rcapture.final=serve:2h", 7200),
        ] {
            let config = parse(line);
            assert_eq!(config.serve, serve(Some(Duration::from_secs(seconds))), "{line}");
            assert_eq!(config.final_action, FinalAction::Poweroff, "{line}");
        }
        for value in ["serve:", "serve:5", "serve:5M", "serves", "serve:-1s", "serve:18446744073709551615h"] {
            let config = parse(&format!("rcapture.final={value}"));
            assert_eq!((config.serve, config.remarks.len()), (None, 1), "{value}");
        }
    }

    #[test]
    fn quotes_protect_spaces_as_in_the_kernel() {
        let config = parse(
            r#"dyndbg="file a.c +p; rcapture.final=halt" "rcapture.compress=none" rcapture.final="poweroff""#,
        );
        assert_eq!(config.final_action, FinalAction::Poweroff);
        assert_eq!(config.compress, Compress::None);
        assert_eq!(config.remarks, []);
    }

    #[test]
    fn settings_of_ours_that_mean_nothing_are_remarked_on() {
        let config = parse("rcapture.colour=red rcapture.dump_level=32 rcapture.final=later mitigations=off");
        let remarks: Vec<_> = config.remarks.iter().map(|remark| format!("{remark}")).collect();
        assert_eq!(
            remarks,
            [
                "rcapture.colour: unknown, ignored",
                "rcapture.dump_level=32: cannot be used, ignored",
                "rcapture.final=later: cannot be used, ignored",
            ]
        );
        assert_eq!(config.dump_level, DumpLevel::SMALLEST);
    }

    #[test]
    fn hostile_lines_are_bounded() {
        assert_eq!(parse(&"rcapture.x ".repeat(1000)).remarks.len(), MAX_REMARKS);
        assert_eq!(parse(&"rcapture.link=serial:ttyS0 ".repeat(100)).links.len(), MAX_LINKS);
        assert_eq!(Config::parse(&[0xff; 4096]), Config::default());
        assert_eq!(Config::parse(&[b'"'; 4095]), Config::default());
        assert_eq!(parse("elfcorehdr=é").elfcorehdr, None);
    }
}
