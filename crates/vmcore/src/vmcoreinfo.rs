//! VMCOREINFO: what a kernel says about itself, as typed facts (Linux kernel/vmcore_info.c, before 6.9
//! kernel/crash_core.c).
//!
//! Lines of `KEY=value`. Hexadecimal without 0x: `SYMBOL(name)` and `KERNELOFFSET`. Decimal: `SIZE(type)`,
//! `OFFSET(type.member)`, `LENGTH(array)`, `PAGESIZE`, `CRASHTIME`. Either, and signed: `NUMBER(name)`. Nothing is
//! promised to be there, and the kernel cuts the text where its buffer ends: a last line without a newline is not
//! believed.

/// The text of a VMCOREINFO note. Each question walks its few kilobytes anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmcoreInfo<'a> {
    text: &'a [u8],
}

impl<'a> VmcoreInfo<'a> {
    /// The facts in `text`, up to its first NUL.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
        let end = text.iter().rposition(|&byte| byte == b'\n').unwrap_or_default();
        Self { text: text.get(..end).unwrap_or_default() }
    }

    /// The lines as key and value, in their order. Lines without `=` are passed over.
    pub fn entries(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.text.split(|&byte| byte == b'\n').filter_map(|line| {
            let equals = line.iter().position(|&byte| byte == b'=')?;
            let (key, value) = line.split_at_checked(equals)?;
            Some((key, value.get(1..)?))
        })
    }

    /// The value of `key`; the first, if there are several.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&'a [u8]> {
        self.entries().find(|(found, _)| *found == key.as_bytes()).map(|(_, value)| value)
    }

    /// `SYMBOL(name)`: a kernel virtual address (KASLR included).
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<u64> {
        self.of_name(b"SYMBOL", name, hexadecimal)
    }

    /// `SIZE(name)`: bytes of a type.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        self.of_name(b"SIZE", name, decimal)
    }

    /// `OFFSET(name)`: bytes from the start of a type to its member; `name` is `type.member`.
    #[must_use]
    pub fn offset(&self, name: &str) -> Option<u64> {
        self.of_name(b"OFFSET", name, decimal)
    }

    /// `LENGTH(name)`: elements of an array.
    #[must_use]
    pub fn length(&self, name: &str) -> Option<u64> {
        self.of_name(b"LENGTH", name, decimal)
    }

    /// `NUMBER(name)`: any number. Written as 0x… or above `i64::MAX` it comes as two's complement.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        self.of_name(b"NUMBER", name, number)
    }

    /// `NUMBER(name)` where it is an address or a mask: negative numbers come as two's complement.
    #[must_use]
    pub fn number_u64(&self, name: &str) -> Option<u64> {
        self.number(name).map(i64::cast_unsigned)
    }

    /// Whether `CONFIG_name=y`.
    #[must_use]
    pub fn config(&self, name: &str) -> bool {
        self.entries()
            .any(|(key, value)| key.strip_prefix(b"CONFIG_") == Some(name.as_bytes()) && value == b"y")
    }

    /// `OSRELEASE`: the kernel's release, as `uname -r`.
    #[must_use]
    pub fn os_release(&self) -> Option<&'a str> {
        self.text_value("OSRELEASE")
    }

    /// `BUILD-ID` in hexadecimal: names the one vmlinux that fits.
    #[must_use]
    pub fn build_id(&self) -> Option<&'a str> {
        self.text_value("BUILD-ID")
    }

    /// `PAGESIZE` as a power of two: 12 for 4 KiB. `None` if missing, or none that x86 and ARM have: 4, 16 and 64 KiB
    /// (Linux arch/arm64/Kconfig, ARM64_*_PAGES).
    #[must_use]
    pub fn page_shift(&self) -> Option<u32> {
        let bytes = decimal(self.value("PAGESIZE")?)?;
        [12, 14, 16].into_iter().find(|shift| 1 << shift == bytes)
    }

    /// `KERNELOFFSET`: how far KASLR has moved the kernel, in bytes.
    #[must_use]
    pub fn kernel_offset(&self) -> Option<u64> {
        hexadecimal(self.value("KERNELOFFSET")?)
    }

    /// `CRASHTIME`: seconds since 1970.
    #[must_use]
    pub fn crash_time(&self) -> Option<u64> {
        decimal(self.value("CRASHTIME")?)
    }

    /// The first `kind(name)=value` whose value is what `parse` expects.
    fn of_name<T>(&self, kind: &[u8], name: &str, parse: fn(&[u8]) -> Option<T>) -> Option<T> {
        self.entries().find_map(|(key, value)| {
            let found = key.strip_prefix(kind)?.strip_prefix(b"(")?.strip_suffix(b")")?;
            (found == name.as_bytes()).then(|| parse(value)).flatten()
        })
    }

    fn text_value(&self, key: &str) -> Option<&'a str> {
        core::str::from_utf8(self.value(key)?).ok()
    }
}

/// Digits of `radix` and nothing else.
fn digits(text: &[u8], radix: u32) -> Option<u64> {
    // from_str_radix would take a sign.
    let all_digits = text.iter().all(|&byte| char::from(byte).is_digit(radix));
    all_digits.then(|| u64::from_str_radix(core::str::from_utf8(text).ok()?, radix).ok()).flatten()
}

fn decimal(text: &[u8]) -> Option<u64> {
    digits(text, 10)
}

fn hexadecimal(text: &[u8]) -> Option<u64> {
    digits(text.strip_prefix(b"0x").unwrap_or(text), 16)
}

