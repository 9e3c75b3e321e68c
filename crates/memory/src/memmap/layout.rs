//! What is in a struct page, by the kernel's own account of its layout.
//!
//! The tests and their order are makedumpfile's; `docs/dump-levels.md` has the table of kernels. A fact that VMCOREINFO
//! does not tell makes its test fail, and so pages kept.

use vmcore::le;
use vmcore::vmcoreinfo::VmcoreInfo;

use super::{MemMapError, PageClass, required};
use crate::Pfn;

/// Bytes believed of a struct page: 32 to 96 so far.
pub(super) const MAX_PAGE_BYTES: usize = 256;
const MIN_PAGE_BYTES: usize = 16;

/// Compound pages of a higher order are not believed: the largest hugetlb pages (16 GiB of 64 KiB) have 18.
pub(super) const MAX_COMPOUND_ORDER: u32 = 20;
/// Nor free blocks: the buddy allocator's largest have 13 (arm64 with 64 KiB pages).
const MAX_FREE_ORDER: u64 = 16;

/// In `page.mapping`: memory of a process (`PAGE_MAPPING_ANON`, include/linux/page-flags.h).
const PAGE_MAPPING_ANON: u64 = 1;
/// In `page.compound_head`: this is a tail.
const TAIL: u64 = 1;

/// Offsets of members, in bytes, and the numbers that are found there.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageLayout {
    /// Bytes of a struct page.
    pub(super) page_bytes: usize,
    /// A frame has `1 << page_shift` bytes.
    pub(super) page_shift: u32,
    long_bytes: usize,
    flags: usize,
    mapcount: usize,
    mapping: usize,
    private: usize,
    /// `compound_head`, or `compound_info` since Linux 7.1.
    compound_head: usize,
    pg_lru: Flag,
    pg_private: Flag,
    pg_swapcache: Flag,
    pg_swapbacked: Flag,
    pg_hwpoison: Flag,
    pg_head: Flag,
    pg_reserved: Flag,
    /// Of a slab page, before Linux 6.10.
    slab_flag: Flag,
    /// And since.
    slab: PageType,
    hugetlb: Hugetlb,
    /// Where, in the second struct page of a compound page, a byte says its order.
    compound_order: usize,
    buddy: PageType,
    offline: PageType,
    unaccepted: PageType,
    /// Orders of the buddy allocator: its largest blocks have `1 << (free_orders - 1)` pages.
    free_orders: u64,
}

/// A bit of `page.flags`; 0 if the kernel has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flag(u64);

/// A value of `page._mapcount` (`page_type`) that says what the page is; none does if the mask is 0.
#[derive(Clone, Copy, Debug)]
struct PageType {
    value: u32,
    mask: u32,
}

/// How the head of a hugetlb page is told.
#[derive(Clone, Copy, Debug)]
enum Hugetlb {
    Unknown,
    /// By a byte of the second struct page.
    Destructor {
        offset: usize,
        value: u8,
    },
    /// By a flag of the second struct page.
    SecondFlag(Flag),
    Type(PageType),
}

/// What one struct page says, of one frame or of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) class: PageClass,
    /// Frames from this one on.
    pub(super) pages: u64,
}

impl PageLayout {
    pub(super) fn new(info: &VmcoreInfo<'_>, long_bytes: usize) -> Result<Self, MemMapError> {
        let size = required("SIZE(page)", info.size("page"))?;
        let page_bytes = usize::try_from(size).ok();
        let page_bytes = page_bytes.filter(|bytes| (MIN_PAGE_BYTES..=MAX_PAGE_BYTES).contains(bytes));
        let page_bytes = page_bytes.ok_or(MemMapError::Absurd { what: "SIZE(page)", value: size })?;
        let offset = |what, value: Option<u64>| {
            let value = required(what, value)?;
            let offset = usize::try_from(value).ok().filter(|offset| *offset < page_bytes);
            offset.ok_or(MemMapError::Absurd { what, value })
        };
        let flag = |name| Flag::numbered(info.number(name));
        let page_type = |name| PageType::of(info.number(name));
        let pg_private = flag("PG_private");
        let compound_head = info.offset("page.compound_head").or_else(|| info.offset("page.compound_info"));
        let flags = offset("OFFSET(page.flags)", info.offset("page.flags"))?;
        let free_orders = info.length("zone.free_area").filter(|orders| *orders <= MAX_FREE_ORDER + 1);
        Ok(Self {
            page_bytes,
            page_shift: info.page_shift().ok_or(MemMapError::MissingFact("PAGESIZE"))?,
            long_bytes,
            flags,
            mapcount: offset("OFFSET(page._mapcount)", info.offset("page._mapcount"))?,
            mapping: offset("OFFSET(page.mapping)", info.offset("page.mapping"))?,
            private: offset("OFFSET(page.private)", info.offset("page.private"))?,
            compound_head: offset("OFFSET(page.compound_head)", compound_head)?,
            pg_lru: flag("PG_lru"),
            pg_private,
            pg_swapcache: flag("PG_swapcache"),
            pg_swapbacked: flag("PG_swapbacked"),
            pg_hwpoison: flag("PG_hwpoison"),
            pg_head: Flag(info.number_u64("PG_head_mask").unwrap_or(0)),
            // The flag before PG_private in every kernel; VMCOREINFO has no number for it.
            pg_reserved: Flag(pg_private.0 >> 1),
            slab_flag: flag("PG_slab"),
            slab: page_type("PAGE_SLAB_MAPCOUNT_VALUE"),
            hugetlb: Hugetlb::new(info, page_bytes),
            // Since Linux 6.6 it is the low byte of `flags`.
            compound_order: second_page_offset(
                info.offset("page.compound_order"),
                info.offset("folio._folio_order"),
                page_bytes,
            )
            .unwrap_or(flags),
            buddy: page_type("PAGE_BUDDY_MAPCOUNT_VALUE"),
            offline: page_type("PAGE_OFFLINE_MAPCOUNT_VALUE"),
            unaccepted: page_type("PAGE_UNACCEPTED_MAPCOUNT_VALUE"),
            free_orders: free_orders.unwrap_or(0),
        })
    }

