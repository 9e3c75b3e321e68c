//! The dump itself: passes over the machine, as records, in blocks, through the sender.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use codec::{Encoder, Filter, OutputFull};
use memory::{PagePart, Pfn, PhysAddr, PhysMemory, ReadFault};
use wire::{
    Cursor, MAX_META_BYTES, MAX_META_TOTAL, MetaKind, Record, Sender, SessionEnd, SessionHeader, SessionId,
};

use crate::block::BlockBuilder;
use crate::crash::read_notes;
use crate::pump::{Interrupt, LinkStalled, Pump};
use crate::runs::{Kind, Run, fill_word};
use crate::{Clock, Crash, Link};

/// Pass 1: elfcorehdr and notes. The position counts their bytes.
const PASS_META: u8 = 1;
/// Pass 2: all of RAM. The position is a page frame number.
const PASS_PAGES: u8 = 2;
/// Pass 3: pass 1 once more, if nobody answers.
const PASS_META_AGAIN: u8 = 3;

/// While the line has nothing else to do, a block is sent at least so often.
const IDLE_BLOCK_EVERY: Duration = Duration::from_secs(1);

/// A line of progress for whoever watches the console.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// How to dump.
pub struct Options {
    /// The session's number; should differ from one crash to the next.
    pub session: SessionId,
    /// The codec, with all its memory.
    pub encoder: Box<dyn Encoder>,
}

/// Why a dump ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The link is dead.
    #[error(transparent)]
    Link(#[from] LinkStalled),
    /// The codec made more than it may: an error of this program.
    #[error(transparent)]
    Codec(#[from] OutputFull),
    /// Memory of this machine is encrypted, and what would be read is not its content.
    #[error("memory is encrypted (sme_mask {0:#x}): rcapture cannot read it")]
    Encrypted(u64),
}

/// Sends everything: the whole session, from its header to its end.
///
/// `physical` is memory as it is now; it is read through the crash's memory map, one page at a time, and a page that
/// cannot be read becomes a hole.
///
/// # Errors
/// [`SendError`], after which the link is of no more use.
pub fn send<M: PhysMemory, L: Link, C: Clock>(
    crash: &Crash,
    physical: &M,
    link: &mut L,
    clock: &C,
    options: Options,
) -> Result<SessionEnd, SendError> {
    let info = crash.info();
    let sme_mask = info.number_u64("sme_mask").unwrap_or(0);
    if sme_mask != 0 {
        return Err(SendError::Encrypted(sme_mask));
    }
    let header = SessionHeader {
        e_machine: crash.core.machine.e_machine(),
        page_shift: u8::try_from(crash.page_shift()).unwrap_or(12),
        dump_level: 0,
        crash_time: info.crash_time().unwrap_or(0),
        ram_pages: crash.ram_pages(),
        utsname: crate::uts::utsname(crash, physical),
    };
    let builder = BlockBuilder::new(options.encoder, 1 << header.page_shift);
    let mut dump = Dump {
        crash,
        physical,
        pump: Pump::new(Sender::new(options.session, header), link, clock),
        builder,
        cursor: Cursor::START,
        run: None,
        block_at: clock.now(),
        progress_at: clock.now(),
    };
    for fault in crash.faults() {
        dump.pump.sender.text(&format!("rcapture: {fault}; left out"));
    }
    let mut from = Cursor::START;
    loop {
        match dump.send_from(from) {
            Ok(end) => return Ok(end),
            Err(Interrupt::Rewind(cursor)) => from = cursor,
            Err(Interrupt::Failed(error)) => return Err(error),
        }
    }
}

struct Dump<'a, M, L, C> {
    crash: &'a Crash,
    physical: &'a M,
    pump: Pump<'a, L, C>,
    builder: BlockBuilder,
    /// Where the next record begins.
    cursor: Cursor,
    /// Pages that may be joined by their neighbours, and are not sent yet.
    run: Option<Run>,
    /// When the last block was closed, and when progress was last told.
    block_at: Duration,
    progress_at: Duration,
}

