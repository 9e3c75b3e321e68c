//! VMCOREINFO of stock kernels (Debian's cloud-amd64 and cloud-arm64 in QEMU), as their notes had it.

use vmcore::vmcoreinfo::VmcoreInfo;

const LINUX_6_1: &[u8] = include_bytes!("vmcoreinfo/debian-6.1-x86_64.txt");
const LINUX_6_12: &[u8] = include_bytes!("vmcoreinfo/debian-6.12-x86_64.txt");
const LINUX_7_2: &[u8] = include_bytes!("vmcoreinfo/debian-7.2-x86_64.txt");
const ARM64_LINUX_6_1: &[u8] = include_bytes!("vmcoreinfo/debian-6.1-aarch64.txt");
const ARM64_LINUX_6_12: &[u8] = include_bytes!("vmcoreinfo/debian-6.12-aarch64.txt");
const ARM64_LINUX_7_2: &[u8] = include_bytes!("vmcoreinfo/debian-7.2-aarch64.txt");
const ARM64: [&[u8]; 3] = [ARM64_LINUX_6_1, ARM64_LINUX_6_12, ARM64_LINUX_7_2];

#[test]
fn every_line_of_every_kernel_is_a_fact() {
    for text in [LINUX_6_1, LINUX_6_12, LINUX_7_2].into_iter().chain(ARM64) {
        let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count();
        let info = VmcoreInfo::new(text);
        assert_eq!(info.entries().count(), lines);
        for (key, value) in info.entries() {
            let (key, value) = (str::from_utf8(key).unwrap(), str::from_utf8(value).unwrap());
            let Some((kind, name)) = key.strip_suffix(')').and_then(|key| key.split_once('(')) else {
                continue;
            };
            let is_read = match kind {
                "SYMBOL" => info.symbol(name).is_some(),
                "SIZE" => info.size(name).is_some(),
                "OFFSET" => info.offset(name).is_some(),
                "LENGTH" => info.length(name).is_some(),
                "NUMBER" => info.number(name).is_some(),
                _ => false,
            };
            assert!(is_read, "{key}={value}");
        }
        assert_eq!((info.page_shift(), info.size("page")), (Some(12), Some(64)));
        assert_eq!(info.build_id().map(str::len), Some(40));
    }
}

#[test]
fn numbers_are_signed_or_addresses_as_the_kernel_writes_them() {
    let info = VmcoreInfo::new(LINUX_6_1);
    assert_eq!(info.os_release(), Some("6.1.0-50-cloud-amd64"));
    assert_eq!(info.number("PAGE_BUDDY_MAPCOUNT_VALUE"), Some(-129));
    assert_eq!(info.number("phys_base"), Some(0xa00_0000));
    assert_eq!(info.kernel_offset(), Some(0x10e0_0000));
    assert_eq!(info.number_u64("VMALLOC_START"), None);

    let info = VmcoreInfo::new(LINUX_6_12);
    assert_eq!(info.number_u64("phys_base"), Some(0_u64.wrapping_sub(759_169_024)));
    assert_eq!(info.number_u64("VMALLOC_START"), Some(0xff7a_5f5b_c000_0000));
    assert_eq!(info.number("PAGE_SLAB_MAPCOUNT_VALUE"), Some((0xf500_0000_u32.cast_signed()).into()));
    assert_eq!(info.offset("page.compound_head"), Some(8));

    let info = VmcoreInfo::new(LINUX_7_2);
    assert_eq!(info.offset("page.compound_head"), None);
    assert_eq!(info.offset("page.compound_info"), Some(8));
    assert_eq!(info.number("pgtable_l5_enabled"), Some(1));
}

#[test]
fn arm64_says_how_its_addresses_are_translated() {
    let facts = |text| {
        let info = VmcoreInfo::new(text);
        ["kimage_voffset", "PHYS_OFFSET", "VA_BITS", "TCR_EL1_T1SZ"]
            .map(|name| info.number_u64(name).unwrap())
    };
    assert_eq!(facts(ARM64_LINUX_6_1), [0xffff_bd51_cbe0_0000, 0xffff_d0df_c000_0000, 48, 16]);
    // Built for 52 bits; the processor has 48.
    assert_eq!(facts(ARM64_LINUX_6_12), [0xffff_a088_9ee0_0000, 0xfff0_934c_c000_0000, 52, 16]);
}
