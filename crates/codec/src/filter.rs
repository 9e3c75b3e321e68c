//! Filters: what is done to bytes before they are compressed, so that they compress better.

/// What was done to a block's bytes before they were compressed. It keeps their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Filter {
    /// Nothing.
    #[default]
    None,
    /// Targets of x86 calls and jumps became absolute: calls of one function are then the same bytes wherever they are.
    X86,
    /// So did those of arm64, and the pages whose addresses are computed.
    Arm64,
    /// So did those of arm.
    Arm,
    /// Each byte became its difference to the one so many bytes before it: for arrays of structures of that size.
    Delta(u8),
}

/// The smallest distance of a delta: smaller numbers on the wire are other filters.
const MIN_DELTA: u8 = 8;

impl Filter {
    /// The filter with this number on the wire, if there is one.
    #[must_use]
    pub fn from_wire(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::X86),
            2 => Some(Self::Arm64),
            3 => Some(Self::Arm),
            MIN_DELTA.. => Some(Self::Delta(number)),
            _ => None,
        }
    }

    /// Its number on the wire. A distance that has none is no filter: [`Filter::usable`].
    #[must_use]
    pub fn to_wire(self) -> u8 {
        match self.usable() {
            Self::None => 0,
            Self::X86 => 1,
            Self::Arm64 => 2,
            Self::Arm => 3,
            Self::Delta(distance) => distance,
        }
    }

    /// This filter, or none if the wire has no number for it.
    #[must_use]
    pub fn usable(self) -> Self {
        match self {
            Self::Delta(..MIN_DELTA) => Self::None,
            usable => usable,
        }
    }

    /// Undoes the filter on a whole block.
    pub fn undo(self, block: &mut [u8]) {
        match self.usable() {
            Self::None => {}
            Self::X86 | Self::Arm64 | Self::Arm => {
                self.change_targets(block, 0, Targets::Relative);
            }
            Self::Delta(distance) => {
                let mut history = History::default();
                for byte in block {
                    let before = history.at(distance);
                    *byte = byte.wrapping_add(before);
                    history.push(*byte);
                }
            }
        }
    }
}

impl Filter {
    /// Changes the targets in a block's bytes from `offset` on. Says how many bytes are done with: an instruction may begin
    /// in those behind them.
    fn change_targets(self, bytes: &mut [u8], offset: usize, targets: Targets) -> usize {
        match self {
            Self::X86 => filter_x86(bytes, offset, targets),
            Self::Arm64 => filter_words(bytes, offset, |word, place| arm64(word, place, targets)),
            Self::Arm => filter_words(bytes, offset, |word, place| arm(word, place, targets)),
            Self::None | Self::Delta(_) => bytes.len(),
        }
    }
}

/// The most bytes that a sender compresses at a time; it looks after its line in between. A codec as slow as LZMA (20 ms for
/// 64 KiB, 100 on a slow CPU) is then busy for 0.15 ms, in which 14 bytes come at 921600: a FIFO of 16 has room for them.
pub const PIECE_BYTES: usize = 96;

/// An opcode and its 32-bit operand.
const CALL_BYTES: usize = 5;

/// Filters a block that comes in pieces.
#[derive(Clone, Debug)]
pub struct Filtering {
    filter: Filter,
    /// For deltas.
    history: History,
    /// For calls: the last piece, and before it what was left of the one before.
    buffer: [u8; PIECE_BYTES + CALL_BYTES - 1],
    /// What of `buffer` is in use, and how much of that is filtered.
    filled: usize,
    done: usize,
    /// Where `buffer` begins in the block.
    offset: usize,
}

impl Default for Filtering {
    fn default() -> Self {
        Self::new(Filter::None)
    }
}

impl Filtering {
    /// Begins a block.
    #[must_use]
    pub fn new(filter: Filter) -> Self {
        Self {
            filter: filter.usable(),
            history: History::default(),
            buffer: [0; PIECE_BYTES + CALL_BYTES - 1],
            filled: 0,
            done: 0,
            offset: 0,
        }
    }

