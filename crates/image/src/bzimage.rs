//! bzImage: the x86 boot protocol (Linux, Documentation/arch/x86/boot.rst), as far as kexec's loaders use it.
//!
//! Only the 64-bit entry is served. `kexec -p` (kexec-tools) and `kexec -s -p` (the kernel's bzImage64 loader) copy the
//! setup header into boot_params, put the protected-mode payload into the reservation and enter it 0x200 bytes after
//! its start, in long mode, with RSI = boot_params.

use alloc::vec;
use alloc::vec::Vec;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::FlatImage;

/// Where the setup header begins in the file.
pub const SETUP_HEADER_OFFSET: usize = 0x1f1;
/// The 64-bit entry, from the start of the protected-mode payload.
pub const ENTRY_64_OFFSET: u64 = 0x200;

const SECTOR_BYTES: usize = 512;
/// Sectors of setup after the first one; the whole of the header and the version string fit.
const SETUP_SECTS: u8 = 1;
const SETUP_BYTES: usize = (SETUP_SECTS as usize + 1) * SECTOR_BYTES;
/// The header's fields from 0x202 on; the jump's distance says so, and loaders copy that many.
const JUMP_FROM: usize = 0x202;
const HEADER_END: usize = SETUP_HEADER_OFFSET + size_of::<SetupHeader>();
/// The kernel's version, for file(1): right behind the header.
const VERSION_OFFSET: usize = HEADER_END;

const BOOT_FLAG: u16 = 0xaa55;
const HEADER_MAGIC: [u8; 4] = *b"HdrS";
/// Protocol 2.15, the newest: the loaders want 2.12 or later for the 64-bit entry.
const PROTOCOL_VERSION: u16 = 0x020f;
/// `loadflags`: the payload is not loaded at 0x10000.
const LOADED_HIGH: u8 = 1;
/// Any page will do: a larger alignment wants a larger reservation.
const KERNEL_ALIGNMENT: u32 = 0x1000;
const MIN_ALIGNMENT_SHIFT: u8 = 12;
/// `xloadflags`: has the 64-bit entry at 0x200.
const XLF_KERNEL_64: u16 = 1;
/// `xloadflags`: kernel, boot_params and command line may lie above 4 GiB.
const XLF_CAN_BE_LOADED_ABOVE_4G: u16 = 1 << 1;
/// `xloadflags`: may be entered with 5-level paging on.
const XLF_5LEVEL: u16 = 1 << 5;
/// Longest command line in bytes; `kexec -s` adds some 30 bytes to the user's.
const CMDLINE_BYTES: u32 = 4095;
/// The lowest load address.
const PREF_ADDRESS: u64 = 0x10_0000;

/// The setup header, from 0x1f1 in the file on. Fields are named as in boot.rst.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SetupHeader {
    /// 0x1f1: sectors of setup after the first.
    pub setup_sects: u8,
    /// 0x1f2.
    pub root_flags: U16,
    /// 0x1f4: the payload's size in 16-byte paragraphs.
    pub syssize: U32,
    /// 0x1f8.
    pub ram_size: U16,
    /// 0x1fa.
    pub vid_mode: U16,
    /// 0x1fc.
    pub root_dev: U16,
    /// 0x1fe: 0xAA55.
    pub boot_flag: U16,
    /// 0x200: a short jump; its distance gives the header's end.
    pub jump: [u8; 2],
    /// 0x202: "HdrS".
    pub header: [u8; 4],
    /// 0x206: protocol version.
    pub version: U16,
    /// 0x208.
    pub realmode_swtch: U32,
    /// 0x20c.
    pub start_sys_seg: U16,
    /// 0x20e: where the version string is, less 0x200.
    pub kernel_version: U16,
    /// 0x210.
    pub type_of_loader: u8,
    /// 0x211: bit 0 = LOADED_HIGH.
    pub loadflags: u8,
    /// 0x212.
    pub setup_move_size: U16,
    /// 0x214.
    pub code32_start: U32,
    /// 0x218.
    pub ramdisk_image: U32,
    /// 0x21c.
    pub ramdisk_size: U32,
    /// 0x220.
    pub bootsect_kludge: U32,
    /// 0x224.
    pub heap_end_ptr: U16,
    /// 0x226.
    pub ext_loader_ver: u8,
    /// 0x227.
    pub ext_loader_type: u8,
    /// 0x228: low half of the command line's address (written by the loader).
    pub cmd_line_ptr: U32,
    /// 0x22c.
    pub initrd_addr_max: U32,
    /// 0x230: alignment of the load address in bytes.
    pub kernel_alignment: U32,
    /// 0x234: 1 = may be loaded anywhere.
    pub relocatable_kernel: u8,
    /// 0x235: smallest alignment as a power of two.
    pub min_alignment: u8,
    /// 0x236: what the 64-bit entry can do.
    pub xloadflags: U16,
    /// 0x238: longest command line in bytes, without its NUL.
    pub cmdline_size: U32,
    /// 0x23c.
    pub hardware_subarch: U32,
    /// 0x240.
    pub hardware_subarch_data: U64,
    /// 0x248.
    pub payload_offset: U32,
    /// 0x24c.
    pub payload_length: U32,
    /// 0x250.
    pub setup_data: U64,
    /// 0x258: kexec's lowest load address.
    pub pref_address: U64,
    /// 0x260: bytes the running kernel needs from its load address on.
    pub init_size: U32,
    /// 0x264: EFI handover entry; 0 = none.
    pub handover_offset: U32,
    /// 0x268: kernel_info; 0 = none.
    pub kernel_info_offset: U32,
}