    /// The order of the largest free blocks.
    pub(super) fn max_free_order(&self) -> u32 {
        u32::try_from(self.free_orders.saturating_sub(1)).unwrap_or(0)
    }

    /// What the first of `pages`, the struct page of `pfn`, says. `None` if it says nothing, or nothing that makes sense.
    /// A tail says nothing: what it is, its head says.
    pub(super) fn block(&self, pfn: Pfn, pages: &[u8]) -> Option<Block> {
        let flags = self.flags(pages)?;
        let block = self.block_of(pfn, flags, pages);
        match block {
            Some(Block { pages: 2.., .. }) => block,
            // Of larger blocks any page may be damaged.
            _ if self.pg_hwpoison.is_set(flags) => Some(Block { class: PageClass::HwPoison, pages: 1 }),
            _ => block,
        }
    }

    fn block_of(&self, pfn: Pfn, flags: u64, pages: &[u8]) -> Option<Block> {
        if self.is_tail(pages) {
            return None;
        }
        let mapcount = le::u32_at(pages, self.mapcount)?;
        if self.buddy.is(mapcount) {
            return self.free_block(pfn, self.long(pages, self.private)?);
        }
        if self.offline.is(mapcount) {
            return Some(Block { class: PageClass::Offline, pages: 1 });
        }
        if self.unaccepted.is(mapcount) {
            return self.free_block(pfn, self.free_orders.checked_sub(1)?);
        }
        let (count, is_hugetlb) = match pages.get(self.page_bytes..) {
            Some(second) if self.pg_head.is_set(flags) => {
                (self.compound_pages(pfn, second), self.is_hugetlb(mapcount, second))
            }
            _ => (1, false),
        };
        if is_hugetlb && self.pg_hwpoison.is_set(flags) {
            // Which of its pages are damaged is not said here.
            return Some(Block { class: PageClass::HwPoison, pages: count });
        }
        let is_slab = self.slab_flag.is_set(flags) | self.slab.is(mapcount);
        let is_swapcache = self.pg_swapcache.is_set(flags) & self.pg_swapbacked.is_set(flags);
        let is_cache = self.pg_lru.is_set(flags) | is_swapcache;
        let is_anon = self.long(pages, self.mapping)? & PAGE_MAPPING_ANON != 0;
        // Slab keeps data of its own in `mapping`: who cannot tell a slab page cannot tell an anonymous one.
        let is_user = is_hugetlb | (is_anon & (is_cache | self.knows_slab()));
        let class = class_of_used(is_slab, is_user, is_cache, self.pg_private.may_be_set(flags));
        Some(Block { class, pages: count })
    }

    /// Whether the first of `pages` belongs to a compound page whose head is before it, or looks like that: of a large
    /// hugetlb page the kernel lets many struct pages share a frame, and then copies of its head appear among its tails.
    pub(super) fn may_have_head_before(&self, pfn: Pfn, pages: &[u8]) -> bool {
        let Some(flags) = self.flags(pages) else { return false };
        let second = pages.get(self.page_bytes..).unwrap_or_default();
        self.is_tail(pages) || (self.pg_head.is_set(flags) && self.compound_pages(pfn, second) == 1)
    }

    /// Whether the page is damaged.
    pub(super) fn is_poisoned(&self, page: &[u8]) -> bool {
        self.flags(page).is_some_and(|flags| self.pg_hwpoison.is_set(flags))
    }

    /// Whether the page was never given to the page allocator.
    pub(super) fn is_reserved(&self, page: &[u8]) -> bool {
        self.flags(page).is_some_and(|flags| self.pg_reserved.is_set(flags))
    }

    /// The flags; `None` of a struct page that was never set up, which debugging kernels fill with ones
    /// (`PAGE_POISON_PATTERN`).
    #[inline]
    fn flags(&self, page: &[u8]) -> Option<u64> {
        let unused = u64::MAX >> (64 - 8 * self.long_bytes);
        self.long(page, self.flags).filter(|flags| *flags != unused)
    }

