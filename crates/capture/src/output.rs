//! Pages and other records, into blocks, into the sender.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use codec::{Encoder, Filter};
use memory::{PagePart, PhysMemory, ReadFaultKind};
use wire::{Cursor, MAX_META_BYTES, MetaKind, Record, SessionEnd};

use crate::answer::Scratch;
use crate::block::BlockBuilder;
use crate::dump::Budget;
use crate::pump::{Interrupt, Pump};
use crate::ram::Ram;
use crate::runs::{Kind, Run, fill_word};
use crate::{Clock, Link};

/// While the line has nothing else to do, a block is sent at least so often.
const IDLE_BLOCK_EVERY: Duration = Duration::from_secs(1);

/// From a pass to the line. Whoever works for longer than half a millisecond calls [`Output::poll`] in between.
pub(crate) struct Output<'a, M: PhysMemory, L, C> {
    pub(crate) ram: Ram<'a, M>,
    pub(crate) pump: Pump<'a, L, C>,
    pub(crate) builder: BlockBuilder,
    pub(crate) page_shift: u32,
    /// One page, as it was read.
    page: Vec<u8>,
    /// Where the next record begins.
    cursor: Cursor,
    /// Pages that may be joined by their neighbours and are not sent yet, and the cursor behind them.
    run: Option<(Run, Cursor)>,
    filter: Filter,
    /// When the last block was closed.
    block_at: Duration,
    budget: Budget,
    started: Duration,
    /// Whether the dump may be ended where it is.
    may_be_cut: bool,
    pub(crate) scratch: Scratch,
}

impl<'a, M: PhysMemory, L: Link, C: Clock> Output<'a, M, L, C> {
    /// With all the memory it will ever take.
    pub(crate) fn new(
        ram: Ram<'a, M>,
        pump: Pump<'a, L, C>,
        encoder: Box<dyn Encoder>,
        budget: Budget,
    ) -> Self {
        let page_shift = ram.crash.page_shift();
        Self {
            ram,
            block_at: pump.now(),
            started: pump.now(),
            pump,
            builder: BlockBuilder::new(encoder, 1 << page_shift),
            page_shift,
            page: vec![0; 1 << page_shift],
            cursor: Cursor::START,
            run: None,
            filter: Filter::None,
            budget,
            may_be_cut: true,
            scratch: Scratch::new(),
        }
    }

    /// Forgets what is not sent, and begins to count anew.
    pub(crate) fn restart(&mut self) {
        self.builder.restart();
        self.run = None;
        self.may_be_cut = true;
    }

    /// What all records so far add up to.
    pub(crate) const fn totals(&self) -> SessionEnd {
        self.builder.totals()
    }

    /// Begins a pass, at `cursor`.
    pub(crate) fn begin_pass(&mut self, cursor: Cursor) -> Result<(), Interrupt> {
        self.use_filter(Filter::None)?;
        self.close_block()?;
        self.cursor = cursor;
        Ok(())
    }

    /// Says what suits the pages that follow.
    pub(crate) fn use_filter(&mut self, filter: Filter) -> Result<(), Interrupt> {
        if filter != self.filter {
            self.close_block()?;
            self.filter = filter;
        }
        Ok(())
    }

    /// Looks after the line: replies, bytes to write, answers, a block for an idle line, and whether the dump is to end.
    pub(crate) fn poll(&mut self) -> Result<(), Interrupt> {
        self.attend()?;
        if self.builder.is_closed() && self.pump.sender.has_room() {
            self.push_block();
        }
        let now = self.pump.now();
        if self.pump.sender.is_idle() && now.saturating_sub(self.block_at) >= IDLE_BLOCK_EVERY {
            self.close_block()?;
        }
        Ok(())
    }

    /// Whether the dump is to end where it is.
    pub(crate) fn look_for_end(&mut self) -> Result<(), Interrupt> {
        let time = self.pump.now().saturating_sub(self.started);
        let is_spent = self.budget.is_spent(self.pump.sent_bytes, time);
        if is_spent {
            self.pump.sender.hurry();
        }
        if self.may_be_cut && (is_spent || self.pump.sender.take_cut()) {
            return Err(Interrupt::Cut);
        }
        Ok(())
    }

    /// Lets the dump be ended: what is left to send no longer counts against the budget.
    pub(crate) const fn let_end(&mut self) {
        self.may_be_cut = false;
    }