    /// The filter, as the block's header has to name it.
    #[must_use]
    pub fn filter(&self) -> Filter {
        self.filter
    }

    /// Bytes that were pushed and did not come out yet.
    #[must_use]
    pub fn held_back_bytes(&self) -> usize {
        self.filled - self.done
    }

    /// Takes the block's next bytes, at most [`PIECE_BYTES`]. Gives those that are ready, which may be some less or more.
    pub fn push<'a>(&'a mut self, piece: &'a mut [u8]) -> &'a [u8] {
        match self.filter {
            Filter::None => piece,
            Filter::Delta(distance) => {
                for byte in &mut *piece {
                    let original = *byte;
                    *byte = original.wrapping_sub(self.history.at(distance));
                    self.history.push(original);
                }
                piece
            }
            code => {
                self.buffer.copy_within(self.done..self.filled, 0);
                self.offset += self.done;
                self.filled -= self.done;
                for (to, from) in self.buffer.iter_mut().skip(self.filled).zip(&*piece) {
                    *to = *from;
                }
                self.filled = (self.filled + piece.len()).min(self.buffer.len());
                let bytes = self.buffer.get_mut(..self.filled).unwrap_or_default();
                self.done = code.change_targets(bytes, self.offset, Targets::Absolute);
                self.buffer.get(..self.done).unwrap_or_default()
            }
        }
    }

    /// Gives the block's last bytes.
    pub fn finish(&mut self) -> &[u8] {
        let rest = self.done..self.filled;
        self.done = self.filled;
        self.buffer.get(rest).unwrap_or_default()
    }
}

/// What the operands of calls are to become.
#[derive(Clone, Copy)]
enum Targets {
    Absolute,
    Relative,
}

impl Targets {
    /// An operand of an instruction at `place`, both in the instruction's own unit. Its upper bits may be others'.
    const fn change(self, operand: u32, place: u32) -> u32 {
        match self {
            Self::Absolute => operand.wrapping_add(place),
            Self::Relative => operand.wrapping_sub(place),
        }
    }
}

/// Changes the operands of calls and jumps in a block's bytes from `offset` on. Says how many bytes are done with: a call
/// may begin in those behind them.
fn filter_x86(bytes: &mut [u8], offset: usize, targets: Targets) -> usize {
    let mut at = 0;
    while let Some(call) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<CALL_BYTES>) {
        // call and jmp with a 32-bit operand (Intel SDM, volume 2).
        let [0xe8 | 0xe9, a, b, c, high] = call else {
            at += 1;
            continue;
        };
        // One that goes further than 16 MiB is rather data: a kernel's text is not larger.
        if let 0 | 0xff = *high {
            let operand = u32::from_le_bytes([*a, *b, *c, *high]);
            #[expect(clippy::cast_possible_truncation, reason = "inside a block")]
            let place = (offset + at) as u32;
            // 25 bits with their sign: what was 0 or ff at the top is so again.
            let changed = targets.change(operand, place).cast_signed() << 7 >> 7;
            [*a, *b, *c, *high] = changed.to_le_bytes();
        }
        // Changed or not: nothing may change a byte that was looked at here, or this could not be undone.
        at += CALL_BYTES;
    }
    at
}

/// Changes each instruction of 32 bits, by itself and its place in the block. Pages lie there at multiples of 8 bytes.
fn filter_words(bytes: &mut [u8], offset: usize, change: impl Fn(u32, u32) -> u32) -> usize {
    let (words, _) = bytes.as_chunks_mut();
    let whole = size_of_val(words);
    for (place, word) in (offset..).step_by(size_of::<u32>()).zip(words) {
        #[expect(clippy::cast_possible_truncation, reason = "inside a block")]
        let changed = change(u32::from_le_bytes(*word), place as u32);
        *word = changed.to_le_bytes();
    }
    whole
}

