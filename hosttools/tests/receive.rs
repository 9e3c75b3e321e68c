//! From a line to a vmcore, and from any format to any other.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::os::unix::fs::PermissionsExt;

use rcapture::dump;
use rcapture::info::Info;
use rcapture::write::{self, Compression, Format, Options};
use support::{Memory, PAGE, RAM, log_text, options, pages_of, receive};

const ALL: [Options; 5] = [
    Options { format: Format::Kdump, compression: Compression::Zlib },
    Options { format: Format::Kdump, compression: Compression::Zstd },
    Options { format: Format::Kdump, compression: Compression::None },
    Options { format: Format::Elf, compression: Compression::None },
    Options { format: Format::Flattened, compression: Compression::Zlib },
];

#[test]
fn a_received_dump_has_every_page_in_every_format() {
    let memory = Memory::new();
    let line = memory.line();
    for write in ALL {
        let directory = tempfile::tempdir().unwrap();
        let outcome = receive(&line, &options(directory.path(), write)).unwrap();
        assert!(outcome.is_complete, "{write:?}: {}", outcome.summary);
        let vmcore = outcome.directory.join("vmcore");
        let dump = dump::open(&vmcore).unwrap();
        let mut expected = memory.pages();
        if write.format == Format::Elf {
            // What could not be read lies in no PT_LOAD; the note of our own tells that it was RAM.
            assert_eq!(pages_of(&*dump).get(&support::FAULTY_PFN), Some(&None));
        }
        assert_eq!(pages_of(&*dump), std::mem::take(&mut expected), "{write:?}");
        assert_eq!(dump.facts().map.total_bytes(), RAM.iter().map(|(start, end)| end - start).sum::<u64>());
        assert_eq!(dump.facts().registers().count(), 2);
        assert_eq!(dump.facts().crash_time, 1_700_000_000);
        assert!(!outcome.directory.join("journal").exists());
        let console = std::fs::read_to_string(outcome.directory.join("console.log")).unwrap();
        assert!(console.starts_with("Kernel panic - not syncing\n"), "{console:?}");
        for name in ["vmcore", "console.log"] {
            let mode = outcome.directory.join(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}

#[test]
fn conversion_between_any_two_formats_keeps_every_page() {
    let memory = Memory::new();
    let line = memory.line();
    let directory = tempfile::tempdir().unwrap();
    for from in ALL {
        let outcome = receive(&line, &options(directory.path(), from)).unwrap();
        let source = dump::open(&outcome.directory.join("vmcore")).unwrap();
        for to in ALL {
            let path = directory.path().join("converted");
            write::to_file(&*source, &path, to, &mut |_, _| {}).unwrap();
            let converted = dump::open(&path).unwrap();
            assert_eq!(pages_of(&*converted), memory.pages(), "{from:?} to {to:?}");
            let (is, was) = (converted.facts(), source.facts());
            assert_eq!(is.notes, was.notes, "{from:?} to {to:?}");
            assert_eq!(is.segments.len(), was.segments.len());
            assert_eq!(
                (is.utsname, is.crash_time, is.dump_level),
                (was.utsname, was.crash_time, was.dump_level)
            );
        }
    }
}

#[test]
fn a_recording_converts_to_the_same_bytes_as_were_received_live() {
    let memory = Memory::new();
    let line = memory.line();
    let directory = tempfile::tempdir().unwrap();
    let recording = directory.path().join("line.raw");
    for write in ALL {
        let mut options = options(directory.path(), write);
        options.record = Some(recording.clone());
        let outcome = receive(&line, &options).unwrap();
        let converted = directory.path().join("converted");
        write::to_file(&*dump::open(&recording).unwrap(), &converted, write, &mut |_, _| {}).unwrap();
        let live = std::fs::read(outcome.directory.join("vmcore")).unwrap();
        assert!(live == std::fs::read(&converted).unwrap(), "{write:?}");
        std::fs::remove_file(&recording).unwrap();
    }
}

#[test]
fn a_line_that_is_cut_leaves_a_usable_vmcore_and_its_journal() {
    let memory = Memory::new();
    let line = memory.line();
    let pages = memory.pages();
    for write in ALL {
        let directory = tempfile::tempdir().unwrap();
        let mut before = 0;
        for part in [3, 5, 9] {
            let outcome =
                receive(&line[..line.len() * part / 10], &options(directory.path(), write)).unwrap();
            assert!(!outcome.is_complete);
            let dump = dump::open(&outcome.directory.join("vmcore")).unwrap();
            assert!(!dump.facts().is_complete);
            let got = pages_of(&*dump);
            assert_eq!(got.keys().collect::<Vec<_>>(), pages.keys().collect::<Vec<_>>(), "{write:?}");
            let present: Vec<_> = got.iter().filter(|(_, page)| page.is_some()).collect();
            assert!(present.len() > before, "{} of {}", present.len(), pages.len());
            before = present.len();
            for (pfn, page) in present {
                assert!(*page == pages[pfn], "{write:?}: page {pfn:#x}");
            }
            let journal = dump::open(&outcome.directory.join("journal")).unwrap();
            assert_eq!(pages_of(&*journal), got);
        }
    }
}

#[test]
fn an_elf_core_holds_the_kernel_once_and_ranges_to_the_byte() {
    let memory = Memory::new();
    let directory = tempfile::tempdir().unwrap();
    let write = Options { format: Format::Elf, compression: Compression::None };
    let outcome = receive(&memory.line(), &options(directory.path(), write)).unwrap();
    let file = std::fs::read(outcome.directory.join("vmcore")).unwrap();
    let core = vmcore::elfcore::ElfCore::read(&mut |at, buf: &mut [u8]| {
        let at = usize::try_from(at).unwrap();
        file.get(at..at + buf.len()).map(|from| buf.copy_from_slice(from)).is_some()
    })
    .unwrap();
    let ram: u64 = RAM.iter().map(|(start, end)| end - start).sum();
    assert!(file.len() as u64 <= ram + 4 * PAGE as u64, "{} bytes for {ram} of RAM", file.len());
    for load in &core.loads {
        let at = usize::try_from(load.p_offset).unwrap();
        let pa = usize::try_from(load.p_paddr).unwrap();
        let bytes = usize::try_from(load.p_filesz).unwrap();
        assert!(file[at..at + bytes] == memory.bytes[pa..pa + bytes], "PT_LOAD at {pa:#x}");
    }
    let kernel = core.loads.iter().find(|load| load.p_vaddr == 0xffff_ffff_8100_0000).unwrap();
    assert_eq!((kernel.p_paddr, kernel.p_filesz), (0x20_0000, 0x4_0000));
    assert!(core.loads.iter().any(|load| load.p_paddr + load.p_memsz == RAM[0].1));
    assert_eq!(core.e_flags, vmcore::elfcore::INCOMPLETE, "a page could not be read");
}

#[test]
fn control_characters_never_reach_the_console_log() {
    let memory = Memory::new();
    let mut line = b"\x1b[2J\x1b]0;title\x07early\x08\n".to_vec();
    line.extend(memory.line());
    line.extend(b"\x1b[31mrebooting\x1b[0m\n");
    let directory = tempfile::tempdir().unwrap();
    let outcome = receive(&line, &options(directory.path(), Options::default())).unwrap();
    let console = std::fs::read_to_string(outcome.directory.join("console.log")).unwrap();
    assert!(console.starts_with("0;titleearly\nKernel panic"), "{console:?}");
    assert!(console.chars().all(|character| !character.is_control() || matches!(character, '\n' | '\t')));
}

#[test]
fn what_is_no_line_is_refused_with_a_word_on_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path(), Options::default());
    for (input, expected) in [
        (&b"KDUMP   \x06\0\0\0Linux\0\0\0"[..], "`rcapture convert`"),
        (b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0", "`rcapture convert`"),
        (b"makedumpfile\0\0\0\0\0\0", "`rcapture convert`"),
        (b"just text\n", "no rcapture session in 10 bytes"),
    ] {
        let error = receive(input, &options).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_random_file_is_no_dump() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("random");
    std::fs::write(
        &path,
        (0..100_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()).collect::<Vec<_>>(),
    )
    .unwrap();
    let error = dump::open(&path).err().unwrap().to_string();
    assert!(error.contains("neither an ELF core, a kdump-compressed"), "{error}");
}

#[test]
fn of_a_kernel_log_that_did_not_come_whole_what_came_is_kept_and_says_so() {
    let memory = Memory::with_log(4000);
    let line = memory.line();
    let whole: String =
        (0..4000).map(|n| format!("[{:5}.{:06}] {}\n", n / 1000, n % 1000 * 1000, log_text(n))).collect();
    let mut parts = 0;
    for percent in [1, 2, 3, 4, 6, 9, 12] {
        let directory = tempfile::tempdir().unwrap();
        let write = Options { compression: Compression::None, ..Options::default() };
        let cut = &line[..line.len() * percent / 100];
        let Ok(outcome) = receive(cut, &options(directory.path(), write)) else { continue };
        let Ok(text) = std::fs::read_to_string(outcome.directory.join("vmcore-dmesg.txt")) else {
            assert!(outcome.summary.contains("no kernel log"), "{}", outcome.summary);
            continue;
        };
        if text == whole {
            assert!(!outcome.summary.contains("kernel log"), "{}", outcome.summary);
            continue;
        }
        parts += 1;
        let (came, mark) = text.split_at(text.rfind("[rcapture: only the first ").unwrap());
        assert!(came.len() > 1000 && whole.starts_with(came.trim_end_matches('\n')), "{percent} %");
        assert!(mark.ends_with(&format!("of {} bytes of the kernel log came]\n", whole.len())), "{mark}");
        assert!(outcome.summary.contains("bytes of the kernel log came"), "{}", outcome.summary);
    }
    assert!(parts > 0, "no cut was inside of the log");
}

#[test]
fn a_sender_whose_budget_is_spent_leaves_a_usable_dump_that_says_so() {
    let memory = Memory::new();
    let directory = tempfile::tempdir().unwrap();
    let line = memory.line_within(Some(300_000));
    let outcome = receive(&line, &options(directory.path(), Options::default())).unwrap();
    assert!(!outcome.is_complete);
    assert!(outcome.summary.contains("; the sender's budget was spent, "), "{}", outcome.summary);
    let info = |name| {
        let dump = dump::open(&outcome.directory.join(name)).unwrap();
        Info::of(&*dump).unwrap().to_string()
    };
    let told = info("journal");
    assert!(told.contains("complete      no: the sender's budget was spent\n"), "{told}");
    assert!(told.contains("\ncame whole    notes, kernel log, stacks of the CPUs, totals, "), "{told}");
    assert!(told.contains("\ncame in part  "), "{told}");
    let not_sent = told.lines().find(|line| line.starts_with("did not come  ")).unwrap();
    assert!(not_sent.ends_with(", kernel pages, text and memmap, the rest"), "{told}");
    let ram = memory.pages().len();
    assert!(told.contains(&format!(" of {ram} pages\n")), "{told}");
    assert!(told.contains(&format!("kernel pages  {ram} pages, 3.1 MiB\n")), "{told}");
    assert!(info("vmcore").contains("complete      no\n"));
}
