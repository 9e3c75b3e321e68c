use alloc::vec;
use alloc::vec::Vec;

use capture::config::{Config, Link, TtyDriver};
use proptest::prelude::*;

use super::super::fake::Memory;
use super::*;
use tree::Tree;

#[path = "../../../tests/support/tree.rs"]
mod tree;

const TREE: PhysAddr = PhysAddr(0x4800_0000);

impl Tree {
    fn read(&self) -> DeviceTree {
        read(&self.blob())
    }
}

fn read(blob: &[u8]) -> DeviceTree {
    DeviceTree::read(&Memory(vec![(TREE.0, blob.to_vec())]), TREE)
}

/// What QEMU's virt makes, shortened; the root is not ended.
fn board() -> Tree {
    let root = Tree::default().begin("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    root.begin("psci")
        .text("compatible", "arm,psci-1.0\0arm,psci-0.2\0arm,psci")
        .text("method", "hvc")
        .end()
        .begin("memory@40000000")
        .cells("reg", &[0, 0x4000_0000, 0, 0x2000_0000])
        .text("device_type", "memory")
        .end()
        .begin("pl011@9000000")
        .text("compatible", "arm,pl011\0arm,primecell")
        .cells("reg", &[0, 0x900_0000, 0, 0x1000])
        .cells("clocks", &[0x8000, 0x8000])
        .end()
        .begin("virtio_mmio@a000000")
        .text("compatible", "virtio,mmio")
        .cells("reg", &[0, 0xa00_0000, 0, 0x200])
        .end()
        .begin("pcie@10000000")
        .text("compatible", "pci-host-ecam-generic")
        .cells("reg", &[0x40, 0x1000_0000, 0, 0x1000_0000])
        .cells("bus-range", &[0, 0xff])
        .end()
        .begin("apb-pclk")
        .text("compatible", "fixed-clock")
        .cells("clock-frequency", &[24_000_000])
        .cells("phandle", &[0x8000])
        .end()
}

/// That, with what kexec-tools adds.
fn virt() -> Tree {
    board()
        .begin("chosen")
        .text("stdout-path", "/pl011@9000000")
        .text("bootargs", "rcapture.dump_level=31")
        .cells("linux,elfcorehdr", &[0, 0x5b40_0000, 0, 0x1000])
        .cells("linux,usable-memory-range", &[0, 0x5b20_0000, 0, 0x40_0000])
        .end()
}

const AMA0: Tty = Tty { driver: TtyDriver::Ama, number: 0 };

#[test]
fn what_qemu_and_kexec_say_is_found() {
    let tree = virt().end().read();
    assert_eq!(tree.fault, None);
    assert_eq!(tree.cmdline, b"rcapture.dump_level=31");
    assert_eq!(tree.elfcorehdr, Some(ElfCoreHdr { start_pa: 0x5b40_0000, size_bytes: Some(0x1000) }));
    assert_eq!(tree.memory, vec![0x4000_0000..0x6000_0000]);
    assert_eq!(tree.psci, Some(Conduit::Hvc));
    let uart = Uart::Pl011 { pa: 0x900_0000, hertz: Some(24_000_000), is_fixed: false };
    assert_eq!(tree.uarts, [NamedUart { tty: AMA0, uart }]);
    assert_eq!(tree.uart(SerialRegisters::Tty(AMA0)), Some(uart));
    assert_eq!(tree.console(), SerialLink { registers: SerialRegisters::Tty(AMA0), baud: None });
    assert_eq!(tree.virtio_mmio, [MmioRegion::new(0xa00_0000, 0x200).unwrap()]);
    let function = |bus| tree.ecam[0].function_pa(bus, 1, 0);
    assert_eq!(
        (function(0), function(255)),
        (Some(PhysAddr(0x40_1000_8000)), Some(PhysAddr(0x40_1ff0_8000)))
    );
}

#[test]
fn the_tree_that_qemu_makes_is_understood() {
    let tree = read(include_bytes!("../../../tests/device_trees/qemu-7.2-virt.dtb"));
    assert_eq!(tree.fault, None);
    // 512 MiB.
    assert_eq!(tree.memory, vec![0x4000_0000..0x6000_0000]);
    let uart = Uart::Pl011 { pa: 0x900_0000, hertz: Some(24_000_000), is_fixed: false };
    assert_eq!((tree.uarts.as_slice(), tree.stdout), (&[NamedUart { tty: AMA0, uart }][..], Some((0, None))));
    assert_eq!((tree.virtio_mmio.len(), tree.ecam.len(), tree.elfcorehdr), (32, 1, None));
    assert_eq!(tree.virtio_mmio.last().map(|region| region.start_pa), Some(0xa00_3e00));
}

#[test]
fn its_32_bit_machine_is_understood_too() {
    let tree = read(include_bytes!("../../../tests/device_trees/qemu-7.2-virt-armv7.dtb"));
    assert_eq!(tree.fault, None);
    assert_eq!(tree.memory, vec![0x4000_0000..0x6000_0000]);
    let uart = Uart::Pl011 { pa: 0x900_0000, hertz: Some(24_000_000), is_fixed: false };
    assert_eq!((tree.uarts.as_slice(), tree.stdout), (&[NamedUart { tty: AMA0, uart }][..], Some((0, None))));
    assert_eq!((tree.psci, tree.virtio_mmio.len(), tree.ecam.len()), (Some(Conduit::Hvc), 32, 1));
}

#[test]
fn a_board_with_an_imx6_is_understood() {
    let tree = read(include_bytes!("../../../tests/device_trees/imx6.dtb"));
    assert_eq!((tree.fault, tree.psci), (None, None));
    assert_eq!(tree.memory, vec![0x1000_0000..0x5000_0000]);
    let mxc = |number| Tty { driver: TtyDriver::Mxc, number };
    let uart = |pa| Uart::Imx { pa, clocks_pa: Some(0x20c_4000) };
    assert_eq!(
        tree.uarts,
        [
            NamedUart { tty: mxc(0), uart: uart(0x202_0000) },
            NamedUart { tty: mxc(1), uart: uart(0x21e_8000) }
        ],
        "a disabled one is none"
    );
    let kind = watchdog::Kind::Imx { resets_board: false };
    let ethernet = Ethernet {
        pa: 0x218_8000,
        clocks_pa: Some(0x20c_4000),
        mac: Some([2, 0x11, 0x22, 0x33, 0x44, 0x55]),
        interface: fec::Interface::Rgmii,
    };
    assert_eq!(tree.ethernets, [ethernet]);
    assert_eq!(tree.watchdogs, [Watchdog { kind, pa: 0x20b_c000, has_clock: true }], "the other is disabled");
    let timer = Imx6Timer { pa: 0x209_8000, clocks_pa: 0x20c_4000, divides: false };
    assert_eq!(tree.timer, Some(timer));
    let registers = |link: &Config| match link.links[0] {
        Link::Serial(serial) => tree.uart(serial.registers),
        Link::Tcp(_) => None,
    };
    let config = Config::parse_on(&tree.cmdline, tree.console());
    assert_eq!(registers(&config), Some(uart(0x202_0000)));
    assert_eq!(registers(&Config::parse_on(b"", tree.console())), Some(uart(0x21e_8000)), "stdout-path");
}

#[test]
fn a_watchdog_is_fed_without_being_asked_only_if_its_clock_runs() {
    let watchdogs = |compatible: &str, clocks: &[u32]| {
        let tree = Tree::default()
            .begin("")
            .begin("crystal")
            .text("compatible", "fixed-clock")
            .cells("clock-frequency", &[24_000_000])
            .cells("phandle", &[7])
            .end()
            .begin("clock-controller")
            .text("compatible", "fsl,imx6sl-ccm")
            .cells("reg", &[0, 0x20c_4000, 0x4000])
            .cells("phandle", &[8])
            .end()
            .begin("watchdog")
            .text("compatible", compatible)
            .cells("reg", &[0, 0x1000, 0x1000])
            .property("fsl,ext-reset-output", &[]);
        let tree = if clocks.is_empty() { tree } else { tree.cells("clocks", clocks) };
        tree.end().end().read().watchdogs.iter().map(|watchdog| watchdog.has_clock).collect::<Vec<_>>()
    };
    for (compatible, clocks, has_clock) in [
        ("fsl,imx6q-wdt\0fsl,imx21-wdt", &[8, 62][..], true),
        ("fsl,imx6q-wdt\0fsl,imx21-wdt", &[9, 62], false),
        ("snps,dw-wdt", &[8, 62], false),
        ("snps,dw-wdt", &[7], true),
        ("snps,dw-wdt", &[9, 7], false),
        ("arm,sp805\0arm,primecell", &[7, 7], true),
        ("arm,sp805\0arm,primecell", &[], true),
    ] {
        assert_eq!(watchdogs(compatible, clocks), [has_clock], "{compatible} {clocks:?}");
    }
    assert_eq!(watchdogs("qcom,kpss-wdt", &[]), []);
}

#[test]
fn ethernets_are_in_the_order_of_their_aliases() {
    let mut tree = Tree::default()
        .begin("")
        .begin("aliases")
        .text("ethernet10", "/ethernet@2")
        .text("ethernet1", "/ethernet@3")
        .text("ethernetx", "/ethernet@1")
        .text("ethernet300", "/ethernet@4")
        .end();
    let macs: [&[u8]; 5] = [&[0; 6], &[1, 2, 3, 4, 5, 6], &[2, 1, 0, 0, 0, 1], &[2; 5], &[2; 7]];
    for (number, mac) in (0..5).zip(macs) {
        tree = tree
            .begin(&alloc::format!("ethernet@{number}"))
            .text("compatible", "fsl,imx6ul-fec\0fsl,imx6q-fec")
            .cells("reg", &[0, number * 0x1000, 0x1000])
            .property("local-mac-address", mac)
            .text("phy-mode", "rmii")
            .end();
    }
    let tree = tree.end().read();
    let order: Vec<_> = tree.ethernets.iter().map(|ethernet| ethernet.pa >> 12).collect();
    assert_eq!(order, [3, 2, 0, 1, 4]);
    let macs: Vec<_> = tree.ethernets.iter().filter_map(|ethernet| ethernet.mac).collect();
    assert_eq!(macs, [[2, 1, 0, 0, 0, 1]], "what is no card's address is none");
    assert!(tree.ethernets.iter().all(|ethernet| ethernet.interface == fec::Interface::Rmii));
}

#[test]
fn a_16550_in_memory_is_as_its_node_says() {
    let uart = |properties: &[(&str, u32)]| {
        let mut tree = Tree::default()
            .begin("")
            .begin("clock")
            .text("compatible", "fixed-clock")
            .cells("clock-frequency", &[24_000_000])
            .cells("phandle", &[7])
            .end()
            .begin("serial")
            .text("compatible", "rockchip,rk3288-uart\0snps,dw-apb-uart")
            .cells("reg", &[0, 0xff69_0000, 0x100]);
        for (name, value) in properties {
            tree = tree.cells(name, &[*value]);
        }
        let tree = tree.end().end().read();
        tree.uart(SerialRegisters::Tty(Tty { driver: TtyDriver::S, number: 0 })).unwrap()
    };
    let is = |pa, shift, is_word, hertz| Uart::Ns16550 { pa, shift, is_word, hertz };
    assert_eq!(uart(&[]), is(0xff69_0000, 0, false, None));
    assert_eq!(uart(&[("reg-shift", 2), ("reg-io-width", 4)]), is(0xff69_0000, 2, true, None));
    assert_eq!(uart(&[("clocks", 7), ("reg-offset", 0x40)]), is(0xff69_0040, 0, false, Some(24_000_000)));
    assert_eq!(uart(&[("clocks", 7), ("clock-frequency", 1)]), is(0xff69_0000, 0, false, Some(1)));
    let nonsense = [("reg-shift", u32::MAX), ("reg-io-width", 3), ("reg-offset", 1), ("clocks", 8)];
    assert_eq!(uart(&nonsense), is(0xff69_0001, 0, false, None));
}

#[test]
fn a_tree_cut_anywhere_gives_what_comes_before() {
    let whole = virt();
    let mut last = DeviceTree::default();
    for length in 0..whole.structure_bytes() {
        let tree = read(&whole.cut_at(length));
        assert!(tree.fault.is_some(), "{length}");
        assert!(tree.memory.len() >= last.memory.len() && tree.uarts.len() >= last.uarts.len(), "{length}");
        assert!(tree.cmdline.len() >= last.cmdline.len(), "{length}");
        last = tree;
    }
    assert_eq!((last.memory.len(), last.uarts.len()), (1, 1));
    // Cut off from memory, there is nothing of it.
    let blob = whole.cut();
    for length in 0..blob.len() {
        assert!(matches!(read(&blob[..length]).fault, Some(FdtError::Unreadable(_))), "{length}");
    }
}

#[test]
fn a_tree_without_chosen_still_has_a_console_and_a_way_to_reset() {
    let tree = board().end().read();
    assert_eq!((tree.fault, tree.elfcorehdr, tree.cmdline.len()), (None, None, 0));
    assert_eq!(tree.console().registers, SerialRegisters::Tty(AMA0));
    assert_eq!(tree.psci, Some(Conduit::Hvc));
}

#[test]
fn memory_that_overlaps_itself_is_told_as_it_is() {
    let tree = virt()
        .begin("memory@50000000")
        .text("device_type", "memory")
        .cells("reg", &[0, 0x5000_0000, 0, 0x2000_0000, 0, 0x5000_0000, u32::MAX, u32::MAX, 0, 1])
        .end()
        .end()
        .read();
    let [_, overlapping, endless] = tree.memory.as_slice() else { panic!("{:x?}", tree.memory) };
    assert_eq!(*overlapping, 0x5000_0000..0x7000_0000);
    assert_eq!(*endless, 0x5000_0000..u64::MAX);
}

#[test]
fn a_tree_that_says_it_is_endless_is_refused() {
    let mut blob = virt().cut();
    blob[36..40].fill(0xff);
    assert_eq!(read(&blob).fault, Some(FdtError::TooLarge(u32::MAX)));
}

#[test]
fn so_many_nodes_that_nothing_else_fits_are_passed_over() {
    let mut tree = Tree::default().begin("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    for _ in 0..40_000 {
        tree = tree.begin("");
    }
    for _ in 0..40_000 {
        tree = tree.end();
    }
    let memory =
        tree.begin("memory").text("device_type", "memory").cells("reg", &[0, 1, 0, 1]).end().end().read();
    assert_eq!((memory.fault, memory.memory.first()), (None, Some(&(1..2))));
}

#[test]
fn so_many_devices_that_no_machine_has_them_are_bounded() {
    let mut tree = virt();
    for _ in 0..1000 {
        tree = tree.begin("serial").text("compatible", "ns16550a").cells("reg", &[0, 16, 0, 8]).end();
        tree = tree.begin("memory").text("device_type", "memory").cells("reg", &[0, 16, 0, 8]).end();
    }
    let tree = tree.end().read();
    assert_eq!(tree.memory.len(), MAX_KEPT);
    // Of those that Linux would have a name for.
    assert_eq!(tree.uarts.len(), 9);
}

#[test]
fn a_name_longer_than_the_specification_allows_costs_nothing() {
    let tree = virt().begin("usb").property("snps,dis-del-phy-power-chg-quirk", &[]).end().end().read();
    assert_eq!((tree.fault, tree.uarts.len()), (None, 1));
}

#[test]
fn ports_are_numbered_as_linux_does_by_alias_and_then_in_order() {
    let uart = |tree: Tree, name: &str, compatible: &str, pa| {
        tree.begin(name).text("compatible", compatible).cells("reg", &[pa, 0x1000]).end()
    };
    let soc = Tree::default()
        .begin("")
        .begin("aliases")
        .text("serial0", "/soc/serial@2000")
        .text("serial1", "/soc/serial@3000")
        .end()
        .begin("chosen")
        .text("stdout-path", "serial0:57600n8")
        .end()
        .begin("soc")
        .cells("#address-cells", &[1])
        .cells("#size-cells", &[1])
        // What the bus has at 0 is at 0xfe000000 for the root, whose addresses have two cells.
        .cells("ranges", &[0, 0, 0xfe00_0000, 0x10_0000]);
    let soc = uart(soc, "serial@1000", "arm,pl011", 0x1000);
    let soc = uart(soc, "serial@2000", "arm,pl011", 0x2000);
    let soc = uart(soc, "serial@3000", "snps,dw-apb-uart", 0x3000);
    let soc = soc
        .begin("serial@4000")
        .text("compatible", "ns16550a")
        .text("status", "disabled")
        .cells("reg", &[0x4000, 0x1000])
        .end();
    let tree = uart(soc, "serial@200000", "arm,pl011", 0x20_0000).end().end().read();
    let names: Vec<_> = tree.uarts.iter().map(|named| (named.tty.driver, named.tty.number)).collect();
    assert_eq!(names, [(TtyDriver::Ama, 1), (TtyDriver::Ama, 0), (TtyDriver::S, 1)]);
    let fixed = |pa| Uart::Pl011 { pa, hertz: None, is_fixed: false };
    assert_eq!(tree.uart(SerialRegisters::Tty(AMA0)), Some(fixed(0xfe00_2000)));
    assert_eq!(tree.console(), SerialLink { registers: SerialRegisters::Tty(AMA0), baud: Some(57_600) });
}

#[test]
fn two_aliases_of_one_name_are_two_ports() {
    let uart = |tree: Tree, name: &str, pa| {
        tree.begin(name).text("compatible", "arm,pl011").cells("reg", &[0, pa, 1]).end()
    };
    let tree = Tree::default()
        .begin("")
        .begin("aliases")
        .text("serial0", "/first")
        .text("serial00", "/second")
        .end();
    let tree = uart(uart(tree, "first", 0x1000), "second", 0x2000).end().read();
    assert_eq!(tree.uarts.iter().map(|named| named.tty.number).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn cells_beyond_any_address_are_no_address() {
    let tree = Tree::default()
        .begin("")
        .cells("#address-cells", &[u32::MAX])
        .cells("#size-cells", &[u32::MAX])
        .begin("memory")
        .text("device_type", "memory")
        .cells("reg", &[1; 64])
        .end()
        .begin("chosen")
        .cells("linux,elfcorehdr", &[1; 64])
        .end()
        .end()
        .read();
    assert_eq!((tree.memory.len(), tree.elfcorehdr), (0, None));
    let none = Tree::default()
        .begin("")
        .cells("#address-cells", &[0])
        .cells("#size-cells", &[0])
        .begin("memory")
        .text("device_type", "memory")
        .cells("reg", &[1; 8])
        .end();
    assert_eq!(none.end().read().memory, []);
}

proptest! {
    #[test]
    fn whatever_is_changed_in_a_tree_it_is_read_to_an_end(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut blob = virt().end().cut();
        for (at, byte) in changes {
            let at = at.index(blob.len());
            blob[at] = byte;
        }
        let tree = read(&blob);
        prop_assert!(tree.memory.len() <= MAX_KEPT && tree.uarts.len() <= MAX_KEPT);
    }
}