/// Why a bzImage cannot be built or is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BzImageError {
    /// The image is entered elsewhere than the protocol enters it.
    #[error("entry point at {0:#x}: the 64-bit boot protocol enters at 0x200")]
    Entry(u64),
    /// The image needs more memory than the header can say.
    #[error("the image needs {0:#x} bytes: more than init_size can hold")]
    TooLarge(u64),
    /// The file is shorter than its own header says.
    #[error("{actual} bytes, but {wanted} are needed: the file is cut short")]
    Short {
        /// The file's size in bytes.
        actual: usize,
        /// What the header asks for.
        wanted: usize,
    },
    /// No setup header where one should be.
    #[error("no setup header (0xAA55 and HdrS) at 0x1f1")]
    NotBzImage,
}

/// The bzImage of `image`; `version` is what file(1) shows (ASCII, cut after 200 bytes).
///
/// # Errors
/// If the image is not entered at 0x200 or is too large.
pub fn build(image: &FlatImage, version: &str) -> Result<Vec<u8>, BzImageError> {
    if image.entry != ENTRY_64_OFFSET {
        return Err(BzImageError::Entry(image.entry));
    }
    let too_large = |_| BzImageError::TooLarge(image.memory_bytes);
    let init_size = u32::try_from(image.memory_bytes).map_err(too_large)?;
    let payload = image.padded(16);
    let syssize = u32::try_from(payload.len() / 16).map_err(too_large)?;

    let header = setup_header(init_size, syssize);
    let mut setup = vec![0; SETUP_BYTES];
    let text = version.bytes().filter(|byte| (b' '..=b'~').contains(byte)).take(200);
    // The byte after the string stays zero: `take` leaves room.
    for (to, from) in setup.iter_mut().skip(VERSION_OFFSET).zip(text) {
        *to = from;
    }
    for (to, from) in setup.iter_mut().skip(SETUP_HEADER_OFFSET).zip(header.as_bytes()) {
        *to = *from;
    }
    setup.extend_from_slice(&payload);
    Ok(setup)
}

fn setup_header(init_size: u32, syssize: u32) -> SetupHeader {
    #[expect(clippy::cast_possible_truncation, reason = "constants; a test compares the bytes")]
    let (jump, version_pointer) = ((HEADER_END - JUMP_FROM) as u8, (VERSION_OFFSET - 0x200) as u16);
    SetupHeader {
        setup_sects: SETUP_SECTS,
        syssize: syssize.into(),
        boot_flag: BOOT_FLAG.into(),
        jump: [0xeb, jump],
        header: HEADER_MAGIC,
        version: PROTOCOL_VERSION.into(),
        kernel_version: version_pointer.into(),
        loadflags: LOADED_HIGH,
        code32_start: 0x10_0000.into(),
        initrd_addr_max: 0x7fff_ffff.into(),
        kernel_alignment: KERNEL_ALIGNMENT.into(),
        relocatable_kernel: 1,
        min_alignment: MIN_ALIGNMENT_SHIFT,
        xloadflags: (XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G | XLF_5LEVEL).into(),
        cmdline_size: CMDLINE_BYTES.into(),
        pref_address: PREF_ADDRESS.into(),
        init_size: init_size.into(),
        ..SetupHeader::new_zeroed()
    }
}

