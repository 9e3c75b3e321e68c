//! What the command shows, logs and counts of a console that shares its line with a dump.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::fs::File;
use std::path::Path;
use std::process::Command;

use support::Memory;

/// What the kernel says on the line before the session begins ([`Memory::line`]).
const PANIC: &str = "Kernel panic - not syncing\n";

/// So much of the text from before a session is logged.
const MAX_EARLY_BYTES: usize = 256 << 10;

/// What stands on the line besides a dump, and what comes of it.
struct Case {
    name: &'static str,
    /// Before the kernel's last words, and what is shown of it.
    before: Vec<u8>,
    before_shown: String,
    /// Between two frames.
    between: Vec<u8>,
    between_shown: String,
    /// Bytes that the summary calls noise.
    noise_bytes: usize,
}

fn case(
    name: &'static str,
    (before, before_shown): (impl AsRef<[u8]>, &str),
    (between, between_shown): (impl AsRef<[u8]>, &str),
    noise_bytes: usize,
) -> Case {
    Case {
        name,
        before: before.as_ref().to_vec(),
        before_shown: before_shown.to_owned(),
        between: between.as_ref().to_vec(),
        between_shown: between_shown.to_owned(),
        noise_bytes,
    }
}

/// `frame` is a whole frame of the session, between its zeros.
fn cases(frame: &[u8]) -> Vec<Case> {
    let nothing = (b"", "");
    let mut damaged = frame.to_vec();
    damaged[30] ^= 0x40;
    let damaged_bytes = frame.len() - 2;
    let text_in_frame = [&frame[..40], b"usb 1-1: reset\r\n", &frame[40..]].concat();
    let early = "0123456789abcde\n".repeat(MAX_EARLY_BYTES / 16 + 100);
    let long = "x".repeat(20_000);
    vec![
        case("nothing", nothing, nothing, 0),
        case("lines", (b"a\tb\r\n\r\nc\n", "a\tb\n\nc\n"), (b"usb 1-1: reset\r\n", "usb 1-1: reset\n"), 0),
        case("a line without an end", (b"login: \0", "login: "), (b"12 %\0", "12 %"), 0),
        case(
            "a line that a frame cuts in two",
            nothing,
            ([b"half of a li", frame, b"ne\r\n"].concat(), "half of a line\n"),
            0,
        ),
        case(
            "a long line",
            (long.clone() + "\n", &(long.clone() + "\n")),
            (long.clone() + "\r\n", &(long + "\n")),
            0,
        ),
        case(
            "colours, titles, moves of the cursor",
            (b"Booting\x1b[2J from \x1b]0;title\x07disk\x08\n", "Booting from 0;titledisk\n"),
            (b"\x1b[1;31mBUG\x1b[0m: unable to handle\r\n", "BUG: unable to handle\n"),
            0,
        ),
        case(
            "a sequence and a character that a frame cuts in two",
            ([&b"all of this is \x1b[3"[..], frame, b"1mred now\r\n"].concat(), "all of this is red now\n"),
            (
                [&b"link of the Ger\xc3"[..], frame, b"\xa4t eth0 is up\r\n"].concat(),
                "link of the Gerät eth0 is up\n",
            ),
            0,
        ),
        case(
            "what is not UTF-8",
            ("Gerät eth0: link is up\r\n", "Gerät eth0: link is up\n"),
            (b"Ger\xe4t eth0: link is up\r\n", "Ger\u{fffd}t eth0: link is up\n"),
            0,
        ),
        case("zeros", ([0; 50], ""), ([0; 50], ""), 0),
        case("noise", (b"\xff\xfe\xfd\xf0\0", ""), ([&[0x9b; 2000][..], b"\0"].concat(), ""), 2004),
        case(
            "noise in a line",
            (b"\xff\xff\0", ""),
            (b"usb 1\xff-1: reset\r\n", "usb 1\u{fffd}-1: reset\n"),
            2,
        ),
        case("damaged frames", (&damaged, ""), (&damaged, ""), 2 * damaged_bytes),
        case("text in a frame", nothing, (text_in_frame, ""), damaged_bytes + 16),
        case("more text than is kept", (&early, &early), nothing, 0),
    ]
}

/// Standard output but for the word on what to do next, console.log, and standard error.
fn receive(line: &[u8], directory: &Path) -> (String, String, String) {
    let recording = directory.join("line.raw");
    std::fs::write(&recording, line).unwrap();
    let out = directory.join("crash");
    let output = Command::new(env!("CARGO_BIN_EXE_rcapture"))
        .args(["recv", "--stdin", "-o"])
        .arg(&out)
        .stdin(File::open(recording).unwrap())
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    let entry = std::fs::read_dir(out).unwrap().next().unwrap().unwrap();
    let logged = std::fs::read_to_string(entry.path().join("console.log")).unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let next = format!("crash vmlinux {}\n", entry.path().join("vmcore").display());
    (shown.strip_suffix(&next).unwrap().to_owned(), logged, errors)
}

#[test]
fn a_console_is_shown_and_logged_clean_and_noise_is_counted() {
    let line = Memory::new().line();
    let mut zeros = (0..line.len()).filter(|&at| line[at] == 0);
    let (header_at, header_end) = (zeros.next().unwrap(), zeros.next().unwrap() + 1);
    let mut of_dump = None;
    for case in cases(&line[header_at..header_end]) {
        let Case { name, before, before_shown, between, between_shown, noise_bytes } = case;
        let all = [&before[..], &line[..header_end], &between, &line[header_end..]].concat();
        let directory = tempfile::tempdir().unwrap();
        let (shown, logged, errors) = receive(&all, directory.path());
        // The first case is the dump alone: what its own sender says comes behind all the others.
        let of_dump = of_dump.get_or_insert_with(|| shown.strip_prefix(PANIC).unwrap().to_owned());
        let early = before_shown + PANIC;
        let late = between_shown + of_dump;
        assert_eq!(shown, format!("{early}{late}"), "{name}: shown");
        let logged_early = &early[early.len().saturating_sub(MAX_EARLY_BYTES)..];
        assert_eq!(logged, format!("{logged_early}{late}"), "{name}: logged");
        let noise = format!("; {noise_bytes} bytes of noise on the line");
        assert_eq!(errors.contains(&noise), noise_bytes != 0, "{name}: {errors}");
        assert_eq!(errors.contains("noise"), noise_bytes != 0, "{name}: {errors}");
    }
}
