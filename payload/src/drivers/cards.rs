//! Network cards: which there are, and which one is taken.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use capture::Clock;
use capture::config::{Config, MmioRegion};
use rcapture_payload::boot::Ethernet;
use rcapture_payload::devices::fec::{self, Stopped};
use rcapture_payload::devices::imx6::{self, Clocks};
use rcapture_payload::net::{Card, NoCard, Seen, choose};
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::{Command, ConfigurationAccess as _, DeviceFunction, PciRoot};
use virtio_drivers::transport::{DeviceStatus, DeviceType, Transport};

use super::dma::Uncached;
use super::mmio::Mmio;
use super::uart::wait_until;
use super::virtio::{Dma, VirtioNet};
use super::virtio_legacy::LegacyPci;
use super::{console, virtio};
use crate::arch::pci::ConfigSpace;
use crate::platform::Platform;

/// Cards that are looked at.
const MAX_CARDS: usize = 16;

/// Vendor and device (PCI 3.0, 6.2.1), and those of virtio network cards, of the transitional ones first (virtio 1.2,
/// 4.1.2).
const IDS: u8 = 0;
const NETWORK_CARDS: [u32; 2] = [0x1000_1af4, 0x1041_1af4];

/// In the third byte of this word, the bit of a device with more than one function (PCI 3.0, 6.2.1).
const HEADER_TYPE: u8 = 0xc;
const MULTI_FUNCTION: u32 = 1 << 23;

/// VIRTIO_F_ACCESS_PLATFORM (virtio 1.2, 6): an IOMMU may stand between the device and memory.
const ACCESS_PLATFORM: u64 = 1 << 33;

/// Time that a card gets to reset.
const RESET_WITHIN: Duration = Duration::from_secs(1);

/// VIRTIO_NET_F_STATUS (virtio 1.2, 5.1.3), and where the status is, in it the carrier (5.1.4).
const HAS_STATUS: u64 = 1 << 16;
const STATUS_OFFSET: usize = 6;
const LINK_UP: u16 = 1;

/// Why no card is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CardError {
    #[error(transparent)]
    None(#[from] NoCard),
    #[error("{0}: the card does not work: {1}")]
    Broken(Place, virtio_drivers::Error),
    #[error("{0}: there is no memory for the card")]
    NoMemory(Place),
}

/// A card, reset.
struct Found {
    place: Place,
    card: AnyCard,
    seen: Seen,
}

enum AnyCard {
    Virtio(AnyTransport),
    Fec(Stopped<Mmio>),
}

enum AnyTransport {
    Modern(PciTransport),
    Legacy(LegacyPci),
    Mmio(MmioTransport<'static>),
}

/// What kind of card, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Pci(DeviceFunction),
    Mmio(u64),
    Fec(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(function) => write!(f, "virtio-net at {function}"),
            Self::Mmio(pa) => write!(f, "virtio-net at {pa:#x}"),
            Self::Fec(pa) => write!(f, "fec at {pa:#x}"),
        }
    }
}

/// Resets all cards, so that they leave memory alone, and takes over the one that is wanted.
///
/// # Errors
/// If it is not there, or none has a carrier.
#[inline(never)] // what it takes of the stack must not stay there
pub(crate) fn open(config: &Config, platform: &Platform) -> Result<Box<dyn Card>, CardError> {
    let clock = &platform.clock;
    let space = ConfigSpace::new(&platform.ecam);
    console::line(format_args!("rcapture: PCI through {space}"));
    let mut found: Vec<Found> = functions(space)
        .into_iter()
        .filter_map(|function| Found::reset_pci(space, function, clock))
        .chain(
            platform
                .virtio_mmio
                .iter()
                .chain(&config.virtio_mmio)
                .filter_map(|region| Found::reset_mmio(*region, clock)),
        )
        .chain(platform.ethernets.iter().filter_map(|ethernet| Found::reset_fec(*ethernet)))
        .collect();
    for (number, Found { place, seen, .. }) in found.iter().enumerate() {
        console::line(format_args!("rcapture: eth{number}: {place}: {seen}; reset and quiet"));
    }
    let seen: Vec<Seen> = found.iter().map(|card| card.seen).collect();
    let Found { place, card, seen } = found.swap_remove(choose(&seen, config.network.card)?);
    match card {
        AnyCard::Virtio(transport) => {
            start_virtio(transport, seen.mac).map_err(|e| CardError::Broken(place, e))
        }
        AnyCard::Fec(stopped) => {
            let memory = Uncached::take().ok_or(CardError::NoMemory(place))?;
            Ok(Box::new(stopped.start(memory)))
        }
    }
}

