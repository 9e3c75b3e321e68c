//! The end, good or bad: reports what went wrong and does what `rcapture.final=` says.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use capture::config::FinalAction;
use spin::Mutex;

use crate::arch::power::{self, SoftOff};
use crate::drivers::{console, watchdog};

/// What to do at the end; known from the command line on.
static FINAL: Mutex<(FinalAction, Option<SoftOff>)> = Mutex::new((FinalAction::Reboot, None));
static IS_REPORTING: AtomicBool = AtomicBool::new(false);

/// Sets what [`finish`] does.
pub(crate) fn set_final(action: FinalAction, soft_off: Option<SoftOff>) {
    *FINAL.lock() = (action, soft_off);
}

/// Ends as the command line says.
pub(crate) fn finish() -> ! {
    // Not waited for: whoever was interrupted holding it does not run again. Then: the default.
    let (action, soft_off) = FINAL.try_lock().map_or((FinalAction::Reboot, None), |guard| *guard);
    let say = |text: &str| {
        console::last_line(format_args!("rcapture: {text}"));
    };
    match (action, soft_off) {
        (FinalAction::Reboot, _) => {
            say("rebooting");
            power::reboot();
            watchdog::reset();
            say("the machine does not reset: halted, reset it by hand");
            power::halt()
        }
        (FinalAction::Poweroff, Some(ports)) => {
            say("turning the machine off");
            power::power_off(ports);
            say("the machine does not turn off: halted, turn it off by hand");
            halt()
        }
        (FinalAction::Poweroff, None) => {
            say("the firmware does not say how to turn the machine off: halted, turn it off by hand");
            halt()
        }
        (FinalAction::Halt, _) => {
            say("halted");
            halt()
        }
    }
}

/// Stays here, and sees to it that no watchdog makes an end of that.
fn halt() -> ! {
    watchdog::stay();
    power::halt()
}

/// Reports what cannot be gone on from, and ends. A failure on the way stops the machine where it is.
pub(crate) fn report(what: fmt::Arguments<'_>) -> ! {
    if IS_REPORTING.swap(true, Ordering::Relaxed) {
        power::halt();
    }
    console::last_line(format_args!("rcapture: {what}"));
    finish()
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    match info.location() {
        Some(location) => {
            report(format_args!("panic at {}:{}: {}", location.file(), location.line(), info.message()))
        }
        None => report(format_args!("panic: {}", info.message())),
    }
}
