//! The little of ACPI that needs no interpreter: the FADT's ports, the sleep type of \_S5 where it stands as a plain
//! package in the DSDT (ACPI 6.5, 5.2 and 7.4.2), and the MCFG.
//!
//! Everything here is a help, not a need: what cannot be found is `None`.

use alloc::vec::Vec;

use memory::{PhysAddr, PhysMemory};

use super::mcfg::{self, Ecam};
use super::{at, read_array, read_u32, read_u64};

/// Tables looked at in the XSDT.
const MAX_TABLES: u64 = 256;
/// Bytes of the DSDT searched; the largest ones seen on servers have some 500 KiB.
const MAX_DSDT_BYTES: u32 = 1 << 20;
/// Bytes of it read at a time.
const PIECE_BYTES: u32 = 4096;
/// The longest form of the package looked for, from its name on.
const S5_BYTES: u32 = 16;
const TABLE_HEADER_BYTES: u64 = 36;

/// What the tables say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acpi {
    /// PM_TMR_BLK: I/O port of the 3.579545 MHz timer.
    pub pm_timer: Option<u16>,
    /// PM1a_CNT_BLK: I/O port of the sleep control register.
    pub pm1a_control: Option<u16>,
    /// PM1b_CNT_BLK, on machines that have two.
    pub pm1b_control: Option<u16>,
    /// SLP_TYPa and SLP_TYPb of \_S5, soft off.
    pub s5: Option<[u8; 2]>,
    /// PCI configuration space in memory.
    pub ecam: Vec<Ecam>,
}

/// Where the root pointer may lie on a PC without EFI: the BIOS area (5.2.5.1).
const BIOS_AREA: core::ops::Range<u64> = 0xe_0000..0x10_0000;
const RSDP_ALIGNMENT: usize = 16;
const RSDP_SIGNATURE: [u8; 8] = *b"RSD PTR ";

/// Reads the tables that `rsdp`, the root pointer, leads to; without one it is looked for where a BIOS puts it.
#[must_use]
pub fn read(memory: &impl PhysMemory, rsdp: Option<PhysAddr>) -> Acpi {
    let Some(rsdp) = rsdp.or_else(|| find_rsdp(memory)) else { return Acpi::default() };
    let table = |signature| find_table(memory, rsdp, signature);
    let acpi = table(*b"FACP").and_then(|fadt| read_fadt(memory, fadt)).unwrap_or_default();
    let ecam = table(*b"MCFG").map(|mcfg| mcfg::read(memory, mcfg)).unwrap_or_default();
    Acpi { ecam, ..acpi }
}

fn find_rsdp(memory: &impl PhysMemory) -> Option<PhysAddr> {
    BIOS_AREA
        .step_by(RSDP_ALIGNMENT)
        .map(PhysAddr)
        .find(|pa| read_array(memory, *pa).is_ok_and(|signature| signature == RSDP_SIGNATURE))
}

fn find_table(memory: &impl PhysMemory, rsdp: PhysAddr, signature: [u8; 4]) -> Option<PhysAddr> {
    if read_array(memory, rsdp).ok()? != RSDP_SIGNATURE {
        return None;
    }
    let [revision] = read_array(memory, at(rsdp, 15)).ok()?;
    let rsdt = PhysAddr(read_u32(memory, at(rsdp, 16)).ok()?.into());
    let xsdt = match revision {
        0 | 1 => 0,
        _ => read_u64(memory, at(rsdp, 24)).ok()?,
    };
    let (table, entry_bytes) = if xsdt == 0 { (rsdt, 4) } else { (PhysAddr(xsdt), 8) };
    let length: u64 = read_u32(memory, at(table, 4)).ok()?.into();
    let count = length.checked_sub(TABLE_HEADER_BYTES)? / entry_bytes;
    (0..count.min(MAX_TABLES)).find_map(|index| {
        let entry = at(table, TABLE_HEADER_BYTES + index * entry_bytes);
        let pa = match entry_bytes {
            4 => read_u32(memory, entry).ok()?.into(),
            _ => read_u64(memory, entry).ok()?,
        };
        (read_array(memory, PhysAddr(pa)).ok()? == signature).then_some(PhysAddr(pa))
    })
}

