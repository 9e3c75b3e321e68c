//! Console text, frames and rubbish on one line: what a receiver makes of each mixture.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod support;

use support::{SESSION, end, frame, session};
use wire::{
    Body, Cursor, Event, Fragment, LineStats, MAX_FRAME_BYTES, Receiver, Reply, Run, SessionId, generation,
    line,
};

/// What a receiver hands over, in its order. Text is what it says in all until something else comes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Came {
    Text(Vec<u8>),
    Session,
    Block(u32),
    End,
    Unknown,
}
use Came::{Block, End, Session, Text, Unknown};

/// A line, and what comes of it.
struct Case {
    name: &'static str,
    line: Vec<u8>,
    came: Vec<Came>,
    counted: LineStats,
}

/// Bytes of [`whole`] between its zeros.
const CODED_BYTES: usize = 62;

/// A block in one frame, with content as compression leaves it. Two zeros stand around each frame.
fn whole(number: u32) -> Vec<u8> {
    holding(number, &[0xee; 40])
}

/// A block of the passes with this content.
fn holding(number: u32, bytes: &[u8]) -> Vec<u8> {
    let fragment =
        Fragment { stream: 0, block: number, generation: generation(bytes), index: 0, count: 1, bytes };
    frame(SESSION, number as u16, Body::Fragment(fragment))
}

/// [`whole`] without the zero in front.
fn bare(number: u32) -> Vec<u8> {
    whole(number).split_off(1)
}

/// A block's only frame, of which a byte is wrong. The first is the zero in front.
fn damaged(mut frame: Vec<u8>, at: usize) -> Vec<u8> {
    frame[at] ^= 0x40;
    frame
}

/// The first bytes of [`whole`], and the others.
fn cut(number: u32, at: usize) -> (Vec<u8>, Vec<u8>) {
    let mut line = whole(number);
    let rest = line.split_off(at);
    (line, rest)
}

/// A frame with these bytes before its CRC, as a later version might send it.
fn of_later_version(head: &[u8]) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes.extend(generation(head).to_le_bytes());
    let mut out = vec![0];
    line::encode(&bytes, &mut out);
    out
}

/// Each frame of which something comes is one that is counted.
fn case(name: &'static str, line: &[&[u8]], came: &[Came], rubbish_bytes: usize) -> Case {
    let frames = came.iter().filter(|came| matches!(came, Session | Block(_) | End)).count() as u64;
    let counted = LineStats { frames, rubbish_bytes: rubbish_bytes as u64, ..LineStats::default() };
    Case { name, line: line.concat(), came: came.to_vec(), counted }
}

fn text(text: impl AsRef<[u8]>) -> Came {
    Text(text.as_ref().to_vec())
}

/// Text alone, or between frames as it should be.
fn text_cases() -> Vec<Case> {
    let long = "x".repeat(10_000);
    let last_words = "reboot: Restarting system\r\n[    0.000000] Linux ver";
    vec![
        case(
            "a kernel's text",
            &[b"Kernel panic\r\n\tsecond\r\n"],
            &[text("Kernel panic\r\n\tsecond\r\n")],
            0,
        ),
        case(
            "lines before, between and behind frames",
            &[b"panic - not syncing\r\n", &whole(1), b"12 %\r\n", &whole(2), &whole(3), b"bye\n"],
            &[text("panic - not syncing\r\n"), Block(1), text("12 %\r\n"), Block(2), Block(3), text("bye\n")],
            0,
        ),
        case("a prompt before a frame", &[b"login: ", &whole(1)], &[text("login: "), Block(1)], 0),
        case("a prompt behind a frame", &[&whole(1), b"login: "], &[Block(1), text("login: ")], 0),
        case(
            "a line that a frame cuts in two",
            &[b"half of a li", &whole(1), b"ne\r\n"],
            &[text("half of a li"), Block(1), text("ne\r\n")],
            0,
        ),
        case("empty lines", &[b"\r\n\r\n\n\n", &whole(1)], &[text("\r\n\r\n\n\n"), Block(1)], 0),
        case("a line feed alone", &[b"\n", &whole(1)], &[text("\n"), Block(1)], 0),
        case("one character", &[&whole(1), b"#", &whole(2)], &[Block(1), text("#"), Block(2)], 0),
        case("zeros in text", &[b"one\0two\r\n\0\0three\n"], &[text("onetwo\r\nthree\n")], 0),
        case("a line longer than any frame", &[long.as_bytes(), b"\n"], &[text(long.clone() + "\n")], 0),
        case(
            "a line longer than any frame, cut by one",
            &[long.as_bytes(), &whole(1)],
            &[text(&long), Block(1)],
            0,
        ),
        case(
            "colours are text, and not yet removed",
            &[b"\x1b[1;31mBUG\x1b[0m: unable to handle\r\n"],
            &[text(b"\x1b[1;31mBUG\x1b[0m: unable to handle\r\n")],
            0,
        ),
        case(
            "a line with a few other characters than ASCII",
            &["Gerät eth0: link is up\r\n".as_bytes(), b"Ger\xe4t eth0: link is up\r\n"],
            &[text(["Gerät eth0: link is up\r\n".as_bytes(), b"Ger\xe4t eth0: link is up\r\n"].concat())],
            0,
        ),
        case("a line of other characters", &["это не ASCII\r\n".as_bytes(), &whole(1)], &[Block(1)], 19),
        case(
            "a firmware's output, and a session",
            &[
                b"SeaBIOS (version 1.16)\r\n\r\n\x1b[2J\r\niPXE, Booting from ROM..",
                &session(SESSION, 0, Run::default()),
                &whole(1),
            ],
            &[text("SeaBIOS (version 1.16)\r\n\r\n\x1b[2J\r\niPXE, Booting from ROM.."), Session, Block(1)],
            0,
        ),
        case(
            "a machine's words behind the end",
            &[&session(SESSION, 0, Run::default()), &whole(1), &end(SESSION, 2, 1), last_words.as_bytes()],
            &[Session, Block(1), End, text(last_words)],
            0,
        ),
    ]
}

