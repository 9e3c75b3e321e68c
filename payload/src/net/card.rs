//! What a network card has to do, and how smoltcp sees it.

use alloc::boxed::Box;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// An Ethernet frame without its check sequence: 14 bytes of header and 1500 of what it carries.
pub const MAX_FRAME_BYTES: usize = 1514;

/// A network card that is polled. A new card is a file that implements this.
pub trait Card {
    /// Its hardware address.
    fn mac(&self) -> [u8; 6];

    /// Copies the next frame that came to the begin of `frame`, and says how long it is.
    fn receive(&mut self, frame: &mut [u8; MAX_FRAME_BYTES]) -> Option<usize>;

    /// Whether it takes a frame now.
    fn can_transmit(&mut self) -> bool;

    /// Transmits a frame, sooner or later. One that it cannot take is lost, as on any network.
    fn transmit(&mut self, frame: &[u8]);

    /// Sees to it that what was transmitted goes out: a card may collect frames, of which each would cost it a notification.
    fn flush(&mut self) {}
}

/// A card as smoltcp wants it.
pub(super) struct Phy {
    card: Box<dyn Card>,
    received: Box<[u8; MAX_FRAME_BYTES]>,
}

impl Phy {
    pub(super) fn new(card: Box<dyn Card>) -> Self {
        Self { card, received: Box::new([0; MAX_FRAME_BYTES]) }
    }

    pub(super) fn flush(&mut self) {
        self.card.flush();
    }
}

impl Device for Phy {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = ToTransmit<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, ToTransmit<'_>)> {
        // What comes may be answered at once.
        if !self.card.can_transmit() {
            return None;
        }
        let length = self.card.receive(&mut self.received)?;
        Some((Received(self.received.get(..length)?), ToTransmit(&mut *self.card)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<ToTransmit<'_>> {
        self.card.can_transmit().then_some(ToTransmit(&mut *self.card))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MAX_FRAME_BYTES;
        capabilities
    }
}

pub(super) struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

pub(super) struct ToTransmit<'a>(&'a mut dyn Card);

impl TxToken for ToTransmit<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut frame = [0; MAX_FRAME_BYTES];
        // smoltcp keeps to the capabilities.
        let frame = frame.get_mut(..length).unwrap_or_default();
        let result = write(frame);
        self.0.transmit(frame);
        result
    }
}
