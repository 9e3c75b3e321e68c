//! What was left in memory: by the boot loader ([`boot_params`]), by the firmware ([`acpi`]), or by both
//! ([`device_tree`]).

pub mod acpi;
pub mod boot_params;
pub mod device_tree;
pub mod fdt;
mod mcfg;
mod uart;

use memory::{PhysAddr, PhysMemory, ReadFault};

pub use device_tree::{Conduit, DeviceTree, Ethernet, Imx6Timer, Watchdog};
pub use mcfg::Ecam;
pub use uart::Uart;

fn read_array<const N: usize>(memory: &impl PhysMemory, pa: PhysAddr) -> Result<[u8; N], ReadFault> {
    let mut bytes = [0; N];
    memory.read(pa, &mut bytes)?;
    Ok(bytes)
}

fn read_u32(memory: &impl PhysMemory, pa: PhysAddr) -> Result<u32, ReadFault> {
    read_array(memory, pa).map(u32::from_le_bytes)
}

fn read_u64(memory: &impl PhysMemory, pa: PhysAddr) -> Result<u64, ReadFault> {
    read_array(memory, pa).map(u64::from_le_bytes)
}

/// `base + offset`; addresses from memory wrap rather than end the program, and are then not readable.
fn at(base: PhysAddr, offset: u64) -> PhysAddr {
    PhysAddr(base.0.wrapping_add(offset))
}

#[cfg(test)]
mod fake {
    //! Memory with bytes in a few places and nothing elsewhere.

    use alloc::vec::Vec;
    use memory::{PhysAddr, PhysMemory, ReadFault, ReadFaultKind};

    #[derive(Default)]
    pub(crate) struct Memory(pub(crate) Vec<(u64, Vec<u8>)>);

    impl PhysMemory for Memory {
        fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
            for (index, byte) in buf.iter_mut().enumerate() {
                let at = pa.0.wrapping_add(index as u64);
                let fault = ReadFault { pa: PhysAddr(at), kind: ReadFaultKind::NotRam };
                *byte = self
                    .0
                    .iter()
                    .find_map(|(start, bytes)| bytes.get(usize::try_from(at.checked_sub(*start)?).ok()?))
                    .copied()
                    .ok_or(fault)?;
            }
            Ok(())
        }
    }
}
