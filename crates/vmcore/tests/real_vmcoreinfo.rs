//! VMCOREINFO of running stock kernels (Debian cloud-amd64 in QEMU), as their notes had it.

use vmcore::vmcoreinfo::VmcoreInfo;

const LINUX_6_1: &[u8] = include_bytes!("vmcoreinfo/debian-6.1-x86_64.txt");
const LINUX_6_12: &[u8] = include_bytes!("vmcoreinfo/debian-6.12-x86_64.txt");
const LINUX_7_2: &[u8] = include_bytes!("vmcoreinfo/debian-7.2-x86_64.txt");

#[test]
fn every_line_of_every_kernel_is_a_fact() {
    for text in [LINUX_6_1, LINUX_6_12, LINUX_7_2] {
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