/// Frames where they should not be, and such as are not ours.
fn frame_cases() -> Vec<Case> {
    let too_long = [0xd5, 0x12, 0x34, 0x12].repeat(MAX_FRAME_BYTES / 4 + 1);
    let mut resume = vec![0];
    Reply::Resume { receiver: 9, next_block: 0, cursor: Cursor::START }.encode(SESSION, &mut resume);
    vec![
        case(
            "zeros around frames",
            &[&[0; 40], &whole(1), &[0; 3], &whole(2), &[0; 9]],
            &[Block(1), Block(2)],
            0,
        ),
        case("one zero between frames", &[&whole(1), &bare(2), &bare(3)], &[Block(1), Block(2), Block(3)], 0),
        case("no zero in front of the first", &[&bare(1), &bare(2)], &[Block(1), Block(2)], 0),
        case(
            "a frame right behind a line of foreign text",
            &[&whole(1), b"printk: from another CPU\r\n", &bare(2)],
            &[Block(1), text("printk: from another CPU\r\n"), Block(2)],
            0,
        ),
        case(
            "a frame right behind a line without an end goes with it",
            &[b"usb 1-1: res", &bare(1), &bare(2)],
            &[Block(2)],
            12 + CODED_BYTES,
        ),
        Case {
            counted: LineStats { frames: 2, repeated_fragments: 1, ..LineStats::default() },
            ..case("a frame twice", &[&whole(1), &whole(1)], &[Block(1)], 0)
        },
        Case {
            counted: LineStats { frames: 3, foreign_frames: 1, ..LineStats::default() },
            ..case(
                "a frame of another session",
                &[&session(SESSION, 0, Run::default()), &frame(SessionId(7), 0, Body::KeepAlive), &whole(1)],
                &[Session, Block(1)],
                0,
            )
        },
        case(
            "frames of another version and of an unknown kind",
            &[
                &of_later_version(&[0xd5, 0x22, 0x34, 0x12, 7, 0]),
                &of_later_version(&[0xd5, 0x1f, 0x34, 0x12, 7, 0, 1]),
            ],
            &[Unknown, Unknown],
            0,
        ),
        case(
            "the right frame of no kind's length",
            &[&of_later_version(&[0xd5, 0x12, 0x34, 0x12, 7, 0])],
            &[],
            11,
        ),
        case(
            "a frame longer than frames are",
            &[&of_later_version(&too_long), &whole(1)],
            &[Block(1)],
            1204 + 4 + 5,
        ),
        case("our own reply, sent back", &[&resume, &whole(1)], &[Block(1)], 20),
        case(
            "the sender's console and the machine's",
            &[b"rcapture: 12 %\r\nother CPU\r\n\0", &whole(1)],
            &[text("rcapture: 12 %\r\nother CPU\r\n"), Block(1)],
            0,
        ),
    ]
}

