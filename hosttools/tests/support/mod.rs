//! A crashed machine made of bytes, and what it sends.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

pub mod mounted;
pub mod serving;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use capture::{Budget, Clock, Crash, Link, Serve, send};
use codec::Method;
use memory::{DumpLevel, PhysAddr, PhysMemory, ReadFault, ReadFaultKind};
use rcapture::dump::{self, Dump, PageState};
use rcapture::recv::{self, Line, Mode, Outcome};
use rcapture::write;
use vmcore::headers::{Class, CoreHeader, Machine, ProgramHeader, push_program_header};
use vmcore::notes::{CORE_NAME, NT_PRSTATUS, VMCOREINFO_NAME, push_note};
use wire::{SessionEnd, SessionId};

pub const PAGE: usize = 4096;
const ELFCOREHDR_PA: u64 = 0x3c_0000;
const NOTES_PA: u64 = 0x3d_0000;
const MEMORY_BYTES: usize = 0x40_0000;

/// A page that cannot be read.
pub const FAULTY_PFN: u64 = 0x150;

/// The text of VMCOREINFO.
pub const VMCOREINFO: &[u8] =
    b"OSRELEASE=6.1.0-test\nPAGESIZE=4096\nNUMBER(phys_base)=-4096\nCRASHTIME=1700000000\n";

/// RAM: its first range ends inside a page, the kernel lies in the second.
pub const RAM: [(u64, u64); 2] = [(0x1000, 0x9_fc00), (0x10_0000, 0x38_0000)];

/// What the kernel's log says in record `number`.
pub fn log_text(number: u32) -> String {
    format!("pci 0000:00:{number:02x}.0: BAR 0 assigned, said for the test")
}

/// Four MiB of memory, in which a page faults.
pub struct Memory {
    pub bytes: Vec<u8>,
}

impl PhysMemory for Memory {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        let fault = |kind| ReadFault { pa, kind };
        if pa.0 >> 12 == FAULTY_PFN {
            return Err(fault(ReadFaultKind::MachineCheck));
        }
        let start = usize::try_from(pa.0).unwrap();
        let from = self.bytes.get(start..start + buf.len()).ok_or_else(|| fault(ReadFaultKind::Access))?;
        buf.copy_from_slice(from);
        Ok(())
    }
}

impl Memory {
    /// Pages of zeros, of one word, of text-like bytes and of noise, and a crash in it.
    pub fn new() -> Self {
        Self::with_vmcoreinfo(VMCOREINFO)
    }

    /// The same, and a kernel log of this many records (`struct printk_log`, as kernels before 5.10 have it).
    pub fn with_log(records: u32) -> Self {
        const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
        const PGD_PA: u64 = 0x30_0000;
        const PUD_PA: u64 = 0x30_1000;
        const VARIABLES_PA: u64 = 0x30_2000;
        const LOG_PA: u64 = 0x31_0000;
        let variable = |index: u64| KERNEL_MAP + VARIABLES_PA + index * 8;
        // NUMBER(phys_base) is −4096, and counts for the page tables only: they map what is linked at 0 to 0.
        let facts = format!(
            "SYMBOL(init_top_pgt)={:x}\nSYMBOL(log_buf)={:x}\nSYMBOL(log_buf_len)={:x}\n\
             SYMBOL(log_first_idx)={:x}\nSYMBOL(log_next_idx)={:x}\nSIZE(printk_log)=16\n\
             OFFSET(printk_log.ts_nsec)=0\nOFFSET(printk_log.len)=8\nOFFSET(printk_log.text_len)=10\n",
            KERNEL_MAP + PGD_PA + 4096,
            variable(0),
            variable(1),
            variable(2),
            variable(3),
        );
        let mut memory = Self::with_vmcoreinfo(&[VMCOREINFO, facts.as_bytes()].concat());
        let (present_and_writable, gigabyte) = (3, 0x80);
        for (table, index, entry) in
            [(PGD_PA, 511, PUD_PA | present_and_writable), (PUD_PA, 510, present_and_writable | gigabyte)]
        {
            memory.put(table, &[0; PAGE]);
            memory.put(table + index * 8, &entry.to_le_bytes());
        }
        let mut log = Vec::new();
        for number in 0..records {
            let text = log_text(number);
            let len = (16 + text.len()).next_multiple_of(8);
            let end = log.len() + len;
            log.extend_from_slice(&(u64::from(number) * 1_000_000).to_le_bytes());
            log.extend_from_slice(&u16::try_from(len).unwrap().to_le_bytes());
            log.extend_from_slice(&u16::try_from(text.len()).unwrap().to_le_bytes());
            log.extend_from_slice(&[0; 4]);
            log.extend_from_slice(text.as_bytes());
            log.resize(end, 0);
        }
        let log_bytes = log.len() as u64;
        assert!(LOG_PA + log_bytes < RAM[1].1);
        for (index, value) in (0..).zip([KERNEL_MAP + LOG_PA, log_bytes + 16, 0, log_bytes]) {
            memory.put(VARIABLES_PA + index * 8, &value.to_le_bytes());
        }
        memory.put(LOG_PA, &log);
        memory
    }

