//! A machine that crashes while Linux' own driver is busy with its network cards.

use rcapture_qemu::{Machine, MachineBuilder, Trigger};

use crate::{CARD_MODULES, Crashed, DUMP, Spec, free_port};

/// From then on no card writes to memory.
pub const QUIET: &str = "reset and quiet";

/// What a driver of the card needs on a machine without a PCI bus, in the order of insertion (Linux 6.1).
pub const MMIO_MODULES: [&str; 6] =
    ["virtio_ring", "virtio", "virtio_mmio", "failover", "net_failover", "virtio_net"];

/// [`MMIO_MODULES`] that are modules on 32-bit Arm.
pub const ARM_MMIO_MODULES: [&str; 4] = ["virtio_mmio", "failover", "net_failover", "virtio_net"];

/// What the driver of an i.MX6's Ethernet needs, in the order of insertion; some of it is built into this or that kernel.
const FEC_MODULES: [&str; 10] = [
    "gpio-mxc",
    "nvmem-imx-ocotp",
    "libphy",
    "fixed_phy",
    "fwnode_mdio",
    "of_mdio",
    "selftests",
    "phy_package",
    "micrel",
    "fec",
];

/// The Ethernet of an i.MX6, as QEMU calls it.
const FEC: &str = "imx.enet";

/// Keeps each card busy in both directions. The first one, whose address QEMU ends in 56, is in the network 10.0.2.0, the
/// second one in 10.0.3.0, in whatever order Linux finds them. The first packet may be lost while the carrier comes up.
/// (`fail` is the lab's.)
pub const KEEP_BUSY: &str = "for card in /sys/class/net/eth*; do net=$((0x$(cut -d: -f6 $card/address) - 0x54)); \
    ifconfig ${card##*/} 10.0.$net.15 netmask 255.255.255.0 up && ping -c 1 -W 2 10.0.$net.2 >/dev/null || ping -c 5 -W 2 10.0.$net.2 >/dev/null || fail \"no network\"; \
    for size in 100 700 1400; do ping -A -s $size 10.0.$net.2 >/dev/null & done; done; echo LAB: busy; sleep 2";

/// What crashes it, in the end.
pub const CRASH: &str = "echo c >/proc/sysrq-trigger";

/// What the machine is, and how the capture kernel finds its way.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The machine without cards.
    pub spec: Spec,
    /// QEMU's machine.
    pub board: &'static str,
    /// What its driver needs.
    pub modules: &'static [&'static str],
    /// More of the crashed kernel's command line.
    pub append: &'static str,
    /// Which version of virtio the devices without a bus have.
    pub mmio: &'static str,
    /// QEMU's devices; a card gets the next network.
    pub devices: Vec<&'static str>,
    /// What the crashed kernel does last.
    pub last: Vec<&'static str>,
    /// The receiver's address.
    pub host: &'static str,
    /// More of the capture kernel's command line.
    pub settings: &'static str,
}

impl Trial {
    /// A PC with these devices.
    #[must_use]
    pub fn pc(devices: &[&'static str], settings: &'static str) -> Self {
        Self {
            spec: Spec { smp: 1, ..Spec::default() },
            board: "q35",
            modules: &CARD_MODULES,
            append: "",
            mmio: "virtio-mmio.force-legacy=true",
            devices: devices.to_vec(),
            last: vec![KEEP_BUSY, CRASH],
            host: "10.0.2.2",
            settings,
        }
    }

    /// The machine that `spec` says, on QEMU's board `virt`, with these devices.
    #[must_use]
    pub fn virt(spec: Spec, devices: &[&'static str], settings: &'static str) -> Self {
        Self { spec: Spec { smp: 1, ..spec }, board: "virt", ..Self::pc(devices, settings) }
    }

    /// A board with an i.MX6, and its Ethernet.
    #[must_use]
    pub fn sabrelite(settings: &'static str) -> Self {
        let spec = Spec { smp: 1, ..Spec::sabrelite() };
        Self { spec, board: "sabrelite", modules: &FEC_MODULES, ..Self::pc(&[FEC], settings) }
    }

    /// Crashes the machine, with its memory as it was when the capture kernel had said `text`.
    #[must_use]
    pub fn crash(&self, text: &str, port: u16, meanwhile: impl Fn(&mut Machine)) -> Crashed {
        let modules = self.spec.kernel().module_files(self.modules).unwrap();
        assert!(!modules.is_empty(), "the kernel has none of {:?}", self.modules);
        let link = format!("rcapture.link=tcp:{}:{port}", self.host);
        let dump_level = self.spec.dump_level;
        let change = |machine: MachineBuilder| {
            let machine = modules.iter().fold(machine, MachineBuilder::module);
            let machine = machine
                .board(self.board)
                .append(self.append)
                .argument("-global")
                .argument(self.mmio)
                .trigger(Trigger::Command(self.last.join("; ")))
                .capture_cmdline(format!("rcapture.dump_level={dump_level} {link} {}", self.settings));
            let mut networks = 2..;
            self.devices.iter().fold(machine, |machine, device| {
                if *device == FEC {
                    return machine.network_card();
                }
                if !device.starts_with("virtio-net") {
                    return machine.argument("-device").argument(*device);
                }
                let network = networks.next().unwrap();
                machine
                    .argument("-netdev")
                    .argument(format!("user,id=net{network},net=10.0.{network}.0/24"))
                    .argument("-device")
                    .argument(format!("{device},netdev=net{network}"))
            })
        };
        self.spec.crash_after(text, change, meanwhile)
    }

    /// Crashes the machine and compares what comes over the network with what was there once the cards were quiet.
    pub fn every_page_arrives(&self, meanwhile: impl Fn(&mut Machine)) {
        let port = free_port();
        let mut crashed = self.crash(QUIET, port, meanwhile);
        let receiver = crashed.start_listener(port, &[]);
        crashed.machine.cont().unwrap();
        receiver.wait(DUMP).compare(&crashed.truth).assert_every_page();
    }

    /// Crashes the machine, and the dump comes over the serial line once the capture kernel has said `reason`.
    pub fn falls_back_to_serial(&self, port: u16, reason: &str) {
        let mut crashed = self.crash(reason, port, |_| ());
        let comparison = crashed.receive(&[], DUMP).compare(&crashed.truth);
        assert!(comparison.equal > 1000 && comparison.different.is_empty(), "{comparison}");
    }
}
