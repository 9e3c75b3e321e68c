//! What kernels of a time write into their struct pages, and what their VMCOREINFO says of it.

use super::Use;

/// Kernels whose struct pages are read in the same way, by the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Generation {
    Linux4_19,
    Linux5_10,
    Linux6_1,
    /// `struct slab` lies over `struct page`, and keeps a count over `mapping`.
    Linux6_2,
    /// Order and destructor are in `struct folio`.
    Linux6_3,
    /// The order is in the second page's flags, and so is PG_hugetlb.
    Linux6_6,
    /// Hugetlb is a page type.
    Linux6_9,
    /// Slab is a page type.
    Linux6_10,
    /// The top byte is the page type.
    Linux6_12,
    /// Memory that is not accepted yet is a page type.
    Linux6_16,
    /// `compound_info` is a mask for the head's address.
    Linux7_1,
}

use Generation::*;

pub(crate) const GENERATIONS: [Generation; 11] = [
    Linux4_19, Linux5_10, Linux6_1, Linux6_2, Linux6_3, Linux6_6, Linux6_9, Linux6_10, Linux6_12, Linux6_16,
    Linux7_1,
];

// Members of struct page, as in every 64-bit kernel since 4.18.
const FLAGS: usize = 0;
const COMPOUND_HEAD: usize = 8;
const MAPPING: usize = 24;
const PRIVATE: usize = 40;
const MAPCOUNT: usize = 48;
const REFCOUNT: usize = 52;
// In the second, before 6.6.
const DTOR: usize = 16;
const ORDER: usize = 17;

const HUGETLB_DTOR: u8 = 2;

impl Generation {
    pub(crate) fn page_bytes(self) -> usize {
        // Any size will do: 80 where LAST_CPUPID does not fit into the flags.
        if self == Linux6_9 { 80 } else { 64 }
    }

    fn lru(self) -> u32 {
        if self >= Linux6_6 { 5 } else { 4 }
    }

    fn private(self) -> u32 {
        if self >= Linux6_6 { 14 } else { 13 }
    }

    fn swapbacked(self) -> u32 {
        if self >= Linux6_6 { 17 } else { 19 }
    }

    fn head_mask(self) -> u64 {
        if self >= Linux6_6 { 1 << 6 } else { 1 << 16 }
    }

    pub(crate) fn hwpoison(self) -> u64 {
        1 << 22
    }

    const SLAB_FLAG: u32 = 9;
    const SWAPCACHE: u32 = 10;
    /// PG_active, of a second page: PG_hugetlb from 6.6 to 6.8.
    const HUGETLB_FLAG: u32 = 8;

    /// `_mapcount` of a page type. As a bit that is not set before 6.12, as the top byte since.
    fn page_type(self, bit: u32, byte: u32) -> u32 {
        if self >= Linux6_12 { byte << 24 } else { !bit }
    }

    fn buddy(self) -> u32 {
        self.page_type(0x80, 0xf0)
    }

    fn offline(self) -> u32 {
        self.page_type(0x100, 0xf1)
    }

    fn hugetlb(self) -> u32 {
        self.page_type(0x800, 0xf4)
    }

    fn slab(self) -> u32 {
        self.page_type(0x1000, 0xf5)
    }

    const UNACCEPTED: u32 = 0xf700_0000;