fn read_fadt(memory: &impl PhysMemory, fadt: PhysAddr) -> Option<Acpi> {
    let length: u64 = read_u32(memory, at(fadt, 4)).ok()?.into();
    // The blocks are I/O ports; machines without them (reduced hardware) have zeros.
    let port = |offset| {
        let port = u16::try_from(read_u32(memory, at(fadt, offset)).ok()?).ok()?;
        (port != 0).then_some(port)
    };
    let dsdt = PhysAddr(read_u32(memory, at(fadt, 40)).ok()?.into());
    // X_DSDT, in tables long enough to have it.
    let x_dsdt = if length >= 148 { read_u64(memory, at(fadt, 140)).unwrap_or(0) } else { 0 };
    let dsdt = if x_dsdt == 0 { dsdt } else { PhysAddr(x_dsdt) };
    Some(Acpi {
        pm_timer: port(76),
        pm1a_control: port(64),
        pm1b_control: port(68),
        s5: find_s5(memory, dsdt),
        ecam: Vec::new(),
    })
}

/// Searches the DSDT for `Name (_S5, Package () {a, b, …})` in its byte code (20.2).
fn find_s5(memory: &impl PhysMemory, dsdt: PhysAddr) -> Option<[u8; 2]> {
    let signature: [u8; 4] = read_array(memory, dsdt).ok()?;
    if signature != *b"DSDT" {
        return None;
    }
    let length = read_u32(memory, at(dsdt, 4)).ok()?.min(MAX_DSDT_BYTES);
    let mut piece = Vec::new();
    (0..length).step_by(PIECE_BYTES as usize).find_map(|start| {
        // Pieces overlap, so that a package across their border is seen whole.
        let bytes = (length - start).min(PIECE_BYTES + S5_BYTES);
        piece.resize(usize::try_from(bytes).ok()?, 0);
        memory.read(at(dsdt, start.into()), &mut piece).ok()?;
        piece.windows(4).enumerate().filter(|(_, name)| *name == b"_S5_").find_map(|(index, _)| {
            // NameOp before the name, perhaps with a root prefix between them.
            let before = piece.get(index.checked_sub(2)?..index)?;
            let is_name = matches!(before, [_, 0x08] | [0x08, b'\\']);
            parse_s5(piece.get(index + 4..)?).filter(|_| is_name)
        })
    })
}

/// PackageOp PkgLength NumElements, then bytes: BytePrefix n, ZeroOp or OneOp.
fn parse_s5(code: &[u8]) -> Option<[u8; 2]> {
    let (0x12, rest) = code.split_first().map(|(op, rest)| (*op, rest))? else { return None };
    let more_length_bytes = usize::from(rest.first()? >> 6);
    let (elements, mut values) = rest.get(1 + more_length_bytes..)?.split_first()?;
    if *elements < 2 {
        return None;
    }
    let mut value = || {
        let (first, rest) = values.split_first()?;
        let (value, rest) = match first {
            0x0a => rest.split_first()?,
            0x00 | 0x01 => (first, rest),
            _ => return None,
        };
        values = rest;
        (*value <= 7).then_some(*value)
    };
    Some([value()?, value()?])
}

#[cfg(test)]
mod tests {
    use super::super::fake::Memory;
    use super::*;
    use alloc::vec;

    const FADT: u64 = 0x7fe_1000;
    const DSDT: u64 = 0x7fe_8000;
    const S5: &[u8] = b"\x08_S5_\x12\x06\x04\x0a\x05\x00\x00\x00";

    fn table(signature: &[u8; 4], bytes: usize) -> Vec<u8> {
        let mut table = vec![0; bytes];
        table[..4].copy_from_slice(signature);
        table[4..8].copy_from_slice(&u32::try_from(bytes).unwrap().to_le_bytes());
        table
    }

