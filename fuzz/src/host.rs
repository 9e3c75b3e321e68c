//! Targets that read what comes over a line, and the files the host's tools read.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcapture::dump::{self, Dump, ElfDump, Flattened, JournalDump, KdumpDump, PageState};
use rcapture::{recv, write};
use wire::{
    Block, Body, Course, Event, Fragment, Frame, MAX_FRAGMENT_BYTES, MAX_RAW_BYTES, Receiver, Records,
    SessionId, Urgency,
};

/// Pages read of a dump at most: a few bytes can promise a terabyte.
const MAX_PAGES: usize = 64;

/// What errors call the input.
const NAME: &str = "input";

/// A journal, and the dump in it.
pub fn journal(data: &[u8]) {
    if let Ok(dump) = JournalDump::read(Path::new(NAME), Arc::new(data.to_vec())) {
        look_at(&dump);
    }
}

/// A dump file of any other kind.
pub fn kdump_reader(data: &[u8]) {
    let path = Path::new(NAME);
    if let Ok(dump) = KdumpDump::read(path, data.to_vec()) {
        look_at(&dump);
    }
    if let Ok(dump) = ElfDump::read(path, data.to_vec()) {
        look_at(&dump);
    }
    if let Ok(plain) = Flattened::read(data.to_vec())
        && let Ok(dump) = KdumpDump::read(path, plain)
    {
        look_at(&dump);
    }
}

/// A dump's runs are in order, and its pages can be read or fail, but do not panic.
fn look_at(dump: &dyn Dump) {
    let Ok(runs) = dump::runs(dump) else { return };
    for pair in runs.windows(2) {
        assert!(pair[0].first + pair[0].pages <= pair[1].first, "runs overlap");
    }
    let mut reader = dump.reader();
    let mut page = vec![0; dump.facts().page_bytes()];
    let with_data = runs.iter().filter(|run| run.state == PageState::Data);
    for pfn in with_data.flat_map(|run| run.first..run.first + run.pages).take(MAX_PAGES) {
        let _ = reader.read(pfn, &mut page);
    }
}

/// A session that comes over some connections, one after the other. The input is items of a kind, a length (two bytes)
/// and so many bytes. The lower three bits of the kind: 0 session header, 1 end, 2 keep-alive (frames, whose CRC is right);
/// 3 a block in one frame (number, bytes); 4 a fragment (index, number of fragments, block, generation, bytes); 5 the end
/// of a connection; others any bytes. The upper bits are the session's number.
pub fn session(data: &[u8]) {
    let mut connections = vec![Vec::new()];
    let (mut rest, mut sequence) = (data, 0_u16);
    while let Some(([kind, low, high], behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(behind.len());
        let (bytes, behind) = behind.split_at(length);
        rest = behind;
        let Some(line) = connections.last_mut() else { return };
        let body = match *kind % 8 {
            0 => Body::Session(bytes),
            1 => Body::End(bytes),
            2 => Body::KeepAlive,
            3 => {
                let Some((block, bytes)) = bytes.split_first_chunk() else { continue };
                let bytes = &bytes[..bytes.len().min(MAX_FRAGMENT_BYTES)];
                let (block, generation) = (u32::from_le_bytes(*block), wire::generation(bytes));
                Body::Fragment(Fragment { stream: 0, block, generation, index: 0, count: 1, bytes })
            }
            4 => {
                let Some(([index, count, numbers @ ..], bytes)) = bytes.split_first_chunk::<10>() else {
                    continue;
                };
                let bytes = &bytes[..bytes.len().min(MAX_FRAGMENT_BYTES)];
                let [b0, b1, b2, b3, generation @ ..] = *numbers;
                let (block, generation) =
                    (u32::from_le_bytes([b0, b1, b2, b3]), u32::from_le_bytes(generation));
                let (index, count) = (*index, *count);
                Body::Fragment(Fragment { stream: 0, block, generation, index, count, bytes })
            }
            5 => {
                connections.push(Vec::new());
                continue;
            }
            _ => {
                line.extend_from_slice(bytes);
                continue;
            }
        };
        let mut frame = Vec::new();
        // The upper bits: another session.
        Frame { session: SessionId(u16::from(*kind >> 3)), sequence, body }.encode(&mut frame);
        sequence = sequence.wrapping_add(1);
        line.push(0);
        wire::line::encode(&frame, line);
    }
    let connections: Vec<&[u8]> = connections.iter().map(Vec::as_slice).collect();
    // Nothing of it need survive.
    let memory = Path::new("/dev/shm");
    let directory = if memory.exists() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let directory = directory.expect("a directory for temporary files");
    let options = recv::Options {
        directory: directory.path().to_owned(),
        write: write::Options::default(),
        timeout: Duration::from_secs(1),
        keep_journal: true,
        record: None,
        mount: None,
    };
    let Ok(Some(outcome)) = recv::replay(&connections, &options) else { return };
    let journal = JournalDump::open(&outcome.directory.join("journal")).expect("a journal");
    assert_eq!(journal.facts().is_complete, outcome.is_complete, "the journal holds something else");
    look_at(&journal);
    // A session header may name a machine that readers of a vmcore do not know.
    if let Ok(vmcore) = dump::open(&outcome.directory.join("vmcore")) {
        look_at(&*vmcore);
    }
}

/// A line: frames, text and rubbish, in two reads.
pub fn frame_decoder(data: &[u8]) {
    let mut receiver = Receiver::new(1);
    let mut text = 0;
    let mut take = |event: Event<'_>| match event {
        Event::Text(part) => text += part.len(),
        Event::Block { encoded, .. } => block(encoded),
        Event::Session(..) | Event::Restarted { .. } | Event::End(..) | Event::Unknown(_) => {}
    };
    let (first, second) = data.split_at(data.len() / 2);
    for (seconds, half) in (0..).zip([first, second]) {
        receiver.push(half, &mut take);
        receiver.idle(&mut take);
        // Somebody wants to look at the machine.
        let number = receiver.request(data.len() as u64, 1, Urgency::Soon);
        number.into_iter().for_each(|number| receiver.hurry(number));
        receiver.set_course(Course::Hold);
        receiver.service(Duration::from_secs(seconds));
        let said = receiver.take_replies().len();
        // A few replies for each frame, of which the shortest has ten bytes.
        assert!(said <= 100 + 3 * half.len(), "{said} bytes to {}", half.len());
    }
    assert!(text <= data.len(), "no text that was not there");
}

/// An encoded block and its records.
pub fn block(data: &[u8]) {
    let Ok(block) = Block::decode(data) else { return };
    assert_eq!(block.raw.len(), block.header.raw_bytes as usize);
    assert!(block.raw.len() <= MAX_RAW_BYTES);
    for page_shift in [12, 14, 16] {
        let records = Records::new(&block.raw, page_shift).take(block.raw.len() + 1).count();
        assert!(records <= block.raw.len(), "a record is at least a byte");
    }
}