    pub(crate) fn vmcoreinfo(self) -> String {
        let mut lines = vec![
            format!("SIZE(page)={}", self.page_bytes()),
            format!("OFFSET(page.flags)={FLAGS}"),
            format!("OFFSET(page._refcount)={REFCOUNT}"),
            format!("OFFSET(page.mapping)={MAPPING}"),
            format!("OFFSET(page._mapcount)={MAPCOUNT}"),
            format!("OFFSET(page.private)={PRIVATE}"),
            "LENGTH(zone.free_area)=11".to_owned(),
            format!("NUMBER(PG_lru)={}", self.lru()),
            format!("NUMBER(PG_private)={}", self.private()),
            format!("NUMBER(PG_swapcache)={}", Self::SWAPCACHE),
            format!("NUMBER(PG_swapbacked)={}", self.swapbacked()),
            "NUMBER(PG_hwpoison)=22".to_owned(),
            format!("NUMBER(PG_head_mask)={}", self.head_mask()),
            format!("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)={}", self.buddy().cast_signed()),
            format!("NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)={}", self.offline().cast_signed()),
        ];
        let mut say = |line: String| lines.push(line);
        let head = if self >= Linux7_1 { "compound_info" } else { "compound_head" };
        say(format!("OFFSET(page.{head})={COMPOUND_HEAD}"));
        match self {
            Linux4_19 | Linux5_10 | Linux6_1 | Linux6_2 => {
                say(format!("OFFSET(page.compound_dtor)={DTOR}\nOFFSET(page.compound_order)={ORDER}"));
            }
            Linux6_3 => say(format!(
                "OFFSET(folio._folio_dtor)={}\nOFFSET(folio._folio_order)={}",
                self.page_bytes() + DTOR,
                self.page_bytes() + ORDER
            )),
            _ => {}
        }
        match self {
            Linux4_19 | Linux5_10 | Linux6_1 | Linux6_2 | Linux6_3 => {
                say(format!("NUMBER(HUGETLB_PAGE_DTOR)={HUGETLB_DTOR}"))
            }
            Linux6_6 => say(format!("NUMBER(PG_hugetlb)={}", Self::HUGETLB_FLAG)),
            _ => say(format!("NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)={}", self.hugetlb().cast_signed())),
        }
        if self >= Linux6_10 {
            say(format!("NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)={}", self.slab().cast_signed()));
        } else {
            say(format!("NUMBER(PG_slab)={}", Self::SLAB_FLAG));
        }
        if self >= Linux6_16 {
            say(format!("NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)={}", Self::UNACCEPTED.cast_signed()));
        }
        if self >= Linux5_10 {
            say("NUMBER(SECTION_SIZE_BITS)=27\nNUMBER(MAX_PHYSMEM_BITS)=46".to_owned());
        }
        lines.join("\n") + "\n"
    }

    /// Struct page `index` of the `1 << order` that are used as one.
    pub(crate) fn struct_page(self, what: Use, order: u32, index: u64) -> [u8; 128] {
        let mut page = [0; 128];
        let mut put = |offset: usize, bytes: &[u8]| page[offset..][..bytes.len()].copy_from_slice(bytes);
        let is_block = matches!(what, Use::Free | Use::Unaccepted);
        let mut flags = 0x17_ffff_c000_0000_u64; // node, zone
        let mut mapcount = u32::MAX;
        if order > 0 && !is_block {
            match index {
                0 => flags |= self.head_mask(),
                _ if self == Linux7_1 => put(COMPOUND_HEAD, &(!((64 << order) - 1_u64) | 1).to_le_bytes()),
                _ => put(COMPOUND_HEAD, &0xffff_ea00_0000_0001_u64.to_le_bytes()),
            }
            if index == 1 && self >= Linux6_6 {
                flags |= u64::from(order);
                if what == Use::Hugetlb && self == Linux6_6 {
                    flags |= 1 << Self::HUGETLB_FLAG;
                }
            } else if index == 1 {
                put(ORDER, &[order as u8]);
                put(DTOR, &[if what == Use::Hugetlb { HUGETLB_DTOR } else { 1 }]);
            }
        }
        if index == 0 {
            match what {
                Use::Kernel | Use::Offline | Use::Hugetlb | Use::Free | Use::Unaccepted => {}
                Use::Reserved => flags |= 1 << (self.private() - 1),
                Use::Slab if self >= Linux6_10 => {}
                Use::Slab => flags |= 1 << Self::SLAB_FLAG,
                Use::Cache => flags |= 1 << self.lru(),
                Use::Private => flags |= 1 << self.lru() | 1 << self.private(),
                Use::Swap => flags |= 1 << Self::SWAPCACHE | 1 << self.swapbacked(),
                Use::Anon => flags |= 1 << self.lru() | 1 << self.swapbacked(),
            }
            match what {
                Use::Cache | Use::Private => put(MAPPING, &0xffff_8881_0000_1230_u64.to_le_bytes()),
                Use::Anon => put(MAPPING, &0xffff_8881_0000_4561_u64.to_le_bytes()),
                Use::Slab if self == Linux6_2 => put(MAPPING, &7_u64.to_le_bytes()),
                _ => {}
            }
            mapcount = match what {
                Use::Free => self.buddy(),
                Use::Unaccepted => Self::UNACCEPTED,
                Use::Offline => self.offline(),
                Use::Slab if self >= Linux6_10 => self.slab(),
                Use::Hugetlb if self >= Linux6_9 => self.hugetlb(),
                Use::Anon | Use::Swap => 3,
                _ => u32::MAX,
            };
            if is_block {
                put(PRIVATE, &u64::from(order).to_le_bytes());
            }
        }
        if what == Use::Offline {
            mapcount = self.offline();
        }
        put(FLAGS, &flags.to_le_bytes());
        put(MAPCOUNT, &mapcount.to_le_bytes());
        page
    }
}