    fn with_vmcoreinfo(vmcoreinfo: &[u8]) -> Self {
        let mut bytes = vec![0; MEMORY_BYTES];
        let mut state = 1_u64;
        for (pfn, page) in bytes.chunks_mut(PAGE).enumerate() {
            for word in page.as_chunks_mut::<8>().0 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(pfn as u64 | 1);
                *word = match pfn % 5 {
                    0 | 1 => [0; 8],
                    2 => [0xcc; 8],
                    3 => (state >> 61).to_le_bytes(),
                    _ => (state >> 7).to_le_bytes(),
                };
            }
        }
        let mut memory = Self { bytes };
        memory.put(ELFCOREHDR_PA, &elfcorehdr());
        memory.put(NOTES_PA, &[0; 0x4000]);
        for (place, note) in (0..).zip(notes(vmcoreinfo)) {
            memory.put(NOTES_PA + place * 0x1000, &note);
        }
        memory
    }

    fn put(&mut self, pa: u64, what: &[u8]) {
        let at = usize::try_from(pa).unwrap();
        self.bytes[at..at + what.len()].copy_from_slice(what);
    }

    /// The same, and in each page of the kernel what tells this machine from others.
    pub fn of_machine(number: u16) -> Self {
        let mut memory = Self::new();
        for pfn in 0x200..0x240_u64 {
            memory.put(pfn << 12, &[number.to_le_bytes(), [0x5a; 2]].concat());
        }
        memory
    }

    /// What a dump should have of each page of RAM; `None`: it could not be read.
    pub fn pages(&self) -> BTreeMap<u64, Option<Vec<u8>>> {
        let mut pages = BTreeMap::new();
        for (start, end) in RAM {
            for pfn in start >> 12..end.div_ceil(PAGE as u64) {
                let at = usize::try_from(pfn).unwrap() * PAGE;
                let length = PAGE.min(usize::try_from(end).unwrap() - at);
                let mut page = self.bytes[at..at + length].to_vec();
                page.resize(PAGE, 0);
                pages.insert(pfn, (pfn != FAULTY_PFN).then_some(page));
            }
        }
        pages
    }

    /// Everything the machine sends over its line.
    pub fn line(&self) -> Vec<u8> {
        self.line_within(None)
    }

    /// What it sends if it may send so many bytes.
    pub fn line_within(&self, bytes: Option<u64>) -> Vec<u8> {
        struct Out(Vec<u8>);
        impl Link for Out {
            fn write(&mut self, bytes: &[u8]) -> usize {
                self.0.extend_from_slice(bytes);
                bytes.len()
            }
            fn read(&mut self, _buf: &mut [u8]) -> usize {
                0
            }
        }
        struct Ticks(Cell<u64>);
        impl Clock for Ticks {
            fn now(&self) -> Duration {
                self.0.set(self.0.get() + 1);
                Duration::from_micros(self.0.get())
            }
        }
        let crash = Crash::read(ELFCOREHDR_PA, self).unwrap();
        let mut out = Out(b"Kernel panic - not syncing\r\n".to_vec());
        let budget = Budget { bytes, time: None };
        let options = capture::Options { budget, ..capture_options() };
        send(&crash, self, &mut out, &Ticks(Cell::new(0)), options).unwrap();
        out.0
    }
}

