//! Which slab cache a slab page is of, as far as its name tells.
//!
//! VMCOREINFO does not describe `struct slab` nor `struct kmem_cache`. But the head of a slab has a pointer to its cache,
//! at one of two places, and the cache one to its name somewhere among its first words. A few well-known names are enough
//! to find the tasks of a machine; where this finds none, slab pages are sent in the order of memory.

use vmcore::le;

use crate::{KernelSpace, PhysMemory, VirtAddr, VirtMemory};

/// Where `slab_cache` is in `struct slab` (Linux mm/slab.h), in longs: since 6.2, and before.
const SLAB_CACHE_LONGS: [usize; 2] = [1, 3];
/// Bytes of `struct kmem_cache` in which `name` is looked for: it is at 96 or 104 on 64 bits, before that on 32
/// (include/linux/slub_def.h).
const CACHE_BYTES: usize = 160;
/// Bytes of a name that are compared, its NUL included.
const MAX_NAME_BYTES: usize = 24;
/// Caches whose answer is remembered: a machine has some 200.
const REMEMBERED: usize = 256;

/// Looks for the pages of some slab caches, known by their names.
#[derive(Clone, Debug)]
pub struct SlabCaches {
    names: &'static [&'static [u8]],
    /// The one of [`SLAB_CACHE_LONGS`] at which a wanted cache was found first.
    offset: Option<usize>,
    /// Addresses of caches, each at a place that its address tells, and whether it is wanted.
    known: [(u64, bool); REMEMBERED],
    last_is_wanted: bool,
}

impl SlabCaches {
    /// Looks for caches with these names.
    #[must_use]
    pub const fn new(names: &'static [&'static [u8]]) -> Self {
        Self { names, offset: None, known: [(0, false); REMEMBERED], last_is_wanted: false }
    }

    /// What [`Self::is_wanted`] said last: that of a head counts for its tails.
    #[must_use]
    pub const fn last_is_wanted(&self) -> bool {
        self.last_is_wanted
    }

    /// Whether the slab whose head has this struct page is of a wanted cache.
    pub fn is_wanted<M: PhysMemory>(&mut self, kernel: &KernelSpace<M>, page: &[u8]) -> bool {
        self.last_is_wanted = match self.offset {
            Some(offset) => self.cache_is_wanted(kernel, page, offset),
            None => SLAB_CACHE_LONGS.into_iter().map(|longs| longs * kernel.long_bytes()).any(|offset| {
                let is_wanted = self.cache_is_wanted(kernel, page, offset);
                if is_wanted {
                    self.offset = Some(offset);
                }
                is_wanted
            }),
        };
        self.last_is_wanted
    }

    fn cache_is_wanted<M: PhysMemory>(
        &mut self,
        kernel: &KernelSpace<M>,
        page: &[u8],
        offset: usize,
    ) -> bool {
        let Some(cache) = pointer_at(kernel, page, offset) else { return false };
        // Caches are objects of a slab themselves: what differs in their addresses is above the low bits.
        let place = usize::try_from(cache >> 6).unwrap_or(0) % REMEMBERED;
        if let Some(&(known, is_wanted)) = self.known.get(place)
            && known == cache
        {
            return is_wanted;
        }
        let is_wanted = self.has_wanted_name(kernel, VirtAddr(cache));
        if let Some(place) = self.known.get_mut(place) {
            *place = (cache, is_wanted);
        }
        is_wanted
    }

    fn has_wanted_name<M: PhysMemory>(&self, kernel: &KernelSpace<M>, cache: VirtAddr) -> bool {
        let mut bytes = [0; CACHE_BYTES];
        if kernel.read(cache, &mut bytes).is_err() {
            return false;
        }
        let words = (0..CACHE_BYTES).step_by(kernel.long_bytes());
        words.filter_map(|at| pointer_at(kernel, &bytes, at)).any(|name| {
            let mut text = [0; MAX_NAME_BYTES];
            kernel.read(VirtAddr(name), &mut text).is_ok()
                && self
                    .names
                    .iter()
                    .any(|wanted| text.strip_prefix(*wanted).is_some_and(|rest| rest.first() == Some(&0)))
        })
    }
}

/// A pointer into the kernel's own addresses.
fn pointer_at<M: PhysMemory>(kernel: &KernelSpace<M>, bytes: &[u8], offset: usize) -> Option<u64> {
    let pointer = le::long_at(bytes, offset, kernel.long_bytes())?;
    (VirtAddr(pointer) >= kernel.tables().kernel_half()).then_some(pointer)
}
