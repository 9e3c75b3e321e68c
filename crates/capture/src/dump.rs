//! The dump itself: the order of its passes, and what they share.

use alloc::boxed::Box;
use alloc::format;
use core::time::Duration;

use codec::{Encoder, OutputFull};
use memory::{
    Classifier, CrashedMemory, DumpLevel, KernelImage, KernelSpace, MemMap, PageCounts, Pfn, PhysMemory,
};
use wire::{Cursor, Pass, Sender, SessionEnd, SessionHeader, SessionId};

use crate::answer::Serve;
use crate::early::EarlyFrames;
use crate::output::Output;
use crate::pump::{Interrupt, LinkStalled, Pump, Unanswered};
use crate::ram::Ram;
use crate::regions::Regions;
use crate::{Clock, Crash, Link};

/// A line of progress for whoever watches the console.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// What a dump takes of the heap at most, beside its encoder.
pub const HEAP_BESIDE_ENCODER_BYTES: usize = 640 * 1024;

/// How to dump.
pub struct Options {
    /// The session's number; should differ from one crash to the next.
    pub session: SessionId,
    /// The codec, with all its memory.
    pub encoder: Box<dyn Encoder>,
    /// What to leave out.
    pub level: DumpLevel,
    /// When to stop.
    pub budget: Budget,
    /// Whether the link is of no use if nobody answers: a connection, not a line, which may have no way back.
    pub needs_answers: bool,
    /// Whether to stay after the end. `None`: only as long as a receiver says so that answers.
    pub serve: Option<Serve>,
}

/// How much a dump may cost; whatever is spent first ends it, in good order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Bytes on the line.
    pub bytes: Option<u64>,
    /// Time since the session began.
    pub time: Option<Duration>,
}

impl Budget {
    pub(crate) fn is_spent(self, bytes: u64, time: Duration) -> bool {
        self.bytes.is_some_and(|limit| bytes >= limit) || self.time.is_some_and(|limit| time >= limit)
    }
}

/// Why a dump ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The link is dead.
    #[error(transparent)]
    Link(#[from] LinkStalled),
    /// The link needs somebody who answers.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
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
        dump_level: options.level.number(),
        crash_time: info.crash_time().unwrap_or(0),
        ram_pages: crash.ram_pages(),
        utsname: crate::uts::utsname(crash, physical),
    };
    let mut pump = Pump::new(Sender::new(options.session, header), link, clock);
    if options.serve.is_some() {
        pump.sender.stay_after_end();
    }
    for fault in crash.faults() {
        pump.sender.text(&format!("rcapture: {fault}; left out"));
    }
    let (kernel, memmap) = find_kernel(crash, physical, &mut pump.sender);
    let mut dump = Dump {
        crash,
        physical,
        kernel,
        image: memmap.map(|memmap| *memmap.image()),
        struct_page_bytes: info.size("page").and_then(|bytes| u8::try_from(bytes).ok()),
        level: options.level,
        regions: Regions::new(),
        early: EarlyFrames::new(),
        counts: PageCounts::default(),
        done_pages: 0,
        progress_at: clock.now(),
        needs_answers: options.needs_answers,
        serve: options.serve,
        out: Output::new(
            Ram {
                crash,
                memory: crash.memory(physical),
                classifier: Classifier::new(memmap.zip(kernel), options.level),
            },
            pump,
            options.encoder,
            options.budget,
        ),
    };
    let mut from = Cursor::START;
    loop {
        match dump.send_from(from) {
            Ok(end) => return Ok(end),
            Err(Interrupt::Rewind(cursor)) => from = cursor,
            Err(Interrupt::Failed(error)) => return Err(error),
            // `send_from` stops for it, and nothing it does afterwards is cut.
            Err(Interrupt::Cut) => {}
        }
    }
}

type CrashedKernel<'a, M> = KernelSpace<CrashedMemory<'a, &'a M>>;

/// The kernel's page tables and memmap; what is missing is said on the line, and done without.
fn find_kernel<'a, M: PhysMemory>(
    crash: &'a Crash,
    physical: &'a M,
    sender: &mut Sender,
) -> (Option<CrashedKernel<'a, M>>, Option<MemMap>) {
    let info = crash.info();
    let kernel = match KernelSpace::new(crash.memory(physical), crash.core.machine, &info) {
        Ok(kernel) => kernel,
        Err(error) => {
            sender.text(&format!("rcapture: {error}: every page is sent"));
            return (None, None);
        }
    };
    match MemMap::find(&info, &kernel) {
        Ok(memmap) => (Some(kernel), Some(memmap)),
        Err(error) => {
            sender.text(&format!("rcapture: {error}: every page is sent"));
            (Some(kernel), None)
        }
    }
}

