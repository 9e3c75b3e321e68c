//! The walk over a tree's nodes.

use alloc::vec::Vec;
use core::ops::Range;

use capture::config::{ElfCoreHdr, MAX_TTYS, MmioRegion, Tty, TtyDriver};
use memory::PhysAddr;

use super::{Conduit, DeviceTree, Ethernet, Imx6Timer, MAX_KEPT, NamedUart, Watchdog};
use crate::boot::fdt::{Event, text};
use crate::boot::{Ecam, Uart};
use crate::devices::{fec, watchdog};

/// Nodes in nodes that are looked at. Devices are three or four deep.
const MAX_DEPTH: usize = 8;

/// Clock controllers of the i.MX6 whose watchdogs run on the clock of the peripherals' bus (Linux,
/// arch/arm/boot/dts/nxp/imx/imx6{qdl,sl,sx}.dtsi). Those of others, as of the UltraLite, have gates.
const IPG_WATCHDOGS: [&[u8]; 3] = [b"fsl,imx6q-ccm", b"fsl,imx6sl-ccm", b"fsl,imx6sx-ccm"];

/// Where `#address-cells` or `#size-cells` is missing (2.3.5).
const DEFAULT_CELLS: Cells = Cells { address: 2, size: 1 };

#[derive(Clone, Copy)]
struct Cells {
    address: usize,
    size: usize,
}

impl Cells {
    /// The first entry of a `reg`, and what follows it.
    fn split(self, value: &[u8]) -> Option<((u64, u64), &[u8])> {
        let (address, rest) = number(value, self.address)?;
        let (size, rest) = number(rest, self.size)?;
        Some(((address, size), rest))
    }
}

/// A number of so many cells; what does not fit 64 bits is none.
fn number(value: &[u8], cells: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = value.split_at_checked(cells.checked_mul(4)?)?;
    let mut value = 0_u64;
    for byte in number {
        value = value.checked_mul(256)? | u64::from(*byte);
    }
    Some((value, rest))
}

fn word(value: &[u8]) -> Option<u32> {
    value.first_chunk().copied().map(u32::from_be_bytes)
}

fn mac(value: &[u8]) -> Option<[u8; 6]> {
    value.try_into().ok().filter(|mac| fec::is_one(*mac))
}

/// A node that has begun, with the properties that count.
struct Node<'a> {
    /// Of its own `reg`: the parent's.
    cells: Cells,
    /// Of its children's.
    child_cells: Cells,
    /// Bytes of the path to its parent.
    path_bytes: usize,
    /// Whether its properties have been looked at.
    is_seen: bool,
    compatible: &'a [u8],
    device_type: &'a [u8],
    status: &'a [u8],
    reg: &'a [u8],
    ranges: Option<&'a [u8]>,
    method: &'a [u8],
    clocks: &'a [u8],
    clock_frequency: Option<u32>,
    phandle: Option<u32>,
    reg_shift: u8,
    reg_io_width: u32,
    reg_offset: u32,
    resets_board: bool,
    phy_mode: &'a [u8],
    mac: Option<[u8; 6]>,
    bus_range: &'a [u8],
}

impl<'a> Node<'a> {
    fn new(cells: Cells, path_bytes: usize) -> Self {
        Self {
            cells,
            child_cells: DEFAULT_CELLS,
            path_bytes,
            is_seen: false,
            compatible: &[],
            device_type: &[],
            status: &[],
            reg: &[],
            ranges: None,
            method: &[],
            clocks: &[],
            clock_frequency: None,
            phandle: None,
            reg_shift: 0,
            reg_io_width: 1,
            reg_offset: 0,
            resets_board: false,
            phy_mode: &[],
            mac: None,
            bus_range: &[],
        }
    }

