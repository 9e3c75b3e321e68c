//! The pipeline on a UART with FIFOs of 16 bytes, while its codec works as slowly as LZMA does: nothing that the receiver
//! says gets lost.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use capture::{Budget, Clock, Crash, Link, Options, send};
use codec::{CodecId, Encoder, Method, OutputFull};
use memory::{DumpLevel, PhysAddr, PhysMemory, ReadFault, ReadFaultKind};
use support::elfcorehdr;
use wire::{Event, Receiver, SessionId};

const FIFO_BYTES: usize = 16;
const ELFCOREHDR_PA: u64 = 0x4_0000;
const MEMORY_BYTES: u64 = 0x4_1000;

/// A clock that only work moves.
#[derive(Clone, Default)]
struct Time(Rc<Cell<Duration>>);

impl Time {
    fn pass(&self, time: Duration) {
        self.0.set(self.0.get() + time);
    }
}

impl Clock for Time {
    fn now(&self) -> Duration {
        self.pass(Duration::from_micros(2));
        self.0.get()
    }
}

/// 100 ms for a block of 64 KiB.
struct Slow(Box<dyn Encoder>, Time);

impl Encoder for Slow {
    fn id(&self) -> CodecId {
        self.0.id()
    }

    fn begin(&mut self) {
        self.0.begin();
    }

    fn room(&self, output_bytes: usize) -> usize {
        self.0.room(output_bytes)
    }

    fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), OutputFull> {
        self.1.pass(Duration::from_millis(100) * u32::try_from(input.len()).unwrap() / 65_536);
        self.0.write(input, out)
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), OutputFull> {
        self.0.finish(out)
    }
}

/// A UART and the receiver at the other end of its line.
struct Uart {
    time: Time,
    byte_time: Duration,
    /// When the transmitter is done with what it has.
    transmitted_at: Duration,
    arriving: VecDeque<(Duration, u8)>,
    received: VecDeque<u8>,
    overruns: usize,
    receiver: Receiver,
    blocks: u32,
    has_ended: bool,
    longest_wait: Duration,
    looked_at: Duration,
}

impl Uart {
    fn new(baud: u32, time: Time) -> Self {
        Self {
            time,
            byte_time: Duration::from_secs(10) / baud,
            transmitted_at: Duration::ZERO,
            arriving: VecDeque::new(),
            received: VecDeque::new(),
            overruns: 0,
            receiver: Receiver::new(1),
            blocks: 0,
            has_ended: false,
            longest_wait: Duration::ZERO,
            looked_at: Duration::ZERO,
        }
    }
}

impl Link for Uart {
    fn write(&mut self, bytes: &[u8]) -> usize {
        let now = self.time.0.get();
        // As the hardware does it: room is seen only once the FIFO is empty.
        if self.transmitted_at > now {
            return 0;
        }
        let count = bytes.len().min(FIFO_BYTES);
        self.transmitted_at = now + self.byte_time * u32::try_from(count).unwrap();
        let (mut blocks, mut ended) = (0, false);
        self.receiver.push(&bytes[..count], |event| match event {
            Event::Block { .. } => blocks += 1,
            Event::End(..) => ended = true,
            _ => {}
        });
        self.blocks += blocks;
        self.has_ended |= ended;
        self.receiver.set_durable(self.blocks + u32::from(self.has_ended));
        let mut at = self.arriving.back().map_or(self.transmitted_at, |last| last.0.max(self.transmitted_at));
        for byte in self.receiver.take_replies() {
            at += self.byte_time;
            self.arriving.push_back((at, byte));
        }
        count
    }

    fn read(&mut self, buf: &mut [u8]) -> usize {
        let now = self.time.0.get();
        self.longest_wait = self.longest_wait.max(now - self.looked_at);
        self.looked_at = now;
        while let Some(&(at, byte)) = self.arriving.front()
            && at <= now
        {
            self.arriving.pop_front();
            if self.received.len() == FIFO_BYTES {
                self.overruns += 1;
            } else {
                self.received.push_back(byte);
            }
        }
        let count = buf.len().min(self.received.len());
        for (to, from) in buf.iter_mut().zip(self.received.drain(..count)) {
            *to = from;
        }
        count
    }
}

/// 256 KiB of memory that no codec makes much smaller, and an elfcorehdr behind it.
struct Memory(Vec<u8>);

impl Memory {
    fn new() -> Self {
        let mut state = 1u64;
        let mut bytes: Vec<u8> = (0..MEMORY_BYTES)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        let header = elfcorehdr(ELFCOREHDR_PA);
        let at = usize::try_from(ELFCOREHDR_PA).unwrap();
        bytes[at..at + header.len()].copy_from_slice(&header);
        Self(bytes)
    }
}

impl PhysMemory for Memory {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        let at = usize::try_from(pa.0).unwrap();
        let from = self.0.get(at..at + buf.len()).ok_or(ReadFault { pa, kind: ReadFaultKind::Access })?;
        buf.copy_from_slice(from);
        Ok(())
    }
}

fn dump_at(baud: u32) -> Uart {
    let time = Time::default();
    let mut uart = Uart::new(baud, time.clone());
    let memory = Memory::new();
    let crash = Crash::read(ELFCOREHDR_PA, &memory).unwrap();
    let encoder = Box::new(Slow(Method::Deflate.encoder(), time.clone()));
    let options = Options {
        session: SessionId(7),
        encoder,
        level: DumpLevel::ALL,
        budget: Budget::default(),
        needs_answers: false,
        serve: None,
    };
    let end = send(&crash, &memory, &mut uart, &time, options).unwrap();
    assert_eq!(uart.blocks, end.blocks, "one block for each, none twice");
    uart
}

#[test]
fn no_acknowledgement_is_lost_at_115200_while_the_codec_works() {
    let uart = dump_at(115_200);
    assert_eq!(uart.overruns, 0);
    assert!(uart.longest_wait <= Duration::from_micros(500), "{:?}", uart.longest_wait);
}

#[test]
fn no_acknowledgement_is_lost_at_921600_while_the_codec_works() {
    let uart = dump_at(921_600);
    assert_eq!(uart.overruns, 0);
    assert!(uart.longest_wait <= Duration::from_micros(500), "{:?}", uart.longest_wait);
}
