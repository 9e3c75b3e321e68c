use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use spin::{Mutex, MutexGuard};

use super::super::fake::wait;
use super::*;

const MMFR: usize = 0x040;
const MII: u32 = 1 << 23;
/// Where the memory is for the controller.
const MEMORY_PA: u32 = 0x2f48_0000;
const OURS: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// A controller that does what is asked of it: with its memory, its transceiver, and what it sent.
#[derive(Default)]
struct Board {
    registers: BTreeMap<usize, u32>,
    memory: Vec<u8>,
    /// The transceiver's address and registers.
    phy: Option<(u32, BTreeMap<u32, u16>)>,
    is_stuck: bool,
    /// It does not notice that it has something to send.
    is_asleep: bool,
    sent: Vec<Vec<u8>>,
    sending: usize,
    receiving: usize,
    resets: usize,
}

#[derive(Clone, Default)]
struct Handle(Arc<Mutex<Board>>);

impl Handle {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock()
    }
}

impl Registers for Handle {
    fn get(&self, offset: usize) -> u32 {
        self.board().registers.get(&offset).copied().unwrap_or(0)
    }

    fn set(&mut self, offset: usize, value: u32) {
        let mut board = self.board();
        match offset {
            ECR if value & RESET != 0 => {
                board.resets += 1;
                if board.is_stuck {
                    board.registers.insert(ECR, RESET);
                } else {
                    board.registers.clear();
                }
            }
            EIR => *board.registers.entry(EIR).or_default() &= !value,
            MMFR => board.manage(value),
            TDAR => board.send(),
            _ => {
                board.registers.insert(offset, value);
            }
        }
    }
}

