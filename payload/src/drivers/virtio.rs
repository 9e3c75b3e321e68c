//! virtio's network cards (virtio 1.2, 5.1), driven by the crate virtio-drivers.

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::NonNull;

use capture::config::MmioRegion;
use rcapture_payload::net::{Card, MAX_FRAME_BYTES};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::{BufferDirection, Error, Hal, PAGE_SIZE, PhysAddr};

use crate::memory::paging;

/// Descriptors of a queue: what devices have, and what those without VIRTIO_F_VERSION_1 insist on.
const QUEUE_SIZE: usize = 256;

/// Mapped of a region of registers. What is used is in front; a card with a page for each of a thousand queues
/// (page-per-vq) has megabytes of them.
const MAX_REGION_BYTES: usize = 64 * 1024;

/// The queues of a network card (5.1.2).
const RECEIVE_QUEUE: u16 = 0;
const TRANSMIT_QUEUE: u16 = 1;

/// Frames that wait to be sent, or for which there is room when they come.
const FRAMES: usize = 32;

/// What stands before each frame (5.1.6), all zeros when nothing is offloaded: of devices from before version 1 without the
/// last field.
const HEADER_BYTES: usize = 12;
const LEGACY_HEADER_BYTES: usize = 10;

const BUFFER_BYTES: usize = HEADER_BYTES + MAX_FRAME_BYTES;

bitflags::bitflags! {
    /// The features that are used (5.1.3, 6). Those of the rings are not: without VIRTIO_F_EVENT_IDX a device says when it
    /// need not be notified, which with it virtio-drivers does not heed.
    #[derive(Clone, Copy, Debug)]
    struct Features: u64 {
        const MAC = 1 << 5;
        const STATUS = 1 << 16;
        const VERSION_1 = 1 << 32;
    }
}

/// Memory that the device and we share: the heap, which is mapped one to one and lies in the reservation.
pub(crate) struct Dma;

impl Dma {
    fn layout(pages: usize) -> Option<Layout> {
        Layout::from_size_align(pages.checked_mul(PAGE_SIZE)?, PAGE_SIZE).ok()
    }
}

// SAFETY: the heap gives each page to one owner until it is deallocated, aligned and zeroed as the layout says; it is
// mapped one to one, so that addresses are physical ones.
unsafe impl Hal for Dma {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let memory = Self::layout(pages).and_then(|layout| {
            // SAFETY: a queue has at least one page.
            NonNull::new(unsafe { alloc_zeroed(layout) })
        });
        // virtio-drivers takes physical address 0 for "there is none".
        memory.map_or((0, NonNull::dangling()), |memory| (memory.as_ptr().addr() as PhysAddr, memory))
    }

    unsafe fn dma_dealloc(_pa: PhysAddr, memory: NonNull<u8>, pages: usize) -> i32 {
        let Some(layout) = Self::layout(pages) else { return -1 };
        // SAFETY: the caller says that it is what dma_alloc gave for so many pages.
        unsafe { dealloc(memory.as_ptr(), layout) };
        0
    }

    unsafe fn mmio_phys_to_virt(pa: PhysAddr, bytes: usize) -> NonNull<u8> {
        // There is no other answer: an access faults, and that is reported.
        paging::map_device(pa, bytes.min(MAX_REGION_BYTES))
            .ok()
            .and_then(|va| NonNull::new(core::ptr::with_exposed_provenance_mut(va)))
            .unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        buffer.as_ptr().cast::<u8>().addr() as PhysAddr
    }

    unsafe fn unshare(_pa: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

/// A device whose registers are in memory, without a bus. `None`: there is none.
pub(crate) fn mmio(region: MmioRegion) -> Option<MmioTransport<'static>> {
    let va = paging::map_device(region.start_pa, region.bytes).ok()?;
    let header = NonNull::new(core::ptr::with_exposed_provenance_mut(va))?;
    // SAFETY: `map_device` has mapped the registers for good, `MmioRegion::parse` has seen to it that they are aligned; a
    // word that is not virtio's magic number is an error.
    unsafe { MmioTransport::new(header, region.bytes) }.ok()
}

