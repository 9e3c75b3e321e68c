//! Targets that read what comes over a line, and the files the host's tools read.

use std::path::Path;
use std::sync::Arc;

use rcapture::dump::{self, Dump, ElfDump, Flattened, JournalDump, KdumpDump, PageState};
use wire::{Block, Event, MAX_RAW_BYTES, Receiver, Records};

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
    receiver.push(first, &mut take);
    receiver.idle(&mut take);
    receiver.push(second, &mut take);
    receiver.idle(&mut take);
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
