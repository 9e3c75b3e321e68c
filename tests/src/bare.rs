//! A board of which the test makes everything that the capture kernel is handed: device tree and elfcorehdr. No kernel has
//! crashed on it. It is QEMU's `virt`, whose two architectures differ in little.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rcapture_qemu::Arch;
use tempfile::TempDir;
use vmcore::headers::{Class, CoreHeader, Machine, ProgramHeader, ehdr_bytes, push_program_header};

use crate::spec::image;
use crate::tree::Tree;

/// RAM of the board: 64 MiB from here on (QEMU, hw/arm/virt.c).
pub const RAM_PA: u64 = 0x4000_0000;
/// See [`RAM_PA`].
pub const RAM_BYTES: u64 = 64 << 20;
/// Where the elfcorehdr is.
pub const ELFCOREHDR_PA: u64 = 0x4100_0000;
/// Where the device tree is.
const TREE_PA: u32 = 0x4180_0000;
/// Where the reservation is that the image is in.
const IMAGE_PA: u32 = 0x4020_0000;
/// Where in it an Image is: it has less memory than that in front of it.
const ARM64_IMAGE_PA: u32 = IMAGE_PA + (4 << 20);
/// Where in it a zImage is (Linux, Documentation/arch/arm/booting.rst, 5).
const ZIMAGE_PA: u32 = IMAGE_PA + 0x8000;
/// Where the board begins, behind QEMU's own device tree.
const LOADER_PA: u32 = 0x4018_0000;

/// `movz x0, #(TREE_PA >> 16), lsl #16; movz x1, #(ARM64_IMAGE_PA >> 16), lsl #16; br x1`.
const AARCH64_LOADER: [u32; 3] =
    [0xd2a0_0000 | (TREE_PA >> 16) << 5, 0xd2a0_0001 | (ARM64_IMAGE_PA >> 16) << 5, 0xd61f_0020];

/// `mov r0, #0; mvn r1, #0`, r2 and r3 by `movw` and `movt`, `bx r3`.
const ARM_LOADER: [u32; 7] = [
    0xe3a0_0000,
    0xe3e0_1000,
    arm_mov16(0xe300_2000, TREE_PA & 0xffff),
    arm_mov16(0xe340_2000, TREE_PA >> 16),
    arm_mov16(0xe300_3000, ZIMAGE_PA & 0xffff),
    arm_mov16(0xe340_3000, ZIMAGE_PA >> 16),
    0xe12f_ff13,
];

/// `movw` or `movt` with 16 bits (Arm Architecture Reference Manual, ARMv7-A, A8.8.102 and A8.8.106).
const fn arm_mov16(instruction: u32, value: u32) -> u32 {
    instruction | (value >> 12) << 16 | (value & 0xfff)
}

/// What came of it.
pub struct Ended {
    /// What it wrote to its serial port.
    pub line: PathBuf,
    /// That, as far as it is text.
    pub said: String,
    _directory: TempDir,
}

/// Enters the capture kernel with this tree, and waits until the machine ends.
///
/// # Panics
/// If it does not end within `deadline`.
#[must_use]
pub fn run(arch: Arch, tree: &[u8], elfcorehdr: &[u8], deadline: Duration) -> Ended {
    let (ended, status) = start(arch, tree, elfcorehdr, deadline);
    assert!(status.is_some_and(|status| status.success()), "{status:?} within {deadline:?}: {}", ended.said);
    ended
}

/// [`run`], which is still running after `time`, and is ended then.
///
/// # Panics
/// If it has ended by itself.
#[must_use]
pub fn run_for(arch: Arch, tree: &[u8], elfcorehdr: &[u8], time: Duration) -> Ended {
    let (ended, status) = start(arch, tree, elfcorehdr, time);
    assert!(status.is_none(), "{status:?} within {time:?}: {}", ended.said);
    ended
}

