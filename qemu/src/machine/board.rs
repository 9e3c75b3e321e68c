//! What QEMU's boards have, as far as a guest or QEMU has to be told.

use crate::arch::Arch;

/// A board.
#[derive(Clone, Copy, Debug)]
pub(super) struct Board {
    /// Linux' names for its serial ports, in the order of QEMU's `-serial`.
    pub(super) ports: &'static [&'static str],
    /// Which of them is the console.
    pub(super) console: usize,
    /// The file of its device tree, if QEMU does not make one.
    pub(super) device_tree: Option<&'static str>,
    /// Whether its processor can be chosen.
    pub(super) takes_cpu: bool,
    /// The guest's command that ends QEMU.
    pub(super) power_off: &'static str,
}

const PC: Board = Board {
    ports: &["ttyS0", "ttyS1"],
    console: 0,
    device_tree: None,
    takes_cpu: true,
    power_off: "poweroff -f",
};

const VIRT: Board = Board { ports: &["ttyAMA0"], ..PC };

/// Boundary Devices' SABRE Lite, with an i.MX6 (QEMU, hw/arm/sabrelite.c and fsl-imx6.c).
const SABRELITE: Board = Board {
    ports: &["ttymxc0", "ttymxc1"],
    console: 1,
    device_tree: Some("imx6q-sabrelite.dtb"),
    takes_cpu: false,
    // The model has no power to turn off. WDOG1_WCR without SRS resets it (i.MX 6Dual/6Quad Reference Manual, 70.7.1).
    power_off: "devmem 0x020bc000 16 4",
};

impl Board {
    /// QEMU's `machine`, which may have properties.
    pub(super) fn of(arch: Arch, machine: &str) -> Self {
        match (arch, machine.split(',').next()) {
            (Arch::Arm, Some("sabrelite")) => SABRELITE,
            (Arch::Arm | Arch::Aarch64, _) => VIRT,
            (Arch::X86_64, _) => PC,
        }
    }

    /// The first port that is not the console.
    pub(super) fn port_apart(self) -> Option<usize> {
        (0..self.ports.len()).find(|&port| port != self.console)
    }

    /// Linux' name for the console.
    pub(super) fn console_name(self) -> &'static str {
        self.ports.get(self.console).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boards_properties_do_not_change_its_ports() {
        assert_eq!(Board::of(Arch::Arm, "sabrelite,memory-backend=ram").console_name(), "ttymxc1");
        assert_eq!(Board::of(Arch::Arm, "virt,highmem=off").console_name(), "ttyAMA0");
        assert_eq!(Board::of(Arch::X86_64, "q35").console_name(), "ttyS0");
    }

    #[test]
    fn a_line_of_its_own_needs_a_second_port() {
        assert_eq!(SABRELITE.port_apart(), Some(0));
        assert_eq!(PC.port_apart(), Some(1));
        assert_eq!(VIRT.port_apart(), None);
    }
}