    pub(super) fn is_tail(&self, page: &[u8]) -> bool {
        self.long(page, self.compound_head).is_some_and(|head| head & TAIL != 0)
    }

    fn knows_slab(&self) -> bool {
        self.slab_flag != Flag::NONE || self.slab.mask != 0
    }

    fn is_hugetlb(&self, mapcount: u32, second: &[u8]) -> bool {
        match self.hugetlb {
            Hugetlb::Unknown => false,
            Hugetlb::Destructor { offset, value } => second.get(offset) == Some(&value),
            Hugetlb::SecondFlag(flag) => self.flags(second).is_some_and(|flags| flag.is_set(flags)),
            Hugetlb::Type(page_type) => page_type.is(mapcount),
        }
    }

    /// A free block of an order; kept if it makes no sense.
    fn free_block(&self, pfn: Pfn, order: u64) -> Option<Block> {
        let order = u32::try_from(order).ok().filter(|_| order < self.free_orders)?;
        is_aligned(pfn, order).then_some(Block { class: PageClass::Free, pages: 1 << order })
    }

    /// Pages of the compound page whose head `pfn` is; 1 if its second struct page makes no sense.
    fn compound_pages(&self, pfn: Pfn, second: &[u8]) -> u64 {
        let order = second.get(self.compound_order).copied().filter(|_| self.is_tail(second));
        match order.map(u32::from) {
            Some(order) if order <= MAX_COMPOUND_ORDER && is_aligned(pfn, order) => 1 << order,
            _ => 1,
        }
    }

    #[inline]
    fn long(&self, page: &[u8], offset: usize) -> Option<u64> {
        le::long_at(page, offset, self.long_bytes)
    }
}

/// The class of a frame, or of several, that somebody uses. A table, because there is no telling which of them comes next.
fn class_of_used(is_slab: bool, is_user: bool, is_cache: bool, is_private: bool) -> PageClass {
    use PageClass::{Cache, CachePrivate, Kernel, Slab, User};
    const CLASSES: [PageClass; 16] = [
        Kernel,
        Kernel,
        Cache,
        CachePrivate,
        User,
        User,
        User,
        User,
        Slab,
        Slab,
        Slab,
        Slab,
        Slab,
        Slab,
        Slab,
        Slab,
    ];
    let index = [is_slab, is_user, is_cache, is_private]
        .into_iter()
        .fold(0, |index, bit| index << 1 | usize::from(bit));
    CLASSES.get(index).copied().unwrap_or(Kernel)
}

impl Flag {
    const NONE: Self = Self(0);

    fn numbered(number: Option<i64>) -> Self {
        let bit = number.and_then(|number| u32::try_from(number).ok());
        Self(bit.and_then(|bit| 1_u64.checked_shl(bit)).unwrap_or(0))
    }

    const fn is_set(self, flags: u64) -> bool {
        flags & self.0 != 0
    }

    /// Whether it is set, or not known.
    const fn may_be_set(self, flags: u64) -> bool {
        self.0 == 0 || self.is_set(flags)
    }
}

impl PageType {
    fn of(value: Option<i64>) -> Self {
        // The kernel writes it as an int, which its `%ld` shows negative.
        let value = value.map_or(0, |value| value & i64::from(u32::MAX));
        match u32::try_from(value).unwrap_or(0) {
            0 => Self { value: 1, mask: 0 },
            // Since Linux 6.12 the top byte is the type, and the others may be used for something else.
            value if value & 0x00ff_ffff == 0 => Self { value, mask: 0xff00_0000 },
            value => Self { value, mask: u32::MAX },
        }
    }

    const fn is(self, mapcount: u32) -> bool {
        mapcount & self.mask == self.value
    }
}

impl Hugetlb {
    fn new(info: &VmcoreInfo<'_>, page_bytes: usize) -> Self {
        if let value @ Some(_) = info.number("PAGE_HUGETLB_MAPCOUNT_VALUE") {
            return Self::Type(PageType::of(value));
        }
        if let number @ Some(_) = info.number("PG_hugetlb") {
            return Self::SecondFlag(Flag::numbered(number));
        }
        let value = info.number("HUGETLB_PAGE_DTOR").and_then(|value| u8::try_from(value).ok());
        let offset = second_page_offset(
            info.offset("page.compound_dtor"),
            info.offset("folio._folio_dtor"),
            page_bytes,
        );
        match (offset, value) {
            (Some(offset), Some(value)) => Self::Destructor { offset, value },
            _ => Self::Unknown,
        }
    }
}

/// The offset, in the second struct page, of a member that was in `struct page` before Linux 6.3, and then in
/// `struct folio`, which lies over the first pages of a compound page.
fn second_page_offset(in_page: Option<u64>, in_folio: Option<u64>, page_bytes: usize) -> Option<usize> {
    let offset = in_page.or_else(|| in_folio?.checked_sub(page_bytes as u64))?;
    usize::try_from(offset).ok().filter(|offset| *offset < page_bytes)
}

const fn is_aligned(pfn: Pfn, order: u32) -> bool {
    pfn.0 & ((1 << order) - 1) == 0
}
