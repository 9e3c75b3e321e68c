//! A machine that crashed once, sent again: a full dump takes the place of the crashed memory, and a virtual clock that of
//! the line. So what goes over a line is known to the byte, for any machine that a dump was made of, without QEMU.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use capture::{Budget, Clock, Crash, Link, Options, send};
use codec::Encoder;
use memory::{DumpLevel, PhysAddr, PhysMemory, ReadFault, ReadFaultKind};
use rcapture::dump::{Dump, DumpMemory, Facts};
use vmcore::headers::{Class, CoreHeader, ProgramHeader, push_program_header};
use vmcore::notes::{Notes, push_note};
use wire::{SessionEnd, SessionId};

/// Where the elfcorehdr is put: above all RAM.
const ELFCOREHDR_PA: u64 = 1 << 50;

/// Bits of a byte on a serial line: start, eight, stop.
const BITS_PER_BYTE: u64 = 10;

/// Time that the capture kernel works before it looks after the line again: 96 bytes into LZMA, on a slow machine.
const WORK: Duration = Duration::from_micros(100);

/// The memory of a machine, as its capture kernel would find it.
pub struct Replay<'a> {
    memory: DumpMemory<'a>,
    elfcorehdr: Vec<u8>,
}

/// What a replay gave.
pub struct Replayed {
    /// Bytes of the line, in their order.
    pub line: Vec<u8>,
    /// Its rate, in bits per second.
    pub baud: u64,
    /// What was sent.
    pub end: SessionEnd,
}

impl Replayed {
    /// What had been on the line at a time since the session's begin.
    #[must_use]
    pub fn until(&self, time: Duration) -> &[u8] {
        self.line.get(..bytes_in(time, self.baud)).unwrap_or(&self.line)
    }
}

impl<'a> Replay<'a> {
    /// Finds in the memory of `dump`, a full one, what its capture kernel went by.
    ///
    /// # Errors
    /// If the crash notes are not in the dump's memory.
    pub fn of(dump: &'a dyn Dump) -> Result<Self> {
        let memory = DumpMemory::new(dump);
        let elfcorehdr = elfcorehdr(dump.facts(), &memory)?;
        Ok(Self { memory, elfcorehdr })
    }

    /// Sends the machine over a line of `baud`, to nobody.
    ///
    /// # Errors
    /// If there is nothing to go by.
    pub fn send(
        &self,
        encoder: Box<dyn Encoder>,
        level: DumpLevel,
        budget: Budget,
        baud: u64,
    ) -> Result<Replayed> {
        let crash = Crash::read(ELFCOREHDR_PA, self)?;
        let clock = LineClock(Rc::default());
        let mut line = Line { bytes: Vec::new(), baud, now: clock.0.clone() };
        let options =
            Options { session: SessionId(1), encoder, level, budget, needs_answers: false, serve: None };
        let end = send(&crash, self, &mut line, &clock, options)?;
        Ok(Replayed { line: line.bytes, baud, end })
    }
}

impl PhysMemory for Replay<'_> {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        let Some(offset) = pa.0.checked_sub(ELFCOREHDR_PA) else { return self.memory.read(pa, buf) };
        let from = usize::try_from(offset).ok().and_then(|offset| self.elfcorehdr.get(offset..));
        let from = from.and_then(|from| from.get(..buf.len()));
        buf.copy_from_slice(from.ok_or(ReadFault { pa, kind: ReadFaultKind::NotRam })?);
        Ok(())
    }
}

/// The elfcorehdr as the kernel had prepared it: a PT_NOTE for each note where it lies in memory, and the RAM.
fn elfcorehdr(facts: &Facts, memory: &DumpMemory<'_>) -> Result<Vec<u8>> {
    let mut headers = Vec::new();
    for note in Notes::new(&facts.notes).filter(|note| matches!(note.name, b"CORE" | b"VMCOREINFO")) {
        // As a whole: a CPU's registers may be on a stack, too.
        let mut bytes = Vec::new();
        push_note(note.name, note.n_type, note.desc, &mut bytes)?;
        let pa = find(facts, memory, &bytes).with_context(|| {
            format!("the dump's memory does not have the note {}", String::from_utf8_lossy(note.name))
        })?;
        let p_filesz = bytes.len() as u64;
        headers.push(ProgramHeader {
            p_type: 4,
            p_flags: 0,
            p_vaddr: 0,
            p_align: 0,
            p_offset: pa.0,
            p_paddr: pa.0,
            p_filesz,
            p_memsz: p_filesz,
        });
    }
    headers.extend(facts.segments.iter().map(|load| ProgramHeader {
        p_type: 1,
        p_flags: 7,
        p_offset: load.p_paddr,
        p_vaddr: load.p_vaddr,
        p_paddr: load.p_paddr,
        p_filesz: load.p_memsz,
        p_memsz: load.p_memsz,
        p_align: 0,
    }));
    let mut bytes = Vec::new();
    let class = Class::ELF64;
    let e_phnum = u16::try_from(headers.len())?;
    CoreHeader { class, machine: facts.machine, e_flags: 0, e_phoff: 64, e_shoff: 0, e_phnum }
        .encode(&mut bytes)?;
    for header in &headers {
        push_program_header(class, header, &mut bytes)?;
    }
    Ok(bytes)
}

/// Where the machine's memory has these bytes.
fn find(facts: &Facts, memory: &DumpMemory<'_>, bytes: &[u8]) -> Option<PhysAddr> {
    // Registers of an idle CPU are mostly zero: what is looked for first is the part that is least so.
    let zeros = |start: &usize| bytes[*start..].iter().take(32).filter(|&&byte| byte == 0).count();
    let start = (0..bytes.len().saturating_sub(32)).step_by(4).min_by_key(zeros)?;
    let needle = &bytes[start..start + 32];
    let mut page = vec![0; facts.page_bytes()];
    let mut found = vec![0; bytes.len()];
    for part in facts.map.pages(facts.page_shift) {
        let page_pa = part.pfn.start(facts.page_shift)?;
        if memory.read(page_pa, &mut page).is_err() {
            continue;
        }
        for at in (0..page.len() - needle.len()).step_by(4).filter(|&at| page[at..].starts_with(needle)) {
            let pa = PhysAddr((page_pa.0 + at as u64).checked_sub(start as u64)?);
            if memory.read(pa, &mut found).is_ok() && found == bytes {
                return Some(pa);
            }
        }
    }
    None
}

/// Bytes that a line of `baud` carries in a time.
fn bytes_in(time: Duration, baud: u64) -> usize {
    let bytes = time.as_nanos() * u128::from(baud / BITS_PER_BYTE) / 1_000_000_000;
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Time passes with each look at the line.
struct LineClock(Rc<Cell<Duration>>);

impl Clock for LineClock {
    fn now(&self) -> Duration {
        self.0.get()
    }
}

struct Line {
    bytes: Vec<u8>,
    baud: u64,
    now: Rc<Cell<Duration>>,
}

impl Link for Line {
    fn write(&mut self, bytes: &[u8]) -> usize {
        let room = bytes_in(self.now.get(), self.baud).saturating_sub(self.bytes.len());
        let written = bytes.len().min(room);
        self.bytes.extend_from_slice(&bytes[..written]);
        written
    }

    fn read(&mut self, _buf: &mut [u8]) -> usize {
        self.now.set(self.now.get() + WORK);
        0
    }
}
