//! The recipes of `packaging/`, on an archive as `cargo xtask dist` makes it: their own commands, by GNU make and by a shell, without
//! Buildroot and bitbake.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rcapture_qemu::Arch;
use tempfile::TempDir;

use super::archive::{self, File};
use super::target_archive;
use crate::setup::in_path;
use crate::workspace_root;

/// What the makefile takes of Buildroot.
const BUILDROOT: &str = r#"
qstrip = $(strip $(subst ",,$(1)))
KCONFIG_ENABLE_OPT = echo enable $(1)
INSTALL = install
$(BR2_ARCHITECTURE) = y
BR2_PACKAGE_RCAPTURE_DIST = "some/directory"
include $(BR2_EXTERNAL_RCAPTURE_PATH)/external.mk
%/.installed:
	$($(RCAPTURE_POST_EXTRACT_HOOKS))
	$(RCAPTURE_INSTALL_TARGET_CMDS)
	$(RCAPTURE_INSTALL_INIT_$(INIT))
	@$(RCAPTURE_LINUX_CONFIG_FIXUPS)
	@echo $(RCAPTURE_SITE)/$(RCAPTURE_SOURCE)
"#;

/// What every installation has: the files' places and modes.
const INSTALLED: [(&str, u32); 3] = [
    ("etc/rcapture.conf", 0o644),
    ("usr/lib/rcapture/rcapture.bin", 0o644),
    ("usr/sbin/rcapture-load", 0o755),
];

/// An archive that has been unpacked, and an empty root.
struct Installation {
    scratch: TempDir,
    archive: String,
    unpacked: PathBuf,
}

impl Installation {
    fn new(arch: Arch) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let image = scratch.path().join("image");
        fs::write(&image, "an image").unwrap();
        let packed = target_archive(&workspace_root(), arch, &image, 7).unwrap();
        for File { name, bytes, .. } in archive::unpacked(&packed.bytes) {
            let path = scratch.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let unpacked = scratch.path().join(packed.name.strip_suffix(".tar.gz").unwrap());
        Self { scratch, archive: packed.name, unpacked }
    }

    fn root(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    fn buildroot(&self, architecture: &str, init: &str) -> Output {
        let makefile = self.scratch.path().join("Makefile");
        fs::write(&makefile, BUILDROOT).unwrap();
        let mut make = Command::new("make");
        make.arg("--file").arg(makefile).arg(self.unpacked.join(".installed"));
        make.arg(format!("TARGET_DIR={}", self.root().display()));
        make.arg(format!("INIT={init}")).arg(format!("BR2_ARCHITECTURE={architecture}"));
        let tree = workspace_root().join("packaging/buildroot");
        make.arg(format!("BR2_EXTERNAL_RCAPTURE_PATH={}", tree.display()));
        make.output().unwrap()
    }

    /// The recipe's functions: what bitbake puts in for a variable, a shell does too.
    fn yocto(&self) -> Output {
        let recipe = fs::read_to_string(recipe()).unwrap();
        let script = [
            "set -e",
            function(&recipe, "check_digests"),
            function(&recipe, "do_install"),
            "(check_digests)",
            "do_install",
        ];
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script.join("\n")).env("S", &self.unpacked).env("D", self.root());
        // OE-core, meta/conf/bitbake.conf.
        let places = [
            ("nonarch_libdir", "/usr/lib"),
            ("sbindir", "/usr/sbin"),
            ("sysconfdir", "/etc"),
            ("systemd_system_unitdir", "/usr/lib/systemd/system"),
        ];
        shell.envs(places).output().unwrap()
    }

    /// Checks that these files are installed, beside what always is, with their modes, and no others.
    fn has(&self, files: &[(&str, u32)]) {
        let mut expected: Vec<(PathBuf, u32)> =
            INSTALLED.iter().chain(files).map(|&(name, mode)| (self.root().join(name), mode)).collect();
        expected.sort();
        let mut found = Vec::new();
        list(&self.root(), &mut found);
        found.sort();
        assert_eq!(found, expected);
        assert_eq!(fs::read(self.root().join("usr/lib/rcapture/rcapture.bin")).unwrap(), b"an image");
    }
}

fn list(directory: &Path, found: &mut Vec<(PathBuf, u32)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), found);
        } else {
            // Of a symbolic link its own.
            found.push((entry.path(), entry.metadata().unwrap().permissions().mode() & 0o777));
        }
    }
}