    /// A machine with an RSDT at 0x7fe2000 and `code` at `code_at` in its DSDT.
    fn machine(code_at: usize, code: &[u8]) -> Memory {
        let mut rsdp = vec![0; 36];
        rsdp[..8].copy_from_slice(b"RSD PTR ");
        rsdp[16..20].copy_from_slice(&0x7fe_2000_u32.to_le_bytes());
        let mut rsdt = table(b"RSDT", 44);
        rsdt[36..40].copy_from_slice(&0xdead_0000_u32.to_le_bytes());
        rsdt[40..44].copy_from_slice(&0x7fe_1000_u32.to_le_bytes());
        let mut fadt = table(b"FACP", 116);
        fadt[40..44].copy_from_slice(&0x7fe_8000_u32.to_le_bytes());
        fadt[64..68].copy_from_slice(&0x604_u32.to_le_bytes());
        fadt[76..80].copy_from_slice(&0x608_u32.to_le_bytes());
        let mut dsdt = table(b"DSDT", 9000);
        dsdt[code_at..code_at + code.len()].copy_from_slice(code);
        Memory(vec![(0xf_5a40, rsdp), (0x7fe_2000, rsdt), (FADT, fadt), (DSDT, dsdt)])
    }

    #[test]
    fn ports_and_sleep_type_are_found_from_the_bios_area() {
        let found =
            Acpi { pm_timer: Some(0x608), pm1a_control: Some(0x604), s5: Some([5, 0]), ..Acpi::default() };
        assert_eq!(read(&machine(100, S5), None), found);
    }

    #[test]
    fn configuration_space_is_found_beside_them_or_without_them() {
        let mut memory = machine(100, S5);
        let mut mcfg = table(b"MCFG", 60);
        mcfg[44..52].copy_from_slice(&0xb000_0000_u64.to_le_bytes());
        mcfg[55] = 0xff;
        // In the place of an entry that leads nowhere.
        memory.0.push((0xdead_0000, mcfg));
        let acpi = read(&memory, None);
        assert_eq!(acpi.ecam[0].function_pa(0, 1, 0), Some(PhysAddr(0xb000_8000)));
        assert_eq!(acpi.pm_timer, Some(0x608));
        memory.0.retain(|(start, _)| *start != FADT);
        assert_eq!(read(&memory, None), Acpi { ecam: acpi.ecam, ..Acpi::default() });
    }

    #[test]
    fn a_package_across_two_pieces_is_found() {
        for code_at in 4080..4100 {
            assert_eq!(read(&machine(code_at, S5), None).s5, Some([5, 0]), "at {code_at}");
        }
    }

    #[test]
    fn what_is_no_plain_package_is_not_taken_for_one() {
        for code in [
            b"\x14_S5_\x12\x06\x04\x0a\x05\x00\x00".as_slice(), // a method
            b"\x08_S5_\x12\x06\x04\x0b\x05\x00\x00".as_slice(), // a word, not a byte
            b"\x08_S5_\x12\x06\x01\x0a\x05\x00\x00".as_slice(), // one element
            b"\x08_S5_\x12\x06\x04\x0a\x08\x00\x00".as_slice(), // no sleep type
            b"\x08_S5_".as_slice(),
        ] {
            assert_eq!(read(&machine(100, code), None).s5, None);
        }
    }

    #[test]
    fn a_package_cut_by_the_tables_end_is_not_found() {
        for cut in 1..7 {
            let code = S5.get(..S5.len() - 3 - cut).unwrap();
            assert_eq!(read(&machine(9000 - code.len(), code), None).s5, None);
        }
    }

    #[test]
    fn a_machine_without_tables_has_nothing() {
        assert_eq!(read(&Memory::default(), None), Acpi::default());
        assert_eq!(read(&Memory::default(), Some(PhysAddr(u64::MAX))), Acpi::default());
    }

    #[test]
    fn hostile_lengths_are_bounded() {
        let mut memory = machine(100, S5);
        for (start, bytes) in &mut memory.0 {
            if *start != 0xf_5a40 {
                bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
            }
        }
        assert_eq!(read(&memory, None).pm1a_control, Some(0x604));
    }
}
