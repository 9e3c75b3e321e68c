//! The watchdogs of the machine, which are fed by everybody who waits: whoever looks at the clock, or gives a line bytes.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use capture::config::Watchdogs;
use rcapture_payload::boot::Watchdog as Place;
use rcapture_payload::devices::watchdog::Watchdog;
use spin::Mutex;

use super::console;
use super::mmio::Mmio;
use crate::arch::clock::{Clock, patience_ticks, ticks};

/// Those that are fed.
static FED: Mutex<Vec<Watchdog<Mmio>>> = Mutex::new(Vec::new());

/// When they are to be fed again; far away as long as there are none.
static DUE: AtomicU64 = AtomicU64::new(u64::MAX);

/// A tenth of a second: the shortest time of any of these watchdogs is half of one.
fn interval_ticks() -> u64 {
    patience_ticks() / 20
}

/// Feeds, from now on, those of `places` that can be fed without risk, or as it is `asked`.
pub(crate) fn start(places: &[Place], asked: Watchdogs) {
    let mut fed = FED.lock();
    for place in places.iter().filter(|place| is_fed(place, asked)) {
        if let Ok(registers) = Mmio::map(place.pa, place.kind.region_bytes()) {
            fed.push(Watchdog::new(place.kind, registers));
        }
    }
    if !fed.is_empty() {
        DUE.store(0, Ordering::Relaxed);
    }
    drop(fed);
    feed_if_due();
}

/// A look at registers without a clock may stop the machine for good.
fn is_fed(place: &Place, asked: Watchdogs) -> bool {
    match asked {
        Watchdogs::Auto => place.has_clock,
        Watchdogs::All => true,
        Watchdogs::None => false,
    }
}

/// Says which are fed, and which are not.
pub(crate) fn report(places: &[Place], asked: Watchdogs) {
    let mut fed = FED.lock();
    let mut fed = fed.iter_mut();
    for place in places {
        let Place { kind, pa, .. } = place;
        let state = match is_fed(place, asked).then(|| fed.next()).flatten() {
            Some(watchdog) if watchdog.is_on() => "on, and fed",
            Some(_) => "off",
            None if asked == Watchdogs::Auto => {
                "not fed: nothing says that its clock runs (rcapture.watchdog=all)"
            }
            None => "not fed",
        };
        console::line(format_args!("rcapture: watchdog {kind} at {pa:#x}: {state}"));
    }
}

/// Feeds them if it is time. To be called by everybody who waits.
pub(crate) fn feed_if_due() {
    let due = DUE.load(Ordering::Relaxed);
    if due == u64::MAX {
        return;
    }
    let now = ticks();
    if now < due {
        return;
    }
    // Whoever holds the lock feeds them, or was interrupted for good: then nobody does any more.
    if let Some(mut fed) = FED.try_lock() {
        fed.iter_mut().for_each(Watchdog::feed);
        DUE.store(now.saturating_add(interval_ticks()), Ordering::Relaxed);
    }
}

/// Resets the machine by a watchdog; returns if none can, or it does not.
pub(crate) fn reset() {
    let Some(mut fed) = FED.try_lock() else { return };
    // The second time as bluntly as it goes: QEMU's resets neither chip nor board alone once Linux has armed it.
    for of_all in [false, true] {
        if fed.iter_mut().any(|watchdog| watchdog.reset(of_all)) {
            let since = ticks();
            // Without feeding any.
            while ticks().saturating_sub(since) < patience_ticks() {
                core::hint::spin_loop();
            }
        }
    }
}

/// Feeds them for good; returns if there are none.
pub(crate) fn stay() {
    while DUE.load(Ordering::Relaxed) != u64::MAX {
        feed_if_due();
        core::hint::spin_loop();
    }
}

/// The machine's clock; a look at it feeds the watchdogs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FeedingClock(pub(crate) Clock);

impl capture::Clock for FeedingClock {
    fn now(&self) -> Duration {
        feed_if_due();
        self.0.now()
    }
}
