//! What the crate `uart_16550` leaves to its user: the divisor, and what Synopsys' DesignWare UART (`snps,dw-apb-uart`)
//! does otherwise.

use uart_16550::spec::registers::{FCR, LCR, offsets};

use super::super::Registers;

/// Hertz of a PC's UART.
pub const PC_HERTZ: u32 = uart_16550::spec::CLK_FREQUENCY_HZ;

/// A write of LCR is tried so often: in between a byte may come in.
const TRIES: usize = 1000;

/// In LCR: what is read back need not be what was written, of a parity that sticks.
const STICK_PARITY: u8 = 1 << 5;

/// Sets the line control. A DesignWare UART takes no notice while it is busy, which it is as long as there is something in
/// one of its FIFOs (DW_apb_uart databook, UART_16550_COMPATIBLE). So they are emptied.
pub fn set_line_control(registers: &mut impl Registers<u8>, value: u8) {
    for _ in 0..TRIES {
        registers.set(offsets::LCR, value);
        if (registers.get(offsets::LCR) ^ value) & !STICK_PARITY == 0 {
            return;
        }
        let clear = FCR::FIFO_ENABLE | FCR::RX_FIFO_RESET | FCR::TX_FIFO_RESET;
        registers.set(offsets::FCR, clear.bits());
        let _ = registers.get(offsets::DATA);
    }
}

/// What the divisor latch says, as the crashed kernel set it; 0: nothing.
pub fn current_divisor(registers: &mut impl Registers<u8>) -> u16 {
    let line_control = registers.get(offsets::LCR);
    set_line_control(registers, line_control | LCR::DLAB.bits());
    let divisor = u16::from_le_bytes([registers.get(offsets::DLL), registers.get(offsets::DLM)]);
    set_line_control(registers, line_control & !LCR::DLAB.bits());
    divisor
}

/// Of a clock and the speed that is wanted, the divisor. `None`: none comes within 3 %, which is what a receiver makes of.
#[must_use]
pub fn divisor(hertz: u32, baud: u32) -> Option<u16> {
    let (hertz, sixteenths) = (u64::from(hertz), u64::from(baud).checked_mul(16)?);
    let divisor = (hertz + sixteenths / 2).checked_div(sixteenths)?;
    let is_near = (divisor * sixteenths).abs_diff(hertz) * 100 <= hertz * 3;
    u16::try_from(divisor).ok().filter(|divisor| *divisor > 0 && is_near)
}

/// Bits per second that a divisor gives.
#[must_use]
pub fn baud(hertz: u32, divisor: u16) -> Option<u32> {
    (hertz / 16).checked_div(divisor.into())
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use super::super::super::fake::Fake;
    use super::*;

    /// Whether it is busy; no register of any UART.
    const BUSY: usize = 100;

    /// A UART that ignores its line control while there is something to be received.
    fn busy() -> Fake<u8> {
        let write = |values: &mut BTreeMap<usize, u8>, offset, value| {
            (offset != offsets::LCR || values.get(&BUSY) == Some(&0)).then_some(value)
        };
        let read = |values: &mut BTreeMap<usize, u8>, offset| {
            if offset == offsets::DATA {
                let left = values.get(&BUSY).copied().unwrap_or(0).saturating_sub(1);
                values.insert(BUSY, left);
            }
        };
        Fake::new(&[(BUSY, 3)]).on_write(write).on_read(read)
    }

    #[test]
    fn a_busy_designware_uart_is_emptied_until_it_takes_its_line_control() {
        let registers = busy();
        set_line_control(&mut registers.clone(), 0x83);
        assert_eq!((registers.value(offsets::LCR), registers.value(BUSY)), (0x83, 0));
    }

    #[test]
    fn any_other_is_set_at_once_and_loses_nothing() {
        let registers = Fake::new(&[]);
        set_line_control(&mut registers.clone(), 0x03);
        assert_eq!(registers.writes(), [(offsets::LCR, 0x03)]);
    }

    #[test]
    fn one_that_never_takes_it_is_not_waited_for_without_end() {
        let registers = Fake::new(&[]).on_write(|_, _, _| None);
        set_line_control(&mut registers.clone(), 0x03);
        assert_eq!(registers.writes().len(), TRIES * 2);
    }

    #[test]
    fn the_divisor_is_read_and_the_line_control_is_as_before() {
        let registers = Fake::new(&[(offsets::DLL, 0x34), (offsets::DLM, 0x12), (offsets::LCR, 0x83)]);
        // The same registers, without their other meaning.
        assert_eq!(current_divisor(&mut registers.clone()), 0x1234);
        assert_eq!(registers.value(offsets::LCR), 0x03, "one that was left with the latch open is closed");
    }

    #[test]
    fn a_divisor_is_the_nearest_unless_none_is_near() {
        assert_eq!(divisor(PC_HERTZ, 115_200), Some(1));
        assert_eq!(divisor(PC_HERTZ, 9600), Some(12));
        // Of a 24 MHz crystal, 13.02.
        assert_eq!(divisor(24_000_000, 115_200), Some(13));
        assert_eq!(divisor(24_000_000, 1_500_000), Some(1));
        assert_eq!(divisor(24_000_000, 921_600), None, "1.63");
        for (hertz, baud) in [(PC_HERTZ, 230_400), (PC_HERTZ, 0), (0, 9600), (u32::MAX, 2), (24, u32::MAX)] {
            assert_eq!(divisor(hertz, baud), None, "{hertz} {baud}");
        }
        assert_eq!((baud(PC_HERTZ, 2), baud(PC_HERTZ, 0)), (Some(57_600), None));
    }
}
