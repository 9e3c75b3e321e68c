//! `rcapture-load` on machines made of files: which line and command line it takes, and what it does with them.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use capture::config::{Config, Link};
use end_to_end::target::{Target, packaging};
use rcapture_qemu::Arch;

/// The command line that is built, which the capture kernel must understand whole.
fn command_line(target: &Target) -> String {
    let line = target.command_line();
    assert_eq!(Config::parse(line.as_bytes()).remarks, [], "{line}");
    line
}

#[test]
fn the_console_and_its_speed_are_the_line() {
    Target::each(|arch, target| {
        let port = match arch {
            Arch::X86_64 => "ttyS0",
            Arch::Aarch64 => "ttyAMA0",
            Arch::Arm => "ttymxc1",
        };
        assert_eq!(command_line(&target), format!("rcapture.link=serial:{port},115200n8"));
        // A speed that the command line does not say, the port does.
        target.file("proc/cmdline", &format!("crashkernel=5M console=hvc0 console={port}"));
        assert_eq!(command_line(&target), format!("rcapture.link=serial:{port},19200n8"));
        target.program("stty", "exit 1");
        assert_eq!(command_line(&target), format!("rcapture.link=serial:{port}"));
    });
}

#[test]
fn the_last_console_that_is_a_uart_counts() {
    Target::each_pc(|target| {
        target.file("sys/class/tty/ttyS1/port", "0x2F8\n");
        target.file("sys/class/tty/ttyS1/io_type", "0\n");
        target.file("proc/cmdline", "console=ttyS0,9600 console=ttyS1,57600n8 console=ttyS7 console=tty0");
        assert_eq!(command_line(&target), "rcapture.link=serial:ttyS1,57600n8");
        // One that the kernel chose itself is among the active ones only.
        target.file("proc/cmdline", "quiet");
        assert_eq!(command_line(&target), "rcapture.link=serial:ttyS0,19200n8");
        target.remove("proc/consoles");
        target.file("sys/class/tty/console/active", "ttyS1 tty0\n");
        assert_eq!(command_line(&target), "rcapture.link=serial:ttyS1,19200n8");
    });
}

#[test]
fn a_pc_without_a_serial_console_takes_its_first_port_if_there_is_one() {
    Target::each_pc(|target| {
        for name in ["proc/cmdline", "proc/consoles", "sys/class/tty/console/active"] {
            target.file(name, "console=tty0\n");
        }
        assert_eq!(command_line(&target), "rcapture.link=serial:ttyS0,115200n8");
        target.file("sys/class/tty/ttyS0/type", "0\n");
        let said = target.run(&["load"]);
        assert_eq!(said.code, 1);
        assert!(said.err.contains("there is no ttyS0"), "{said:?}");
    });
}

#[test]
fn a_pcs_port_at_another_place_is_named_by_its_registers() {
    Target::each_pc(|target| {
        target.file("sys/class/tty/ttyS0/port", "0xE0C0\n");
        assert_eq!(command_line(&target), "rcapture.link=serial:io,0xE0C0,115200n8");
        target.file("sys/class/tty/ttyS0/io_type", "3\n");
        target.file("sys/class/tty/ttyS0/iomem_base", "0xFEDC6000\n");
        target.file("sys/class/tty/ttyS0/uartclk", "48000000\n");
        assert_eq!(command_line(&target), "rcapture.link=serial:mmio32,0xFEDC6000");
    });
}

#[test]
fn a_speed_that_a_pcs_clock_cannot_make_is_left_as_it_is() {
    Target::each_pc(|target| {
        target.file("proc/cmdline", "console=ttyS0,921600n8");
        assert_eq!(command_line(&target), "rcapture.link=serial:ttyS0");
    });
}

#[test]
fn the_way_to_the_receiver_is_taken_from_the_routes() {
    Target::each(|_, target| {
        let serial = command_line(&target);
        target.file("etc/rcapture.conf", "RECEIVER=192.0.2.1:7000\nSETTINGS=rcapture.final=halt\n");
        let network = "rcapture.link=tcp:192.0.2.1:7000 ip=10.0.2.15::10.0.2.2:255.255.252.0 BOOTIF=01-52-54-00-12-34-56";
        let line = command_line(&target);
        assert_eq!(line, format!("{network} {serial} rcapture.final=halt"));
        let links = Config::parse(line.as_bytes()).links;
        assert!(matches!(links[..], [Link::Tcp(_), Link::Serial(_)]), "{links:?}");
        // On the same network, there is no gateway.
        target.file("etc/rcapture.conf", "RECEIVER=10.0.2.2\nSERIAL=none\n");
        assert_eq!(
            command_line(&target),
            "rcapture.link=tcp:10.0.2.2:7707 ip=10.0.2.15:::255.255.252.0 BOOTIF=01-52-54-00-12-34-56"
        );
    });
}

