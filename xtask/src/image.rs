//! `cargo xtask image`: from the payload's source to the file that `kexec -p` loads.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lz4::block::CompressionMode;
use rcapture_qemu::Arch;
use xshell::{Shell, cmd};

use crate::cargo::{encoded, remapped_paths};
use crate::toolchain::{Toolchain, without_cargo};
use crate::workspace_root;

/// Largest image in bytes: it is hashed after the crash, before it may run.
const MAX_FILE_BYTES: usize = 384 * 1024;
/// Most memory an image may need: what fits in `crashkernel=4M` beside the loader's own needs.
const MAX_MEMORY_BYTES: u64 = 3000 * 1024;

/// What to build.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The machines to build for: all, unless they are named.
    #[arg(long, value_enum, default_values_t = Arch::ALL)]
    arch: Vec<Arch>,
}

/// Builds the image and puts it into `dist/`.
///
/// # Errors
/// If a tool is missing (the message says which command mends that), or the image does not build or is too large.
pub(crate) fn run(args: &Args) -> Result<()> {
    for arch in &args.arch {
        eprintln!("{}", build(*arch)?.display());
    }
    Ok(())
}

/// As [`run`], for the other chores: the path of the image.
pub(crate) fn build(arch: Arch) -> Result<PathBuf> {
    let root = workspace_root();
    let elf_path = compile(&root, arch)?;
    let elf = fs::read(&elf_path).with_context(|| format!("reading {}", elf_path.display()))?;
    let version = concat!("rcapture ", env!("CARGO_PKG_VERSION"));
    let file = boot_image(arch, &elf, version).with_context(|| elf_path.display().to_string())?;
    ensure!(
        file.len() <= MAX_FILE_BYTES,
        "the {} image has {} bytes, more than the {MAX_FILE_BYTES} it may have: find what grew with `nm -S --size-sort {}`",
        arch.name(),
        file.len(),
        elf_path.display()
    );
    let dist = root.join("dist").join(arch.name());
    fs::create_dir_all(&dist).with_context(|| format!("creating {}", dist.display()))?;
    write_if_changed(&dist.join("rcapture.elf"), &elf)?;
    let path = dist.join("rcapture.bin");
    write_if_changed(&path, &file)?;
    Ok(path)
}

/// Compiles and links the payload; returns the ELF file.
fn compile(root: &Path, arch: Arch) -> Result<PathBuf> {
    let shell = Shell::new()?;
    shell.change_dir(root);
    let triple = triple(arch);
    let toolchain = Toolchain::find(&shell, root, triple)?;
    // A directory of its own: another compiler than the host's may be at work.
    let target_dir = root.join("target/payload").join(&toolchain.id);
    let cargo = &toolchain.cargo;
    let build = cmd!(
        shell,
        "{cargo} build --quiet --package rcapture-payload --bin rcapture-payload --profile image --target {triple} --target-dir {target_dir}"
    );
    let small = small(arch).iter().flat_map(|package| {
        ["--config".to_owned(), format!("profile.image.package.{package}.opt-level=\"s\"")]
    });
    let mut flags: Vec<String> = rustflags(arch).iter().map(|flag| (*flag).to_owned()).collect();
    flags.extend(remapped_paths(root));
    let mut build = without_cargo(build.args(small))
        .env("CARGO_ENCODED_RUSTFLAGS", encoded(&flags))
        .env("RUSTC", &toolchain.rustc);
    if let Some(linker) = &toolchain.linker {
        build = build.env(format!("CARGO_TARGET_{}_LINKER", triple.to_uppercase().replace('-', "_")), linker);
    }
    build.quiet().run().with_context(|| format!("building the payload for {triple}"))?;
    Ok(target_dir.join(triple).join("image/rcapture-payload"))
}

/// Rust's name for the bare machine.
pub(crate) const fn triple(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "x86_64-unknown-none",
        // Without floating point there is no need to ask whether the crashed kernel had turned it off.
        Arch::Aarch64 => "aarch64-unknown-none-softfloat",
        // Not thumbv7a-none-eabi, by which it would be a fifth smaller: LLVM copies 7 bytes with a load of several registers
        // that names one, which Thumb-2 does not have.
        Arch::Arm => "armv7a-none-eabi",
    }
}

/// Compiler flags beyond the target's own; the linker script is the payload's build.rs's.
const fn rustflags(arch: Arch) -> &'static [&'static str] {
    match arch {
        // It is position independent as it is.
        Arch::X86_64 => &[],
        Arch::Aarch64 | Arch::Arm => &["-Crelocation-model=pie", "-Clink-arg=-pie"],
    }
}

/// Crates that the profile has made fast, but that are to be small here.
const fn small(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::X86_64 | Arch::Aarch64 => &[],
        // Arm code is larger than the others'.
        Arch::Arm => &["memory", "wire"],
    }
}

/// The file the boot loader takes, made of the linked payload `elf`: a bzImage, an Image, or a zImage.
fn boot_image(arch: Arch, elf: &[u8], version: &str) -> Result<Vec<u8>> {
    let flatten = |machine| ::image::flatten(elf, machine, MAX_MEMORY_BYTES);
    let file = match arch {
        Arch::X86_64 => ::image::bzimage::build(&flatten(::image::Machine::X86_64)?, version)?,
        Arch::Aarch64 => {
            packed_image(&flatten(::image::Machine::Aarch64)?, ::image::section(elf, UNPACKER)?)?
        }
        Arch::Arm => ::image::zimage::build(&flatten(::image::Machine::Arm)?)?,
    };
    ensure!(
        file.windows(MARK.len()).any(|words| words == MARK),
        "rcapture-load would not take it for rcapture's: nowhere in it is {:?}",
        MARK.escape_ascii().to_string()
    );
    Ok(file)
}

/// What `packaging/target/rcapture-load` looks for in an image: what it says begins so, and a packed one has it beside its unpacker.
const MARK: &[u8] = b"rcapture: ";

/// The section with the code that unpacks what [`packed_image`] packs.
const UNPACKER: &str = ".unpack";

/// The Image of `image`, packed as small as one block of LZ4 can be: whoever unpacks it has no caches, and few instructions.
fn packed_image(image: &::image::FlatImage, unpacker: &[u8]) -> Result<Vec<u8>> {
    let mode = CompressionMode::HIGHCOMPRESSION(12);
    let packed = lz4::block::compress(&image.bytes, Some(mode), false).context("packing the image")?;
    let file = ::image::arm64::build(image, unpacker, &packed)?;
    let header = ::image::arm64::parse(&file)?;
    let memory_bytes = header.text_offset.get() + header.image_size.get();
    ensure!(
        memory_bytes <= MAX_MEMORY_BYTES,
        "unpacked the image needs {memory_bytes} bytes, more than {MAX_MEMORY_BYTES}"
    );
    Ok(file)
}

/// Leaves an unchanged file alone, so that what depends on its time is not done again.
fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}