/// What came of it within `deadline`, and how it ended if it did.
fn start(arch: Arch, tree: &[u8], elfcorehdr: &[u8], deadline: Duration) -> (Ended, Option<ExitStatus>) {
    let directory = tempfile::Builder::new().prefix("rcapture-bare-").tempdir().unwrap();
    let line = directory.path().join("line");
    let (cpu, loader, image_pa) = match arch {
        Arch::Aarch64 => ("cortex-a57", &AARCH64_LOADER[..], ARM64_IMAGE_PA),
        Arch::Arm => ("cortex-a15", &ARM_LOADER[..], ZIMAGE_PA),
        Arch::X86_64 => panic!("a PC has no device tree"),
    };
    let loader: Vec<u8> = loader.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut command = Command::new(arch.qemu());
    command.args(["-M", "virt", "-cpu", cpu, "-m", "64M", "-accel", "tcg", "-display", "none"]);
    command
        .args(["-nodefaults", "-no-reboot", "-nic", "none", "-serial"])
        .arg(format!("file:{}", line.display()));
    let mut load = |name: &str, bytes: &[u8], pa: u32| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        let device = format!("loader,file={},addr={pa:#x},force-raw=on", path.display());
        command.args(["-device", &device]);
    };
    load("image", &fs::read(image(arch)).unwrap(), image_pa);
    load("tree", tree, TREE_PA);
    load("elfcorehdr", elfcorehdr, u32::try_from(ELFCOREHDR_PA).unwrap());
    load("loader", &loader, LOADER_PA);
    command.args(["-device", &format!("loader,addr={LOADER_PA:#x},cpu-num=0")]);
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if start.elapsed() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let said = text_of(&line);
    (Ended { line, said, _directory: directory }, status)
}

fn text_of(line: &Path) -> String {
    String::from_utf8_lossy(&fs::read(line).unwrap_or_default()).into_owned()
}

impl Tree {
    /// What QEMU tells of its board, without `chosen`; the root is not ended.
    pub(crate) fn virt() -> Self {
        Self::default()
            .begin("")
            .cells("#address-cells", &[2])
            .cells("#size-cells", &[2])
            .begin("psci")
            .text("compatible", "arm,psci-0.2")
            .text("method", "hvc")
            .end()
            .begin("pl011@9000000")
            .text("compatible", "arm,pl011")
            .cells("reg", &[0, 0x900_0000, 0, 0x1000])
            .end()
    }

    /// With memory there.
    pub(crate) fn memory(self, start: u64, bytes: u64) -> Self {
        self.begin("memory").text("device_type", "memory").cells("reg", &cells(&[start, bytes])).end()
    }

    /// With an elfcorehdr there, and a command line.
    pub(crate) fn chosen(self, elfcorehdr_pa: u64, bootargs: &str) -> Self {
        self.begin("chosen")
            .text("bootargs", bootargs)
            .cells("linux,elfcorehdr", &cells(&[elfcorehdr_pa, 4096]))
            .end()
    }
}

/// Each number in two cells.
fn cells(numbers: &[u64]) -> Vec<u32> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    bytes.as_chunks().0.iter().map(|cell| u32::from_be_bytes(*cell)).collect()
}

/// An elfcorehdr with these ranges of memory.
#[must_use]
pub fn elfcorehdr(arch: Arch, loads: &[(u64, u64)]) -> Vec<u8> {
    let (class, machine) = match arch {
        Arch::Arm => (Class::ELF32, Machine::Arm),
        _ => (Class::ELF64, Machine::Aarch64),
    };
    let e_phoff = ehdr_bytes(class) as u64;
    let e_phnum = u16::try_from(loads.len()).unwrap();
    let header = CoreHeader { class, machine, e_flags: 0, e_phoff, e_shoff: 0, e_phnum };
    let mut bytes = Vec::new();
    header.encode(&mut bytes).unwrap();
    for &(start, length) in loads {
        let load = ProgramHeader {
            p_type: 1,
            p_flags: 7,
            p_offset: start,
            p_vaddr: 0,
            p_paddr: start,
            p_filesz: length,
            p_memsz: length,
            p_align: 0,
        };
        push_program_header(class, &load, &mut bytes).unwrap();
    }
    bytes
}