#[test]
fn an_address_that_is_said_is_taken() {
    Target::each_pc(|target| {
        target.file("etc/rcapture.conf", "RECEIVER=192.0.2.1\nADDRESS=dhcp\nSERIAL=ttyS1,9600n8\n");
        assert_eq!(
            command_line(&target),
            "rcapture.link=tcp:192.0.2.1:7707 ip=dhcp rcapture.link=serial:ttyS1,9600n8"
        );
    });
}

#[test]
fn without_a_route_an_address_will_be_asked_for_and_that_is_said() {
    Target::each_pc(|target| {
        target.program("ip", "exit 2");
        target.file("etc/rcapture.conf", "RECEIVER=192.0.2.1\nSERIAL=none\n");
        assert_eq!(command_line(&target), "rcapture.link=tcp:192.0.2.1:7707 ip=dhcp");
        target.run(&["check"]).says("WARN", "network", &["no route", "ADDRESS="]);
        let said = target.run(&["load"]);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.err.contains("no route to the receiver 192.0.2.1"), "{said:?}");
    });
}

#[test]
fn a_card_that_rcapture_does_not_drive_is_warned_of() {
    Target::each_pc(|target| {
        target.file("etc/rcapture.conf", "RECEIVER=192.0.2.1\n");
        target.link("sys/class/net/eth0/device/driver", "../drivers/e1000e");
        target.run(&["check"]).says("WARN", "network", &["e1000e", "virtio"]);
        target.link("sys/class/net/eth0/device/driver", "../drivers/virtio_net");
        target.file("sys/class/net/eth0/device/features", &format!("{}1{}", "0".repeat(33), "0".repeat(30)));
        target.run(&["check"]).says("WARN", "network", &["IOMMU", "iommu_platform=off"]);
        target.file("sys/class/net/eth0/device/features", &"1".repeat(33));
        target.run(&["check"]).says("ok", "network", &["BOOTIF=01-52-54-00-12-34-56"]);
        target.file("sys/class/net/eth0/uevent", "DEVTYPE=vlan\n");
        target.run(&["check"]).says("WARN", "network", &["VLAN", "untagged"]);
    });
}

#[test]
fn below_a_bridge_its_card_is_taken() {
    Target::each_pc(|target| {
        target.remove("sys/class/net/eth0/device");
        target.link("sys/class/net/eth0/lower_vnet7", "../vnet7");
        target.link("sys/class/net/eth0/lower_ens3", "../ens3");
        target.file("sys/class/net/vnet7/address", "fe:00:00:00:00:01\n");
        target.file("sys/class/net/ens3/address", "52:54:00:00:00:03\n");
        target.link("sys/class/net/ens3/device/driver", "../drivers/virtio_net");
        target.file("etc/rcapture.conf", "RECEIVER=192.0.2.1\nSERIAL=none\n");
        assert!(command_line(&target).ends_with(" BOOTIF=01-52-54-00-00-00-03"));
        assert_eq!(target.run(&["check"]).code, 0);
    });
}

#[test]
fn of_a_card_that_no_bus_tells_of_the_registers_are_said() {
    Target::each_pc(|target| {
        target.remove("sys/class/net/eth0/device");
        let device = "sys/devices/LNRO0005:00/virtio0";
        target.link(&format!("{device}/driver"), "../../../bus/virtio/drivers/virtio_net");
        target.link("sys/class/net/eth0/device", "../../../devices/LNRO0005:00/virtio0");
        target.file(
            "proc/iomem",
            "feb00e00-feb00fff : LNRO0005:00\n  feb00e00-feb00fff : LNRO0005:00 virtio\n",
        );
        target.file("etc/rcapture.conf", "RECEIVER=10.0.2.2\nSERIAL=none\n");
        assert!(command_line(&target).ends_with(" virtio_mmio.device=512@0xfeb00e00:0"));
    });
}

#[test]
fn a_receiver_without_an_address_is_refused() {
    for receiver in ["crash.example.org", "10.0.2", "10.0.2.256", "10.0.2.2:http", "1.2.3.4.", "fe80::1"] {
        Target::each_pc(|target| {
            target.file("etc/rcapture.conf", &format!("RECEIVER={receiver}\n"));
            target.run(&["check"]).says("WARN", "network", &[receiver, "IPv4"]);
            assert_eq!(command_line(&target), "rcapture.link=serial:ttyS0,115200n8");
        });
    }
}

