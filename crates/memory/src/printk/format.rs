//! A record as `dmesg` prints it.

use core::fmt::{self, Write};

use super::Record;

const NSEC_PER_SEC: u64 = 1_000_000_000;
const NSEC_PER_USEC: u64 = 1_000;

/// Gives `out` the record's lines, each as `[seconds.microseconds] text` with a newline.
///
/// Control characters but the tab become `\x1b` and the like: a log is read on a terminal. Other bytes stay as they
/// are, UTF-8 or not.
pub fn write_record(record: &Record<'_>, out: &mut dyn FnMut(&[u8])) {
    let mut out = Out(out);
    let (seconds, nsec) = (record.ts_nsec / NSEC_PER_SEC, record.ts_nsec % NSEC_PER_SEC);
    for line in record.text.split(|&byte| byte == b'\n') {
        // `Out` cannot fail.
        let _ = write!(out, "[{seconds:5}.{:06}] ", nsec / NSEC_PER_USEC);
        out.escaped(line);
        (out.0)(b"\n");
    }
}

struct Out<'a>(&'a mut dyn FnMut(&[u8]));

impl Out<'_> {
    fn escaped(&mut self, line: &[u8]) {
        let is_plain = |byte: u8| !byte.is_ascii_control() || byte == b'\t';
        for run in line.chunk_by(|a, b| is_plain(*a) && is_plain(*b)) {
            match run {
                [byte] if !is_plain(*byte) => {
                    let _ = write!(self, "\\x{byte:02x}");
                }
                plain => (self.0)(plain),
            }
        }
    }
}

impl Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        (self.0)(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn formatted(ts_nsec: u64, text: &[u8]) -> Vec<u8> {
        let mut lines = Vec::new();
        write_record(&Record { ts_nsec, caller: None, text }, &mut |bytes| lines.extend_from_slice(bytes));
        lines
    }

    #[test]
    fn a_record_has_its_time_before_each_line() {
        assert_eq!(formatted(0, b"Linux version"), b"[    0.000000] Linux version\n");
        assert_eq!(
            formatted(12_345_678_901, b"one\n two\n"),
            b"[   12.345678] one\n[   12.345678]  two\n[   12.345678] \n"
        );
        assert_eq!(formatted(123_456_789_999_999_000, b""), b"[123456789.999999] \n");
    }

    #[test]
    fn control_characters_are_escaped_and_utf_8_is_not() {
        assert_eq!(
            formatted(0, "\tgrüße\x1b[31m\x07\x7f".as_bytes()),
            "[    0.000000] \tgrüße\\x1b[31m\\x07\\x7f\n".as_bytes()
        );
    }
}
