//! Hands the linker script to the linker, for the bare-metal image only.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    if variable("CARGO_CFG_TARGET_OS") != "none" {
        return;
    }
    let script = PathBuf::from(variable("CARGO_MANIFEST_DIR"))
        .join("../linker")
        .join(format!("{}.ld", variable("CARGO_CFG_TARGET_ARCH")));
    println!("cargo:rerun-if-changed={}", script.display());
    println!("cargo:rustc-link-arg-bins=-T{}", script.display());
    println!("cargo:rustc-link-arg-bins=-zmax-page-size=4096");
    // 15 KiB less than Elf64_Rela, which the loader would copy and hash, too.
    println!("cargo:rustc-link-arg-bins=--pack-dyn-relocs=relr");
    println!("cargo:rustc-link-arg-bins=--gc-sections");
}