impl Board {
    /// A transfer on the management bus, where nobody pulls the line down reads as ones.
    fn manage(&mut self, command: u32) {
        assert_eq!(command >> 28, 0b0110, "a read");
        let (address, register) = (command >> 23 & 31, command >> 18 & 31);
        let of_phy = self.phy.as_ref().filter(|(at, _)| *at == address);
        let value = of_phy.map_or(0xffff, |(_, values)| values.get(&register).copied().unwrap_or(0));
        self.registers.insert(MMFR, value.into());
        *self.registers.entry(EIR).or_default() |= MII;
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.memory[at..at + 4].try_into().unwrap())
    }

    fn put_word(&mut self, at: usize, value: u32) {
        self.memory[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Where descriptor `index` of the ring that a register leads to is in memory.
    fn descriptor(&self, ring: usize, index: usize) -> usize {
        (self.registers[&ring] - MEMORY_PA) as usize + index * 8
    }

    fn send(&mut self) {
        assert_ne!(self.registers[&ECR] & ETHEREN, 0);
        if self.is_asleep {
            return;
        }
        loop {
            let at = self.descriptor(TDSR, self.sending);
            let head = self.word(at);
            if head >> 31 == 0 {
                return;
            }
            assert_eq!(head >> 16 & 0x0c00, 0x0c00, "a whole frame, to be given its check sequence");
            let from = (self.word(at + 4) - MEMORY_PA) as usize;
            self.sent.push(self.memory[from..from + (head & 0xffff) as usize].to_vec());
            self.put_word(at, head & 0x7fff_ffff);
            self.sending = if head & 1 << 29 == 0 { self.sending + 1 } else { 0 };
        }
    }

    /// A frame comes in; `false`: there was no room.
    fn deliver(&mut self, frame: &[u8], flags: u32) -> bool {
        let at = self.descriptor(RDSR, self.receiving);
        let head = self.word(at);
        if head >> 31 == 0 {
            return false;
        }
        let to = (self.word(at + 4) - MEMORY_PA) as usize;
        assert!(to.is_multiple_of(64));
        self.memory[to..to + frame.len()].copy_from_slice(frame);
        let length = u32::try_from(frame.len() + 4).unwrap();
        self.put_word(at, head & 0x2000_0000 | flags << 16 | length);
        self.receiving = if head & 1 << 29 == 0 { self.receiving + 1 } else { 0 };
        true
    }
}

/// The memory of a board.
struct Memory(Handle);

impl Registers for Memory {
    fn get(&self, offset: usize) -> u32 {
        self.0.board().word(offset)
    }

    fn set(&mut self, offset: usize, value: u32) {
        self.0.board().put_word(offset, value);
    }
}

impl DmaMemory for Memory {
    fn pa(&self) -> u32 {
        MEMORY_PA
    }

    fn publish(&self) {}
}

/// A transceiver that negotiated.
fn phy(status: u16, ours: u16, theirs: u16) -> BTreeMap<u32, u16> {
    [(0, 0x1000), (1, status), (2, 0x0007), (3, 0xc0d1), (4, ours), (5, theirs)].into()
}

/// As Linux leaves it: at work, with an address, by RGMII.
fn left_on() -> Handle {
    let handle = Handle::default();
    *handle.board() = Board {
        registers: [
            (ECR, ETHEREN | DBSWP),
            (RCR, 0x05ee_0000 | MII_MODE | RGMII_EN),
            (TCR, FDEN),
            (MSCR, 0x1a),
            (EIMR, 0x0a40_0000),
            (PALR, 0x5254_0012),
            (PAUR, 0x3456_8808),
        ]
        .into(),
        memory: vec![0xa5; DMA_BYTES],
        phy: Some((6, phy(0x782d, 0x01e1, 0x45e1))),
        ..Board::default()
    };
    handle
}

fn stop(handle: &Handle) -> Option<Stopped<Handle>> {
    Stopped::stop(handle.clone(), None, Interface::Mii, wait)
}

fn start(handle: &Handle) -> Fec<Handle, Memory> {
    stop(handle).unwrap().start(Memory(handle.clone()))
}

fn receive(fec: &mut Fec<Handle, Memory>) -> Option<Vec<u8>> {
    let mut frame = [0; MAX_FRAME_BYTES];
    let length = fec.receive(&mut frame)?;
    Some(frame[..length].to_vec())
}

fn frame(seed: usize) -> Vec<u8> {
    (0..60 + seed * 97 % 1455).map(|at| (at * 7 + seed).to_le_bytes()[0]).collect()
}

#[test]
fn a_controller_that_linux_left_on_is_quiet_once_it_is_stopped() {
    let handle = left_on();
    let stopped = stop(&handle).unwrap();
    assert_eq!(handle.board().resets, 1);
    assert_eq!((handle.get(ECR), handle.get(EIMR), handle.get(RDAR)), (0, 0, 0));
    let seen = Seen { mac: OURS, has_carrier: true, is_behind_iommu: false };
    assert_eq!(stopped.seen(), seen);
}

#[test]
fn one_that_does_not_answer_its_reset_is_none() {
    let handle = left_on();
    handle.board().is_stuck = true;
    assert!(stop(&handle).is_none());
    // As where nothing is: all ones.
    let nothing = Handle::default();
    nothing.board().is_stuck = true;
    assert!(stop(&nothing).is_none());
}

#[test]
fn it_is_set_up_for_what_both_ends_agreed_on() {
    let set_up = |phy| {
        let handle = left_on();
        handle.board().phy = phy;
        let _ = start(&handle);
        let speed = match (handle.get(ECR) & SPEED, handle.get(RCR) & RMII_10T) {
            (0, 0) => 100,
            (0, _) => 10,
            _ => 1000,
        };
        assert_eq!(handle.get(RCR) & RGMII_EN, RGMII_EN, "as Linux knew");
        let is_duplex = handle.get(TCR) & FDEN != 0;
        assert_eq!(is_duplex, handle.get(RCR) & DRT == 0);
        (speed, is_duplex)
    };
    let gigabit = |ours, theirs| {
        let mut phy = phy(0x796d, 0x01e1, 0xc5e1);
        phy.extend([(9, ours), (10, theirs)]);
        Some((31, phy))
    };
    assert_eq!(set_up(Some((6, phy(0x782d, 0x01e1, 0x45e1)))), (100, true));
    assert_eq!(set_up(Some((0, phy(0x782d, 0x01e1, 0x0081)))), (100, false));
    assert_eq!(set_up(Some((6, phy(0x782d, 0x0061, 0x45e1)))), (10, true));
    assert_eq!(set_up(Some((6, phy(0x782d, 0x01e1, 0x0021)))), (10, false));
    assert_eq!(set_up(gigabit(0x0200, 0x3800)), (1000, true));
    assert_eq!(set_up(gigabit(0x0100, 0x3400)), (1000, false));
    assert_eq!(set_up(gigabit(0x0200, 0)), (100, true), "the other end has none");
    // It was told, and does not negotiate.
    for (control, speed) in [(0, (10, false)), (0x2100, (100, true)), (0x0140, (1000, true))] {
        let mut told = phy(0x7829 | 4, 0x01e1, 0);
        told.insert(0, control);
        assert_eq!(set_up(Some((6, told))), speed, "{control:#x}");
    }
    // A switch has no transceiver here: as it was.
    assert_eq!(set_up(None), (100, true));
}

#[test]
fn a_cable_that_is_not_there_is_no_carrier() {
    let handle = left_on();
    handle.board().phy = Some((6, phy(0x7809, 0x01e1, 0)));
    assert!(!stop(&handle).unwrap().seen().has_carrier);
    // Neither transceiver nor anything that Linux knew.
    let unused = left_on();
    unused.board().phy = None;
    unused.board().registers.clear();
    assert!(!stop(&unused).unwrap().seen().has_carrier);
}

#[test]
fn what_linux_has_not_set_the_firmware_says() {
    let handle = left_on();
    handle.board().registers.clear();
    let mac = [2, 1, 2, 3, 4, 5];
    let stopped = Stopped::stop(handle.clone(), Some(mac), Interface::Rmii, wait).unwrap();
    assert_eq!(stopped.seen().mac, mac);
    let _ = stopped.start(Memory(handle.clone()));
    assert_eq!((handle.get(PALR), handle.get(PAUR)), (0x0201_0203, 0x0405_8808));
    assert_eq!(handle.get(RCR) & (RGMII_EN | RMII_MODE), RMII_MODE);
    assert_eq!(handle.get(MSCR), MDIO_66_MHZ);
    handle.board().registers.clear();
    assert_eq!(stop(&handle).unwrap().seen().mac, NO_BODYS, "nobody does");
}

#[test]
fn frames_go_out_in_their_order_and_short_ones_are_filled_up() {
    let handle = left_on();
    let mut fec = start(&handle);
    let frames: Vec<Vec<u8>> = (0..100).map(frame).collect();
    for (count, frame) in frames.iter().enumerate() {
        assert!(fec.can_transmit(), "{count}");
        fec.transmit(frame);
        if count % 5 == 0 {
            fec.flush();
        }
    }
    fec.flush();
    assert!(handle.board().sent == frames);
    fec.transmit(&[1, 2, 3]);
    fec.flush();
    let mut filled = vec![1, 2, 3];
    filled.resize(60, 0);
    assert_eq!(handle.board().sent.last(), Some(&filled));
    fec.transmit(&[0; MAX_FRAME_BYTES + 1]);
    fec.flush();
    assert_eq!(handle.board().sent.len(), 101, "too long for any network");
}

#[test]
fn a_controller_that_fell_asleep_is_woken_up() {
    let handle = left_on();
    let mut fec = start(&handle);
    handle.board().is_asleep = true;
    (0..16).for_each(|seed| fec.transmit(&frame(seed)));
    assert!(!fec.can_transmit(), "all buffers are in use");
    fec.transmit(&frame(16));
    handle.board().is_asleep = false;
    fec.can_transmit();
    assert!(fec.can_transmit());
    assert_eq!(handle.board().sent.len(), 16);
}

#[test]
fn frames_come_in_and_damaged_ones_do_not() {
    const WHOLE: u32 = 0x0800;
    let handle = left_on();
    let mut fec = start(&handle);
    assert_eq!(receive(&mut fec), None);
    for seed in 0..50 {
        assert!(handle.board().deliver(&frame(seed), WHOLE));
        assert!(receive(&mut fec) == Some(frame(seed)), "{seed}");
    }
    for flags in [0, WHOLE | 0x20, WHOLE | 0x10, WHOLE | 4, WHOLE | 2, WHOLE | 1] {
        assert!(handle.board().deliver(&frame(1), flags));
        assert!(handle.board().deliver(&frame(2), WHOLE));
        assert!(receive(&mut fec) == Some(frame(2)), "{flags:#x}");
        assert_eq!(receive(&mut fec), None);
    }
}

#[test]
fn a_flood_costs_what_there_is_no_room_for_and_nothing_else() {
    let handle = left_on();
    let mut fec = start(&handle);
    let taken = (0..40).filter(|seed| handle.board().deliver(&frame(*seed), 0x0800)).count();
    assert_eq!(taken, 16);
    for seed in 0..taken {
        assert!(receive(&mut fec) == Some(frame(seed)));
    }
    assert_eq!(receive(&mut fec), None);
    assert_eq!(handle.get(RDAR), ACTIVE, "it is told that there is room again");
}

#[test]
fn lengths_that_cannot_be_are_no_frames() {
    let handle = left_on();
    let mut fec = start(&handle);
    for length in [0, 3, 1519, 0xffff] {
        let at = handle.board().receiving;
        let mut board = handle.board();
        let descriptor = board.descriptor(RDSR, at);
        let head = board.word(descriptor);
        board.put_word(descriptor, head & 0x2000_0000 | 0x0800_0000 | length);
        board.receiving = (at + 1) % 16;
        drop(board);
        assert_eq!(receive(&mut fec), None, "{length}");
    }
    assert!(handle.board().deliver(&frame(3), 0x0800));
    assert!(receive(&mut fec) == Some(frame(3)));
}
