//! The line as the process it is.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "tests")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rcapture_qemu::line::{Endpoint, Report};
use rcapture_qemu::{Line, LineOptions};

/// A line between two sockets, and its two ends connected.
fn line(options: LineOptions) -> (tempfile::TempDir, Line, UnixStream, UnixStream) {
    let directory = tempfile::tempdir().unwrap();
    let socket = |name| Some(Endpoint::UnixListen(directory.path().join(name)));
    let line =
        Line::spawn(LineOptions { target: socket("target"), host: socket("host"), ..options }).unwrap();
    let host = connect(line.host_socket());
    let target = connect(&directory.path().join("target"));
    (directory, line, target, host)
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn read(stream: &mut UnixStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn wait_until(line: &mut Line, reached: impl Fn(Report) -> bool) {
    let start = Instant::now();
    while !reached(line.report().unwrap()) {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", line.report());
    }
}

/// Bytes in which a lost, doubled or moved one shows.
fn telling_bytes(count: u32) -> Vec<u8> {
    (0..count).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

#[test]
fn at_full_speed_nothing_is_lost_even_before_the_host_reads() {
    let (_directory, line, mut target, mut host) = line(LineOptions::default());
    let sent = telling_bytes(8 << 20);
    // Far more than sockets buffer: the line must take it all without the host's help.
    target.write_all(&sent).unwrap();
    assert!(read(&mut host, sent.len()) == sent);
    host.write_all(b"acknowledged").unwrap();
    assert_eq!(read(&mut target, 12), b"acknowledged");
    let report = line.finish(Duration::from_secs(20)).unwrap();
    assert_eq!(report.to_host.delivered, sent.len() as u64);
    assert_eq!(report.to_target.delivered, 12);
}

#[test]
fn a_fast_line_keeps_what_came_before_the_host() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("target");
    let options =
        LineOptions { target: Some(Endpoint::UnixListen(target.clone())), ..LineOptions::default() };
    let line = Line::spawn(options).unwrap();
    connect(&target).write_all(b"banner").unwrap();
    assert_eq!(read(&mut connect(line.host_socket()), 6), b"banner");
}

#[test]
fn a_paced_line_never_pushes_back_and_loses_what_nobody_reads() {
    let options = LineOptions { baud: Some(8_000_000), buffer: Some(1000), ..LineOptions::default() };
    let (_directory, mut line, mut target, _host) = line(options);
    // Far more than sockets buffer, and nobody reads: the target is taken off all the same.
    target.write_all(&telling_bytes(1 << 20)).unwrap();
    let report = line.report().unwrap().to_host;
    assert!(report.overrun > 0, "{report:?}");
}

#[test]
fn the_record_has_what_the_target_sent_before_any_fault() {
    let options = LineOptions { bit_errors: 0.01, drop: 0.01, seed: 4, ..LineOptions::default() };
    let (_directory, mut line, mut target, _host) = line(options);
    let sent = telling_bytes(10_000);
    target.write_all(&sent).unwrap();
    drop(target);
    wait_until(&mut line, |report| report.to_host.sent >= sent.len() as u64);
    assert!(std::fs::read(line.record()).unwrap() == sent);
    let report = line.finish(Duration::from_secs(20)).unwrap().to_host;
    assert!(report.flipped_bits > 0 && report.dropped > 0, "{report:?}");
}

#[test]
fn a_cut_line_carries_nothing_until_it_is_mended() {
    let (_directory, mut line, mut target, mut host) = line(LineOptions::default());
    line.cut().unwrap();
    target.write_all(b"lost").unwrap();
    wait_until(&mut line, |report| report.to_host.cut >= 4);
    line.mend().unwrap();
    target.write_all(b"kept").unwrap();
    assert_eq!(read(&mut host, 4), b"kept");
}

#[test]
fn a_line_at_full_speed_has_no_rate_any_more() {
    let (_directory, mut line, mut target, mut host) =
        line(LineOptions { baud: Some(300), ..LineOptions::default() });
    line.set_full_speed().unwrap();
    // At 300 baud it would take five minutes.
    let sent = telling_bytes(10_000);
    target.write_all(&sent).unwrap();
    assert!(read(&mut host, sent.len()) == sent);
}

#[test]
fn nothing_comes_back_on_a_one_way_line() {
    let (_directory, mut line, mut target, mut host) =
        line(LineOptions { one_way: true, ..LineOptions::default() });
    host.write_all(b"shouting").unwrap();
    target.write_all(b"data").unwrap();
    assert_eq!(read(&mut host, 4), b"data");
    wait_until(&mut line, |report| report.to_target.cut >= 8);
    assert_eq!(line.finish(Duration::from_secs(20)).unwrap().to_target.delivered, 0);
}

#[test]
fn a_receiver_may_come_and_go() {
    let (directory, _line, mut target, host) = line(LineOptions::default());
    drop(host);
    let mut host = connect(&directory.path().join("host"));
    host.write_all(b"again").unwrap();
    assert_eq!(read(&mut target, 5), b"again");
    target.write_all(b"welcome").unwrap();
    assert_eq!(read(&mut host, 7), b"welcome");
}

#[test]
fn a_terminal_is_an_end_like_any_other() {
    let directory = tempfile::tempdir().unwrap();
    let (target, terminal) = (directory.path().join("target"), directory.path().join("tty"));
    let options = LineOptions {
        target: Some(Endpoint::UnixListen(target.clone())),
        host: Some(Endpoint::Pty(terminal.clone())),
        ..LineOptions::default()
    };
    let line = Line::spawn(options).unwrap();
    let mut target = connect(&target);
    let mut tty = std::fs::File::options().read(true).write(true).open(&terminal).unwrap();
    // Bytes a terminal would interpret if it were not raw.
    tty.write_all(b"\x03\x04\r\n\xff\x00\x11").unwrap();
    assert_eq!(read(&mut target, 7), b"\x03\x04\r\n\xff\x00\x11");
    target.write_all(b"\x13\x1a\r\x7f").unwrap();
    let mut bytes = [0; 4];
    tty.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"\x13\x1a\r\x7f");
    drop(line);
    assert!(std::fs::symlink_metadata(&terminal).is_err(), "the link goes with the line");
}
