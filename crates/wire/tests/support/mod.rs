//! A session's parts, as they go over the line.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part")]

use wire::{
    Body, Fragment, Frame, Run, SessionEnd, SessionHeader, SessionId, UTSNAME_BYTES, generation, line,
};

pub const SESSION: SessionId = SessionId(0x1234);

pub fn header() -> SessionHeader {
    SessionHeader {
        e_machine: 62,
        page_shift: 12,
        dump_level: 0,
        crash_time: 1,
        ram_pages: 1,
        utsname: [0; UTSNAME_BYTES],
    }
}

/// A frame between zeros.
pub fn frame(session: SessionId, sequence: u16, body: Body<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    Frame { session, sequence, body }.encode(&mut frame);
    let mut out = vec![0];
    line::encode(&frame, &mut out);
    out
}

/// A session header.
pub fn session(session: SessionId, sequence: u16, run: Run) -> Vec<u8> {
    let payload = [&run.encode()[..], &header().encode()].concat();
    frame(session, sequence, Body::Session(&payload))
}

/// A block that fits one frame.
pub fn block(session: SessionId, sequence: u16, number: u32, encoded: &[u8]) -> Vec<u8> {
    let generation = generation(encoded);
    let fragment = Fragment { stream: 0, block: number, generation, index: 0, count: 1, bytes: encoded };
    frame(session, sequence, Body::Fragment(fragment))
}

pub fn end(session: SessionId, sequence: u16, blocks: u32) -> Vec<u8> {
    let end = SessionEnd { blocks, ..SessionEnd::default() };
    frame(session, sequence, Body::End(&end.encode()))
}
