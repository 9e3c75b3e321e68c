//! `rcapture-load check` on machines made of files: what it says, and that it says how to mend it.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use end_to_end::target::{Target, packaging, script};
use rcapture_qemu::Arch;

#[test]
fn where_nothing_is_amiss_every_line_is_ok() {
    Target::each(|arch, target| {
        let said = target.run(&["check"]);
        assert!(said.out.lines().rev().skip(1).all(|line| line.starts_with("ok    ")), "{arch:?}: {said:#?}");
        assert!(said.out.ends_with("0 failed, 0 to look at\n"), "{said:#?}");
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:#?}");
        assert_eq!(target.text("called"), "", "nothing is loaded");
    });
}

#[test]
fn a_machine_without_a_reservation_is_told_what_to_reserve() {
    Target::each(|_, target| {
        target.file("proc/iomem", "00100000-1fffffff : System RAM\n");
        target.file("sys/kernel/kexec_crash_size", "0\n");
        target.file("proc/cmdline", "console=ttyS0,115200");
        let said = target.run(&["check"]);
        said.says("FAIL", "reservation", &["no memory is reserved", "crashkernel=4M", "reboot"]);
        assert_eq!(said.code, 1);
        // Asked for, and not had.
        target.file("proc/cmdline", "console=ttyS0,115200 crashkernel=64G");
        let said = target.run(&["check"]);
        said.says("FAIL", "reservation", &["crashkernel=64G is on the kernel's command line", "dmesg"]);
    });
}

#[test]
fn a_reservation_that_is_too_small_is_told_its_size() {
    Target::each(|_, target| {
        target.file("proc/iomem", "  1b000000-1b1fffff : Crash kernel\n");
        let said = target.run(&["check"]);
        said.says("FAIL", "reservation", &["2048 KiB", "4096 KiB", "crashkernel=4M"]);
        // Whom the kernel tells no addresses.
        target.file("proc/iomem", "  00000000-00000000 : Crash kernel\n");
        target.file("sys/kernel/kexec_crash_size", "1048576\n");
        target.run(&["check"]).says("FAIL", "reservation", &["1024 KiB", "crashkernel=4M"]);
    });
}

#[test]
fn of_two_ranges_the_larger_one_counts() {
    Target::each_pc(|target| {
        target.file("proc/iomem", "  0b000000-0b0fffff : Crash kernel\n140000000-1403fffff : Crash kernel\n");
        target.run(&["check"]).says("ok", "reservation", &["4096 KiB"]);
    });
}

#[test]
fn a_large_device_tree_takes_32_bit_arm_a_megabyte_more() {
    Target::each(|arch, target| {
        target.file("proc/iomem", "  1b000000-1b3fffff : Crash kernel\n");
        target.file("sys/firmware/fdt", &"x".repeat(1 << 20));
        let said = target.run(&["check"]);
        match arch {
            Arch::Arm => said.says("FAIL", "reservation", &["5120 KiB", "crashkernel=5M"]),
            _ => said.says("ok", "reservation", &["4096 KiB"]),
        }
    });
}

#[test]
fn much_memory_may_take_a_larger_reservation() {
    Target::each(|_, target| {
        target.file("proc/meminfo", &format!("MemTotal:       {} kB\n", 512 << 20));
        target.run(&["check"]).says("WARN", "reservation", &["512 GiB", "crashkernel=6M"]);
    });
}

#[test]
fn lockdown_is_found_by_securityfs_by_the_command_line_or_in_the_log() {
    Target::each(|_, target| {
        target.file("sys/kernel/security/lockdown", "none integrity [confidentiality]\n");
        let said = target.run(&["check"]);
        said.says("FAIL", "lockdown", &["confidentiality", "signed", "lockdown=", "Secure Boot"]);
        assert_eq!(said.code, 1);

        target.remove("sys/kernel/security/lockdown");
        target.run(&["check"]).says("ok", "lockdown", &["none"]);

        let cmdline = target.text("proc/cmdline");
        target.file("proc/cmdline", &format!("lockdown=integrity {cmdline}"));
        target.run(&["check"]).says("FAIL", "lockdown", &["integrity"]);

        target.file("proc/cmdline", &cmdline);
        target.program("dmesg", "echo '[    0.0] Kernel is locked down from EFI Secure Boot; see man'");
        target.run(&["check"]).says("FAIL", "lockdown", &["integrity"]);
    });
}