/// A buffer of which the device has so many bytes, and its name for it.
struct Lent {
    token: u16,
    bytes: usize,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

/// A virtio network card.
pub(crate) struct VirtioNet<T: Transport> {
    transport: T,
    mac: [u8; 6],
    header_bytes: usize,
    receive_queue: VirtQueue<Dma, QUEUE_SIZE>,
    transmit_queue: VirtQueue<Dma, QUEUE_SIZE>,
    receiving: Vec<Lent>,
    sending: Vec<Lent>,
    #[expect(clippy::vec_box, reason = "a buffer stays where it is while it is lent")]
    unused: Vec<Box<[u8; BUFFER_BYTES]>>,
    /// Whether the device does not know of all frames yet.
    is_behind: bool,
}

impl<T: Transport> VirtioNet<T> {
    /// Takes over the device with this address, which has been reset.
    ///
    /// # Errors
    /// What virtio-drivers says.
    pub(crate) fn new(mut transport: T, mac: [u8; 6]) -> Result<Self, Error> {
        let features = transport.begin_init(Features::all());
        let mut receive_queue = VirtQueue::new(&mut transport, RECEIVE_QUEUE, false, false)?;
        let mut transmit_queue = VirtQueue::new(&mut transport, TRANSMIT_QUEUE, false, false)?;
        receive_queue.set_dev_notify(false);
        transmit_queue.set_dev_notify(false);
        transport.finish_init();
        let is_legacy = !features.contains(Features::VERSION_1);
        let new_buffer = || Box::new([0; BUFFER_BYTES]);
        let mut card = Self {
            transport,
            mac,
            header_bytes: if is_legacy { LEGACY_HEADER_BYTES } else { HEADER_BYTES },
            receive_queue,
            transmit_queue,
            receiving: Vec::with_capacity(FRAMES),
            sending: Vec::with_capacity(FRAMES),
            unused: (0..FRAMES).map(|_| new_buffer()).collect(),
            is_behind: false,
        };
        for _ in 0..FRAMES {
            card.receive_into(new_buffer())?;
        }
        Ok(card)
    }

    fn receive_into(&mut self, mut buffer: Box<[u8; BUFFER_BYTES]>) -> Result<(), Error> {
        // SAFETY: nobody looks at the buffer until `receive` has it back; its memory stays where it is.
        let token = unsafe { self.receive_queue.add(&[], &mut [&mut *buffer]) }?;
        self.receiving.push(Lent { token, bytes: BUFFER_BYTES, buffer });
        if self.receive_queue.should_notify() {
            self.transport.notify(RECEIVE_QUEUE);
        }
        Ok(())
    }

    /// Takes back what has been sent.
    fn collect_sent(&mut self) {
        while let Some(token) = self.transmit_queue.peek_used() {
            let Some(at) = self.sending.iter().position(|lent| lent.token == token) else { return };
            let Lent { bytes, buffer, .. } = self.sending.swap_remove(at);
            // SAFETY: these are the bytes that got the token.
            let _ = unsafe {
                self.transmit_queue.pop_used(token, &[buffer.get(..bytes).unwrap_or_default()], &mut [])
            };
            self.unused.push(buffer);
        }
    }
}

impl<T: Transport> Card for VirtioNet<T> {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn receive(&mut self, frame: &mut [u8; MAX_FRAME_BYTES]) -> Option<usize> {
        let token = self.receive_queue.peek_used()?;
        let at = self.receiving.iter().position(|lent| lent.token == token)?;
        let Lent { mut buffer, .. } = self.receiving.swap_remove(at);
        // SAFETY: this is the buffer that got the token.
        let received = unsafe { self.receive_queue.pop_used(token, &[], &mut [&mut *buffer]) };
        let bytes = received.ok().and_then(|bytes| usize::try_from(bytes).ok());
        let length = bytes.and_then(|bytes| {
            let from = buffer.get(self.header_bytes..bytes)?;
            frame.get_mut(..from.len())?.copy_from_slice(from);
            Some(from.len())
        });
        // One that cannot be given back is one frame less that may come at a time.
        let _ = self.receive_into(buffer);
        length
    }

    fn can_transmit(&mut self) -> bool {
        if self.unused.is_empty() {
            self.flush();
        }
        self.collect_sent();
        !self.unused.is_empty()
    }

    fn transmit(&mut self, frame: &[u8]) {
        let Some(mut buffer) = self.unused.pop() else { return };
        let bytes = self.header_bytes + frame.len();
        if let Some(to) = buffer.get_mut(self.header_bytes..bytes) {
            to.copy_from_slice(frame);
        }
        let sent = buffer.get(..bytes).map(|sent| {
            // SAFETY: nobody looks at the buffer until `collect_sent` has it back; its memory stays where it is.
            unsafe { self.transmit_queue.add(&[sent], &mut []) }
        });
        match sent {
            Some(Ok(token)) => {
                self.sending.push(Lent { token, bytes, buffer });
                self.is_behind = true;
            }
            _ => self.unused.push(buffer),
        }
    }

    fn flush(&mut self) {
        if core::mem::take(&mut self.is_behind) && self.transmit_queue.should_notify() {
            self.transport.notify(TRANSMIT_QUEUE);
        }
    }
}
