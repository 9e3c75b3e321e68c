//! A counter to tell time by: the generic timer's where the processor has one, else an i.MX6's timer. Without either it is the
//! processor's cycle counter, whose rate nobody knows.
//!
//! The Cortex-A9's own global timer is not used: nothing says its rate, which is half the processor's and changes with that.

use core::arch::asm;

use rcapture_payload::boot::DeviceTree;
use rcapture_payload::devices::gpt::{self, Gpt};
use rcapture_payload::devices::imx6;
use rcapture_payload::devices::long_count::LongCount;
use spin::Once;

use super::registers::{read, write};
use crate::arch::clock::Rate;
use crate::drivers::mmio::Mmio;

/// The cycle counter's at 1 GHz, of which it counts each 64th: it goes round in minutes.
const GUESSED_CYCLE_HERTZ: u64 = 1_000_000_000 / 64;

/// What of a counter of 32 bits was counted.
static LONG: LongCount = LongCount::new();

/// What is counted if the processor has no generic timer; empty before it is looked for.
static OTHER: Once<Other> = Once::new();

enum Other {
    Timer(Gpt<Mmio>),
    Cycles,
}

/// Whether the processor has the generic timer (ID_PFR1).
fn has_generic_timer() -> bool {
    read!("0", "c0, c1, 1") >> 16 & 0xf != 0
}

/// Looks for one; to be called before any other of these.
pub(crate) fn find(tree: &DeviceTree) {
    if !has_generic_timer() {
        OTHER.call_once(|| imx6_timer(tree).map_or_else(cycles, Other::Timer));
    }
}

fn imx6_timer(tree: &DeviceTree) -> Option<Gpt<Mmio>> {
    let place = tree.timer?;
    imx6::Clocks::new(Mmio::map(place.clocks_pa, imx6::REGION_BYTES).ok()?).start_timer();
    Gpt::start(Mmio::map(place.pa, gpt::REGION_BYTES).ok()?, place.divides)
}

/// Lets the cycle counter count (DDI 0406, C12).
fn cycles() -> Other {
    // SAFETY: the performance monitors are nobody's any more. PMCR: E and D, on, each 64th; PMCNTENSET: the cycles.
    unsafe {
        write!("0", "c9, c12, 0", 1 << 0 | 1 << 3_u32);
        write!("0", "c9, c12, 1", 1 << 31_u32);
    }
    Other::Cycles
}

/// The counter.
pub(crate) fn ticks() -> u64 {
    match OTHER.get() {
        Some(Other::Timer(timer)) => LONG.at(timer.count()),
        // PMCCNTR.
        Some(Other::Cycles) => LONG.at(read!("0", "c9, c13, 0")),
        None => generic(),
    }
}

fn generic() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: CNTVCT is only read; earlier than the instructions before it, it would be without the barrier.
    unsafe {
        asm!("isb", "mrrc p15, 1, {}, {}, c14", out(reg) low, out(reg) high, options(nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Its rate.
pub(crate) fn rate() -> Rate {
    match OTHER.get() {
        Some(Other::Timer(_)) => Rate { hertz: gpt::HERTZ.into(), is_guess: false },
        Some(Other::Cycles) => Rate { hertz: GUESSED_CYCLE_HERTZ, is_guess: true },
        // CNTFRQ.
        None => Rate::of_generic_timer(read!("0", "c14, c0, 0")),
    }
}
