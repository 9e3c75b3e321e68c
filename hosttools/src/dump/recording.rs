//! A raw recording of a line (picocom, ser2net, `recv --record`): run through the receiver into a journal.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use wire::{Event, Receiver, SessionId};

use super::JournalDump;
use crate::Error;
use crate::file;
use crate::journal::Writer;

/// Bytes of a recording without any frame after which it is taken for something else.
const MAX_FOREIGN_BYTES: u64 = 16 << 20;

/// Reads the first session of a recording. Its journal is a file without a name, gone with the dump.
///
/// # Errors
/// [`Error::NotADump`], if there is no session in it; and those of files.
pub(super) fn open(path: &Path) -> Result<JournalDump, Error> {
    let temporary =
        || tempfile::tempfile().map_err(Error::io("create a temporary journal in", std::env::temp_dir()));
    let mut journal = Blocks { waiting: Vec::new(), writer: None, is_over: false };
    let into = temporary()?;
    let out = into.try_clone().map_err(Error::io("create a temporary journal in", std::env::temp_dir()))?;
    let mut out = Some(BufWriter::new(out));
    let mut input = file::open(path)?;
    let mut receiver = Receiver::new(1);
    let mut buf = vec![0; 256 << 10];
    let mut read = 0;
    while !journal.is_over {
        let count = input.read(&mut buf).map_err(Error::io("read recording", path))?;
        if count == 0 {
            break;
        }
        read += count as u64;
        let mut result = Ok(());
        receiver.push(buf.get(..count).unwrap_or_default(), |event| {
            if result.is_ok() {
                result = journal.take(event, &mut out);
            }
        });
        result.map_err(Error::io("write a temporary journal in", std::env::temp_dir()))?;
        if receiver.stats().frames == 0 && read >= MAX_FOREIGN_BYTES {
            break;
        }
    }
    let Some(mut writer) = journal.writer else { return Err(Error::NotADump { path: path.to_owned() }) };
    writer.flush().map_err(Error::io("write a temporary journal in", std::env::temp_dir()))?;
    JournalDump::read(path, Arc::new(into))
}

type Out = BufWriter<File>;

/// The journal of the first session with a header.
struct Blocks {
    /// Blocks that came before the header: stream, number, generation, encoded.
    waiting: Vec<(SessionId, u8, u32, u32, Vec<u8>)>,
    writer: Option<JournalOf>,
    is_over: bool,
}

struct JournalOf {
    session: SessionId,
    writer: Writer<Out>,
}

impl JournalOf {
    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.get_mut().flush()
    }
}

impl Blocks {
    fn take(&mut self, event: Event<'_>, out: &mut Option<Out>) -> std::io::Result<()> {
        match event {
            Event::Session(session, header) => {
                if self.writer.is_some() {
                    // Another dump begins: this program converts the first.
                    self.is_over = true;
                } else if let Some(out) = out.take() {
                    let mut writer = Writer::new(out)?;
                    writer.session(session, header)?;
                    for (of, stream, number, generation, encoded) in self.waiting.drain(..) {
                        if of == session {
                            writer.block(stream, number, generation, &encoded)?;
                        }
                    }
                    self.writer = Some(JournalOf { session, writer });
                }
            }
            Event::Block { session, stream, number, generation, encoded } => match &mut self.writer {
                Some(journal) if journal.session == session => {
                    journal.writer.block(stream, number, generation, encoded)?;
                }
                Some(_) => {}
                None => self.waiting.push((session, stream, number, generation, encoded.to_vec())),
            },
            Event::End(session, end) => {
                if let Some(journal) = &mut self.writer
                    && journal.session == session
                {
                    journal.writer.end(&end)?;
                }
            }
            Event::Restarted { first_block } => {
                if let Some(journal) = &mut self.writer {
                    journal.writer.restart(first_block)?;
                }
            }
            Event::Text(_) | Event::Unknown(_) => {}
        }
        Ok(())
    }
}
