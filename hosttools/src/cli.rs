//! Arguments, and what they lead to.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use memory::DumpLevel;
use rcapture::dump::{Census, Dump, Filtered};
use rcapture::info::Info;
use rcapture::log::Extent;
use rcapture::recv::{Line, Mode, Source};
use rcapture::write::WriteBar;
use rcapture::{dump, recv, write};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

/// Incomplete, but usable.
const INCOMPLETE: u8 = 3;

/// Receives, converts and inspects crash dumps of Linux machines.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  rcapture recv --serial /dev/ttyUSB0,115200 -o /var/crash
  rcapture info /var/crash/board-20261121T213000Z/vmcore
  rcapture convert --format elf line.raw vmcore

Exit status: 0 complete, 1 failed, 2 usage, 3 incomplete but usable.";

#[derive(Subcommand)]
enum Command {
    /// Receive a dump from a line, and write it as a vmcore
    Recv(Box<Recv>),
    /// Convert a dump, journal or recording of a line to another format
    Convert(Convert),
    /// Show a dump, journal or recording as a directory: an ELF vmcore, read as it is wanted
    Mount(Mount),
    /// Let a machine go on that waits because its session is shown in a directory
    Release(Release),
    /// Tell what a dump, journal or recording holds
    Info(Input),
    /// Print the kernel log of a dump, journal or recording
    Log(Input),
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// Where they go
        directory: PathBuf,
    },
}

#[derive(Args)]
struct Input {
    /// vmcore, journal or recording
    input: PathBuf,
}

#[derive(Args)]
#[command(after_help = RECV_EXAMPLES)]
struct Recv {
    #[command(flatten)]
    source: SourceArguments,
    /// Directory in which HOST-DATE/ is made for the dump
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    #[command(flatten)]
    write: WriteArguments,
    /// Write nothing to the line: what gets lost on it stays lost
    #[arg(long, conflicts_with = "listen")]
    listen_only: bool,
    /// Wait this many seconds for a socket that is not there yet
    #[arg(long, value_name = "SECS", default_value_t = 5)]
    wait: u64,
    /// Give up after this many seconds without a frame, once the session has begun
    #[arg(long, value_name = "SECS", default_value_t = 60)]
    timeout: u64,
    /// Keep the journal of a complete dump
    #[arg(long)]
    keep_journal: bool,
    /// Also write the raw bytes of the line to this file
    #[arg(long, value_name = "FILE", conflicts_with = "listen")]
    record: Option<PathBuf>,
    #[command(flatten)]
    mounting: MountArguments,
    #[command(flatten)]
    listening: ListenArguments,
}

/// For a look at the machine while its dump comes.
#[derive(Args)]
#[command(next_help_heading = "Looking at it meanwhile")]
struct MountArguments {
    /// Show the session in this empty directory, from its first second on: pages that are read come before others. The
    /// machine and the directory stay until it is unmounted, released or this program stopped
    #[arg(long, value_name = "DIR")]
    mount: Option<PathBuf>,
    /// A read of a page fails after so many seconds in which none came that a reader waits for, and after six times as many
    /// whatever came
    #[arg(long, value_name = "SECS", default_value_t = 10, requires = "mount", value_parser = clap::value_parser!(u64).range(1..=3600))]
    read_timeout: u64,
    /// Only what is read is sent: unmounted, released or stopped, the dump ends with that
    #[arg(long, requires = "mount", conflicts_with_all = ["listen_only", "stdin"])]
    on_demand: bool,
}

impl MountArguments {
    fn options(self) -> Option<recv::MountOptions> {
        let Self { mount, read_timeout, on_demand } = self;
        let read_timeout = Duration::from_secs(read_timeout);
        mount.map(|directory| recv::MountOptions { directory, read_timeout, on_demand })
    }
}

/// What takes one dump from one line. (clap asks for no `--listen` beside one of them, as they exclude it.)
const LINES: [&str; 4] = ["serial", "unix", "tcp", "stdin"];

