//! The general-purpose timer of an i.MX6 (IMX6DQRM, chapter 30), as a counter: of the timers of boards whose processor has none
//! of a known rate, it is the one that counts a crystal's oscillations.

use core::hint;

use super::Registers;

/// Bytes of its registers.
pub const REGION_BYTES: usize = 0x28;

/// How often it counts in a second: an eighth of the crystal's 24 MHz. It begins again after 23 minutes.
pub const HERTZ: u32 = 3_000_000;

/// Registers, by their offset (30.6).
const CONTROL: usize = 0x00;
const PRESCALER: usize = 0x04;
const STATUS: usize = 0x08;
const INTERRUPTS: usize = 0x0c;
const COUNT: usize = 0x24;

/// In the control register: on, from zero on, also while the processor waits, from the crystal, and past the compare register.
const ENABLE: u32 = 1 << 0;
const FROM_ZERO: u32 = 1 << 1;
const WHILE_WAITING: u32 = 1 << 3;
const FROM_CRYSTAL: u32 = 5 << 6;
const FREE_RUN: u32 = 1 << 9;
/// Where the crystal is not divided on its way: turns that way on, and by how much more than one it is divided here.
const CRYSTAL_ON: u32 = 1 << 10;
const CRYSTAL_BY_8: u32 = 7 << 12;

/// All events.
const EVENTS: u32 = 0x3f;

/// Looks at the count, each of which takes 50 ns at least, in which it has to change.
const LOOKS: u32 = 10_000;

/// A timer that counts.
pub struct Gpt<R> {
    registers: R,
}

impl<R: Registers> Gpt<R> {
    /// Lets it count from zero on. `divides`: it divides the crystal by itself (on the DualLite and the Solo).
    /// `None`: it stands still.
    pub fn start(mut registers: R, divides: bool) -> Option<Self> {
        // In this order (30.5.1).
        registers.set(CONTROL, 0);
        registers.set(INTERRUPTS, 0);
        registers.set(PRESCALER, if divides { CRYSTAL_BY_8 } else { 0 });
        let control = FROM_CRYSTAL | FREE_RUN | WHILE_WAITING | if divides { CRYSTAL_ON } else { 0 };
        registers.set(CONTROL, control);
        registers.set(STATUS, EVENTS);
        registers.set(CONTROL, control | FROM_ZERO);
        registers.set(CONTROL, control | FROM_ZERO | ENABLE);
        let timer = Self { registers };
        let first = timer.count();
        let counts = (0..LOOKS).any(|_| {
            hint::spin_loop();
            timer.count() != first
        });
        counts.then_some(timer)
    }

    /// The count.
    pub fn count(&self) -> u32 {
        self.registers.get(COUNT)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    fn counting() -> Fake<u32> {
        Fake::new(&[(PRESCALER, 0x123)]).on_read(|values, offset| {
            if offset == COUNT && values.get(&CONTROL).is_some_and(|control| control & ENABLE != 0) {
                *values.entry(COUNT).or_default() += 3;
            }
        })
    }

    #[test]
    fn it_counts_the_crystal_whatever_it_counted_before() {
        for (divides, prescaler, control) in [(false, 0, 0x34b), (true, 0x7000, 0x74b)] {
            let registers = counting();
            let timer = Gpt::start(registers.clone(), divides).unwrap();
            assert_eq!((registers.value(PRESCALER), registers.value(CONTROL)), (prescaler, control));
            let first = timer.count();
            assert!(timer.count() > first);
        }
    }

    #[test]
    fn one_that_stands_still_is_none() {
        assert!(Gpt::start(Fake::new(&[]), false).is_none());
    }
}
