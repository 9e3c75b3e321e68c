//! Where something goes wrong on a line or an Ethernet: seeded, and cheap when hardly anything does.

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// A source of chance that gives the same stream for the same seed, on every platform and version.
#[derive(Clone, Debug)]
pub(crate) struct Chance(Pcg64Mcg);

impl Chance {
    /// `purpose` keeps the streams of one seed apart.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let [byte, ..] = self.0.next_u64().to_le_bytes();
        byte
    }

    /// Uniform in (0, 1].
    fn unit(&mut self) -> f64 {
        // The top 53 bits, the precision of an f64.
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let unit = ((self.0.next_u64() >> 11) + 1) as f64;
        unit / (1u64 << 53) as f64
    }
}

/// Events of one probability per item, as the number of items to the next one.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    chance: Chance,
    probability: f64,
    /// Items that pass before the next event.
    left: u64,
}

impl Events {
    pub(crate) fn new(probability: f64, chance: Chance) -> Self {
        let mut events = Self { chance, probability: probability.clamp(0.0, 1.0), left: 0 };
        events.left = events.gap();
        events
    }

    /// How many items pass unharmed before the next event.
    pub(crate) const fn quiet(&self) -> u64 {
        self.left
    }

    /// Passes items of which none is an event: at most [`quiet`](Self::quiet).
    pub(crate) const fn skip(&mut self, items: u64) {
        self.left = self.left.saturating_sub(items);
    }

    /// Passes one item; whether it is an event.
    pub(crate) fn happens(&mut self) -> bool {
        if self.left > 0 {
            self.left -= 1;
            return false;
        }
        self.left = self.gap();
        true
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.chance.byte()
    }

    /// The geometric distribution, by inversion.
    fn gap(&mut self) -> u64 {
        if self.probability <= 0.0 {
            return u64::MAX;
        }
        if self.probability >= 1.0 {
            return 0;
        }
        let gap = self.chance.unit().ln() / (-self.probability).ln_1p();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
        let gap = gap as u64;
        gap
    }
}

/// A probability on the command line.
pub(crate) fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("not a probability between 0 and 1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(probability: f64) -> Events {
        Events::new(probability, Chance::new(7, 1))
    }

    #[test]
    fn events_come_as_often_as_their_probability_says() {
        for probability in [0.5, 0.01, 0.001] {
            let mut events = events(probability);
            let items = 1_000_000;
            let count = (0..items).filter(|_| events.happens()).count();
            let expected = probability * f64::from(items);
            let spread = 5.0 * expected.sqrt();
            assert!((count as f64 - expected).abs() < spread, "{count} for {probability}");
        }
    }

    #[test]
    fn never_and_always_are_exact() {
        assert!((0..1000).all(|_| !events(0.0).happens()));
        let mut always = events(1.0);
        assert!((0..1000).all(|_| always.happens()));
    }

    #[test]
    fn a_seed_names_its_events() {
        let gaps = |seed| {
            let mut events = Events::new(0.01, Chance::new(seed, 1));
            (0..10_000).filter(|_| events.happens()).collect::<Vec<u32>>()
        };
        assert_eq!(gaps(1), gaps(1));
        assert_ne!(gaps(1), gaps(2));
    }
}
