//! The console's UART as a link.

use alloc::collections::VecDeque;

use capture::Link;

use crate::drivers::console;
use crate::drivers::uart::Uart;

/// Bytes kept for the pipeline; an acknowledgement has at most 16 of them on the line.
const RECEIVED_BYTES: usize = 1024;

/// Frames go out between the console's lines of text; what comes in waits here until it is read.
pub(crate) struct SerialLink {
    received: VecDeque<u8>,
}

impl SerialLink {
    /// The console's UART.
    pub(crate) fn new() -> Self {
        Self { received: VecDeque::with_capacity(RECEIVED_BYTES) }
    }

    /// Takes what has come in: the receive FIFO holds 1.4 ms at 115200.
    fn receive(&mut self, uart: &mut Uart) {
        while self.received.len() < RECEIVED_BYTES {
            let Some(byte) = uart.read_byte() else { return };
            self.received.push_back(byte);
        }
    }
}

impl Link for SerialLink {
    fn write(&mut self, bytes: &[u8]) -> usize {
        console::with_uart(|uart| {
            self.receive(uart);
            uart.write(bytes)
        })
        .unwrap_or(0)
    }

    fn read(&mut self, buf: &mut [u8]) -> usize {
        let _ = console::with_uart(|uart| self.receive(uart));
        let count = buf.len().min(self.received.len());
        for (to, from) in buf.iter_mut().zip(self.received.drain(..count)) {
            *to = from;
        }
        count
    }
}
