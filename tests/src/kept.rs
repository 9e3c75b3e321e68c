//! Which pages a kdump-compressed file keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use rcapture::dump;
use vmcore::kdump::{DumpHeader, Layout, PAGE_DESCRIPTOR_BYTES, PageDescriptor, SubHeader, bitmap_bit};

/// Page frames, by number.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Frames(pub BTreeSet<u64>);

/// What a kdump-compressed file keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptPages {
    /// Frames that are RAM: the first bitmap.
    pub ram: Frames,
    /// Frames that the dump keeps: the second bitmap.
    pub kept: Frames,
    /// Those of `kept` that are full of zeros and share the bytes of one page in the file, which is how it leaves them out.
    pub zero: Frames,
}

impl Frames {
    /// Those that `other` has not.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<u64> for Frames {
    fn from_iter<I: IntoIterator<Item = u64>>(frames: I) -> Self {
        Self(frames.into_iter().collect())
    }
}

/// A thousand numbers say less than where they begin.
impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        write!(f, "{} frames:", self.count())?;
        for (shown, run) in runs(&self.0).enumerate() {
            if shown == SHOWN {
                return f.write_str(" …");
            }
            write!(f, " {:#x}+{}", run.0, run.1)?;
        }
        Ok(())
    }
}

/// Frames that follow each other: the first, and how many.
fn runs(frames: &BTreeSet<u64>) -> impl Iterator<Item = (u64, u64)> {
    let mut rest = frames.iter().copied().peekable();
    std::iter::from_fn(move || {
        let first = rest.next()?;
        let mut end = first + 1;
        while rest.next_if_eq(&end).is_some() {
            end += 1;
        }
        Some((first, end - first))
    })
}

impl KeptPages {
    /// Reads what `path` keeps.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let file = fs::read(path).unwrap();
        let (abi, header) = DumpHeader::parse(&file).unwrap();
        let block_bytes = usize::try_from(header.block_size).unwrap();
        let sub = SubHeader::parse(abi, header.header_version, &file[block_bytes..]).unwrap();
        let layout = Layout::of(&header, &sub).unwrap();
        let bits = |offset: u64| -> Frames {
            let bitmap = &file[to_usize(offset)..to_usize(offset + layout.bitmap_bytes())];
            (0..layout.max_mapnr()).filter(|&pfn| bitmap_bit(bitmap, pfn)).collect()
        };
        let ram = bits(layout.first_bitmap_offset());
        let kept = bits(layout.second_bitmap_offset());
        let descriptors = &file[to_usize(layout.descriptors_offset())..];
        let descriptors = descriptors.as_chunks::<PAGE_DESCRIPTOR_BYTES>().0;
        assert!(descriptors.len() >= kept.count(), "{}: descriptors are missing", path.display());
        let mut by_offset: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (&pfn, descriptor) in kept.0.iter().zip(descriptors) {
            by_offset.entry(PageDescriptor::parse(descriptor).offset).or_default().push(pfn);
        }
        let dump = dump::open(path).unwrap();
        let mut reader = dump.reader();
        let mut page = vec![0; block_bytes];
        let mut is_zero = |pfn| {
            reader.read(pfn, &mut page).unwrap();
            page.iter().all(|&byte| byte == 0)
        };
        let shared = by_offset.into_values().filter(|pages| pages.len() > 1 && is_zero(pages[0]));
        Self { ram, kept, zero: shared.flatten().collect() }
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap()
}