/// What a line does to both.
fn damage_cases() -> Vec<Case> {
    let (head, tail) = cut(1, 30);
    let torn = [&head[..], &[0], &tail[1..]].concat();
    let of_text = holding(1, &[b'A'; 300]);
    let (of_text_head, of_text_tail) = of_text.split_at(40);
    let of_text_without_magic = damaged(of_text.clone(), 2);
    let mut cases = vec![
        case("noise between zeros", &[&whole(1), &[0xff; 300], &whole(2)], &[Block(1), Block(2)], 300),
        case("noise longer than any frame", &[&[0xff; 3000], &whole(1)], &[Block(1)], 3000),
        case("bells", &[b"\x07\x07\x07", &whole(1)], &[Block(1)], 3),
        case(
            "a few wrong bytes in a line",
            &[b"Linux version 6.1.0\xff is up\r\n"],
            &[text(b"Linux version 6.1.0\xff is up\r\n")],
            0,
        ),
        case("many wrong bytes in a line", &[b"Li\xff\xfex\r\n", &whole(1)], &[Block(1)], 7),
        case(
            "noise right before text, much less than it",
            &[b"\xff\xff\xffKernel panic - not syncing: sysrq\r\n", &whole(1)],
            &[text(b"\xff\xff\xffKernel panic - not syncing: sysrq\r\n"), Block(1)],
            0,
        ),
        case(
            "noise right before text, more than a tenth of it",
            &[&[0xff; 9], b"Kernel panic\r\n", &whole(1)],
            &[Block(1)],
            9 + 14,
        ),
        case(
            "noise before text, and a zero",
            &[&[0xff; 9], b"\0Kernel panic\r\n"],
            &[text("Kernel panic\r\n")],
            9,
        ),
        case("text that begins like a frame", &[b"\r\xd5sterreich\r\n", &whole(1)], &[Block(1)], 13),
        case("a frame without its end, then the next", &[&whole(1)[..30], &whole(2)], &[Block(2)], 29),
        case(
            "a frame without its end, then text",
            &[&head, b"Rebooting.\r\n", &whole(2)],
            &[Block(2)],
            29 + 12,
        ),
        case(
            "text inside of a frame",
            &[&head, b"BUG: other CPU\r\n", &tail, &whole(2)],
            &[Block(2)],
            CODED_BYTES + 16,
        ),
        case("a frame without its begin", &[&[0], &tail, &whole(2)], &[Block(2)], CODED_BYTES + 1 - 30),
        case(
            "the zero between two frames is lost",
            &[&whole(1)[..=CODED_BYTES], &bare(2), &bare(3)],
            &[Block(3)],
            2 * CODED_BYTES,
        ),
        case(
            "the zero between two frames is another byte",
            &[&whole(1)[..=CODED_BYTES], &[0x20], &bare(2), &bare(3)],
            &[Block(3)],
            2 * CODED_BYTES + 1,
        ),
        case("a byte of a frame is lost", &[&head, &tail[1..], &whole(2)], &[Block(2)], CODED_BYTES - 1),
        case("a byte too many in a frame", &[&head, &[0x55], &tail, &whole(2)], &[Block(2)], CODED_BYTES + 1),
        case("a byte of a frame is zero", &[&torn, &whole(2)], &[Block(2)], CODED_BYTES - 1),
        // Nine tenths is a guess, and these are its price: blocks of text that are not compressed.
        case(
            "a byte of a frame is zero, and text is what follows it",
            &[of_text_head, &[0], of_text_tail, &whole(2)],
            &[text(&of_text_tail[..of_text_tail.len() - 1]), Block(2)],
            39,
        ),
        case(
            "a frame with a wrong magic and text in it",
            &[&of_text_without_magic, &whole(2)],
            &[text(of_text_without_magic.strip_prefix(&[0]).unwrap().strip_suffix(&[0]).unwrap()), Block(2)],
            0,
        ),
    ];
    // The code byte, the magic, version, session, block, content, CRC, the last byte.
    for at in [1, 2, 3, 4, 9, 30, 59, CODED_BYTES] {
        for frame in [whole(1), holding(1, &[b'A'; 40])] {
            let line = [&damaged(frame, at)[..], &whole(2)];
            cases.push(case("a frame with a wrong bit", &line, &[Block(2)], CODED_BYTES));
        }
    }
    cases
}

/// What comes of a line that is read in these pieces, and what is counted.
fn receive<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Came>, LineStats) {
    let mut receiver = Receiver::new(1);
    let mut all = Vec::new();
    let mut take = |event: Event<'_>| match (event, all.last_mut()) {
        (Event::Text(more), Some(Text(text))) => text.extend_from_slice(more),
        (Event::Text(text), _) => all.push(Text(text.to_vec())),
        (Event::Session(..), _) => all.push(Session),
        (Event::Block { number, .. }, _) => all.push(Block(number)),
        (Event::End(..), _) => all.push(End),
        (Event::Unknown(_), _) => all.push(Unknown),
        (event @ Event::Restarted { .. }, _) => panic!("{event:?}"),
    };
    for piece in pieces {
        receiver.push(piece, &mut take);
    }
    receiver.idle(&mut take);
    (all, receiver.stats())
}

#[test]
fn text_frames_and_rubbish_are_told_apart_however_the_line_is_read() {
    for Case { name, line, came, counted } in
        [text_cases(), frame_cases(), damage_cases()].into_iter().flatten()
    {
        let expected = (came, counted);
        assert_eq!(receive([&line[..]]), expected, "{name}");
        assert_eq!(receive(line.chunks(1)), expected, "{name}, byte by byte");
        for at in (1..line.len()).step_by(line.len() / 500 + 1) {
            let (first, second) = line.split_at(at);
            assert_eq!(receive([first, second]), expected, "{name}, cut at {at}");
        }
    }
}