    /// Reads a page, or the part of one that is RAM, and sends it. `at` is the cursor of the page, `behind` that of the
    /// next one.
    pub(crate) fn page(&mut self, part: &PagePart, at: Cursor, behind: Cursor) -> Result<(), Interrupt> {
        let start = part.pfn.start(self.page_shift).and_then(|start| start.checked_add(part.offset));
        let bytes = usize::try_from(part.bytes).ok().and_then(|length| self.page.get_mut(..length));
        // The memory map holds no address that this could fail for.
        let (Some(pa), Some(bytes)) = (start, bytes) else { return Ok(()) };
        let read = self.ram.memory.read(pa, bytes);
        let is_whole = part.bytes == 1 << self.page_shift;
        match read {
            Err(fault) => self.hole(part.pfn.0, fault.kind, behind),
            Ok(()) if is_whole => match fill_word(&self.page) {
                Some(word) => self.join(Run::new(Kind::Fill(word), part.pfn.0), behind),
                None => {
                    self.flush_run()?;
                    self.builder.stage(&Record::Page { pfn: part.pfn.0, bytes: &self.page });
                    self.staged(behind)
                }
            },
            Ok(()) => {
                // The page may have another part: the cursor stays on it.
                self.flush_run()?;
                let bytes = usize::try_from(part.bytes).ok().and_then(|length| self.page.get(..length));
                self.builder.stage(&Record::Bytes { pa: pa.0, bytes: bytes.unwrap_or_default() });
                self.staged(at)
            }
        }
    }

    /// Says that a page cannot, or must not, be read.
    pub(crate) fn hole(&mut self, pfn: u64, why: ReadFaultKind, behind: Cursor) -> Result<(), Interrupt> {
        self.join(Run::new(Kind::Hole(why as u8), pfn), behind)
    }

    /// Adds a page to the run before it, or begins a new one.
    fn join(&mut self, page: Run, behind: Cursor) -> Result<(), Interrupt> {
        if let Some((run, end)) = &mut self.run
            && run.join(&page)
        {
            *end = behind;
            return Ok(());
        }
        self.flush_run()?;
        self.run = Some((page, behind));
        Ok(())
    }

    /// Sends `bytes`, which belong at `offset` of something of `total` bytes. The cursor counts bytes of its pass.
    pub(crate) fn meta(
        &mut self,
        kind: MetaKind,
        offset: u32,
        total: u32,
        bytes: &[u8],
    ) -> Result<(), Interrupt> {
        let mut offset = offset;
        for piece in bytes.chunks(MAX_META_BYTES) {
            let end = u32::try_from(piece.len()).ok().and_then(|length| offset.checked_add(length));
            // Longer than it was counted (someone still writes to it): what was announced is sent.
            let Some(end) = end.filter(|&end| end <= total) else { break };
            let position = self.cursor.position + u64::from(end - offset);
            self.builder.stage(&Record::Meta { kind, offset, total, bytes: piece });
            self.staged(Cursor { position, ..self.cursor })?;
            offset = end;
        }
        Ok(())
    }

    fn flush_run(&mut self) -> Result<(), Interrupt> {
        let Some((run, behind)) = self.run.take() else { return Ok(()) };
        self.builder.stage(&run.record());
        self.staged(behind)
    }

    /// Adds the staged record, which ends at `end`; makes room for it as needed.
    fn staged(&mut self, end: Cursor) -> Result<(), Interrupt> {
        if !self.builder.fits() {
            self.finish_block()?;
            self.builder.open(self.cursor, self.filter);
        }
        let Self { builder, pump, .. } = self;
        builder.add(end, || pump.poll())?;
        self.cursor = end;
        Ok(())
    }

    /// Sends what there is.
    pub(crate) fn close_block(&mut self) -> Result<(), Interrupt> {
        self.flush_run()?;
        self.finish_block()
    }

    fn finish_block(&mut self) -> Result<(), Interrupt> {
        // While it waits for its turn, the encoder is free for answers.
        self.builder.close()?;
        if !self.builder.is_closed() {
            return Ok(());
        }
        // The buffer that it is in is needed for the next one: it must leave it.
        while !self.pump.sender.has_room() {
            self.attend()?;
        }
        self.push_block();
        Ok(())
    }

    /// Hands the closed block to the sender, which has room for it.
    fn push_block(&mut self) {
        if let Some(block) = self.builder.take() {
            self.pump.sender.push(block.bytes, block.end);
            self.block_at = self.pump.now();
        }
    }
}
