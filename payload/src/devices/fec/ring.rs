//! The descriptors, and the frames they lead to (IMX6DQRM 23.4.11, "legacy").

use super::super::Registers;
use super::{CHECKED_FRAME_BYTES, MIN_FRAME_BYTES};
use crate::net::MAX_FRAME_BYTES;

/// Descriptors of each ring.
const COUNT: usize = 16;

/// Bytes of a buffer: a frame, and a multiple of what buffers are aligned to.
pub(super) const BUFFER_BYTES: u32 = 1536;
const BUFFER_STRIDE: usize = BUFFER_BYTES as usize;

/// Where in the memory the rings and the buffers are: of the first ring, then of the second.
pub(super) const RECEIVE_RING: usize = 0;
pub(super) const TRANSMIT_RING: usize = COUNT * DESCRIPTOR_BYTES;
const RECEIVE_BUFFERS: usize = 1024;
const TRANSMIT_BUFFERS: usize = RECEIVE_BUFFERS + COUNT * BUFFER_STRIDE;

/// Bytes of memory that are needed.
pub const DMA_BYTES: usize = TRANSMIT_BUFFERS + COUNT * BUFFER_STRIDE;

/// A word with the length below the flags, and a word with the address of the buffer.
const DESCRIPTOR_BYTES: usize = 8;
/// In the first word: the controller has it (empty to receive into, or ready to send), the last one of the ring, the last
/// one of a frame, and that a check sequence is to be added.
const THEIRS: u32 = 1 << 31;
const WRAP: u32 = 1 << 29;
const LAST: u32 = 1 << 27;
const ADD_CHECK: u32 = 1 << 26;
/// What is wrong with a frame that came: too long, of bits that are no bytes, of a wrong check sequence, lost in part, cut.
const WRONG: u32 = (1 << 5 | 1 << 4 | 1 << 2 | 1 << 1 | 1) << 16;

const CHECK_BYTES: usize = 4;

/// Memory that a device reads and writes while we do, by the word; the first is aligned to 64 bytes.
pub trait DmaMemory: Registers {
    /// The address that the device has for the first byte.
    fn pa(&self) -> u32;

    /// What was written is to be seen by the device before it is told of anything more.
    fn publish(&self);
}

/// What came.
pub(super) enum Received {
    /// A frame of so many bytes.
    Frame(usize),
    /// Something else.
    Damaged,
}

/// Both rings.
pub(super) struct Ring<M> {
    memory: M,
    /// The descriptor that comes in next.
    receiving: usize,
    /// The one that is sent the longest, and how many there are.
    oldest: usize,
    sending: usize,
}

impl<M: DmaMemory> Ring<M> {
    /// With all buffers empty.
    pub(super) fn new(memory: M) -> Self {
        let mut ring = Self { memory, receiving: 0, oldest: 0, sending: 0 };
        for index in 0..COUNT {
            ring.set_buffer(RECEIVE_RING, RECEIVE_BUFFERS, index);
            ring.set_buffer(TRANSMIT_RING, TRANSMIT_BUFFERS, index);
            ring.set_head(RECEIVE_RING, index, THEIRS);
            ring.set_head(TRANSMIT_RING, index, 0);
        }
        ring.publish();
        ring
    }

    /// The device's address of something in the memory.
    pub(super) fn pa(&self, offset: usize) -> u32 {
        u32::try_from(offset).map_or(0, |offset| self.memory.pa().wrapping_add(offset))
    }

    pub(super) fn publish(&self) {
        self.memory.publish();
    }

    fn set_buffer(&mut self, ring: usize, buffers: usize, index: usize) {
        let pa = self.pa(buffers + index * BUFFER_STRIDE);
        self.memory.set(ring + index * DESCRIPTOR_BYTES + 4, pa);
    }

    fn set_head(&mut self, ring: usize, index: usize, head: u32) {
        let wrap = if index == COUNT - 1 { WRAP } else { 0 };
        self.memory.set(ring + index * DESCRIPTOR_BYTES, head | wrap);
    }

    fn head(&self, ring: usize, index: usize) -> u32 {
        self.memory.get(ring + index * DESCRIPTOR_BYTES)
    }

    /// Takes what came next, and gives its buffer back. `None`: nothing came.
    pub(super) fn receive(&mut self, frame: &mut [u8; MAX_FRAME_BYTES]) -> Option<Received> {
        let head = self.head(RECEIVE_RING, self.receiving);
        if head & THEIRS != 0 {
            return None;
        }
        self.memory.publish();
        let received = self.copy_received(head, frame).map_or(Received::Damaged, Received::Frame);
        self.set_head(RECEIVE_RING, self.receiving, THEIRS);
        self.receiving = (self.receiving + 1) % COUNT;
        Some(received)
    }

    fn copy_received(&self, head: u32, frame: &mut [u8; MAX_FRAME_BYTES]) -> Option<usize> {
        let checked = head & 0xffff;
        if head & LAST == 0 || head & WRONG != 0 || checked > CHECKED_FRAME_BYTES {
            return None;
        }
        let length = usize::try_from(checked).ok()?.checked_sub(CHECK_BYTES)?;
        let buffer = RECEIVE_BUFFERS + self.receiving * BUFFER_STRIDE;
        for (offset, bytes) in (buffer..).step_by(4).zip(frame.get_mut(..length)?.chunks_mut(4)) {
            let word = self.memory.get(offset).to_le_bytes();
            bytes.copy_from_slice(word.get(..bytes.len())?);
        }
        Some(length)
    }

    /// Takes back what was sent.
    pub(super) fn collect(&mut self) {
        while self.sending > 0 && self.head(TRANSMIT_RING, self.oldest) & THEIRS == 0 {
            self.oldest = (self.oldest + 1) % COUNT;
            self.sending -= 1;
        }
    }

    /// Whether there is no buffer left.
    pub(super) const fn is_full(&self) -> bool {
        self.sending == COUNT
    }

    /// Whether something is being sent.
    pub(super) const fn is_sending(&self) -> bool {
        self.sending > 0
    }

    /// Adds a frame; `false`: it cannot be sent.
    pub(super) fn transmit(&mut self, frame: &[u8]) -> bool {
        let length = frame.len().max(MIN_FRAME_BYTES);
        if self.is_full() || length > MAX_FRAME_BYTES {
            return false;
        }
        let index = (self.oldest + self.sending) % COUNT;
        let buffer = TRANSMIT_BUFFERS + index * BUFFER_STRIDE;
        let filled = frame.iter().copied().chain(core::iter::repeat(0));
        let mut filled = filled.take(length);
        for offset in (buffer..buffer + length).step_by(4) {
            let word = [(); 4].map(|()| filled.next().unwrap_or(0));
            self.memory.set(offset, u32::from_le_bytes(word));
        }
        self.memory.publish();
        #[expect(clippy::cast_possible_truncation, reason = "a frame's")]
        self.set_head(TRANSMIT_RING, index, THEIRS | LAST | ADD_CHECK | length as u32);
        self.sending += 1;
        true
    }
}