fn recipe() -> PathBuf {
    let name = format!("packaging/yocto/recipes-kernel/rcapture/rcapture_{}.bb", env!("CARGO_PKG_VERSION"));
    workspace_root().join(name)
}

fn function<'a>(recipe: &'a str, name: &str) -> &'a str {
    let from = recipe.find(&format!("\n{name}() {{\n")).unwrap();
    let length = recipe[from..].find("\n}\n").unwrap();
    &recipe[from..from + length + 3]
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn buildroot_installs_what_each_init_starts() {
    if !in_path("make") {
        println!("left out: there is no make");
        return;
    }
    let inits: [(&str, &[(&str, u32)]); 3] = [
        ("SYSTEMD", &[("usr/lib/systemd/system/rcapture.service", 0o644)]),
        ("SYSV", &[("etc/init.d/S90rcapture", 0o755)]),
        ("OPENRC", &[("etc/init.d/rcapture", 0o755), ("etc/runlevels/default/rcapture", 0o777)]),
    ];
    for (init, files) in inits {
        let installation = Installation::new(Arch::X86_64);
        let said = text(&installation.buildroot("BR2_x86_64", init));
        installation.has(files);
        assert!(
            said.contains("enable CONFIG_KEXEC\n") && said.contains("enable CONFIG_CRASH_DUMP\n"),
            "{said}"
        );
    }
}

#[test]
fn buildroot_takes_the_archive_of_its_architecture_and_this_version() {
    if !in_path("make") {
        println!("left out: there is no make");
        return;
    }
    for (arch, name) in Arch::ALL.into_iter().zip(["BR2_x86_64", "BR2_aarch64", "BR2_arm"]) {
        let installation = Installation::new(arch);
        let said = text(&installation.buildroot(name, "SYSV"));
        assert_eq!(said.lines().last().unwrap(), format!("some/directory/{}", installation.archive));
    }
}

#[test]
fn yocto_installs_what_systemd_and_system_v_init_start() {
    let installation = Installation::new(Arch::Aarch64);
    text(&installation.yocto());
    installation.has(&[("etc/init.d/rcapture", 0o755), ("usr/lib/systemd/system/rcapture.service", 0o644)]);
}

#[test]
fn yocto_knows_every_architecture() {
    let recipe = fs::read_to_string(recipe()).unwrap();
    for arch in Arch::ALL {
        let line = format!(" = \"{}\"", arch.name());
        assert!(recipe.lines().any(|text| text.starts_with("RCAPTURE_ARCH:") && text.ends_with(&line)));
    }
}

#[test]
fn a_damaged_archive_is_not_installed() {
    let installation = Installation::new(Arch::Arm);
    fs::write(installation.unpacked.join("rcapture.bin"), "an imaGe").unwrap();
    assert!(!installation.yocto().status.success());
    if in_path("make") {
        assert!(!installation.buildroot("BR2_arm", "SYSV").status.success());
    }
    assert!(!installation.root().exists());
}

#[test]
fn the_recipes_know_the_licences_by_their_digests() {
    let root = workspace_root();
    let hashes = fs::read_to_string(root.join("packaging/buildroot/package/rcapture/rcapture.hash")).unwrap();
    let recipe = fs::read_to_string(recipe()).unwrap();
    for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let file = [File::read(name, &root.join(name), 0o644).unwrap()];
        assert!(hashes.contains(&format!("\nsha256  {}", archive::digests(&file))), "{name}");
        let md5 = archive::md5_digests(&file);
        let md5 = md5.split(' ').next().unwrap();
        assert!(recipe.contains(&format!("file://{name};md5={md5}")), "{name}");
    }
}