/// A crashed machine that sends, over a socket that whoever listens connects to. Without a listener, what it sends is
/// gone, as on a serial line.
pub struct Target {
    sender: JoinHandle<(SessionEnd, Wire)>,
}

/// What the line does to bytes, and how fast it is.
#[derive(Clone, Copy)]
pub struct Trouble {
    /// One byte of so many is wrong, in both directions.
    pub damage_every: Option<u64>,
    pub bytes_per_second: u64,
    /// The machine waits for a listener before it crashes.
    pub waits: bool,
    /// After so many bytes the console says something.
    pub text_at: Option<u64>,
}

/// What the console says in between.
pub const CONSOLE_TEXT: &str = "usb 1-1: device descriptor read/64, error -110";

impl Target {
    /// Crashes the machine with this memory; its line is at `socket`.
    pub fn crash(memory: Memory, socket: &Path, trouble: Trouble) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut wire = Wire {
            listener,
            host: None,
            trouble,
            started: Instant::now(),
            carried: 0,
            heard: 0,
            said_text: false,
            ended_frame: false,
            random: 1,
            to_damage: trouble.damage_every.unwrap_or(u64::MAX),
        };
        let sender = thread::spawn(move || {
            while trouble.waits && wire.host.is_none() {
                wire.connect();
                thread::sleep(Duration::from_millis(5));
            }
            wire.started = Instant::now();
            let crash = Crash::read(ELFCOREHDR_PA, &memory).unwrap();
            let options = capture_options();
            let end = send(&crash, &memory, &mut wire, &Since(Instant::now()), options).unwrap();
            (end, wire)
        });
        Self { sender }
    }

    pub fn is_finished(&self) -> bool {
        self.sender.is_finished()
    }

    /// Waits until all is sent; what was said at the end, and the line.
    pub fn finish(self) -> (SessionEnd, Wire) {
        self.sender.join().unwrap()
    }
}

/// A crashed machine that connects to a receiver by TCP, and connects again when the connection breaks.
pub struct TcpTarget {
    sender: JoinHandle<SessionEnd>,
}

/// What becomes of a machine's connections.
#[derive(Clone, Default)]
pub struct Network {
    pub bytes_per_second: Option<u64>,
    /// After so many bytes the connection breaks.
    pub breaks_at: Vec<u64>,
    /// The receiver does not learn that a connection broke: it stays open, and silent.
    pub is_half_open: bool,
}

impl TcpTarget {
    /// Crashes the machine with this memory: it sends session `session` to `address`.
    pub fn crash(memory: Memory, session: u16, address: SocketAddr, network: Network) -> Self {
        Self::crash_to_stay(memory, session, address, network, None)
    }

    /// So does this one, and stays.
    pub fn crash_to_stay(
        memory: Memory,
        session: u16,
        address: SocketAddr,
        network: Network,
        serve: Option<Serve>,
    ) -> Self {
        let sender = thread::spawn(move || {
            let started = Instant::now();
            let mut link =
                TcpLine { address, stream: None, network, started, carried: 0, broken: Vec::new() };
            let crash = Crash::read(ELFCOREHDR_PA, &memory).unwrap();
            let options = capture::Options { needs_answers: true, serve, ..options_of_session(session) };
            send(&crash, &memory, &mut link, &Since(started), options).unwrap()
        });
        Self { sender }
    }

    pub fn is_finished(&self) -> bool {
        self.sender.is_finished()
    }

    /// Waits until all is sent.
    pub fn finish(self) -> SessionEnd {
        self.sender.join().unwrap()
    }
}

/// The machine's end of its connections.
struct TcpLine {
    address: SocketAddr,
    stream: Option<TcpStream>,
    network: Network,
    started: Instant,
    carried: u64,
    /// Half-open connections.
    broken: Vec<TcpStream>,
}

impl TcpLine {
    fn connect(&mut self) {
        if self.stream.is_none() {
            thread::sleep(Duration::from_millis(20));
            self.stream = TcpStream::connect(self.address).ok();
            if let Some(stream) = &self.stream {
                stream.set_nonblocking(true).unwrap();
            }
        }
    }

    fn lose(&mut self) {
        self.broken.extend(self.stream.take().filter(|_| self.network.is_half_open));
    }
}