/// `-123`, `123` or `0x7b`.
fn number(text: &[u8]) -> Option<i64> {
    if let Some(hex) = text.strip_prefix(b"0x") {
        return digits(hex, 16).map(u64::cast_signed);
    }
    match text.strip_prefix(b"-") {
        Some(magnitude) => 0_i64.checked_sub_unsigned(decimal(magnitude)?),
        None => decimal(text).map(u64::cast_signed),
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// Lines of a 6.1 kernel, and one that got cut.
    const TEXT: &[u8] = b"OSRELEASE=6.1.0-28-cloud-amd64\n\
        BUILD-ID=3b3e1d8ffb2a1c4c5ee21eb29fbc9a4a73e8ac6c\n\
        PAGESIZE=4096\n\
        SYMBOL(init_uts_ns)=ffffffff9ee1a5c0\n\
        OFFSET(uts_namespace.name)=0\n\
        SIZE(page)=64\n\
        OFFSET(page._mapcount)=48\n\
        LENGTH(zone.free_area)=11\n\
        NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\n\
        NUMBER(phys_base)=-146800640\n\
        NUMBER(kimage_voffset)=0xffff80007de00000\n\
        NUMBER(pgtable_l5_enabled)=0\n\
        NUMBER(sme_mask)=140737488355328\n\
        KERNELOFFSET=1ca00000\n\
        CONFIG_ARM_LPAE=y\n\
        CRASHTIME=1763759526\n\
        NUMBER(cut)=-12";

    #[test]
    fn facts_have_their_types() {
        let info = VmcoreInfo::new(TEXT);
        assert_eq!(info.os_release(), Some("6.1.0-28-cloud-amd64"));
        assert_eq!(info.build_id(), Some("3b3e1d8ffb2a1c4c5ee21eb29fbc9a4a73e8ac6c"));
        assert_eq!(info.page_shift(), Some(12));
        assert_eq!(info.symbol("init_uts_ns"), Some(0xffff_ffff_9ee1_a5c0));
        assert_eq!(info.offset("uts_namespace.name"), Some(0));
        assert_eq!(info.offset("page._mapcount"), Some(48));
        assert_eq!(info.size("page"), Some(64));
        assert_eq!(info.length("zone.free_area"), Some(11));
        assert_eq!(info.number("PAGE_BUDDY_MAPCOUNT_VALUE"), Some(-129));
        assert_eq!(info.number_u64("phys_base"), Some(0xffff_ffff_f740_0000));
        assert_eq!(info.number_u64("kimage_voffset"), Some(0xffff_8000_7de0_0000));
        assert_eq!(info.number("pgtable_l5_enabled"), Some(0));
        assert_eq!(info.number("sme_mask"), Some(1 << 47));
        assert_eq!(info.kernel_offset(), Some(0x1ca0_0000));
        assert_eq!(info.crash_time(), Some(1_763_759_526));
        assert!(info.config("ARM_LPAE"));
        assert!(!info.config("ARM"));
    }

    #[test]
    fn what_is_missing_or_of_another_kind_is_none() {
        let info = VmcoreInfo::new(TEXT);
        assert_eq!(info.symbol("page"), None);
        assert_eq!(info.size("pag"), None);
        assert_eq!(info.offset("page"), None);
        assert_eq!(VmcoreInfo::new(b"").os_release(), None);
        assert_eq!(VmcoreInfo::new(b"PAGESIZE=4097\n").page_shift(), None);
        assert_eq!(VmcoreInfo::new(b"PAGESIZE=8192\n").page_shift(), None);
        assert_eq!(VmcoreInfo::new(b"PAGESIZE=1073741824\n").page_shift(), None);
        assert_eq!(VmcoreInfo::new(b"SIZE(page)=-64\n").size("page"), None);
        assert_eq!(VmcoreInfo::new(b"SIZE(page)=99999999999999999999\n").size("page"), None);
        assert_eq!(VmcoreInfo::new(b"SIZE(page)=\n").size("page"), None);
    }

    #[test]
    fn a_line_that_was_cut_is_not_believed() {
        assert_eq!(VmcoreInfo::new(TEXT).number("cut"), None);
        assert_eq!(VmcoreInfo::new(b"NUMBER(a)=1\nNUMBER(b)=1\0\n").number("b"), None);
    }

    #[test]
    fn a_line_that_makes_no_sense_does_not_hide_a_good_one() {
        let info = VmcoreInfo::new(b"garbage\n=\nNUMBER(a)=?\nNUMBER(a)=7\nNUMBER(a)=8\n");
        assert_eq!(info.number("a"), Some(7));
    }

    proptest! {
        #[test]
        fn any_number_comes_back(number in any::<i64>()) {
            let text = alloc::format!("NUMBER(n)={number}\nNUMBER(x)={number:#x}\nSYMBOL(s)={number:x}\n");
            let info = VmcoreInfo::new(text.as_bytes());
            prop_assert_eq!(info.number("n"), Some(number));
            prop_assert_eq!(info.number("x"), Some(number));
            prop_assert_eq!(info.symbol("s"), Some(number.cast_unsigned()));
        }

        #[test]
        fn any_bytes_are_read_without_harm(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let info = VmcoreInfo::new(&text);
            let entries: Vec<_> = info.entries().collect();
            prop_assert!(entries.len() <= text.len());
            let _ = (info.page_shift(), info.crash_time(), info.number("a"), info.config("A"));
        }
    }
}