#[test]
fn load_calls_kexec_once_and_status_and_unload_know_of_it() {
    Target::each(|_, target| {
        let line = command_line(&target);
        assert_eq!(target.text("called"), "", "a dry run runs nothing");
        assert_eq!(target.run(&["status"]).code, 3);
        let said = target.run(&["load"]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
        let image = target.path("usr/lib/rcapture/rcapture.bin");
        let image = image.display();
        assert_eq!(target.text("called"), format!("<-c><-p><{image}><--command-line={line}>\n"));
        let said = target.run(&["status"]);
        assert_eq!(said.code, 0);
        assert_eq!(said.out, format!("loaded: {image}\ncommand line: {line}\nreserved: 5120 KiB\n"));
        target.run(&["check"]).says("ok", "loaded", &["rcapture"]);
        assert_eq!(target.run(&["unload"]).code, 0);
        assert!(target.text("called").ends_with("\n<-c><-p><-u>\n"), "{}", target.text("called"));
        assert_eq!(target.run(&["status"]).code, 3);
    });
}

#[test]
fn where_run_cannot_be_written_the_image_is_loaded_once_all_the_same() {
    Target::each(|_, target| {
        target.file("run", "no directory\n");
        let said = target.run(&["load"]);
        assert_eq!((said.code, said.out.as_str()), (0, ""), "{said:?}");
        assert!(said.err.contains("loaded, but") && said.err.contains("run/rcapture-load"), "{said:?}");
        let called = target.text("called");
        assert_eq!(called.lines().count(), 1, "{called}");
        assert_eq!(target.run(&["status"]).code, 4, "it does not know that it was itself");
        assert_eq!(target.run(&["unload"]).code, 0);
        assert_eq!(target.run(&["status"]).code, 3);
    });
}

#[test]
fn what_was_loaded_before_the_machine_booted_again_is_not_taken_for_loaded() {
    Target::each_pc(|target| {
        assert_eq!(target.run(&["load"]).code, 0);
        target.file("proc/sys/kernel/random/boot_id", "b2\n");
        assert_eq!(target.run(&["status"]).code, 4, "another one has loaded it");
        target.file("sys/kernel/kexec_crash_loaded", "0\n");
        assert_eq!(target.run(&["status"]).code, 3);
    });
}

#[test]
fn where_one_system_call_is_refused_the_other_is_tried() {
    let kexec = r#"case $1 in
        -c) echo 'kexec_load failed: Operation not permitted'; exit 1 ;;
        -s) echo 1 >"$RCAPTURE_ROOT/sys/kernel/kexec_crash_loaded" ;;
        esac"#;
    Target::each(|arch, target| {
        target.program("kexec", kexec);
        let said = target.run(&["load"]);
        if arch == Arch::X86_64 {
            assert_eq!(said.code, 0, "{said:?}");
            target.file("etc/rcapture.conf", "LOADER=kexec_load\n");
            target.file("sys/kernel/kexec_crash_loaded", "0\n");
        }
        // The image of the others is none for kexec_file_load.
        let said = target.run(&["load"]);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains("kexec -c -p: kexec_load failed: Operation not permitted"), "{said:?}");
        assert!(said.err.contains("locked down") && said.err.contains("rcapture-load check"), "{said:?}");
    });
}

#[test]
fn a_kernel_with_one_of_the_system_calls_is_loaded_by_that() {
    Target::each_pc(|target| {
        target.config("CONFIG_KEXEC_CORE=y\nCONFIG_KEXEC_FILE=y\nCONFIG_CRASH_DUMP=y\n");
        assert_eq!(target.run(&["check"]).code, 0);
        assert!(target.run(&["load", "--dry-run"]).out.starts_with("kexec -s -p "));
        target.file("etc/rcapture.conf", "LOADER=kexec_load\n");
        assert!(target.run(&["load", "--dry-run"]).out.starts_with("kexec -c -p "));
    });
}