impl Link for TcpLine {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.connect();
        let mut room = bytes.len();
        if let Some(rate) = self.network.bytes_per_second {
            let milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap();
            let allowed = (milliseconds * rate / 1000).saturating_sub(self.carried);
            room = room.min(usize::try_from(allowed).unwrap());
        }
        let written = match self.stream.as_mut().map(|stream| stream.write(&bytes[..room])) {
            Some(Ok(written)) => written,
            Some(Err(error)) if error.kind() != std::io::ErrorKind::WouldBlock => {
                self.lose();
                0
            }
            Some(Err(_)) | None => 0,
        };
        if written == 0 {
            thread::sleep(Duration::from_micros(200));
        }
        self.carried += written as u64;
        if self.network.breaks_at.first().is_some_and(|&at| self.carried >= at) {
            self.network.breaks_at.remove(0);
            self.lose();
        }
        written
    }

    fn read(&mut self, buf: &mut [u8]) -> usize {
        match self.stream.as_mut().map(|stream| stream.read(buf)) {
            Some(Ok(0)) => {
                self.lose();
                0
            }
            Some(Ok(count)) => count,
            Some(Err(_)) | None => 0,
        }
    }
}

struct Since(Instant);

impl Clock for Since {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The target's end of the line.
pub struct Wire {
    listener: UnixListener,
    host: Option<UnixStream>,
    trouble: Trouble,
    started: Instant,
    carried: u64,
    /// Bytes that the host has said.
    pub heard: u64,
    said_text: bool,
    ended_frame: bool,
    random: u64,
    to_damage: u64,
}

impl Wire {
    fn connect(&mut self) {
        if let Ok((host, _)) = self.listener.accept() {
            host.set_nonblocking(true).unwrap();
            self.host = Some(host);
        }
    }

    fn damage(&mut self, bytes: &mut [u8]) {
        let Some(every) = self.trouble.damage_every else { return };
        for byte in bytes {
            self.to_damage -= 1;
            if self.to_damage == 0 {
                self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                self.to_damage = 1 + (self.random >> 33) % (2 * every);
                *byte ^= 1 << ((self.random >> 20) % 8);
            }
        }
    }

    /// What the host says in this time.
    pub fn hear_for(&mut self, time: Duration) -> Vec<u8> {
        let started = Instant::now();
        let mut heard = Vec::new();
        let mut buf = [0; 1024];
        while started.elapsed() < time {
            let count = self.read(&mut buf);
            heard.extend_from_slice(&buf[..count]);
            thread::sleep(Duration::from_millis(5));
        }
        heard
    }
}

impl Link for Wire {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.connect();
        let milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap();
        let allowed = milliseconds * self.trouble.bytes_per_second / 1000;
        let room = usize::try_from(allowed.saturating_sub(self.carried)).unwrap();
        if room == 0 {
            thread::sleep(Duration::from_micros(200));
        }
        let mut bytes = bytes[..bytes.len().min(room)].to_vec();
        if self.ended_frame && !self.said_text && self.trouble.text_at.is_some_and(|at| self.carried >= at) {
            self.said_text = true;
            let text = format!("{CONSOLE_TEXT}\r\n\0");
            self.host.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
        }
        let count = bytes.len();
        let before = (self.random, self.to_damage);
        self.damage(&mut bytes);
        let written = match self.host.as_mut().map(|host| host.write(&bytes)) {
            Some(Ok(written)) => written,
            Some(Err(error)) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            Some(Err(_)) | None => {
                self.host = None;
                count
            }
        };
        if written < count {
            (self.random, self.to_damage) = (before.0, before.1.saturating_sub(written as u64).max(1));
        }
        if written > 0 {
            self.ended_frame = bytes[written - 1] == 0;
        }
        self.carried += written as u64;
        written
    }

    fn read(&mut self, buf: &mut [u8]) -> usize {
        let count = self.host.as_mut().map_or(0, |host| host.read(buf).unwrap_or(0));
        self.heard += count as u64;
        let mut heard = buf[..count].to_vec();
        self.damage(&mut heard);
        buf[..count].copy_from_slice(&heard);
        count
    }
}

