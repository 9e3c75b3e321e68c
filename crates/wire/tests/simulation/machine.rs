//! A machine whose memory never keeps still, and blocks of it.

use codec::{CodecId, Filter};
use wire::{Block, BlockHeader, Cursor, HEADER_BYTES, MAX_RAW_BYTES, Record, Records};

use super::line::Random;

const PAGE_BYTES: usize = 4096;
/// Blocks of the most bytes have so many page frames.
const PAGES_PER_BLOCK: u64 = 16;
/// Fewer would not say when a block was made.
const MIN_BLOCK_BYTES: u64 = 30;
/// Tag, address, length.
const BYTES_RECORD_HEAD: usize = 11;
/// Tag and page frame number.
const PAGE_RECORD_HEAD: usize = 8;

/// Memory is other bytes each time a block is made of it: only who made a block knows which.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub blocks: u32,
    /// The most bytes of records in a block; each has its own number of them.
    pub max_block_bytes: u64,
    pub seed: u64,
}

impl Machine {
    /// The block as it is made of memory at this time. Its pages are the same at all times, its length almost.
    pub fn block(&self, number: u32, time: u32) -> Vec<u8> {
        let range = self.max_block_bytes - MIN_BLOCK_BYTES;
        let length = MIN_BLOCK_BYTES + Random(self.seed ^ u64::from(number) << 8).below(range);
        let length = (length as usize + time as usize % 3).min(MAX_RAW_BYTES);
        let mut block = vec![0; HEADER_BYTES];
        for pfn in u64::from(number) * PAGES_PER_BLOCK..u64::from(number + 1) * PAGES_PER_BLOCK {
            let room = length.saturating_sub(block.len() - HEADER_BYTES);
            if room >= PAGE_RECORD_HEAD + PAGE_BYTES {
                let bytes = &self.memory(pfn, time, PAGE_BYTES);
                Record::Page { pfn, bytes }.encode(&mut block);
            } else if room > BYTES_RECORD_HEAD {
                let bytes = &self.memory(pfn, time, (room - BYTES_RECORD_HEAD).min(PAGE_BYTES - 1));
                Record::Bytes { pa: pfn << 12, bytes }.encode(&mut block);
            }
        }
        let raw_bytes = (block.len() - HEADER_BYTES) as u32;
        let [start, end] = [cursor(number), cursor(number + 1)];
        let header =
            BlockHeader { start, end, codec: CodecId::None, filter: Filter::None, raw_bytes }.encode();
        block[..HEADER_BYTES].copy_from_slice(&header);
        block
    }

    /// What a page begins with at this time.
    fn memory(&self, pfn: u64, time: u32, length: usize) -> Vec<u8> {
        let mut random = Random(self.seed ^ pfn << 32 ^ u64::from(time));
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }

    /// Whether all that a block says was so at this time, page by page.
    pub fn was(&self, block: &Block, time: u32) -> bool {
        Records::new(&block.raw, 12).all(|record| match record.unwrap().record {
            Record::Page { pfn, bytes } => self.memory(pfn, time, bytes.len()) == bytes,
            Record::Bytes { pa, bytes } => self.memory(pa >> 12, time, bytes.len()) == bytes,
            record => panic!("{record:?} was never sent"),
        })
    }

    /// Bytes of all blocks.
    pub fn bytes(&self) -> u64 {
        (0..self.blocks).map(|number| self.block(number, 0).len() as u64).sum()
    }
}

/// Where a block begins.
pub fn cursor(block: u32) -> Cursor {
    if block == 0 { Cursor::START } else { Cursor { pass: 2, position: u64::from(block) } }
}