#[test]
fn a_locked_kernel_that_checks_no_signatures_is_no_failure() {
    Target::each_pc(|target| {
        target.file("sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
        target.config("CONFIG_KEXEC_CORE=y\nCONFIG_KEXEC=y\nCONFIG_KEXEC_FILE=y\nCONFIG_CRASH_DUMP=y\n");
        target.run(&["check"]).says("ok", "lockdown", &["kexec_file_load"]);
        assert!(target.run(&["load", "-n"]).out.starts_with("kexec -s -p "));
    });
}

#[test]
fn without_kexec_the_package_is_named() {
    Target::each(|_, target| {
        target.remove("bin/kexec");
        let said = target.run(&["check"]);
        said.says("FAIL", "kexec", &["there is no program kexec", "apt install kexec-tools"]);
        assert_eq!(said.code, 1);
        let said = target.run(&["load"]);
        assert_eq!(said.code, 1);
        assert!(said.err.contains("install kexec-tools"), "{said:?}");
    });
}

#[test]
fn what_the_kernel_was_built_without_is_named() {
    Target::each(|_, target| {
        target.config("CONFIG_KEXEC_CORE=y\n# CONFIG_KEXEC is not set\nCONFIG_CRASH_DUMP=y\n");
        target.run(&["check"]).says("FAIL", "kernel", &["without CONFIG_KEXEC.", "CONFIG_KEXEC=y"]);

        target.config("# CONFIG_KEXEC is not set\n");
        target.remove("sys/kernel/kexec_crash_size");
        let said = target.run(&["check"]);
        said.says("FAIL", "kernel", &["without CONFIG_KEXEC_CORE, CONFIG_KEXEC, CONFIG_CRASH_DUMP."]);

        // Without a configuration to read the running kernel tells.
        target.remove("boot/config-6.1.0-test");
        target.run(&["check"]).says("FAIL", "kernel", &["CONFIG_CRASH_DUMP"]);
        target.file("sys/kernel/kexec_crash_size", "4194304\n");
        target.run(&["check"]).says("ok", "kernel", &["cannot be read"]);
    });
}

#[test]
fn the_kernels_own_copy_of_its_configuration_comes_first() {
    Target::each_pc(|target| {
        target.file("proc/config", "CONFIG_KEXEC_CORE=y\nCONFIG_CRASH_DUMP=y\n");
        let packed = std::process::Command::new("gzip").arg(target.path("proc/config")).status().unwrap();
        assert!(packed.success());
        std::fs::rename(target.path("proc/config.gz"), target.path("proc/config.gz.new")).unwrap();
        target.run(&["check"]).says("ok", "kernel", &["/boot/config-6.1.0-test"]);
        std::fs::rename(target.path("proc/config.gz.new"), target.path("proc/config.gz")).unwrap();
        target.run(&["check"]).says("FAIL", "kernel", &["without CONFIG_KEXEC."]);
    });
}

#[test]
fn kexec_turned_off_until_the_next_boot_is_told() {
    Target::each_pc(|target| {
        target.file("proc/sys/kernel/kexec_load_limit_panic", "0\n");
        target.run(&["check"]).says("FAIL", "kernel", &["kexec_load_limit_panic", "reboot"]);
        target.file("proc/sys/kernel/kexec_load_disabled", "1\n");
        target.run(&["check"]).says("FAIL", "kernel", &["kexec_load_disabled", "reboot"]);
    });
}

#[test]
fn a_kernel_that_says_nothing_of_itself_gets_a_warning() {
    Target::each_pc(|target| {
        target.remove("sys/kernel/vmcoreinfo");
        target.run(&["check"]).says("WARN", "kernel", &["vmcoreinfo", "CONFIG_VMCORE_INFO"]);
    });
}

#[test]
fn the_image_must_be_rcaptures_and_for_this_machine() {
    Target::each(|arch, target| {
        let other = if arch == Arch::Arm { Arch::Aarch64 } else { Arch::Arm };
        let path = "usr/lib/rcapture/rcapture.bin";
        target.image(path, other, "rcapture: ");
        target.run(&["check"]).says("FAIL", "image", &[&format!("is for {}", other.name())]);
        target.image(path, arch, "Linux");
        target.run(&["check"]).says("FAIL", "image", &["not rcapture's"]);
        target.file(path, "text");
        target.run(&["check"]).says("FAIL", "image", &["no boot image"]);
        target.remove(path);
        target.run(&["check"]).says("FAIL", "image", &["is not there", "IMAGE="]);
        target.image("boot/rcapture.bin", arch, "rcapture: ");
        target.run(&["check"]).says("ok", "image", &["/boot/rcapture.bin"]);
    });
}

#[test]
fn a_machine_that_there_is_no_image_for_is_told_so() {
    Target::each_pc(|target| {
        target.program("uname", "echo ppc64le");
        target.run(&["check"]).says("FAIL", "machine", &["ppc64le"]);
    });
}

#[test]
fn arm_without_a_device_tree_is_told_so() {
    Target::each(|arch, target| {
        if arch != Arch::X86_64 {
            target.remove("sys/firmware/devicetree/base/compatible");
            target.run(&["check"]).says("FAIL", "machine", &["device tree", "acpi=off"]);
        }
    });
}

#[test]
fn encrypted_memory_is_found_by_what_is_on_not_by_what_the_processor_could() {
    Target::each_pc(|target| {
        target.run(&["check"]).says("ok", "machine", &["not encrypted"]);
        target.program("dmesg", "echo '[    1.0] AMD Memory Encryption Features active: SEV SEV-ES'");
        target.run(&["check"]).says("FAIL", "machine", &["SEV SEV-ES", "cipher text"]);
        target.program("dmesg", ":");
        target.file("proc/cpuinfo", "flags : fpu tdx_guest\n");
        target.run(&["check"]).says("FAIL", "machine", &["TDX"]);
        target.file("proc/cpuinfo", "flags : fpu\n");
        target.file("proc/cmdline", "console=ttyS0 crashkernel=4M mem_encrypt=on");
        target.run(&["check"]).says("FAIL", "machine", &["SME", "mem_encrypt=off"]);
    });
}

#[test]
fn settings_that_keep_a_panic_from_being_one_are_warned_of() {
    Target::each_pc(|target| {
        target.file("proc/sys/kernel/panic_on_oops", "0\n");
        target.file("proc/sys/kernel/panic", "0\n");
        target.file("sys/module/kernel/parameters/crash_kexec_post_notifiers", "Y\n");
        let said = target.run(&["check"]);
        said.says("WARN", "panic", &["sysctl kernel.panic_on_oops=1"]);
        said.says("WARN", "panic", &["sysctl kernel.panic=10"]);
        said.says("WARN", "panic", &["crash_kexec_post_notifiers"]);
        assert!(said.out.ends_with("0 failed, 3 to look at\n"), "{said:?}");
        assert_eq!(said.code, 0, "a warning is no failure");
    });
}

fn watchdog(target: &Target, driver: &str, identity: &str, state: &str) {
    target.file("sys/class/watchdog/watchdog0/identity", identity);
    target.file("sys/class/watchdog/watchdog0/state", state);
    target.file("sys/class/watchdog/watchdog0/timeout", "30\n");
    target.link("sys/class/watchdog/watchdog0/device/driver", &format!("../drivers/{driver}"));
}

#[test]
fn a_watchdog_that_nobody_will_feed_is_warned_of_and_one_that_is_off_is_not() {
    Target::each(|_, target| {
        watchdog(&target, "iTCO_wdt", "iTCO_wdt\n", "active\n");
        let said = target.run(&["check"]);
        said.says("WARN", "watchdog", &["watchdog0 (iTCO_wdt)", "after 30 s", "RuntimeWatchdogSec=off"]);
        // A kernel that does not tell (CONFIG_WATCHDOG_SYSFS) may have it running.
        target.remove("sys/class/watchdog/watchdog0/state");
        target.remove("sys/class/watchdog/watchdog0/identity");
        target.run(&["check"]).says("WARN", "watchdog", &["watchdog0 (iTCO_wdt)"]);
        target.file("sys/class/watchdog/watchdog0/state", "inactive\n");
        target.run(&["check"]).says("ok", "watchdog", &["none is running"]);
    });
}

#[test]
fn a_watchdog_made_of_the_kernels_timers_dies_with_it() {
    Target::each_pc(|target| {
        watchdog(&target, "none", "Software Watchdog\n", "active\n");
        target.run(&["check"]).says("ok", "watchdog", &["ends with the crashed kernel"]);
    });
}

#[test]
fn a_bmcs_watchdog_is_found_by_its_module_or_by_asking() {
    Target::each_pc(|target| {
        target.program("ipmitool", "echo 'Watchdog Timer Is:      Started/Running'");
        target.run(&["check"]).says("WARN", "watchdog", &["BMC", "ipmitool mc watchdog off"]);
        target.program("ipmitool", "echo 'Watchdog Timer Is:      Stopped'");
        target.run(&["check"]).says("ok", "watchdog", &["none is running"]);
        target.file("sys/module/ipmi_watchdog/parameters/timeout", "10\n");
        target.run(&["check"]).says("WARN", "watchdog", &["ipmi_watchdog", "ipmitool mc watchdog off"]);
    });
}

#[test]
fn watchdogs_of_a_device_tree_are_fed_where_their_clock_is_known_to_run() {
    Target::each(|arch, target| {
        if arch == Arch::X86_64 {
            return;
        }
        watchdog(&target, "imx2-wdt", "imx2+ watchdog\n", "active\n");
        target.file("sys/class/watchdog/watchdog0/device/of_node/clocks", "x");
        target.run(&["check"]).says("ok", "watchdog", &["watchdog0 (imx2+ watchdog) is fed"]);
        target.file("sys/firmware/devicetree/base/compatible", "fsl,imx6ull-evk\0fsl,imx6ull\0");
        target.run(&["check"]).says("WARN", "watchdog", &["rcapture.watchdog=all"]);
        target.file("etc/rcapture.conf", "SETTINGS=rcapture.watchdog=all\n");
        target.run(&["check"]).says("ok", "watchdog", &["is fed"]);
        target.file("etc/rcapture.conf", "SETTINGS=rcapture.watchdog=none\n");
        target.run(&["check"]).says("WARN", "watchdog", &["rcapture.watchdog=none"]);
    });
}

#[test]
fn what_another_service_has_loaded_is_warned_of() {
    Target::each_pc(|target| {
        target.file("sys/kernel/kexec_crash_loaded", "1\n");
        target.run(&["check"]).says("WARN", "loaded", &["kdump-tools"]);
    });
}

#[test]
fn without_a_way_out_for_the_dump_it_fails() {
    Target::each_pc(|target| {
        target.file("etc/rcapture.conf", "SERIAL=none\n");
        let said = target.run(&["check"]);
        said.says("FAIL", "serial", &["no way out", "RECEIVER="]);
        assert_eq!(said.code, 1);
        assert!(target.run(&["load"]).err.contains("SERIAL=none"));
        assert_eq!(target.text("called"), "");
        target.file("etc/rcapture.conf", "SERIAL=none\nRECEIVER=10.0.2.2\n");
        assert_eq!(target.run(&["check"]).code, 0);
    });
}

#[test]
fn shellcheck_finds_nothing() {
    let scripts = [script(), packaging().join("rcapture.openrc"), packaging().join("S90rcapture")];
    match std::process::Command::new("shellcheck").args(scripts).output() {
        Ok(said) => assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout)),
        Err(error) => println!("left out: shellcheck: {error}"),
    }
}