impl<M: PhysMemory, L: Link, C: Clock> Dump<'_, M, L, C> {
    /// Sends everything from a cursor on.
    fn send_from(&mut self, from: Cursor) -> Result<SessionEnd, Interrupt> {
        self.builder.restart();
        self.run = None;
        if from.pass <= PASS_META {
            // It is short: wherever in it the receiver wants to go on, it is sent whole.
            self.meta(PASS_META)?;
        }
        if from.pass <= PASS_PAGES {
            let first = if from.pass == PASS_PAGES { from.position } else { 0 };
            self.pages(Pfn(first))?;
        }
        if !self.pump.sender.is_answered() {
            // Nobody says what got lost. Without these a dump is nothing; twice they are likelier to come.
            self.meta(PASS_META_AGAIN)?;
        }
        self.close_block()?;
        let sender = &mut self.pump.sender;
        let end = SessionEnd {
            blocks: sender.next_block(),
            first_block: sender.first_block(),
            ..self.builder.totals
        };
        sender.end(&end);
        self.pump.drain()?;
        Ok(end)
    }

    /// Passes 1 and 3: what describes the machine.
    fn meta(&mut self, pass: u8) -> Result<(), Interrupt> {
        let (crash, physical) = (self.crash, self.physical);
        self.cursor = Cursor { pass, position: 0 };
        let headers = &crash.core.headers;
        self.meta_part(MetaKind::Elfcorehdr, &mut 0, total(headers.len()), headers)?;

        let mut buffer = Vec::new();
        let all_notes =
            crash.core.notes.iter().map(|segment| read_notes(segment, physical, &mut buffer).len()).sum();
        let mut offset = 0;
        for segment in &crash.core.notes {
            let notes = read_notes(segment, physical, &mut buffer);
            self.meta_part(MetaKind::Notes, &mut offset, total(all_notes), notes)?;
        }
        // A person waits for this: it does not share a block with what may come slowly.
        self.close_block()
    }

    /// Sends `bytes`, which belong at `offset` of something of `total` bytes; moves `offset` behind them.
    fn meta_part(
        &mut self,
        kind: MetaKind,
        offset: &mut u32,
        total: u32,
        bytes: &[u8],
    ) -> Result<(), Interrupt> {
        for piece in bytes.chunks(MAX_META_BYTES) {
            let end = u32::try_from(piece.len()).ok().and_then(|length| offset.checked_add(length));
            // Longer than it was counted (someone still writes to it): what was announced is sent.
            let Some(end) = end.filter(|&end| end <= total) else { break };
            let position = self.cursor.position + u64::from(end - *offset);
            let behind = Cursor { position, ..self.cursor };
            let record = Record::Meta { kind, offset: *offset, total, bytes: piece };
            self.record(&record, behind)?;
            *offset = end;
        }
        Ok(())
    }

    /// Pass 2: every page of RAM from `first` on.
    fn pages(&mut self, first: Pfn) -> Result<(), Interrupt> {
        let crash = self.crash;
        let memory = crash.memory(self.physical);
        let page_shift = crash.page_shift();
        let ram_pages = crash.ram_pages();
        let mut page = vec![0; 1 << page_shift];
        self.cursor = Cursor { pass: PASS_PAGES, position: first.0 };
        let done_before = crash.ram_pages_below(first);
        for (done, part) in (done_before + 1..).zip(crash.map.pages_from(first, page_shift)) {
            let start = part.pfn.start(page_shift).and_then(|start| start.checked_add(part.offset));
            let length = usize::try_from(part.bytes).unwrap_or(usize::MAX);
            // The memory map holds no address that this could fail for.
            if let (Some(pa), Some(bytes)) = (start, page.get_mut(..length)) {
                let read = memory.read(pa, bytes);
                self.page(&part, pa, read.map(|()| &*bytes), 1 << page_shift)?;
            }
            self.pump.poll()?;
            self.look_at_the_clock(done, ram_pages)?;
        }
        self.flush_run()?;
        self.close_block()
    }

    /// One page, or the part of one that is RAM, at `pa`.
    fn page(
        &mut self,
        part: &PagePart,
        pa: PhysAddr,
        read: Result<&[u8], ReadFault>,
        page_bytes: usize,
    ) -> Result<(), Interrupt> {
        let pfn = part.pfn.0;
        let behind = Cursor { pass: PASS_PAGES, position: pfn + 1 };
        let run = match read {
            Err(fault) => Kind::Hole(fault.kind as u8),
            Ok(bytes) if bytes.len() < page_bytes => {
                // The page may have another part: the cursor stays on it.
                let here = Cursor { pass: PASS_PAGES, position: pfn };
                self.flush_run()?;
                return self.record(&Record::Bytes { pa: pa.0, bytes }, here);
            }
            Ok(bytes) => match fill_word(bytes) {
                Some(word) => Kind::Fill(word),
                None => {
                    self.flush_run()?;
                    return self.record(&Record::Page { pfn, bytes }, behind);
                }
            },
        };
        let run = Run::new(run, pfn);
        if !self.run.as_mut().is_some_and(|before| before.join(&run)) {
            self.flush_run()?;
            self.run = Some(run);
        }
        Ok(())
    }

    /// What time asks for: a block for an idle line, a line of progress for a person.
    fn look_at_the_clock(&mut self, done: u64, ram_pages: u64) -> Result<(), Interrupt> {
        let now = self.pump.now();
        if self.pump.sender.is_idle() && now.saturating_sub(self.block_at) >= IDLE_BLOCK_EVERY {
            self.flush_run()?;
            self.close_block()?;
        }
        if now.saturating_sub(self.progress_at) >= PROGRESS_EVERY {
            self.progress_at = now;
            let percent = done.saturating_mul(100) / ram_pages.max(1);
            let sent_kib = self.pump.sent_bytes >> 10;
            self.pump.sender.text(&format!("rcapture: {percent} % of memory read, {sent_kib} KiB sent"));
        }
        Ok(())
    }

    fn flush_run(&mut self) -> Result<(), Interrupt> {
        let Some(run) = self.run.take() else { return Ok(()) };
        self.record(&run.record(), Cursor { pass: PASS_PAGES, position: run.end() })
    }

    /// Adds a record that ends at `end`; makes room for it as needed.
    fn record(&mut self, record: &Record<'_>, end: Cursor) -> Result<(), Interrupt> {
        self.builder.stage(record);
        if !self.builder.fits() {
            self.close_block()?;
            self.builder.open(self.cursor, Filter::None);
        }
        let Self { builder, pump, .. } = self;
        builder.add(end, || pump.poll())?;
        self.cursor = end;
        Ok(())
    }

    fn close_block(&mut self) -> Result<(), Interrupt> {
        // The buffer that the open block is in is needed for the next one: this one must leave it.
        self.pump.wait_for_room()?;
        if let Some(block) = self.builder.close()? {
            self.pump.sender.push(block.bytes, block.end);
            self.block_at = self.pump.now();
        }
        Ok(())
    }
}

/// What a [`Record::Meta`] announces as its whole: no more than the format allows.
fn total(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).min(MAX_META_TOTAL)
}
