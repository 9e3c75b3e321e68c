//! The tables of an aarch64 kernel (Linux arch/arm64/include/asm/pgtable*.h, arch/arm64/kernel/vmcore_info.c).

use vmcore::vmcoreinfo::VmcoreInfo;

use super::PageTablesError;
use super::long::{AddressFormat, PageTables, Variant, levels};
use crate::{PhysAddr, VirtAddr};

/// Bits of a kernel's virtual addresses: 36 with 16 KiB pages at the least, 52 at the most.
const VA_BITS: core::ops::RangeInclusive<u32> = 36..=52;

/// The kernel's tables (`swapper_pg_dir`), by VMCOREINFO.
pub(super) fn of_kernel(info: &VmcoreInfo<'_>) -> Result<PageTables, PageTablesError> {
    let missing = PageTablesError::MissingFact;
    let root_va = info.symbol("swapper_pg_dir").ok_or(missing("SYMBOL(swapper_pg_dir)"))?;
    let kimage_voffset = info.number_u64("kimage_voffset").ok_or(missing("NUMBER(kimage_voffset)"))?;
    let page_shift = info.page_shift().ok_or(missing("PAGESIZE"))?;
    let built_for = va_bits(info.number_u64("VA_BITS")).ok_or(missing("NUMBER(VA_BITS)"))?;
    let va_bits = used_va_bits(info).unwrap_or(built_for).min(built_for);

    let root = PhysAddr(root_va.wrapping_sub(kimage_voffset));
    // The top table of 64 KiB pages and 52 bits has 1024 entries on a processor that takes 48 bits, too.
    let has_same_top = levels(page_shift, va_bits) == levels(page_shift, built_for);
    let input_bits = if has_same_top { built_for } else { va_bits };
    let tables = PageTables {
        root,
        variant: Variant::Aarch64,
        address: match (page_shift, va_bits) {
            (16, _) => AddressFormat::Lpa,
            (_, 52) => AddressFormat::Lpa2,
            _ => AddressFormat::Bits48,
        },
        page_shift,
        input_bits,
        first: VirtAddr(u64::MAX << va_bits),
        last: VirtAddr(u64::MAX),
    };
    // The kernel aligns it to a page.
    let is_aligned = root.0.trailing_zeros() >= page_shift;
    if is_aligned && root < crate::PHYS_ADDR_END { Ok(tables) } else { Err(PageTablesError::BadRoot(root)) }
}

/// See [`super::linear_map_offset`]. Kernels before 5.4 have their linear map elsewhere.
pub(super) fn linear_map_offset(info: &VmcoreInfo<'_>) -> Option<u64> {
    let phys_offset = info.number_u64("PHYS_OFFSET")?;
    let built_for = va_bits(info.number_u64("VA_BITS"))?;
    // Since 5.4, the upper half of the kernel's addresses has its image.
    let stext = info.symbol("_stext")?;
    let has_image_above = used_va_bits(info).is_some() && stext >= u64::MAX << (built_for - 1);
    has_image_above.then(|| (u64::MAX << built_for).wrapping_sub(phys_offset))
}

/// Bits that the processor translates: fewer than the kernel was built for, if it does not have those (`TCR_EL1.T1SZ`;
/// older kernels do not tell it).
fn used_va_bits(info: &VmcoreInfo<'_>) -> Option<u32> {
    va_bits(u64::from(u64::BITS).checked_sub(info.number_u64("TCR_EL1_T1SZ")?))
}

fn va_bits(bits: Option<u64>) -> Option<u32> {
    bits.and_then(|bits| u32::try_from(bits).ok()).filter(|bits| VA_BITS.contains(bits))
}