/// bl, and adrp (Arm ARM for A-profile, C6.2). What they are told by stays as it is.
fn arm64(word: u32, place: u32, targets: Targets) -> u32 {
    /// Of bl, in words.
    const OFFSET: u32 = 0x03ff_ffff;
    /// Of adrp, in pages of 4 KiB: immhi without its place, and immlo, which are the two lowest bits.
    const IMMHI: u32 = 0x001f_fffc;
    const IMMLO: u32 = 3;
    if word & !OFFSET == 0x9400_0000 {
        word & !OFFSET | targets.change(word, place / 4) & OFFSET
    } else if word & 0x9f00_0000 == 0x9000_0000 {
        let pages = targets.change(word >> 3 & IMMHI | word >> 29 & IMMLO, place >> 12);
        word & !(IMMHI << 3 | IMMLO << 29) | (pages & IMMHI) << 3 | (pages & IMMLO) << 29
    } else {
        word
    }
}

/// bl that is always taken (Arm ARM for A-profile, F5.1).
fn arm(word: u32, place: u32, targets: Targets) -> u32 {
    /// In words.
    const OFFSET: u32 = 0x00ff_ffff;
    if word & !OFFSET == 0xeb00_0000 {
        word & !OFFSET | targets.change(word, place / 4) & OFFSET
    } else {
        word
    }
}

/// The last 256 bytes; zeros before the first.
#[derive(Clone, Debug)]
struct History {
    bytes: [u8; 256],
    /// Where the next byte goes.
    next: u8,
}

impl Default for History {
    fn default() -> Self {
        Self { bytes: [0; 256], next: 0 }
    }
}

