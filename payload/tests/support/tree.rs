//! A device tree in the making (Devicetree Specification 0.4, 5).
#![allow(clippy::unwrap_used, reason = "a test's own machinery")]

extern crate alloc;

use alloc::vec::Vec;

/// Bytes of the header of version 17.
const HEADER_BYTES: usize = 40;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const END: u32 = 9;

/// Its two blocks.
#[derive(Clone, Default)]
pub(crate) struct Tree {
    structure: Vec<u8>,
    strings: Vec<u8>,
}

impl Tree {
    /// A node begins.
    pub(crate) fn begin(mut self, name: &str) -> Self {
        self.word(BEGIN_NODE);
        self.bytes(&[name.as_bytes(), &[0]].concat());
        self
    }

    /// It ends.
    pub(crate) fn end(mut self) -> Self {
        self.word(END_NODE);
        self
    }

    /// A property.
    pub(crate) fn property(mut self, name: &str, value: &[u8]) -> Self {
        self.word(PROPERTY);
        self.word(u32::try_from(value.len()).unwrap());
        self.word(u32::try_from(self.strings.len()).unwrap());
        self.strings.extend([name.as_bytes(), &[0]].concat());
        self.bytes(value);
        self
    }

    /// A property of cells.
    pub(crate) fn cells(self, name: &str, cells: &[u32]) -> Self {
        let value: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.property(name, &value)
    }

    /// A property that is a text.
    pub(crate) fn text(self, name: &str, text: &str) -> Self {
        self.property(name, &[text.as_bytes(), &[0]].concat())
    }

    /// The tree, which ends here.
    pub(crate) fn blob(&self) -> Vec<u8> {
        let mut whole = self.clone();
        whole.word(END);
        whole.cut()
    }

    /// The tree as far as it is, without an end.
    pub(crate) fn cut(&self) -> Vec<u8> {
        self.cut_at(self.structure_bytes())
    }

    /// A tree whose header says that its structure has so many bytes.
    pub(crate) fn cut_at(&self, structure_bytes: usize) -> Vec<u8> {
        let off_strings = HEADER_BYTES + self.structure.len();
        let total = off_strings + self.strings.len();
        let (reserved, version, compatible, cpu) = (HEADER_BYTES, 17, 16, 0);
        let words = [
            0xd00d_feed,
            total,
            HEADER_BYTES,
            off_strings,
            reserved,
            version,
            compatible,
            cpu,
            self.strings.len(),
            structure_bytes,
        ];
        let words = words.map(|word| u32::try_from(word).unwrap().to_be_bytes());
        [words.as_flattened(), &self.structure, &self.strings].concat()
    }

    /// Bytes of what is there of its structure.
    pub(crate) fn structure_bytes(&self) -> usize {
        self.structure.len()
    }

    fn word(&mut self, word: u32) {
        self.structure.extend(word.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.structure.extend(bytes);
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
    }
}
