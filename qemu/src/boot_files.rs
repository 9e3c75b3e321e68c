//! What a machine boots: a stock kernel, or one that somebody brings.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use crate::arch::Arch;
use crate::lab::Kernel;
use crate::outcome::{Error, IoContext, Result};

/// How a file begins that gzip made (RFC 1952, 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// How a kernel begins that unpacks itself by EFI alone (Linux, drivers/firmware/efi/libstub/zboot-header.S).
const EFI_ZBOOT: (&[u8], &[u8]) = (b"MZ\0\0", b"zimg");
const ELF: &[u8] = b"\x7fELF";
/// `XLF_KERNEL_64` (Linux, Documentation/arch/x86/boot.rst, xloadflags).
const XLF_KERNEL_64: u16 = 1;

/// A kernel, and what belongs to it.
#[derive(Clone, Debug)]
pub struct BootFiles {
    /// What it runs on.
    pub arch: Arch,
    /// The bzImage, Image or zImage.
    pub image: PathBuf,
    /// The directory of its modules, if they are known.
    pub modules: Option<PathBuf>,
    /// The directory of the device trees of boards, if they are known.
    pub device_trees: Option<PathBuf>,
}

impl From<Kernel> for BootFiles {
    fn from(kernel: Kernel) -> Self {
        Self {
            arch: kernel.arch,
            image: kernel.vmlinuz,
            modules: Some(kernel.modules),
            device_trees: Some(kernel.device_trees),
        }
    }
}

impl BootFiles {
    /// The kernel in the file `image`, alone. What it runs on is in its header.
    ///
    /// # Errors
    /// [`Error::NotSupported`] if no machine of ours boots such a file.
    pub fn of_image(image: &Path) -> Result<Self> {
        let bytes = fs::read(image).on("read", image)?;
        let arch = arch_of(&bytes).map_err(|(reason, remedy)| Error::NotSupported {
            what: format!("the kernel {}", image.display()),
            reason: reason.into(),
            remedy: remedy.into(),
        })?;
        Ok(Self { arch, image: image.to_owned(), modules: None, device_trees: None })
    }

    /// The files of those of `names` that are modules of this kernel, in their order. One that is not may be built in.
    ///
    /// # Errors
    /// If a directory cannot be read.
    pub fn module_files(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let Some(modules) = self.modules.as_ref().filter(|_| !names.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut found = BTreeMap::new();
        let mut pending = vec![modules.clone()];
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(&directory).on("list", &directory)? {
                let path = entry.on("list", &directory)?.path();
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                match name.split_once(".ko") {
                    Some((module, "" | ".xz" | ".zst" | ".gz")) => {
                        drop(found.insert(module.to_owned(), path))
                    }
                    // `build` and `source` lead out of it.
                    _ if path.is_dir() && !path.is_symlink() => pending.push(path),
                    _ => {}
                }
            }
        }
        Ok(names.iter().filter_map(|&name| found.remove(name)).collect())
    }
}

/// What the kernel in `file` runs on; or why it is none that QEMU boots, and what mends that.
fn arch_of(file: &[u8]) -> Result<Arch, (&'static str, &'static str)> {
    if let Ok(kernel) = image::bzimage::parse(file) {
        return match kernel.header.xloadflags.get() & XLF_KERNEL_64 {
            0 => Err(("it is a bzImage for 32 bits", "build it for x86_64")),
            _ => Ok(Arch::X86_64),
        };
    }
    if image::zimage::parse(file).is_ok() {
        return Ok(Arch::Arm);
    }
    let mut unpacked = Vec::new();
    let head = if file.starts_with(&GZIP) {
        // What is whole of it is enough.
        let _ = GzDecoder::new(file).take(image::arm64::HEADER_BYTES as u64).read_to_end(&mut unpacked);
        &unpacked
    } else {
        file
    };
    if image::arm64::parse(head).is_ok() {
        return Ok(Arch::Aarch64);
    }
    let (start, format) = EFI_ZBOOT;
    Err(if file.starts_with(start) && file.get(4..).is_some_and(|rest| rest.starts_with(format)) {
        ("only EFI can unpack it", "give arch/arm64/boot/Image, or turn CONFIG_EFI_ZBOOT off")
    } else if file.starts_with(ELF) {
        (
            "it is an ELF file",
            "give the bzImage, zImage or Image that was made of it; this is what --vmlinux takes",
        )
    } else {
        (
            "it is neither a bzImage nor a zImage nor an arm64 Image",
            "name the file that a boot loader would take",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use image::FlatImage;

    fn arm64() -> Vec<u8> {
        image::arm64::build(&FlatImage::new(vec![0; 0x208], 0x1000, 0), &[0; 0x40], &[]).unwrap()
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut out = GzEncoder::new(Vec::new(), Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn a_kernel_says_in_its_header_what_it_runs_on() {
        let pc = image::bzimage::build(&FlatImage::new(vec![0; 0x208], 0x1000, 0x200), "6.1.0").unwrap();
        assert_eq!(arch_of(&pc), Ok(Arch::X86_64));
        let arm = image::zimage::build(&FlatImage::new(vec![0; 0x208], 0x1000, 0x100)).unwrap();
        assert_eq!(arch_of(&arm), Ok(Arch::Arm));
        assert_eq!(arch_of(&arm64()), Ok(Arch::Aarch64));
        assert_eq!(arch_of(&gzipped(&arm64())), Ok(Arch::Aarch64));
    }

    #[test]
    fn modules_are_found_however_they_are_packed() {
        let directory = tempfile::tempdir().unwrap();
        let drivers = directory.path().join("kernel/drivers");
        fs::create_dir_all(&drivers).unwrap();
        let files = ["a.ko", "b.ko.xz", "c.ko.zst", "d.ko.gz", "e.ko.sig"];
        for name in files {
            fs::write(drivers.join(name), "").unwrap();
        }
        let modules = Some(directory.path().to_owned());
        let kernel = BootFiles { arch: Arch::X86_64, image: "bzImage".into(), modules, device_trees: None };
        let found = kernel.module_files(&["d", "c", "b", "a", "e", "f"]).unwrap();
        let expected = ["d.ko.gz", "c.ko.zst", "b.ko.xz", "a.ko"].map(|name| drivers.join(name));
        assert_eq!(found, expected);
    }

    #[test]
    fn what_cannot_be_booted_is_told_with_what_to_give_instead() {
        let mut pc = image::bzimage::build(&FlatImage::new(vec![0; 0x208], 0x1000, 0x200), "6.1.0").unwrap();
        pc[0x236] = 0;
        assert!(arch_of(&pc).unwrap_err().0.contains("32 bits"));
        assert!(arch_of(b"MZ\0\0zimg........").unwrap_err().1.contains("CONFIG_EFI_ZBOOT"));
        assert!(arch_of(b"\x7fELF\x02\x01\x01").unwrap_err().1.contains("--vmlinux"));
        for other in [&b""[..], b"text", &gzipped(b"text"), &GZIP, &arm64()[..20]] {
            assert!(arch_of(other).is_err());
        }
    }
}
