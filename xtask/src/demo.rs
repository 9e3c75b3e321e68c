//! `cargo xtask demo`: a machine crashes in QEMU, its memory comes over its serial port, crash(8) or drgn reads it.

use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rcapture_qemu::{Arch, Debugger, Kernel, Lab, Line, LineOptions, Machine, Suite, Userland};
use rustix::process::{Pid, Signal, kill_process};

use crate::host_tools::{self, Profile};
use crate::image;
use crate::interrupt::Interrupt;
use crate::setup::{self, Need};
use crate::steps::step;

/// Boot, panic and the whole dump; a guest without KVM on a busy machine takes its time.
const RECEIVE_DEADLINE: Duration = Duration::from_secs(20 * 60);
const CRASH_DEADLINE: Duration = Duration::from_secs(5 * 60);
/// Time the receiver has to save what it has, once it is asked to end.
const GRACE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
/// Lines of a kernel's log to show that does not say it panicked.
const LAST_WORDS: usize = 25;

/// What to crash.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask demo
  cargo xtask demo --arch arm -o /tmp/demo")]
pub(crate) struct Args {
    /// What kind of machine
    #[arg(long, value_enum, default_value_t = Arch::X86_64)]
    arch: Arch,
    /// Debian suite whose kernel crashes
    #[arg(long, default_value = "bookworm")]
    suite: Suite,
    /// RAM of the machine in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    memory: u32,
    /// Directory for the dump
    #[arg(short, long, value_name = "DIR", default_value = "target/demo")]
    output: PathBuf,
}

/// Shows the whole way, from the crash to a backtrace.
///
/// # Errors
/// If a tool is missing (the message says what mends that), or a step fails.
pub(crate) fn run(args: &Args, interrupt: &Interrupt) -> Result<()> {
    let output = crate::workspace_root().join(&args.output);
    fs::create_dir_all(&output).with_context(|| format!("creating {}", output.display()))?;

    step("what this machine must have", || setup::run(&needs(args.arch), interrupt))?;
    let image = step("building the capture image", || image::build(args.arch))?;
    let tools = step("building rcapture", || host_tools::build(Profile::Dev, interrupt))?;
    let stock =
        step("fetching a stock kernel and what reads it; the first time some 350 MB, for arm 700", || {
            Stock::fetch(args.arch, args.suite)
        })?;
    let vmcore = step(&format!("crashing {} and receiving its memory", stock.kernel.release), || {
        crash_and_receive(args, &stock, &image, &tools.join("rcapture"), &output, interrupt)
    })?;
    let directory = vmcore.parent().unwrap_or(&output);

    let path = directory.join("vmcore-dmesg.txt");
    let log = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    println!("\nThe kernel's last words ({}):\n", path.display());
    println!("{}\n", last_words(&String::from_utf8_lossy(&log)));
    let backtrace = step(&format!("opening the vmcore with {}", stock.debugger.name()), || {
        Ok(stock.debugger.backtrace(&stock.vmlinux, &[], &vmcore, false, CRASH_DEADLINE)?)
    })?;
    println!("{backtrace}");
    println!(
        "The dump: {}\nLook further:\n  {}",
        directory.display(),
        stock.debugger.command(&stock.vmlinux, &vmcore)
    );
    Ok(())
}

/// What the lab brings.
struct Stock {
    kernel: Kernel,
    vmlinux: PathBuf,
    userland: Userland,
    debugger: Debugger,
}

impl Stock {
    fn fetch(arch: Arch, suite: Suite) -> Result<Self> {
        let lab = Lab::open()?.for_arch(arch);
        let kernel = lab.kernel(suite)?;
        Ok(Self {
            vmlinux: lab.vmlinux(&kernel)?,
            userland: lab.userland()?,
            debugger: lab.debugger(arch)?,
            kernel,
        })
    }
}