#[test]
fn what_kexec_says_is_explained() {
    for (message, reason) in [
        ("Memory for crashkernel is not reserved", "crashkernel= on the kernel's command line"),
        ("locate_hole failed", "crashkernel=4M"),
        ("Overlapping memory segments at 0x1b400000", "crashkernel=4M"),
        ("kexec_file_load failed: Cannot assign requested address", "crashkernel=4M"),
        ("kexec_load failed: Function not implemented", "CONFIG_KEXEC"),
        ("kexec_file_load failed: Required key not available", "wants a signature"),
        ("kexec_load failed: Device or resource busy", "kdump-tools"),
    ] {
        Target::each_pc(|target| {
            target.program("kexec", &format!("echo '{message}' >&2; exit 255"));
            let said = target.run(&["load"]);
            assert_eq!(said.code, 1);
            assert!(said.err.contains(message) && said.err.contains(reason), "{said:?}");
        });
    }
}

#[test]
fn where_kexec_gives_no_reason_a_small_reservation_is_taken_for_it() {
    Target::each(|_, target| {
        target.program("kexec", "echo 'kexec: load failed.' >&2; exit 255");
        assert!(target.run(&["load"]).err.contains("not loaded: for the reason above"));
        target.file("proc/iomem", "  1b000000-1b1fffff : Crash kernel\n");
        assert!(target.run(&["load"]).err.contains("crashkernel=4M"));
    });
}

#[test]
fn success_is_what_the_kernel_says_not_what_kexec_says() {
    Target::each_pc(|target| {
        target.program("kexec", ":");
        let said = target.run(&["load"]);
        assert_eq!(said.code, 1);
        assert!(said.err.contains("it said nothing, and nothing is loaded"), "{said:?}");
        assert_eq!(target.run(&["status"]).code, 3);
    });
}

#[test]
fn test_crashes_only_what_is_loaded_and_only_when_told() {
    Target::each(|_, target| {
        assert!(target.run(&["test", "--yes"]).err.contains("nothing is loaded"));
        assert_eq!(target.run(&["load"]).code, 0);
        let said = target.run(&["test"]);
        assert_eq!(said.code, 2);
        assert!(said.err.contains("--yes"), "{said:?}");
        assert_eq!(target.text("proc/sysrq-trigger"), "\n", "not crashed");
        assert_eq!(target.run(&["test", "--yes"]).code, 0);
        assert_eq!(target.text("proc/sysrq-trigger"), "c\n");
    });
}

#[test]
fn the_settings_that_the_file_documents_are_those_that_are_read() {
    let documented = std::fs::read_to_string(packaging().join("rcapture.conf")).unwrap();
    let examples: Vec<&str> = documented
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()) && line.contains('='))
        .collect();
    assert_eq!(examples.len(), 6, "{examples:?}");
    Target::each(|arch, target| {
        // As it comes, it changes nothing.
        let without = command_line(&target);
        target.file("etc/rcapture.conf", &documented);
        assert_eq!(command_line(&target), without);
        target.image("usr/lib/rcapture/rcapture.bin", arch, "rcapture: ");
        let example = examples.join("\n").replace("IMAGE=", &format!("IMAGE={}", target.path("").display()));
        target.file("etc/rcapture.conf", &example);
        let line = command_line(&target);
        assert!(line.starts_with("rcapture.link=tcp:192.0.2.1:7707 ip=10.0.2.15::10.0.2.2"), "{line}");
        assert!(line.ends_with("rcapture.final=reboot rcapture.dump_level=31 rcapture.budget=30m"), "{line}");
    });
}

#[test]
fn settings_and_image_can_lie_elsewhere() {
    Target::each(|arch, target| {
        target.image("elsewhere.bin", arch, "rcapture: ");
        target.file("elsewhere.conf", "SETTINGS=rcapture.final=poweroff\n");
        let (image, config) = (target.path("elsewhere.bin"), target.path("elsewhere.conf"));
        let arguments = ["-c", config.to_str().unwrap(), "-i", image.to_str().unwrap(), "-n", "load"];
        let said = target.run(&arguments);
        assert!(said.out.contains(&format!("-p {} ", image.display())), "{said:?}");
        assert!(said.out.ends_with(" rcapture.final=poweroff\"\n"), "{said:?}");
    });
}

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    Target::each_pc(|target| {
        for arguments in
            [&[][..], &["frobnicate"], &["check", "load"], &["load", "--config"], &["-c", "/none", "load"]]
        {
            let said = target.run(arguments);
            assert_eq!((said.code, said.out.as_str()), (2, ""), "{arguments:?}: {said:?}");
            assert!(!said.err.is_empty());
        }
        target.file("etc/rcapture.conf", "LOADER=magic\n");
        assert_eq!(target.run(&["load"]).code, 2);
        let said = target.run(&["--help"]);
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        assert!(said.out.contains("Exit status:") && said.out.contains("Examples:"), "{said:?}");
    });
}
