//! Time: the time stamp counter, whose rate is found once.

use core::arch::x86_64::{__cpuid, _rdtsc};
use core::time::Duration;

use x86_64::instructions::port::Port;

use crate::arch::elapsed::elapsed;

/// Ticks of the time stamp counter after which a wait is given up before the rate is known: 0.8 to 4 seconds at 1 to
/// 5 GHz.
const PATIENCE_TICKS: u64 = 1 << 32;

/// Ticks after which a device is given up.
pub(crate) const fn patience_ticks() -> u64 {
    PATIENCE_TICKS
}

/// The time stamp counter.
pub(crate) fn ticks() -> u64 {
    // SAFETY: every x86_64 processor has it, and CR4.TSD binds user mode only.
    unsafe { _rdtsc() }
}

/// Where the counter's rate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// CPUID leaf 15h.
    Cpuid,
    /// Counted against channel 2 of the 8254 timer.
    Pit,
    /// Counted against the ACPI PM timer.
    PmTimer,
    /// A guess: neither of them answered.
    Guess,
}

/// A monotonic clock that starts at zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: u64,
    hertz: u64,
    source: Source,
}

/// PIT input, 8254 data sheet; and the ACPI PM timer's (ACPI 6.5, 4.8.2.1).
const PIT_HERTZ: u64 = 1_193_182;
const PM_TIMER_HERTZ: u64 = 3_579_545;
/// How long one measurement lasts: 1/100 s.
const PIT_COUNT: u16 = 11_932;
const PM_TIMER_COUNT: u32 = 35_795;
/// A hypervisor may take the processor away in the middle: the shortest of several measurements is the truest.
const MEASUREMENTS: usize = 3;
/// What a real counter can have, and [`elapsed`] makes time of.
const PLAUSIBLE_HERTZ: core::ops::Range<u64> = 100_000_000..1 << 34;
const GUESSED_HERTZ: u64 = 2_000_000_000;

impl Clock {
    /// Finds the counter's rate, which takes up to 30 ms; `pm_timer_port` is the FADT's PM_TMR_BLK.
    pub(crate) fn calibrate(pm_timer_port: Option<u16>) -> Self {
        let start = ticks();
        let (hertz, source) = hertz_by_cpuid()
            .map(|hertz| (hertz, Source::Cpuid))
            .or_else(|| {
                shortest(ticks_of_pit, PIT_HERTZ, u64::from(PIT_COUNT)).map(|hertz| (hertz, Source::Pit))
            })
            .or_else(|| {
                let port = pm_timer_port?;
                let hertz = shortest(|| ticks_of_pm_timer(port), PM_TIMER_HERTZ, u64::from(PM_TIMER_COUNT))?;
                Some((hertz, Source::PmTimer))
            })
            .unwrap_or((GUESSED_HERTZ, Source::Guess));
        Self { start, hertz, source }
    }

    /// Ticks per second, if nobody knows them.
    pub(crate) fn guessed_hertz(&self) -> Option<u64> {
        (self.source == Source::Guess).then_some(self.hertz)
    }
}

impl capture::Clock for Clock {
    /// Time since calibration began.
    fn now(&self) -> Duration {
        elapsed(ticks().saturating_sub(self.start), self.hertz)
    }
}

fn hertz_by_cpuid() -> Option<u64> {
    if __cpuid(0).eax < 0x15 {
        return None;
    }
    // SDM volume 2, CPUID 15h: EAX : EBX = crystal : counter, ECX = crystal in Hz or 0.
    let leaf = __cpuid(0x15);
    let hertz = u64::from(leaf.ecx).checked_mul(leaf.ebx.into())?.checked_div(leaf.eax.into())?;
    Some(hertz).filter(|hertz| PLAUSIBLE_HERTZ.contains(hertz))
}

/// The rate by the shortest of several measurements of `counts` periods of a timer of `timer_hertz`.
fn shortest(measure: impl Fn() -> Option<u64>, timer_hertz: u64, counts: u64) -> Option<u64> {
    let ticks = (0..MEASUREMENTS).filter_map(|_| measure()).min()?;
    let hertz = ticks.checked_mul(timer_hertz)?.checked_div(counts)?;
    Some(hertz).filter(|hertz| PLAUSIBLE_HERTZ.contains(hertz))
}

/// Ticks while channel 2 of the 8254 counts down once; `None` if it does not.
fn ticks_of_pit() -> Option<u64> {
    let mut gate: Port<u8> = Port::new(0x61);
    let mut command: Port<u8> = Port::new(0x43);
    let mut channel_2: Port<u8> = Port::new(0x42);
    let [low, high] = PIT_COUNT.to_le_bytes();
    // SAFETY: the ports of the PC's timer; channel 2 drives the speaker, which is kept off, and nobody else uses it.
    unsafe {
        let before = gate.read();
        // Gate open, speaker off.
        gate.write(before & !0b10 | 0b01);
        // Channel 2, low then high byte, mode 0 (output rises at the end), binary.
        command.write(0b1011_0000);
        channel_2.write(low);
        channel_2.write(high);
        let start = ticks();
        let mut measured = None;
        while ticks().saturating_sub(start) < PATIENCE_TICKS {
            if gate.read() & 0b10_0000 != 0 {
                measured = Some(ticks().saturating_sub(start));
                break;
            }
        }
        gate.write(before);
        measured
    }
}

/// Ticks while the PM timer advances by [`PM_TIMER_COUNT`]; `None` if it does not.
fn ticks_of_pm_timer(port: u16) -> Option<u64> {
    let mut timer: Port<u32> = Port::new(port);
    // The timer has 24 bits on some machines.
    // SAFETY: the port is the FADT's PM timer block, which is only read.
    let mut now = || unsafe { timer.read() } & 0x00ff_ffff;
    let (start, first) = (ticks(), now());
    loop {
        let passed = ticks().saturating_sub(start);
        if now().wrapping_sub(first) & 0x00ff_ffff >= PM_TIMER_COUNT {
            return Some(passed);
        }
        if passed > PATIENCE_TICKS {
            return None;
        }
    }
}