    fn set(&mut self, name: &[u8], value: &'a [u8]) {
        // More cells than two are no address of memory; `number` refuses what does not fit.
        let cells = || word(value).map_or(0, |count| count.min(16) as usize);
        match name {
            b"#address-cells" => self.child_cells.address = cells(),
            b"#size-cells" => self.child_cells.size = cells(),
            b"compatible" => self.compatible = value,
            b"device_type" => self.device_type = value,
            b"status" => self.status = value,
            b"reg" => self.reg = value,
            b"ranges" => self.ranges = Some(value),
            b"method" => self.method = value,
            b"clocks" => self.clocks = value,
            b"clock-frequency" => self.clock_frequency = word(value),
            b"phandle" => self.phandle = word(value),
            b"reg-shift" => {
                self.reg_shift = word(value).and_then(|shift| u8::try_from(shift).ok()).unwrap_or(0)
            }
            b"reg-io-width" => self.reg_io_width = word(value).unwrap_or(1),
            b"reg-offset" => self.reg_offset = word(value).unwrap_or(0),
            b"phy-mode" | b"phy-connection-type" => self.phy_mode = value,
            // The first one is what the boot loader used (Linux, drivers/net/ethernet's binding).
            b"mac-address" => self.mac = mac(value).or(self.mac),
            b"local-mac-address" => self.mac = self.mac.or(mac(value)),
            b"fsl,ext-reset-output" => self.resets_board = true,
            b"bus-range" => self.bus_range = value,
            _ => {}
        }
    }

    fn is(&self, compatible: &[u8]) -> bool {
        self.compatible.split(|byte| *byte == 0).any(|name| name == compatible)
    }

    /// 2.3.4; `reserved` is for firmware, which may well be what printed.
    fn is_disabled(&self) -> bool {
        !matches!(text(self.status), None | Some(b"okay" | b"ok" | b"reserved"))
    }
}

/// A device that is used.
#[derive(Clone, Copy)]
enum Kind {
    Pl011 { is_fixed: bool },
    Ns16550,
    ImxUart,
    Imx6Clocks,
    Fec,
    Imx6Timer { divides: bool },
    ImxWatchdog,
    Watchdog(watchdog::Kind),
    VirtioMmio,
    Ecam,
}

impl Kind {
    const ALL: [(&[u8], Self); 19] = [
        (b"arm,pl011", Self::Pl011 { is_fixed: false }),
        (b"arm,sbsa-uart", Self::Pl011 { is_fixed: true }),
        (b"ns16550a", Self::Ns16550),
        (b"ns16550", Self::Ns16550),
        (b"snps,dw-apb-uart", Self::Ns16550),
        (b"fsl,imx6q-uart", Self::ImxUart),
        (b"fsl,imx21-uart", Self::ImxUart),
        // With the same gates and UARTs' divisor on the Quad, Dual, DualLite and Solo.
        (b"fsl,imx6q-ccm", Self::Imx6Clocks),
        (b"fsl,imx6q-fec", Self::Fec),
        (b"fsl,imx6ul-fec", Self::Fec),
        (b"fsl,imx6q-gpt", Self::Imx6Timer { divides: false }),
        (b"fsl,imx6dl-gpt", Self::Imx6Timer { divides: true }),
        (b"fsl,imx6q-wdt", Self::ImxWatchdog),
        (b"fsl,imx21-wdt", Self::ImxWatchdog),
        (b"arm,sp805", Self::Watchdog(watchdog::Kind::Sp805)),
        (b"arm,sp805-wdt", Self::Watchdog(watchdog::Kind::Sp805)),
        (b"snps,dw-wdt", Self::Watchdog(watchdog::Kind::DesignWare)),
        (b"virtio,mmio", Self::VirtioMmio),
        (b"pci-host-ecam-generic", Self::Ecam),
    ];

    fn of(node: &Node<'_>) -> Option<Self> {
        let mut kinds = Self::ALL.iter();
        kinds.find(|(name, _)| node.is(name)).map(|(_, kind)| *kind)
    }
}

/// A UART whose clock and number are not known yet.
struct Found {
    path: Vec<u8>,
    driver: TtyDriver,
    uart: Uart,
    /// phandle of its clock.
    clock: Option<u32>,
}