/// Those of two CPUs, and VMCOREINFO.
fn notes(vmcoreinfo: &[u8]) -> [Vec<u8>; 3] {
    let [mut first, mut second, mut info] = [const { Vec::new() }; 3];
    push_note(CORE_NAME, NT_PRSTATUS, &[1; 336], &mut first).unwrap();
    push_note(CORE_NAME, NT_PRSTATUS, &[2; 336], &mut second).unwrap();
    push_note(VMCOREINFO_NAME, 0, vmcoreinfo, &mut info).unwrap();
    [first, second, info]
}

fn elfcorehdr() -> Vec<u8> {
    let kernel = (0xffff_ffff_8100_0000, 0x20_0000, 0x4_0000);
    let ram = RAM.map(|(start, end)| (0xffff_8880_0000_0000 + start, start, end - start));
    elfcorehdr_of(&[&[kernel], &ram[..]].concat())
}

/// With the notes, and PT_LOADs by virtual address, physical address and size.
pub fn elfcorehdr_of(loads: &[(u64, u64, u64)]) -> Vec<u8> {
    let mut out = Vec::new();
    CoreHeader {
        class: Class::ELF64,
        machine: Machine::X86_64,
        e_flags: 0,
        e_phoff: 64,
        e_shoff: 0,
        e_phnum: u16::try_from(3 + loads.len()).unwrap(),
    }
    .encode(&mut out)
    .unwrap();
    let mut push = |p_type, p_vaddr, p_paddr, bytes| {
        let header = ProgramHeader {
            p_type,
            p_flags: 7,
            p_offset: p_paddr,
            p_vaddr,
            p_paddr,
            p_filesz: bytes,
            p_memsz: bytes,
            p_align: 0,
        };
        push_program_header(Class::ELF64, &header, &mut out).unwrap();
    };
    for note in 0..3 {
        push(4, 0, NOTES_PA + note * 0x1000, 0x1000);
    }
    for &(va, pa, bytes) in loads {
        push(1, va, pa, bytes);
    }
    out
}

/// A page of [`Memory::new`].
pub fn page(pfn: u64) -> Vec<u8> {
    Memory::new().pages().remove(&pfn).unwrap().unwrap()
}

/// The pages of a dump; `None`: it belongs there, and is not.
pub fn pages_of(dump: &dyn Dump) -> BTreeMap<u64, Option<Vec<u8>>> {
    let mut pages = BTreeMap::new();
    let mut reader = dump.reader();
    for run in dump::runs(dump).unwrap() {
        for pfn in run.first..run.first + run.pages {
            let page = match run.state {
                PageState::Data => {
                    let mut page = vec![0xee; PAGE];
                    reader.read(pfn, &mut page).unwrap();
                    Some(page)
                }
                PageState::Filled(word) => Some(word.to_le_bytes().repeat(PAGE / 8)),
                PageState::Hole(_) | PageState::Missing => None,
                PageState::Excluded => continue,
            };
            pages.insert(pfn, page);
        }
    }
    pages
}

pub fn options(directory: &Path, write: write::Options) -> recv::Options {
    recv::Options {
        directory: directory.to_owned(),
        write,
        timeout: Duration::from_secs(20),
        keep_journal: false,
        record: None,
        mount: None,
    }
}

/// Receives `line`, which is closed at its end.
pub fn receive(line: &[u8], options: &recv::Options) -> Result<Outcome, rcapture::Error> {
    let (mut target, host) = UnixStream::pair().unwrap();
    let (_stop, stopped) = UnixStream::pair().unwrap();
    let line = line.to_vec();
    let sender = thread::spawn(move || {
        // The receiver may have heard enough before all is written.
        let _ = target.write_all(&line);
    });
    let host = Line::socket(host.into(), "test line".to_owned(), Mode::ListenOnly).unwrap();
    let outcome = recv::receive(host, &stopped, options);
    sender.join().unwrap();
    outcome
}

/// All of memory, compressed.
fn capture_options() -> capture::Options {
    options_of_session(0x1234)
}

fn options_of_session(session: u16) -> capture::Options {
    capture::Options {
        session: SessionId(session),
        encoder: Method::Deflate.encoder(),
        level: DumpLevel::ALL,
        budget: Budget::default(),
        needs_answers: false,
        serve: None,
    }
}
