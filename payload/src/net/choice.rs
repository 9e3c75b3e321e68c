//! Which of several cards is taken.

use core::fmt;

use capture::config::Card as Wanted;

/// What is seen of a card before it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Whether it is connected.
    pub has_carrier: bool,
    /// Whether an IOMMU may stand between it and memory: what that lets through, the crashed kernel has said.
    pub is_behind_iommu: bool,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.mac;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")?;
        f.write_str(if self.has_carrier { "" } else { ", no carrier" })?;
        f.write_str(if self.is_behind_iommu { ", behind an IOMMU" } else { "" })
    }
}

/// Why none is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCard {
    /// There are none.
    #[error("no network card that this image drives (virtio-net, or the FEC of an i.MX6)")]
    None,
    /// So many, and another one is wanted.
    #[error("the network card that is wanted by ip= or BOOTIF= is not among the {0} there are")]
    NotThere(usize),
    /// So many.
    #[error("none of {0} network cards has a carrier")]
    NoCarrier(usize),
    /// The card of this number.
    #[error("eth{0} is behind an IOMMU, which this image does not drive: give it iommu_platform=off")]
    BehindIommu(usize),
}

/// The number of the card to take, of `cards` in the order of their addresses.
///
/// # Errors
/// If it is not there, or cannot be used.
pub fn choose(cards: &[Seen], wanted: Wanted) -> Result<usize, NoCard> {
    let count = cards.len();
    if count == 0 {
        return Err(NoCard::None);
    }
    let find = |is_it: &dyn Fn(&Seen) -> bool| cards.iter().position(is_it);
    let number = match wanted {
        Wanted::Number(number) => (number < count).then_some(number).ok_or(NoCard::NotThere(count)),
        Wanted::Mac(mac) => find(&|card| card.mac == mac).ok_or(NoCard::NotThere(count)),
        Wanted::FirstWithCarrier => find(&|card| card.has_carrier && !card.is_behind_iommu)
            .or_else(|| find(&|card| card.has_carrier))
            .ok_or(NoCard::NoCarrier(count)),
    }?;
    match cards.get(number) {
        Some(card) if card.is_behind_iommu => Err(NoCard::BehindIommu(number)),
        _ => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    const UP: Seen = Seen { mac: [0x52, 0x54, 0, 0, 0, 1], has_carrier: true, is_behind_iommu: false };
    const DOWN: Seen = Seen { mac: [0x52, 0x54, 0, 0, 0, 2], has_carrier: false, is_behind_iommu: false };
    const TRANSLATED: Seen = Seen { mac: [0x52, 0x54, 0, 0, 0, 3], has_carrier: true, is_behind_iommu: true };

    #[test]
    fn a_card_is_wanted_by_its_number_or_its_address_with_a_carrier_or_without() {
        assert_eq!(choose(&[UP, DOWN], Wanted::Number(1)), Ok(1));
        assert_eq!(choose(&[UP, DOWN], Wanted::Mac(DOWN.mac)), Ok(1));
        assert_eq!(choose(&[TRANSLATED, UP], Wanted::Mac(UP.mac)), Ok(1));
    }

    #[test]
    fn otherwise_it_is_the_first_that_is_connected_and_can_be_used() {
        assert_eq!(choose(&[DOWN, TRANSLATED, UP, UP], Wanted::FirstWithCarrier), Ok(2));
    }

    #[test]
    fn it_is_said_why_there_is_none() {
        for (cards, wanted, reason) in [
            (&[][..], Wanted::Number(0), NoCard::None),
            (&[UP], Wanted::Number(1), NoCard::NotThere(1)),
            (&[UP, DOWN], Wanted::Mac([0; 6]), NoCard::NotThere(2)),
            (&[DOWN], Wanted::FirstWithCarrier, NoCard::NoCarrier(1)),
            (&[DOWN, TRANSLATED], Wanted::FirstWithCarrier, NoCard::BehindIommu(1)),
            (&[TRANSLATED, UP], Wanted::Number(0), NoCard::BehindIommu(0)),
            (&[UP, TRANSLATED], Wanted::Mac(TRANSLATED.mac), NoCard::BehindIommu(1)),
        ] {
            assert_eq!(choose(cards, wanted), Err(reason), "{cards:?} {wanted:?}");
        }
    }

    #[test]
    fn the_console_says_what_a_card_is_like() {
        assert_eq!(format!("{UP}"), "52:54:00:00:00:01");
        assert_eq!(format!("{DOWN}"), "52:54:00:00:00:02, no carrier");
        assert_eq!(format!("{TRANSLATED}"), "52:54:00:00:00:03, behind an IOMMU");
    }
}