fn needs(arch: Arch) -> Vec<Need> {
    let reader = (arch != Arch::X86_64).then_some(Need::PythonVenv);
    [Need::ImageCompiler, Need::Qemu].into_iter().chain(reader).collect()
}

/// Returns the vmcore's path.
fn crash_and_receive(
    args: &Args,
    stock: &Stock,
    image: &Path,
    rcapture: &Path,
    output: &Path,
    interrupt: &Interrupt,
) -> Result<PathBuf> {
    // As fast as it goes; QEMU alone would take the bytes one by one.
    let line = Line::spawn(LineOptions::default())?;
    let machine = Machine::builder(stock.kernel.clone(), stock.userland.clone())
        .memory_mib(args.memory)
        // QEMU's device tree for 32-bit Arm has a megabyte, which goes into the reservation.
        .crashkernel(if args.arch == Arch::Arm { "5M" } else { "4M" })
        .capture_image(image)
        // A serial port in QEMU is slow: nothing is put into memory for its own sake, and what was freed is zeros.
        .populate(false)
        .append("init_on_free=1")
        // And LZMA, which suits its nominal speed, is slow on an emulated processor.
        .capture_cmdline("rcapture.compress=deflate")
        .line(&line)
        .start()?;
    let mut command = Command::new(rcapture);
    command.arg("recv").arg("--unix").arg(line.host_socket()).arg("--output").arg(output);
    eprintln!("    {}", shown(&command));
    let mut receiver = Receiver::start(command)?;
    let (status, said) = receiver.wait(interrupt)?;
    // It holds a processor until it is gone.
    drop(machine);
    drop(line);
    if interrupt.is_set() {
        bail!("interrupted");
    }
    ensure!(status.success(), "rcapture recv ended with {status}");
    // It says what to run next.
    let vmcore = said.lines().find_map(|line| line.strip_prefix("crash vmlinux "));
    Ok(PathBuf::from(vmcore.context("rcapture recv did not say where the vmcore is")?))
}

/// The command as one would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// `rcapture recv`, which shows its progress on our stderr.
struct Receiver(Child);

impl Receiver {
    fn start(mut command: Command) -> Result<Self> {
        // A process group of its own: Ctrl-C comes to us, and we pass it on.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        Ok(Self(command.spawn().context("starting rcapture recv")?))
    }

    /// Waits until it ends; asks it to when the user does, or when it takes too long. Returns what it said on stdout.
    fn wait(&mut self, interrupt: &Interrupt) -> Result<(ExitStatus, String)> {
        let start = Instant::now();
        let mut asked = None;
        let status = loop {
            if let Some(status) = self.0.try_wait()? {
                break status;
            }
            if asked.is_none() && (interrupt.is_set() || start.elapsed() > RECEIVE_DEADLINE) {
                self.ask_to_end();
                asked = Some(Instant::now());
            }
            ensure!(asked.is_none_or(|when| when.elapsed() < GRACE), "rcapture recv does not end");
            thread::sleep(POLL);
        };
        let mut said = String::new();
        if let Some(stdout) = &mut self.0.stdout {
            stdout.read_to_string(&mut said)?;
        }
        Ok((status, said))
    }

    /// Once: a second signal would cut short what it saves.
    fn ask_to_end(&self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // Fails only if it is gone.
            let _ = kill_process(pid, Signal::INT);
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// From the panic on.
fn last_words(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let panic = lines.iter().rposition(|line| line.contains("Kernel panic - "));
    let from = panic.unwrap_or(lines.len().saturating_sub(LAST_WORDS));
    lines.get(from..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_last_words_begin_with_its_panic() {
        let log = "[1.0] boot\n[2.0] Kernel panic - not syncing: x\n[2.0] CPU: 0\n";
        assert_eq!(last_words(log), "[2.0] Kernel panic - not syncing: x\n[2.0] CPU: 0");
        let silent = "line\n".repeat(100);
        assert_eq!(last_words(&silent).lines().count(), LAST_WORDS);
    }
}
