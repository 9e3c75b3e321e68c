//! Filters: what is done to bytes before they are compressed, so that they compress better.

/// What was done to a block's bytes before they were compressed. It keeps their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Filter {
    /// Nothing.
    #[default]
    None,
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
            MIN_DELTA.. => Some(Self::Delta(number)),
            _ => None,
        }
    }

    /// Its number on the wire. A distance that has none is no filter: [`Filter::usable`].
    #[must_use]
    pub fn to_wire(self) -> u8 {
        match self.usable() {
            Self::None => 0,
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

/// Filters a block that comes in pieces.
#[derive(Clone, Debug, Default)]
pub struct Filtering {
    filter: Filter,
    history: History,
}

impl Filtering {
    /// Begins a block.
    #[must_use]
    pub fn new(filter: Filter) -> Self {
        Self { filter: filter.usable(), history: History::default() }
    }

    /// The filter, as the block's header has to name it.
    #[must_use]
    pub fn filter(&self) -> Filter {
        self.filter
    }

    /// Filters the block's next bytes.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        match self.filter {
            Filter::None => {}
            Filter::Delta(distance) => {
                for byte in bytes {
                    let original = *byte;
                    *byte = original.wrapping_sub(self.history.at(distance));
                    self.history.push(original);
                }
            }
        }
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

    #[test]
    fn rows_of_a_structure_become_what_changes_from_one_to_the_next() {
        let mut rows: Vec<u8> = (0..10).flat_map(|row| [7, row, 0, 0, 0, 0, 0, 9]).collect();
        Filtering::new(Filter::Delta(8)).apply(&mut rows);
        assert_eq!(rows[8..16], [0, 1, 0, 0, 0, 0, 0, 0]);
        assert!(rows.chunks(8).skip(2).all(|row| row == &rows[8..16]));
    }

    #[test]
    fn every_number_means_one_filter_or_none() {
        for number in 0..=u8::MAX {
            assert!(Filter::from_wire(number).is_none_or(|filter| filter.to_wire() == number), "{number}");
        }
        assert_eq!(Filter::from_wire(1), None);
        assert_eq!(Filtering::new(Filter::Delta(3)).filter(), Filter::None);
    }

    proptest! {
        #[test]
        fn what_was_filtered_is_undone(
            raw in prop::collection::vec(any::<u8>(), 0..2000),
            piece in 1usize..500,
            number: u8,
        ) {
            let filter = Filter::from_wire(number).unwrap_or_default();
            let mut filtering = Filtering::new(filter);
            let mut block = raw.clone();
            block.chunks_mut(piece).for_each(|piece| filtering.apply(piece));
            filter.undo(&mut block);
            prop_assert_eq!(block, raw);
        }
    }
}
