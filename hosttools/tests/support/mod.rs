//! A crashed machine made of bytes, and what it sends.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use capture::{Clock, Crash, Link, send};
use codec::CodecId;
use memory::{PhysAddr, PhysMemory, ReadFault, ReadFaultKind};
use rcapture::dump::{self, Dump, PageState};
use rcapture::recv::{self, Line, Outcome};
use rcapture::write;
use vmcore::headers::{Class, CoreHeader, Machine, ProgramHeader, push_program_header};
use vmcore::notes::{CORE_NAME, NT_PRSTATUS, VMCOREINFO_NAME, push_note};
use wire::SessionId;

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
        for cpu in 0..2_u8 {
            let mut note = Vec::new();
            push_note(CORE_NAME, NT_PRSTATUS, &[cpu + 1; 336], &mut note).unwrap();
            memory.put(NOTES_PA + u64::from(cpu) * 0x1000, &note);
        }
        let mut note = Vec::new();
        push_note(VMCOREINFO_NAME, 0, VMCOREINFO, &mut note).unwrap();
        memory.put(NOTES_PA + 0x2000, &note);
        memory
    }

    fn put(&mut self, pa: u64, what: &[u8]) {
        let at = usize::try_from(pa).unwrap();
        self.bytes[at..at + what.len()].copy_from_slice(what);
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
        let options = capture::Options { session: SessionId(0x1234), encoder: CodecId::Deflate.encoder() };
        send(&crash, self, &mut out, &Ticks(Cell::new(0)), options).unwrap();
        out.0
    }
}

fn elfcorehdr() -> Vec<u8> {
    let mut out = Vec::new();
    CoreHeader {
        class: Class::ELF64,
        machine: Machine::X86_64,
        e_flags: 0,
        e_phoff: 64,
        e_shoff: 0,
        e_phnum: 6,
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
    push(1, 0xffff_ffff_8100_0000, 0x20_0000, 0x4_0000);
    for (start, end) in RAM {
        push(1, 0xffff_8880_0000_0000 + start, start, end - start);
    }
    out
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
    let outcome = recv::receive(Line::socket(host.into(), "test line".to_owned()), &stopped, options);
    sender.join().unwrap();
    outcome
}