fn start_virtio(transport: AnyTransport, mac: [u8; 6]) -> Result<Box<dyn Card>, virtio_drivers::Error> {
    match transport {
        AnyTransport::Modern(transport) => start_virtio_at(transport, mac),
        AnyTransport::Legacy(transport) => start_virtio_at(transport, mac),
        AnyTransport::Mmio(transport) => start_virtio_at(transport, mac),
    }
}

#[inline(never)] // queues are made on the stack, 32 KiB of it: not those of three kinds at once
fn start_virtio_at<T: Transport + 'static>(
    transport: T,
    mac: [u8; 6],
) -> Result<Box<dyn Card>, virtio_drivers::Error> {
    Ok(Box::new(VirtioNet::new(transport, mac)?))
}

/// virtio network cards in the order of their addresses, on all buses: a machine may have more roots than bus 0, and only AML
/// tells of them.
fn functions(space: ConfigSpace<'_>) -> Vec<DeviceFunction> {
    let devices =
        (0..=u8::MAX).flat_map(|bus| (0..32).map(move |device| DeviceFunction { bus, device, function: 0 }));
    let functions = devices.flat_map(|first| {
        let count = match space.read_word(first, IDS) {
            0 | u32::MAX => 0,
            _ if space.read_word(first, HEADER_TYPE) & MULTI_FUNCTION != 0 => 8,
            _ => 1,
        };
        (0..count).map(move |function| DeviceFunction { function, ..first })
    });
    let cards = functions.filter(|place| NETWORK_CARDS.contains(&space.read_word(*place, IDS)));
    cards.take(MAX_CARDS).collect()
}

impl Found {
    fn reset_pci(space: ConfigSpace<'_>, function: DeviceFunction, clock: &impl Clock) -> Option<Self> {
        let mut root = PciRoot::new(space);
        let (_, command) = root.get_status_command(function);
        let enabled =
            Command::IO_SPACE | Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE;
        root.set_command(function, command | enabled);
        let transport = match PciTransport::new::<Dma, _>(&mut root, function) {
            Ok(modern) => AnyTransport::Modern(modern),
            Err(_) => AnyTransport::Legacy(LegacyPci::new(space, function)?),
        };
        Self::reset(Place::Pci(function), transport, clock)
    }

    fn reset_mmio(region: MmioRegion, clock: &impl Clock) -> Option<Self> {
        let transport = virtio::mmio(region)?;
        if transport.device_type() != DeviceType::Network {
            return None;
        }
        Self::reset(Place::Mmio(region.start_pa), AnyTransport::Mmio(transport), clock)
    }

    /// Before its registers are looked at its clock is turned on, where it is known how.
    fn reset_fec(ethernet: Ethernet) -> Option<Self> {
        let Ethernet { pa, clocks_pa, mac, interface } = ethernet;
        if let Some(pa) = clocks_pa {
            Clocks::new(Mmio::map(pa, imx6::REGION_BYTES).ok()?).start_ethernet();
        }
        let place = Place::Fec(pa);
        let registers = Mmio::map(pa, fec::REGION_BYTES).ok()?;
        let stopped = Stopped::stop(registers, mac, interface, wait_until);
        if stopped.is_none() {
            report_restless(place);
        }
        let stopped = stopped?;
        Some(Self { place, seen: stopped.seen(), card: AnyCard::Fec(stopped) })
    }

    fn reset(place: Place, mut transport: AnyTransport, clock: &impl Clock) -> Option<Self> {
        let seen = match &mut transport {
            AnyTransport::Modern(transport) => look(transport, clock),
            AnyTransport::Legacy(transport) => look(transport, clock),
            AnyTransport::Mmio(transport) => look(transport, clock),
        };
        if seen.is_none() {
            report_restless(place);
        }
        Some(Self { place, card: AnyCard::Virtio(transport), seen: seen? })
    }
}

fn report_restless(place: Place) {
    console::line(format_args!(
        "rcapture: {place}: it does not answer its reset, and may go on writing to memory"
    ));
}

/// Resets a card and looks at it. `None`: it does not answer.
fn look(transport: &mut impl Transport, clock: &impl Clock) -> Option<Seen> {
    transport.set_status(DeviceStatus::empty());
    let started = clock.now();
    while !transport.get_status().is_empty() {
        if clock.now().saturating_sub(started) >= RESET_WITHIN {
            return None;
        }
    }
    let mut mac = [0; 6];
    for (byte, offset) in mac.iter_mut().zip(0..) {
        *byte = transport.read_config_space(offset).ok()?;
    }
    let features = transport.read_device_features();
    let has_carrier =
        features & HAS_STATUS == 0 || transport.read_config_space::<u16>(STATUS_OFFSET).ok()? & LINK_UP != 0;
    Some(Seen { mac, has_carrier, is_behind_iommu: features & ACCESS_PLATFORM != 0 })
}