/// What is known so far.
#[derive(Default)]
pub(super) struct Walk<'a> {
    pub(super) tree: DeviceTree,
    /// The nodes around, outermost first; those too deep are only counted.
    nodes: Vec<Node<'a>>,
    too_deep: usize,
    /// Of the innermost node, as in `/soc/serial@0`.
    path: Vec<u8>,
    uarts: Vec<Found>,
    /// With their paths.
    ethernets: Vec<(Vec<u8>, Ethernet)>,
    /// With their clocks.
    watchdogs: Vec<(watchdog::Kind, u64, &'a [u8])>,
    /// Clocks of one rate: phandle and hertz.
    clocks: Vec<(u32, u32)>,
    imx6_clocks_pa: Option<u64>,
    /// Where it is, and whether it divides the crystal.
    imx6_timer: Option<(u64, bool)>,
    /// phandle of an i.MX6's clock controller that never turns its watchdogs' clock, "ipg", off.
    ipg: Option<u32>,
    aliases: Vec<(&'a [u8], &'a [u8])>,
    stdout: &'a [u8],
}

fn keep<T>(list: &mut Vec<T>, item: T) {
    if list.len() < MAX_KEPT {
        list.push(item);
    }
}

impl<'a> Walk<'a> {
    pub(super) fn step(&mut self, event: Event<'a>) {
        match event {
            Event::Begin(_) if self.too_deep > 0 || self.nodes.len() == MAX_DEPTH => {
                self.look();
                self.too_deep += 1;
            }
            Event::Begin(name) => {
                self.look();
                let cells = self.nodes.last().map_or(DEFAULT_CELLS, |parent| parent.child_cells);
                self.nodes.push(Node::new(cells, self.path.len()));
                // The root's name is empty, and no part of a path.
                if self.nodes.len() > 1 {
                    self.path.push(b'/');
                    self.path.extend_from_slice(name);
                }
            }
            Event::Property(..) if self.too_deep > 0 => {}
            Event::Property(name, value) => self.property(name, value),
            Event::End if self.too_deep > 0 => self.too_deep -= 1,
            Event::End => {
                self.look();
                if let Some(node) = self.nodes.pop() {
                    self.path.truncate(node.path_bytes);
                }
            }
        }
    }

    fn property(&mut self, name: &'a [u8], value: &'a [u8]) {
        match self.path.as_slice() {
            b"/chosen" => self.chosen(name, value),
            b"/aliases" => {
                if (name.starts_with(b"serial") || name.starts_with(b"ethernet"))
                    && let Some(path) = text(value)
                {
                    keep(&mut self.aliases, (name, path));
                }
            }
            _ => {}
        }
        if let Some(node) = self.nodes.last_mut() {
            node.set(name, value);
        }
    }

    fn chosen(&mut self, name: &'a [u8], value: &'a [u8]) {
        match name {
            b"bootargs" => self.tree.cmdline = text(value).unwrap_or(value).to_vec(),
            b"stdout-path" | b"linux,stdout-path" => self.stdout = text(value).unwrap_or_default(),
            b"linux,elfcorehdr" => {
                // The cells are the root's (Linux, drivers/of/fdt.c, `early_init_dt_check_for_elfcorehdr`).
                let cells = self.nodes.first().map_or(DEFAULT_CELLS, |root| root.child_cells);
                self.tree.elfcorehdr = cells.split(value).map(|((start_pa, size), _)| ElfCoreHdr {
                    start_pa,
                    size_bytes: Some(size).filter(|size| *size > 0),
                });
            }
            _ => {}
        }
    }

    /// Looks at the innermost node, whose properties are all known: its first child begins, or it ends.
    fn look(&mut self) {
        let Some(node) = self.nodes.last_mut() else { return };
        if core::mem::replace(&mut node.is_seen, true) {
            return;
        }
        let Some(node) = self.nodes.last() else { return };
        if node.device_type == b"memory\0" {
            self.memory();
        } else if node.is(b"fixed-clock") {
            if let (Some(phandle), Some(hertz)) = (node.phandle, node.clock_frequency) {
                keep(&mut self.clocks, (phandle, hertz));
            }
        } else if IPG_WATCHDOGS.iter().any(|name| node.is(name)) {
            self.ipg = node.phandle;
            self.device();
        } else if node.is(b"arm,psci") || node.is(b"arm,psci-0.2") || node.is(b"arm,psci-1.0") {
            self.tree.psci = match text(node.method) {
                Some(b"hvc") => Some(Conduit::Hvc),
                Some(b"smc") => Some(Conduit::Smc),
                _ => None,
            };
        } else if !node.is_disabled() {
            self.device();
        }
    }