impl History {
    fn at(&self, distance: u8) -> u8 {
        // There is one for each value of a byte.
        self.bytes.get(usize::from(self.next.wrapping_sub(distance))).copied().unwrap_or(0)
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.next)) {
            *place = byte;
        }
        self.next = self.next.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn filtered(filter: Filter, raw: &[u8], piece: usize) -> Vec<u8> {
        let mut filtering = Filtering::new(filter);
        let mut block = Vec::new();
        for piece in raw.to_vec().chunks_mut(piece) {
            block.extend_from_slice(filtering.push(piece));
        }
        assert_eq!(block.len() + filtering.held_back_bytes(), raw.len());
        block.extend_from_slice(filtering.finish());
        block
    }

    #[test]
    fn rows_of_a_structure_become_what_changes_from_one_to_the_next() {
        let rows: Vec<u8> = (0..10).flat_map(|row| [7, row, 0, 0, 0, 0, 0, 9]).collect();
        let rows = filtered(Filter::Delta(8), &rows, 5);
        assert_eq!(rows[8..16], [0, 1, 0, 0, 0, 0, 0, 0]);
        assert!(rows.chunks(8).skip(2).all(|row| row == &rows[8..16]));
    }

    #[test]
    fn calls_of_one_function_become_the_same_bytes() {
        // A call of offset 0x20 at 3, one at 0x10b, and a jump to 0x20 at 0x200: all relative to their end.
        let mut code = [0x90_u8; 0x300];
        for (at, opcode) in [(3_i32, 0xe8), (0x10b, 0xe8), (0x200, 0xe9)] {
            let place = usize::try_from(at).unwrap();
            code[place] = opcode;
            code[place + 1..place + 5].copy_from_slice(&(0x20 - at - 5).to_le_bytes());
        }
        let block = filtered(Filter::X86, &code, PIECE_BYTES);
        for place in [3, 0x10b, 0x200] {
            assert_eq!(block[place + 1..place + 5], (0x20_i32 - 5).to_le_bytes(), "{place:#x}");
        }
    }

    #[test]
    fn calls_of_one_function_become_the_same_words() {
        for (filter, opcode, bits) in [(Filter::Arm64, 0x9400_0000, 26), (Filter::Arm, 0xeb00_0000, 24)] {
            // Of what lies 0x40 bytes from the block's begin, from before it and from behind.
            let places = [0_i32, 0x60, 0x2000];
            let bl = |words: i32| (opcode | words.cast_unsigned() & ((1 << bits) - 1)).to_le_bytes();
            let mut code = [0_u8; 0x2004];
            for place in places {
                code[place as usize..][..4].copy_from_slice(&bl((0x40 - place) / 4));
            }
            let block = filtered(filter, &code, PIECE_BYTES);
            for place in places {
                assert_eq!(block[place as usize..][..4], bl(0x40 / 4), "{filter:?} {place:#x}");
            }
        }
    }

    #[test]
    fn pages_whose_address_is_computed_become_the_same_words() {
        // adrp x3, of the page 5 pages behind the block's first: from pages 0, 3 and 6.
        let adrp = |pages: i32| {
            0x9000_0003 | (pages.cast_unsigned() & 3) << 29 | (pages.cast_unsigned() >> 2 & 0x7_ffff) << 5
        };
        let mut code = [0_u8; 0x6010];
        for (place, pages) in [(0x4, 5), (0x3ffc, 2), (0x600c, -1)] {
            code[place..place + 4].copy_from_slice(&adrp(pages).to_le_bytes());
        }
        let block = filtered(Filter::Arm64, &code, PIECE_BYTES);
        for place in [0x4, 0x3ffc, 0x600c] {
            assert_eq!(block[place..place + 4], adrp(5).to_le_bytes(), "{place:#x}");
        }
    }

    /// The worked examples of docs/wire-format.md.
    #[test]
    fn filtered_blocks_have_these_bytes() {
        let code = [0x90, 0x90, 0xe8, 0xfe, 0xff, 0xff, 0xff, 0xe9, 0, 0, 0, 1];
        assert_eq!(
            filtered(Filter::X86, &code, 7),
            [0x90, 0x90, 0xe8, 0, 0, 0, 0, 0xe9, 0, 0, 0, 1],
            "-2 from offset 2; and an operand too large to be one"
        );
        assert_eq!(
            filtered(Filter::Arm64, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0x97, 1, 0, 0, 0x14, 0x94], 5),
            [0, 0, 0, 0, 0, 0, 0, 0x94, 1, 0, 0, 0x14, 0x94],
            "bl to the word before, b to the next, and a part of a word"
        );
        assert_eq!(
            filtered(Filter::Arm, &[0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xeb, 0xfe, 0xff, 0xff, 0xea], 5),
            [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xeb, 0xfe, 0xff, 0xff, 0xea],
            "bl, and b"
        );
        assert_eq!(
            filtered(Filter::Delta(8), &[1, 2, 3, 4, 5, 6, 7, 8, 2, 1], 3),
            [1, 2, 3, 4, 5, 6, 7, 8, 1, 0xff]
        );
    }

    #[test]
    fn every_number_means_one_filter_or_none() {
        for number in 0..=u8::MAX {
            assert!(Filter::from_wire(number).is_none_or(|filter| filter.to_wire() == number), "{number}");
        }
        assert_eq!(Filter::from_wire(4), None);
        assert_eq!(Filtering::new(Filter::Delta(3)).filter(), Filter::None);
    }

    proptest! {
        #[test]
        fn what_was_filtered_is_undone(
            raw in prop::collection::vec(
                prop_oneof![
                    prop::sample::select(&[0xe8, 0, 0xff, 0x94, 0x97, 0x90, 0xeb]),
                    any::<u8>(),
                ],
                0..2000,
            ),
            piece in 1usize..=PIECE_BYTES,
            number: u8,
        ) {
            let filter = Filter::from_wire(number % 80).unwrap_or(Filter::X86);
            let mut block = filtered(filter, &raw, piece);
            filter.undo(&mut block);
            prop_assert_eq!(block, raw);
        }
    }
}
