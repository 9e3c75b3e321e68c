//! Compression of single pages, as kdump-compressed files have them.

use flate2::{Compress, FlushCompress, Status};
use vmcore::kdump::status;

/// Level 1: pages compress little better at higher ones, and several times slower.
const LEVEL: u32 = 1;

/// How pages are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Every reader has it.
    #[default]
    Zlib,
    /// Faster and smaller; crash 8 and libkdumpfile 0.5 have it.
    Zstd,
    /// Pages as they are.
    None,
}

impl Compression {
    /// The flag of compressed pages, and of the file.
    pub(super) fn flag(self) -> u32 {
        match self {
            Self::Zlib => status::ZLIB,
            Self::Zstd => status::ZSTD,
            Self::None => 0,
        }
    }
}

/// Compresses pages, one at a time.
pub(super) enum Compressor {
    Zlib(Compress),
    Zstd(zstd::bulk::Compressor<'static>),
    None,
}

impl Compressor {
    pub(super) fn new(compression: Compression) -> Self {
        match compression {
            Compression::Zlib => Self::Zlib(Compress::new(flate2::Compression::new(LEVEL), true)),
            // Only a level outside zstd's range fails; then pages stay as they are.
            Compression::Zstd => zstd::bulk::Compressor::new(1).map_or(Self::None, Self::Zstd),
            Compression::None => Self::None,
        }
    }

    /// Compresses `page` into the start of `out`, and tells how many bytes those are; `None` if that makes it no
    /// smaller.
    pub(super) fn compress(&mut self, page: &[u8], out: &mut [u8]) -> Option<usize> {
        // What does not fit here is no smaller than the page.
        let out = out.get_mut(..page.len().saturating_sub(1))?;
        match self {
            Self::Zlib(zlib) => {
                zlib.reset();
                let status = zlib.compress(page, out, FlushCompress::Finish).ok()?;
                (status == Status::StreamEnd).then(|| usize::try_from(zlib.total_out()).ok()).flatten()
            }
            Self::Zstd(zstd) => zstd.compress_to_buffer(page, out).ok(),
            Self::None => None,
        }
    }
}