/// For `--listen` only.
#[derive(Args)]
#[command(next_help_heading = "With --listen")]
struct ListenArguments {
    /// Sessions at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 16, value_parser = at_least_one, conflicts_with_all = LINES)]
    max_sessions: usize,
    /// Bytes that a session may send: 500M, 64G; no limit if not given
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with_all = LINES)]
    max_bytes: Option<u64>,
    /// Free space to leave on the disk: sessions wait while less is free
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size, conflicts_with_all = LINES)]
    keep_free: u64,
    /// Stop after the first dump, with its exit status
    #[arg(long, conflicts_with_all = LINES)]
    once: bool,
    /// Run CMD (without a shell) after each dump, with the dump's directory as its argument
    #[arg(long, value_name = "CMD", conflicts_with_all = LINES)]
    exec: Option<OsString>,
    /// Tell what happens on standard output, one JSON object a line
    #[arg(long, conflicts_with_all = LINES)]
    json: bool,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| "not a number above 0".to_owned())
}

/// A number of bytes.
fn size(text: &str) -> Result<u64, String> {
    memory::parse_number(text).ok_or_else(|| "a size is a number, or one with K, M, G or T: 64G".to_owned())
}

const RECV_EXAMPLES: &str = "\
Examples:
  rcapture recv --serial /dev/ttyUSB0 -o /var/crash
  rcapture recv --tcp console-server:7001 --format elf
  ssh gateway cat /dev/ttyS1 | rcapture recv --stdin
  rcapture recv --listen 192.0.2.1:7707 -o /var/crash
  rcapture recv --serial /dev/ttyUSB0 -o /var/crash --mount /mnt/crash
  rcapture recv --serial /dev/ttyUSB0 --mount /mnt/crash --on-demand
  rcapture recv --listen 192.0.2.1:7707 --once --mount /mnt/crash

Over TCP everything is sent in clear text, and whoever reaches the port of `--listen` can send a dump: a dump holds all
of a machine's secrets. Use a network of its own, or a tunnel.

Nothing is written to the line before a dump begins and after it ended. Ctrl-C ends the dump and keeps what has come;
the same command takes an unfinished dump in DIR up where it was.";

#[derive(Args)]
#[group(required = true, multiple = false)]
struct SourceArguments {
    /// Serial port or pseudo terminal, and its speed
    #[arg(long, value_name = "TTY[,BAUD]", value_parser = serial)]
    serial: Option<Source>,
    /// Unix socket to connect to
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
    /// TCP port to connect to
    #[arg(long, value_name = "HOST:PORT")]
    tcp: Option<String>,
    /// Read the line from standard input
    #[arg(long)]
    stdin: bool,
    /// Take dumps from all machines that connect to this TCP port, in clear text
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
}

impl SourceArguments {
    fn source(self) -> Source {
        match (self.serial, self.unix, self.tcp) {
            (Some(serial), ..) => serial,
            (_, Some(path), _) => Source::Unix(path),
            (.., Some(address)) => Source::Tcp(address),
            (None, None, None) => Source::Stdin,
        }
    }
}

/// `PATH` or `PATH,SPEED`.
fn serial(text: &str) -> Result<Source, String> {
    const DEFAULT_SPEED: u32 = 115_200;
    let (path, speed) = match text.rsplit_once(',') {
        Some((path, speed)) => {
            // As on the kernel's command line, 8n1 may follow.
            let speed = speed.strip_suffix("n8").unwrap_or(speed);
            (path, speed.parse().map_err(|_| format!("`{speed}` is no speed in bits per second"))?)
        }
        None => (text, DEFAULT_SPEED),
    };
    Ok(Source::Serial(PathBuf::from(path), speed))
}

#[derive(Args)]
struct WriteArguments {
    /// Format of the vmcore [default: kdump, but of arm elf]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Compression of its pages
    #[arg(long, value_enum, default_value_t)]
    compress: Compression,
}

