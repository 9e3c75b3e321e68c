//! Text of the crashed machine's console, made safe to show: it comes from a machine gone wrong over a bad line.

/// Text kept from before the session began; the last of it is what led to the crash.
const MAX_EARLY_BYTES: usize = 256 << 10;

/// The longest control sequence that is swallowed: what is longer is text with an escape in front.
const MAX_SEQUENCE_BYTES: usize = 32;

/// Makes console text safe: of control characters only line ends and tabs stay, escape sequences go as a whole, and what
/// is not UTF-8 becomes U+FFFD.
#[derive(Default)]
pub(super) struct Console {
    /// The start of a character that was cut by the end of a read.
    partial: Vec<u8>,
    sequence: Sequence,
    early: String,
}

/// Where in an escape sequence we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sequence {
    #[default]
    None,
    /// After ESC.
    Escape,
    /// After ESC [ and so many characters (ECMA-48 §5.4).
    Control(usize),
}

impl Console {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// The safe part of `bytes`.
    pub(super) fn clean(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.partial);
        all.extend_from_slice(bytes);
        let mut out = String::new();
        let mut chunks = all.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            chunk.valid().chars().for_each(|character| self.character(character, &mut out));
            let invalid = chunk.invalid();
            if invalid.is_empty() {
                continue;
            }
            let may_go_on = std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if chunks.peek().is_none() && may_go_on {
                self.partial = invalid.to_vec();
            } else {
                self.character(char::REPLACEMENT_CHARACTER, &mut out);
            }
        }
        out
    }

    /// Nothing more comes: what of a character is left.
    pub(super) fn flush(&mut self) -> String {
        let partial = std::mem::take(&mut self.partial);
        if partial.is_empty() { String::new() } else { char::REPLACEMENT_CHARACTER.to_string() }
    }

    /// Keeps text from before the session; the oldest goes first.
    pub(super) fn keep_early(&mut self, clean: &str) {
        self.early.push_str(clean);
        if self.early.len() > MAX_EARLY_BYTES {
            let too_many = self.early.len() - MAX_EARLY_BYTES;
            let cut = (too_many..=self.early.len()).find(|&at| self.early.is_char_boundary(at));
            self.early.drain(..cut.unwrap_or(0));
        }
    }

    /// The text kept from before the session.
    pub(super) fn early(&self) -> &str {
        &self.early
    }

    fn character(&mut self, character: char, out: &mut String) {
        self.sequence = match (self.sequence, character) {
            (_, '\u{1b}') => Sequence::Escape,
            // A line end is never swallowed: noise must not hide what follows it.
            (_, '\n') => {
                out.push('\n');
                Sequence::None
            }
            (Sequence::Escape, '[') => Sequence::Control(0),
            (Sequence::Escape, ' '..='/') => Sequence::Escape,
            (Sequence::Escape, '0'..='~') => Sequence::None,
            (Sequence::Control(_), '@'..='~') => Sequence::None,
            (Sequence::Control(length), ' '..='?') if length < MAX_SEQUENCE_BYTES => {
                Sequence::Control(length + 1)
            }
            (_, character) => {
                if character == '\t' || !character.is_control() {
                    out.push(character);
                }
                Sequence::None
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clean(pieces: &[&[u8]]) -> String {
        let mut console = Console::new();
        let mut out: String = pieces.iter().map(|piece| console.clean(piece)).collect();
        out.push_str(&console.flush());
        out
    }

    #[test]
    fn escape_sequences_go_as_a_whole() {
        assert_eq!(clean(&[b"\x1b[1;31mBUG\x1b[0m: \x1b]0;x\x07y\r\n\tz\x1b(Bq\n"]), "BUG: 0;xy\n\tzq\n");
        assert_eq!(clean(&[b"a\x1b[", b"31", b"mb"]), "ab");
        assert_eq!(clean(&[b"a\xc2\x9b31mb\x7f\x08"]), "a31mb");
    }

    #[test]
    fn a_sequence_that_does_not_end_hides_at_most_a_line() {
        assert_eq!(clean(&[b"\x1b[0000\nafter"]), "\nafter");
        let long = format!("\x1b[{}end", "0".repeat(100));
        assert!(clean(&[long.as_bytes()]).ends_with("0end"));
    }

    #[test]
    fn characters_survive_however_the_line_is_cut() {
        let text = "Grüße €\n".as_bytes();
        for cut in 0..text.len() {
            assert_eq!(clean(&[&text[..cut], &text[cut..]]), "Grüße €\n");
        }
        assert_eq!(clean(&[b"\xff\xe2\x82", b"x\xe2"]), "\u{fffd}\u{fffd}x\u{fffd}");
    }

    #[test]
    fn the_last_of_the_early_text_is_kept() {
        let mut console = Console::new();
        console.keep_early(&"é".repeat(MAX_EARLY_BYTES));
        console.keep_early("panic");
        assert!(console.early().ends_with("épanic"));
        assert!(console.early().len() <= MAX_EARLY_BYTES);
    }

    proptest! {
        #[test]
        fn control_characters_never_get_through(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let is_safe = |character: char| matches!(character, '\n' | '\t') || !character.is_control();
            prop_assert!(clean(&pieces).chars().all(is_safe));
        }
    }
}