    fn memory(&mut self) {
        let Some(node) = self.nodes.last() else { return };
        let mut reg = node.reg;
        while let Some(((start, bytes), rest)) = node.cells.split(reg)
            && rest.len() < reg.len()
        {
            // One that overlaps another is as good as that.
            keep(&mut self.tree.memory, start..start.saturating_add(bytes));
            reg = rest;
        }
    }

    fn device(&mut self) {
        let Some(node) = self.nodes.last() else { return };
        let Some(kind) = Kind::of(node) else { return };
        // Registers are words.
        let Some(region) = self.region().filter(|region| region.start.is_multiple_of(4)) else { return };
        let (pa, bytes) = (region.start, region.end - region.start);
        let hertz = node.clock_frequency;
        match kind {
            Kind::Pl011 { is_fixed } => self.uart(TtyDriver::Ama, Uart::Pl011 { pa, hertz, is_fixed }),
            Kind::Ns16550 => {
                let pa = pa.saturating_add(node.reg_offset.into());
                let (shift, is_word) = (node.reg_shift.min(3), node.reg_io_width == 4);
                self.uart(TtyDriver::S, Uart::Ns16550 { pa, shift, is_word, hertz });
            }
            Kind::ImxUart => self.uart(TtyDriver::Mxc, Uart::Imx { pa, clocks_pa: None }),
            Kind::Imx6Clocks => self.imx6_clocks_pa = Some(pa),
            Kind::Fec => {
                let interface = fec::Interface::of_mode(text(node.phy_mode).unwrap_or_default());
                let ethernet = Ethernet { pa, clocks_pa: None, mac: node.mac, interface };
                keep(&mut self.ethernets, (self.path.clone(), ethernet));
            }
            Kind::Imx6Timer { divides } => self.imx6_timer = Some((pa, divides)),
            Kind::ImxWatchdog => {
                let kind = watchdog::Kind::Imx { resets_board: node.resets_board };
                keep(&mut self.watchdogs, (kind, pa, node.clocks));
            }
            Kind::Watchdog(kind) => keep(&mut self.watchdogs, (kind, pa, node.clocks)),
            Kind::VirtioMmio => {
                if let Some(region) = MmioRegion::new(pa, bytes) {
                    keep(&mut self.tree.virtio_mmio, region);
                }
            }
            Kind::Ecam => {
                let first = word(node.bus_range).and_then(|bus| u8::try_from(bus).ok()).unwrap_or(0);
                let last = node.bus_range.get(4..).and_then(word).and_then(|bus| u8::try_from(bus).ok());
                if let Some(ecam) = Ecam::at(PhysAddr(pa), bytes, first..=last.unwrap_or(u8::MAX)) {
                    keep(&mut self.tree.ecam, ecam);
                }
            }
        }
    }

    /// The innermost node is a UART.
    fn uart(&mut self, driver: TtyDriver, uart: Uart) {
        let clock = self.nodes.last().and_then(|node| word(node.clocks));
        keep(&mut self.uarts, Found { path: self.path.clone(), driver, uart, clock });
    }

    /// The first `reg` of the innermost node, as physical addresses; none if it is no memory.
    fn region(&self) -> Option<Range<u64>> {
        let (device, buses) = self.nodes.split_last()?;
        let ((mut start, bytes), _) = device.cells.split(device.reg)?;
        // The root is no bus: its children's addresses are physical.
        for bus in buses.get(1..)?.iter().rev() {
            start = translate(bus, start)?;
        }
        let end = start.checked_add(bytes)?;
        (start < end).then_some(start..end)
    }

    /// Whether none of these clocks can be turned off: they are crystals, or there are none.
    fn runs(&self, clocks: &[u8]) -> bool {
        let (words, rest) = clocks.as_chunks::<4>();
        let is_fixed =
            |word: &[u8; 4]| self.clocks.iter().any(|(phandle, _)| *phandle == u32::from_be_bytes(*word));
        rest.is_empty() && words.iter().all(is_fixed)
    }

    fn is_ipg(&self, clocks: &[u8]) -> bool {
        self.ipg.is_some() && word(clocks) == self.ipg
    }