impl WriteArguments {
    fn options(&self) -> write::Options {
        write::Options {
            format: match self.format {
                None => write::Format::Auto,
                Some(Format::Kdump) => write::Format::Kdump,
                Some(Format::Elf) => write::Format::Elf,
                Some(Format::Flattened) => write::Format::Flattened,
            },
            compression: match self.compress {
                Compression::Zlib => write::Compression::Zlib,
                Compression::Zstd => write::Compression::Zstd,
                Compression::None => write::Compression::None,
            },
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// makedumpfile's kdump-compressed format
    Kdump,
    /// ELF core
    Elf,
    /// Kdump-compressed as a stream (makedumpfile -F)
    Flattened,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Compression {
    #[default]
    Zlib,
    Zstd,
    None,
}

#[derive(Args)]
#[command(after_help = CONVERT_EXAMPLES)]
struct Convert {
    /// vmcore, journal or recording
    input: PathBuf,
    #[command(flatten)]
    output: Output,
    /// Leave pages out, as makedumpfile does at this level: the sum of 1 zero pages, 2 page cache without private data,
    /// 4 page cache, 8 memory of processes, 16 free pages
    #[arg(short, long, value_name = "LEVEL", value_parser = dump_level)]
    dump_level: Option<DumpLevel>,
    #[command(flatten)]
    write: WriteArguments,
}

#[derive(Args)]
#[command(after_help = MOUNT_EXAMPLES)]
struct Mount {
    /// vmcore, journal or recording
    input: PathBuf,
    /// Empty directory to show it in
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[derive(Args)]
#[command(after_help = RELEASE_EXAMPLES)]
struct Release {
    /// The directory that was given to `recv --mount`
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

const RELEASE_EXAMPLES: &str = "\
Examples:
  rcapture release /mnt/crash

A machine whose dump is held (`recv --on-demand`) ends it there; one that stays after its dump stays no
longer. Then it reboots, or what else its `rcapture.final=` says. What has come of the dump is kept.";

const MOUNT_EXAMPLES: &str = "\
Examples:
  rcapture mount board-20261121T213000Z/journal /mnt/crash &
  crash vmlinux /mnt/crash/vmcore
  umount /mnt/crash

In DIR are `vmcore`, an ELF core as `rcapture convert --format elf` writes it (pages that the dump does
not have are in no PT_LOAD), `vmcore-dmesg.txt` and `status`. Nothing is written to the disk for them.
It ends by Ctrl-C or when DIR is unmounted.
Users other than root need the package fuse3. `rcapture recv --mount` shows a dump while it comes.";

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Output {
    /// File to write; `-` is standard output, for the flattened format
    #[arg(value_name = "OUTPUT")]
    file: Option<PathBuf>,
    /// The same, with a name to it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Output {
    fn path(&self) -> &Path {
        self.file.as_deref().or(self.output.as_deref()).unwrap_or(Path::new("-"))
    }
}

fn dump_level(text: &str) -> Result<DumpLevel, String> {
    let level = text.parse().ok().and_then(DumpLevel::new);
    level.ok_or_else(|| "a dump level is a number from 0 to 31".to_owned())
}

const CONVERT_EXAMPLES: &str = "\
Examples:
  rcapture convert board-20261121T213000Z/journal vmcore
  rcapture convert -d 31 vmcore small
  rcapture convert --format elf vmcore vmcore.elf
  rcapture convert vmcore - --format flattened | ssh host 'cat > vmcore.flat'";

/// Does what the arguments say.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Recv(arguments) => receive(*arguments),
        Command::Convert(arguments) => convert(&arguments),
        Command::Mount(arguments) => mount(&arguments),
        Command::Release(Release { directory }) => release(&directory),
        Command::Info(arguments) => info(&arguments.input),
        Command::Log(arguments) => log(&arguments.input),
        Command::Man { directory } => man(&directory),
    }
}

fn info(input: &Path) -> anyhow::Result<ExitCode> {
    let dump = dump::open(input)?;
    write!(std::io::stdout().lock(), "{}", Info::of(&*dump)?)?;
    Ok(exit_code(dump.facts().is_complete))
}

fn log(input: &Path) -> anyhow::Result<ExitCode> {
    let dump = dump::open(input)?;
    let extent = rcapture::log::write(&*dump, &mut std::io::stdout().lock())
        .with_context(|| format!("read the kernel log: {}", input.display()))?;
    if extent != Extent::Whole {
        eprintln!("rcapture: {}: {extent}", input.display());
    }
    Ok(exit_code(extent == Extent::Whole))
}

fn mount(Mount { input, directory }: &Mount) -> anyhow::Result<ExitCode> {
    let stopped = stopped_by_signals()?;
    let dump = dump::open(input)?;
    let explained = Filtered::incomplete(&*dump);
    let explained: &dyn Dump = explained.as_ref().map_or(&*dump, |explained| explained);
    rcapture::mount::mount(explained, input, directory, &stopped, || {
        println!("crash vmlinux {}", directory.join("vmcore").display());
    })?;
    Ok(exit_code(dump.facts().is_complete))
}

fn release(directory: &Path) -> anyhow::Result<ExitCode> {
    let file = directory.join(rcapture::mount::RELEASE);
    // Never made: in a directory that is not mounted it would stay.
    let opened = std::fs::OpenOptions::new().write(true).open(&file);
    opened.and_then(|mut file| file.write_all(b"1\n")).with_context(|| {
        format!("release {}: no session is shown there that is being received", directory.display())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn man(directory: &Path) -> anyhow::Result<ExitCode> {
    clap_mangen::generate_to(Arguments::command(), directory)
        .with_context(|| format!("write manual pages to {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn exit_code(is_complete: bool) -> ExitCode {
    if is_complete { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) }
}

/// Becomes readable at the first signal that ends programs. The second one ends this one.
fn stopped_by_signals() -> std::io::Result<UnixStream> {
    let (stop, stopped) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let again = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&again))?;
        signal_hook::flag::register(signal, again)?;
        signal_hook::low_level::pipe::register(signal, stop.try_clone()?)?;
    }
    Ok(stopped)
}

fn receive(arguments: Recv) -> anyhow::Result<ExitCode> {
    let stopped = stopped_by_signals()?;
    // A file that may not grow is an error of the write, not the end of the program.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    let options = recv::Options {
        directory: arguments.output,
        write: arguments.write.options(),
        timeout: Duration::from_secs(arguments.timeout),
        keep_journal: arguments.keep_journal,
        record: arguments.record,
        mount: arguments.mounting.options(),
    };
    if let Some(address) = &arguments.source.listen {
        if options.mount.is_some() && !arguments.listening.once {
            let what = "--mount shows one session: with --listen it wants --once";
            Arguments::command().error(clap::error::ErrorKind::MissingRequiredArgument, what).exit();
        }
        return listen(address, &stopped, &options, arguments.listening);
    }
    let mode = if arguments.listen_only { Mode::ListenOnly } else { Mode::Answer };
    let line = Line::open(&arguments.source.source(), mode, Duration::from_secs(arguments.wait))?;
    let outcome = recv::receive(line, &stopped, &options)?;
    eprintln!("rcapture: {}", outcome.summary);
    if !outcome.is_complete {
        eprintln!("rcapture: all that came is in {}", outcome.directory.join("journal").display());
    }
    println!("crash vmlinux {}", outcome.directory.join("vmcore").display());
    Ok(exit_code(outcome.is_complete))
}

fn listen(
    address: &str,
    stopped: &UnixStream,
    options: &recv::Options,
    arguments: ListenArguments,
) -> anyhow::Result<ExitCode> {
    let ListenArguments { max_sessions, max_bytes, keep_free, once, exec, json } = arguments;
    let limits = recv::Limits { max_sessions, max_bytes, keep_free };
    let listening = recv::Listening { once, exec, json };
    let first = recv::listen(address, stopped, options, &limits, &listening)?;
    Ok(exit_code(first.is_none_or(|outcome| outcome.is_complete)))
}

fn convert(arguments: &Convert) -> anyhow::Result<ExitCode> {
    let options = arguments.write.options();
    let output = arguments.output.path();
    let is_stdout = output.as_os_str() == OsStr::new("-");
    if is_stdout && options.format != write::Format::Flattened {
        anyhow::bail!("write to standard output: only `--format flattened` can be written to a pipe");
    }
    let input = dump::open(&arguments.input)?;
    let filtered = match arguments.dump_level {
        Some(level) => {
            let filtered = Filtered::new(&*input, level);
            tell_what_is_not_known(&filtered, &arguments.input);
            Some(filtered)
        }
        None => Filtered::incomplete(&*input),
    };
    let dump: &dyn Dump = filtered.as_ref().map_or(&*input, |filtered| filtered);
    let bar = WriteBar::new();
    let mut progress = |done, total| bar.show(done, total);
    let written = if is_stdout {
        let out = std::io::stdout().lock();
        let path = Path::new("standard output");
        write::flattened(dump, out, path, options.compression, &mut progress)?
    } else {
        write::to_file(dump, output, options, &mut progress)?
    };
    drop(bar);
    if !dump.facts().is_complete {
        eprintln!(
            "rcapture: {} is incomplete: {} pages are missing",
            arguments.input.display(),
            written.lost
        );
        return Ok(ExitCode::from(INCOMPLETE));
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the dump does not tell what its pages are, they are kept, whatever the level.
fn tell_what_is_not_known(filtered: &Filtered<'_>, input: &Path) {
    match filtered.census() {
        Err(error) => eprintln!("rcapture: {}: {error}: all its pages are kept", input.display()),
        Ok(Census { in_doubt: 0, .. }) => {}
        Ok(Census { in_doubt, .. }) => {
            eprintln!("rcapture: {}: {in_doubt} pages of unknown use are kept", input.display());
        }
    }
}