/// What the passes share.
pub(crate) struct Dump<'a, M: PhysMemory, L, C> {
    pub(crate) crash: &'a Crash,
    /// Memory as it is now.
    pub(crate) physical: &'a M,
    /// The crashed kernel's address space; `None`: its page tables are not known.
    pub(crate) kernel: Option<CrashedKernel<'a, M>>,
    /// The kernel image; `None`: it is not known.
    pub(crate) image: Option<KernelImage>,
    /// Bytes of a struct page.
    pub(crate) struct_page_bytes: Option<u8>,
    pub(crate) level: DumpLevel,
    pub(crate) regions: Regions,
    pub(crate) early: EarlyFrames,
    /// Pages by class, once they are counted.
    pub(crate) counts: PageCounts,
    /// Pages that the late passes are done with.
    pub(crate) done_pages: u64,
    progress_at: Duration,
    needs_answers: bool,
    serve: Option<Serve>,
    pub(crate) out: Output<'a, M, L, C>,
}

impl<M: PhysMemory, L: Link, C: Clock> Dump<'_, M, L, C> {
    /// Sends everything from a cursor on.
    fn send_from(&mut self, from: Cursor) -> Result<SessionEnd, Interrupt> {
        self.out.restart();
        if self.needs_answers {
            self.out.pump.need_answers();
        }
        // What was sent early in vain comes again with the late passes.
        self.early.clear();
        let is_cut = match self.passes(from) {
            Err(Interrupt::Cut) => true,
            other => other.map(|()| false)?,
        };
        self.out.let_end();
        if !self.out.pump.sender.is_answered() {
            // Nobody says what got lost. Without these a dump is nothing; twice they are likelier to come.
            self.begin(Pass::Again, 0)?;
            self.meta()?;
            self.log()?;
            self.cpu_stacks()?;
        }
        self.out.close_block()?;
        let totals = self.out.totals();
        let sender = &mut self.out.pump.sender;
        let end =
            SessionEnd { blocks: sender.next_block(), first_block: sender.first_block(), is_cut, ..totals };
        sender.end(&end);
        self.out.see_off(self.serve)?;
        Ok(end)
    }

    /// The passes from a cursor on, up to [`Pass::Rest`]. The first ones are short: wherever in one the receiver wants to
    /// go on, it is sent whole.
    fn passes(&mut self, from: Cursor) -> Result<(), Interrupt> {
        for pass in Pass::ALL.into_iter().filter(|pass| pass.number() >= from.pass) {
            let is_short = pass <= Pass::Count;
            let position = if pass.number() == from.pass && !is_short { from.position } else { 0 };
            self.begin(pass, position)?;
            match pass {
                Pass::Meta => self.meta()?,
                Pass::Log => self.log()?,
                Pass::CpuStacks => self.cpu_stacks()?,
                Pass::Count => self.count()?,
                Pass::Data => self.data(Pfn(position))?,
                Pass::Constants => self.constants(Pfn(position))?,
                Pass::PerCpu => self.per_cpu(position)?,
                Pass::PageTables => self.page_tables(position)?,
                Pass::Tasks => self.tasks(Pfn(position))?,
                Pass::Stacks => self.stacks(position)?,
                Pass::Slab | Pass::Kernel | Pass::Image | Pass::Rest => {
                    self.late(pass, Pfn(position))?;
                }
                Pass::Again => {}
            }
        }
        self.out.close_block()
    }

    fn begin(&mut self, pass: Pass, position: u64) -> Result<(), Interrupt> {
        self.out.begin_pass(Cursor { pass: pass.number(), position })
    }

    /// Looks after the line, and tells a person at the console now and then how far the dump is.
    pub(crate) fn poll(&mut self, pass: Pass) -> Result<(), Interrupt> {
        self.out.poll()?;
        let now = self.out.pump.now();
        if now.saturating_sub(self.progress_at) >= PROGRESS_EVERY {
            self.progress_at = now;
            let sent_kib = self.out.pump.sent_bytes >> 10;
            let kept = self.level.kept_pages(&self.counts);
            let percent = self.done_pages.saturating_mul(100).checked_div(kept).unwrap_or(0).min(100);
            let line = format!("rcapture: {}, {percent} % of {kept} pages, {sent_kib} KiB sent", pass.name());
            self.out.pump.sender.text(&line);
        }
        Ok(())
    }
}