    pub(super) fn finish(mut self) -> DeviceTree {
        // What a cut tree had not ended.
        self.look();
        for (kind, pa, clocks) in core::mem::take(&mut self.watchdogs) {
            let has_clock =
                self.runs(clocks) || matches!(kind, watchdog::Kind::Imx { .. }) && self.is_ipg(clocks);
            keep(&mut self.tree.watchdogs, Watchdog { kind, pa, has_clock });
        }
        self.tree.timer = self
            .imx6_timer
            .zip(self.imx6_clocks_pa)
            .map(|((pa, divides), clocks_pa)| Imx6Timer { pa, clocks_pa, divides });
        let alias_of = |path: &[u8], kind: &[u8]| -> Option<u8> {
            let mut digits = self.aliases.iter().filter(|(_, of)| *of == path);
            let digits = digits.find_map(|(name, _)| name.strip_prefix(kind))?;
            core::str::from_utf8(digits).ok()?.parse().ok()
        };
        // Those without a number behind all others, in the tree's order.
        self.ethernets.sort_by_key(|(path, _)| alias_of(path, b"ethernet").map_or(u16::MAX, u16::from));
        let clocks_pa = self.imx6_clocks_pa;
        let ethernets = self.ethernets.iter().map(|(_, ethernet)| Ethernet { clocks_pa, ..*ethernet });
        self.tree.ethernets = ethernets.collect();
        let mut given: Vec<Tty> = Vec::new();
        let mut number_of = |found: &Found| {
            let tty = Tty { driver: found.driver, number: alias_of(&found.path, b"serial")? };
            // Of two that claim a name the first one has it.
            (!given.contains(&tty)).then(|| given.push(tty))?;
            Some(tty.number)
        };
        let numbers: Vec<Option<u8>> = self.uarts.iter().map(&mut number_of).collect();
        let (stdout, options) = match self.stdout.iter().position(|byte| *byte == b':') {
            Some(at) => self.stdout.split_at(at),
            None => (self.stdout, &[][..]),
        };
        let stdout = self.aliases.iter().find(|(name, _)| *name == stdout).map_or(stdout, |(_, path)| *path);
        for (Found { path, driver, mut uart, clock }, number) in self.uarts.into_iter().zip(numbers) {
            let tty = |number| Tty { driver, number };
            let free = || (0..MAX_TTYS).find(|number| !given.contains(&tty(*number)));
            let Some(number) = number.or_else(free) else { continue };
            given.push(tty(number));
            let of_clock = self.clocks.iter().find(|(phandle, _)| Some(*phandle) == clock);
            match &mut uart {
                Uart::Pl011 { hertz, .. } | Uart::Ns16550 { hertz, .. } => {
                    *hertz = hertz.or(of_clock.map(|(_, hertz)| *hertz)).filter(|hertz| *hertz > 0);
                }
                Uart::Imx { clocks_pa, .. } => *clocks_pa = self.imx6_clocks_pa,
                Uart::Ports(_) => {}
            }
            if path == stdout {
                self.tree.stdout = Some((self.tree.uarts.len(), baud(options)));
            }
            self.tree.uarts.push(NamedUart { tty: tty(number), uart });
        }
        self.tree
    }
}

/// Of `:115200n8`.
fn baud(options: &[u8]) -> Option<u32> {
    let digits = options.get(1..)?.split(|byte| !byte.is_ascii_digit()).next()?;
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// Where the bus' parent has an address of the bus. `None`: nowhere.
fn translate(bus: &Node<'_>, address: u64) -> Option<u64> {
    let mut ranges = bus.ranges?;
    // Without any they are the same (2.3.8).
    if ranges.is_empty() {
        return Some(address);
    }
    loop {
        let (from, rest) = number(ranges, bus.child_cells.address)?;
        let (to, rest) = number(rest, bus.cells.address)?;
        let (bytes, rest) = number(rest, bus.child_cells.size)?;
        match address.checked_sub(from) {
            Some(within) if within < bytes => return to.checked_add(within),
            // Not one more, or for ever the same.
            _ if rest.len() == ranges.len() => return None,
            _ => ranges = rest,
        }
    }
}
