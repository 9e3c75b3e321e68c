//! Where a vmcore's bytes go: a file that can seek, or records that need not.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use vmcore::flattened::{RecordHead, header};

use crate::Error;

/// Zeros written at once.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A new file, written at offsets in any order, each byte at most once.
pub(super) trait Sink {
    /// Writes `bytes` at `offset`.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error>;

    /// Makes `bytes` zeros at `offset`, where nothing was or will be written.
    fn zeros_at(&mut self, offset: u64, bytes: u64) -> Result<(), Error>;

    /// Everything has been written: the file has `bytes` bytes.
    fn finish(&mut self, bytes: u64) -> Result<(), Error>;
}

/// A plain file. Zeros become holes in it.
pub(super) struct FileSink<'a> {
    file: &'a File,
    path: PathBuf,
}

impl<'a> FileSink<'a> {
    pub(super) fn new(file: &'a File, path: &Path) -> Self {
        Self { file, path: path.to_owned() }
    }
}

impl Sink for FileSink<'_> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all_at(bytes, offset).map_err(Error::io("write", &self.path))
    }

    fn zeros_at(&mut self, _offset: u64, _bytes: u64) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&mut self, bytes: u64) -> Result<(), Error> {
        self.file.set_len(bytes).map_err(Error::io("write", &self.path))
    }
}

/// No file: where only the layout of one is asked for.
pub(super) struct Nowhere;

impl Sink for Nowhere {
    fn write_at(&mut self, _offset: u64, _bytes: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    fn zeros_at(&mut self, _offset: u64, _bytes: u64) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&mut self, _bytes: u64) -> Result<(), Error> {
        Ok(())
    }
}

/// Records of makedumpfile's flattened format. Zeros are written: not every reader takes a gap for them.
pub(super) struct FlattenedSink<W> {
    out: W,
    path: PathBuf,
}

impl<W: Write> FlattenedSink<W> {
    pub(super) fn new(mut out: W, path: &Path) -> Result<Self, Error> {
        out.write_all(&header()).map_err(Error::io("write", path))?;
        Ok(Self { out, path: path.to_owned() })
    }

    fn record(&mut self, head: RecordHead, data: &[u8]) -> Result<(), Error> {
        let head = head.encode().map_err(|error| io::Error::other(error.to_string()));
        head.and_then(|head| self.out.write_all(&head))
            .and_then(|()| self.out.write_all(data))
            .map_err(Error::io("write", &self.path))
    }
}

impl<W: Write> Sink for FlattenedSink<W> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.record(RecordHead::Data { offset, bytes: bytes.len() as u64 }, bytes)
    }

    fn zeros_at(&mut self, offset: u64, bytes: u64) -> Result<(), Error> {
        let (mut at, mut left) = (offset, bytes);
        while left > 0 {
            let now = left.min(ZEROS.len() as u64);
            let zeros = usize::try_from(now).ok().and_then(|now| ZEROS.get(..now)).unwrap_or_default();
            self.write_at(at, zeros)?;
            at = at.saturating_add(now);
            left -= now;
        }
        Ok(())
    }

    fn finish(&mut self, _bytes: u64) -> Result<(), Error> {
        self.record(RecordHead::End, &[])?;
        self.out.flush().map_err(Error::io("write", &self.path))
    }
}

/// Bytes that follow one another, handed to a sink in large pieces.
pub(super) struct Appender {
    at: u64,
    buffer: Vec<u8>,
}

/// Bytes an appender holds back.
const APPEND_BYTES: usize = 1 << 20;

impl Appender {
    pub(super) fn new(at: u64) -> Self {
        Self { at, buffer: Vec::new() }
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.at.saturating_add(self.buffer.len() as u64)
    }

    pub(super) fn append(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<(), Error> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= APPEND_BYTES { self.flush(sink) } else { Ok(()) }
    }

    /// Appends zeros: as bytes where they are few, as a hole where they are many.
    pub(super) fn append_zeros(&mut self, bytes: u64, sink: &mut dyn Sink) -> Result<(), Error> {
        if let Some(zeros) = usize::try_from(bytes).ok().and_then(|bytes| ZEROS.get(..bytes)) {
            return self.append(zeros, sink);
        }
        self.flush(sink)?;
        sink.zeros_at(self.at, bytes)?;
        self.at = self.at.saturating_add(bytes);
        Ok(())
    }

    pub(super) fn flush(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        sink.write_at(self.at, &self.buffer)?;
        self.at = self.position();
        self.buffer.clear();
        Ok(())
    }
}