/// A parsed bzImage.
#[derive(Clone, Copy, Debug)]
pub struct BzImage<'a> {
    /// The setup header.
    pub header: SetupHeader,
    /// The protected-mode payload, which lies at the load address when it runs.
    pub payload: &'a [u8],
}

/// Parses the parts of `file`.
///
/// # Errors
/// If `file` is not a whole bzImage.
pub fn parse(file: &[u8]) -> Result<BzImage<'_>, BzImageError> {
    let short = |wanted| BzImageError::Short { actual: file.len(), wanted };
    let (header, _) = file
        .get(SETUP_HEADER_OFFSET..)
        .and_then(|rest| SetupHeader::read_from_prefix(rest).ok())
        .ok_or_else(|| short(HEADER_END))?;
    if header.boot_flag.get() != BOOT_FLAG || header.header != HEADER_MAGIC {
        return Err(BzImageError::NotBzImage);
    }
    // 0 means 4, for the sake of kernels older than the header (boot.rst).
    let setup_sects = if header.setup_sects == 0 { 4 } else { usize::from(header.setup_sects) };
    let setup_bytes = (setup_sects + 1) * SECTOR_BYTES;
    let payload = file.get(setup_bytes..).ok_or_else(|| short(setup_bytes))?;
    Ok(BzImage { header, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> FlatImage {
        FlatImage::new(vec![0x5a; 0x208], 0x20_1000, ENTRY_64_OFFSET)
    }

    #[test]
    fn the_header_has_the_bytes_the_boot_protocol_wants() {
        let file = build(&image(), "rcapture 0.1.0").unwrap();
        // Written down from boot.rst's table of offsets, not from the struct.
        let golden: [(usize, &[u8]); 15] = [
            (0x1f1, &[1]),
            (0x1f4, &[0x21, 0, 0, 0]),
            (0x1fe, &[0x55, 0xaa]),
            (0x200, &[0xeb, 0x6a]),
            (0x202, b"HdrS"),
            (0x206, &[0x0f, 0x02]),
            (0x20e, &[0x6c, 0]),
            (0x211, &[1]),
            (0x230, &[0x00, 0x10, 0, 0]),
            (0x234, &[1, 12]),
            (0x236, &[0x23, 0]),
            (0x238, &[0xff, 0x0f, 0, 0]),
            (0x258, &[0, 0, 0x10, 0, 0, 0, 0, 0]),
            (0x260, &[0x00, 0x10, 0x20, 0x00]),
            (0x26c, b"rcapture 0.1.0\0"),
        ];
        for (offset, bytes) in golden {
            assert_eq!(&file[offset..offset + bytes.len()], bytes, "at {offset:#x}");
        }
        assert_eq!(file.len(), 0x400 + 0x210);
        assert_eq!(file[0x400..0x608], [0x5a; 0x208]);
        // kexec-tools copies at most 0x7f bytes from 0x1f1 on.
        const { assert!(HEADER_END - SETUP_HEADER_OFFSET <= 0x7f) };
    }

    #[test]
    fn what_was_built_is_parsed_again() {
        let file = build(&image(), "x").unwrap();
        let parsed = parse(&file).unwrap();
        assert_eq!(parsed.header.init_size.get(), 0x20_1000);
        assert_eq!(parsed.payload[..0x208], image().bytes);
    }

    #[test]
    fn an_image_entered_elsewhere_is_refused() {
        let image = FlatImage::new(vec![0; 16], 0x1000, 0);
        assert_eq!(build(&image, "x"), Err(BzImageError::Entry(0)));
    }

    #[test]
    fn an_image_beyond_init_size_is_refused() {
        let image = FlatImage::new(vec![0; 0x400], 1 << 32, ENTRY_64_OFFSET);
        assert_eq!(build(&image, "x"), Err(BzImageError::TooLarge(1 << 32)));
    }

    #[test]
    fn a_cut_or_foreign_file_is_refused() {
        let file = build(&image(), "x").unwrap();
        for length in 0..0x400 {
            assert!(parse(&file[..length]).is_err(), "{length} bytes");
        }
        assert_eq!(parse(&[0; 0x1000]).unwrap_err(), BzImageError::NotBzImage);
    }

    #[test]
    fn a_version_too_long_is_cut_and_stays_terminated() {
        let long = core::str::from_utf8(&[b'v'; 1000]).unwrap();
        let file = build(&image(), long).unwrap();
        assert_eq!(file[0x26c + 199], b'v');
        assert_eq!(file[0x26c + 200], 0);
    }
}
