//! Numbers as people and command lines write them.

/// An address, or a number of bytes: decimal or 0x, with K, M, G or T (powers of 1024) behind it or not, as the kernel's
/// `memparse` reads it (Linux, `lib/cmdline.c`). None: it is no such number, or one beyond 64 bits.
#[must_use]
pub fn parse_number(text: &str) -> Option<u64> {
    let (digits, shift) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (text.get(..at)?, 10),
        (at, 'm' | 'M') => (text.get(..at)?, 20),
        (at, 'g' | 'G') => (text.get(..at)?, 30),
        (at, 't' | 'T') => (text.get(..at)?, 40),
        _ => (text, 0),
    };
    // `from_str_radix` and `parse` would both take a sign.
    if digits.contains('+') {
        return None;
    }
    let number = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::parse_number;

    #[test]
    fn a_number_may_be_hexadecimal_and_in_powers_of_1024() {
        for (text, number) in [
            ("0", 0),
            ("4096", 4096),
            ("0x1F", 31),
            ("12k", 12 << 10),
            ("0x2M", 2 << 20),
            ("1G", 1 << 30),
            ("16777215T", 0xff_ffff << 40),
        ] {
            assert_eq!(parse_number(text), Some(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_or_too_large_is_refused() {
        for text in
            ["", "M", "0x", "4X", "4KB", "-1", "+1", "0x+1", "1.5G", " 1", "16777216T", "99999999999G", "4µ"]
        {
            assert_eq!(parse_number(text), None, "{text}");
        }
    }
}
