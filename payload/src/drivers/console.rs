//! The one UART: text for a person, and the bytes of the link. A line of text goes out at once; the link writes what
//! the UART takes and never waits.

use core::fmt::{self, Write};

use rcapture_payload::boot::Uart as Place;
use spin::{Mutex, MutexGuard};

use super::uart::{Uart, UartError};

static UART: Mutex<Option<Uart>> = Mutex::new(None);

/// Makes the UART at `place` the console, for `baud` bits per second or those that the crashed kernel set; returns them.
///
/// # Errors
/// If it cannot be used; the console stays what it was.
pub(crate) fn open(place: Place, baud: Option<u32>) -> Result<u32, UartError> {
    let uart = Uart::open(place, baud)?;
    let baud = uart.baud();
    *UART.lock() = Some(uart);
    Ok(baud)
}

/// Does something with the UART; `None` if there is none.
pub(crate) fn with_uart<T>(action: impl FnOnce(&mut Uart) -> T) -> Option<T> {
    UART.lock().as_mut().map(action)
}

/// Writes a line, CR LF at its end.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    write_line(&mut UART.lock(), text);
}

/// As [`line`], for the last words: takes the UART from whoever holds it, who will not run again. The NUL in front
/// ends a frame that was under way.
pub(crate) fn last_line(text: fmt::Arguments<'_>) {
    let mut uart = UART.try_lock().unwrap_or_else(|| {
        // SAFETY: there is one processor without interrupts, and the caller never returns to what it interrupted: the
        // holder of the lock is gone. Its half-done write costs at most the UART's count of free bytes.
        unsafe { UART.force_unlock() };
        UART.lock()
    });
    if let Some(uart) = uart.as_mut() {
        uart.write_all(b"\0\r\n");
    }
    write_line(&mut uart, text);
    if let Some(uart) = uart.as_mut() {
        uart.drain();
    }
}

fn write_line(uart: &mut MutexGuard<'_, Option<Uart>>, text: fmt::Arguments<'_>) {
    if let Some(uart) = uart.as_mut() {
        let mut writer = LineWriter(uart);
        // It never fails: what cannot be written is lost.
        let _ = writer.write_fmt(text);
        writer.0.write_all(b"\r\n");
    }
}

/// Waits until everything is on the line.
pub(crate) fn drain() {
    let _ = with_uart(Uart::drain);
}

struct LineWriter<'a>(&'a mut Uart);

impl Write for LineWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                self.0.write_all(b"\r\n");
            }
            self.0.write_all(line.as_bytes());
        }
        Ok(())
    }
}
