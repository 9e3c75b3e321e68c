//! boot_params, the x86 boot protocol's "zero page" (Linux, Documentation/arch/x86/zero-page.rst).

use alloc::vec::Vec;

use memory::{PhysAddr, PhysMemory, ReadFault};

use super::{at, read_array, read_u32, read_u64};

/// `ext_cmd_line_ptr`: high half of the command line's address.
const EXT_CMD_LINE_PTR: u64 = 0x0c8;
/// `acpi_rsdp_addr`.
const ACPI_RSDP_ADDR: u64 = 0x070;
/// `hdr.cmd_line_ptr`: low half of the command line's address.
const CMD_LINE_PTR: u64 = 0x228;
/// A longer command line is cut: more than the header's `cmdline_size` promises was not asked for.
const MAX_CMDLINE_BYTES: usize = 4096;
/// Bytes read at a time: the line may end just before memory that cannot be read.
const PIECE_BYTES: usize = 64;

/// What the boot loader says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootParams {
    /// The command line without its NUL.
    pub cmdline: Vec<u8>,
    /// Physical address of the ACPI root pointer, if the loader knew it.
    pub acpi_rsdp: Option<PhysAddr>,
}

/// Reads the boot_params at `pa`.
///
/// # Errors
/// If boot_params or the command line's address cannot be read; a command line that cannot be read to its end is cut
/// there.
pub fn read(memory: &impl PhysMemory, pa: PhysAddr) -> Result<BootParams, ReadFault> {
    let low = read_u32(memory, at(pa, CMD_LINE_PTR))?;
    let high = read_u32(memory, at(pa, EXT_CMD_LINE_PTR))?;
    let acpi_rsdp = read_u64(memory, at(pa, ACPI_RSDP_ADDR))?;
    let cmdline_pa = PhysAddr(u64::from(high) << 32 | u64::from(low));
    Ok(BootParams {
        cmdline: if cmdline_pa.0 == 0 { Vec::new() } else { read_cmdline(memory, cmdline_pa) },
        acpi_rsdp: (acpi_rsdp != 0).then_some(PhysAddr(acpi_rsdp)),
    })
}

fn read_cmdline(memory: &impl PhysMemory, pa: PhysAddr) -> Vec<u8> {
    let mut cmdline = Vec::new();
    while cmdline.len() < MAX_CMDLINE_BYTES {
        let here = at(pa, cmdline.len() as u64);
        // Byte by byte where a whole piece cannot be had.
        let piece = read_array::<PIECE_BYTES>(memory, here);
        let byte = piece.is_err().then(|| read_array::<1>(memory, here));
        let bytes: &[u8] = match (&piece, &byte) {
            (Ok(piece), _) => piece,
            (_, Some(Ok(byte))) => byte,
            _ => break,
        };
        let text: Vec<u8> = bytes.iter().copied().take_while(|byte| *byte != 0).collect();
        cmdline.extend_from_slice(&text);
        if text.len() < bytes.len() {
            break;
        }
    }
    cmdline.truncate(MAX_CMDLINE_BYTES);
    cmdline
}

#[cfg(test)]
mod tests {
    use super::super::fake::Memory;
    use super::*;
    use alloc::vec;

    const BOOT_PARAMS: PhysAddr = PhysAddr(0x9000);

    fn memory_with(cmdline_pa: u64, cmdline: &[u8]) -> Memory {
        let mut zero_page = vec![0; 0x1000];
        zero_page[0x70..0x78].copy_from_slice(&0x7fe_0014_u64.to_le_bytes());
        zero_page[0x228..0x22c].copy_from_slice(&cmdline_pa.to_le_bytes()[..4]);
        zero_page[0xc8..0xcc].copy_from_slice(&cmdline_pa.to_le_bytes()[4..]);
        Memory(vec![(BOOT_PARAMS.0, zero_page), (cmdline_pa, cmdline.to_vec())])
    }

    #[test]
    fn a_command_line_above_4g_is_found() {
        let memory = memory_with(0x1_2345_6000, b"quiet elfcorehdr=1M\0rest");
        let params = read(&memory, BOOT_PARAMS).unwrap();
        assert_eq!(params.cmdline, b"quiet elfcorehdr=1M");
        assert_eq!(params.acpi_rsdp, Some(PhysAddr(0x7fe_0014)));
    }

    #[test]
    fn a_command_line_without_end_is_cut() {
        let memory = memory_with(0x2_0000, &[b'x'; 10_000]);
        assert_eq!(read(&memory, BOOT_PARAMS).unwrap().cmdline.len(), MAX_CMDLINE_BYTES);
    }

    #[test]
    fn a_command_line_that_stops_being_readable_is_cut_there() {
        let memory = memory_with(0x2_0000, &[b'x'; 100]);
        assert_eq!(read(&memory, BOOT_PARAMS).unwrap().cmdline.len(), 100);
    }

    #[test]
    fn no_command_line_is_an_empty_one() {
        let memory = memory_with(0, b"never read");
        assert_eq!(read(&memory, BOOT_PARAMS).unwrap().cmdline, b"");
    }

    #[test]
    fn boot_params_that_cannot_be_read_are_an_error() {
        assert!(read(&Memory::default(), BOOT_PARAMS).is_err());
    }
}
