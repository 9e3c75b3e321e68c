//! Leaving: reset, power off, or stay.

use x86_64::VirtAddr;
use x86_64::instructions::interrupts;
use x86_64::instructions::port::Port;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;

use super::clock::ticks;

/// Ticks each way of leaving gets before the next one is tried: 20 to 100 ms at 1 to 5 GHz.
const TRY_TICKS: u64 = 100_000_000;

/// What it takes to turn the machine off (ACPI 6.5, 4.8.3.2: PM1 control).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SoftOff {
    /// PM1a_CNT_BLK, and the value of SLP_TYPa for S5.
    pub(crate) pm1a: (u16, u8),
    /// PM1b_CNT_BLK, if there is one, and SLP_TYPb.
    pub(crate) pm1b: Option<(u16, u8)>,
}

/// Resets the machine: keyboard controller, then reset control register, then a triple fault.
pub(crate) fn reboot() {
    let mut keyboard: Port<u8> = Port::new(0x64);
    let mut reset_control: Port<u8> = Port::new(0xcf9);
    // SAFETY: the machine is given up; these ports reset it, or do nothing where they are not.
    unsafe {
        // Until the controller takes a command (bit 1 clear), then pulse the reset line.
        wait_until(|| keyboard.read() & 0b10 == 0);
        keyboard.write(0xfe);
        wait_until(|| false);
        // System reset first, then with the edge that starts it (Intel PCH, RST_CNT).
        reset_control.write(0x02);
        reset_control.write(0x06);
        wait_until(|| false);
        // Without a handler for anything, the next exception shuts the processor down, which resets the machine.
        let nothing = DescriptorTablePointer { limit: 0, base: VirtAddr::zero() };
        lidt(&nothing);
        core::arch::asm!("ud2", options(noreturn));
    }
}

/// Turns the machine off; returns if it stays on.
pub(crate) fn power_off(ports: SoftOff) {
    let sleep = |(port, sleep_type): (u16, u8)| {
        const SLP_EN: u16 = 1 << 13;
        const SLP_TYP_SHIFT: u16 = 10;
        let mut control: Port<u16> = Port::new(port);
        // SAFETY: the port is the FADT's PM1 control block; the machine is given up.
        unsafe {
            // Keep SCI_EN and the other bits, replace the sleep type.
            let others = control.read() & !(0b111 << SLP_TYP_SHIFT | SLP_EN);
            control.write(others | u16::from(sleep_type & 0b111) << SLP_TYP_SHIFT | SLP_EN);
        }
    };
    sleep(ports.pm1a);
    if let Some(pm1b) = ports.pm1b {
        sleep(pm1b);
    }
    wait_until(|| false);
}

/// Stops here for good; only a reset helps.
pub(crate) fn halt() -> ! {
    loop {
        interrupts::disable();
        // Returns after an NMI.
        x86_64::instructions::hlt();
    }
}

fn wait_until(mut is_done: impl FnMut() -> bool) {
    let start = ticks();
    while ticks().saturating_sub(start) < TRY_TICKS && !is_done() {
        core::hint::spin_loop();
    }
}
