//! Talks with a sender.

use crate::sender::Op;

/// The receiver in them.
const RECEIVER: u8 = 7;
const ALL: u16 = u16::MAX;

/// What each is called, and what happens in it.
pub(super) fn talks() -> [(&'static str, Vec<u8>); 12] {
    [
        ("honest", honest().0),
        ("resumed_when_done", honest().near_resume(RECEIVER, 1).take(ALL).wait(2000).take(ALL).0),
        ("one_way", one_way().0),
        ("never_sent", never_sent().0),
        ("behind_all", behind_all().0),
        ("another_session", another_session().0),
        ("comes_back", comes_back().0),
        ("window_full", window_full().0),
        ("gone_and_noise", gone_and_noise().0),
        ("wants_pages", wants_pages().0),
        ("floods", floods().0),
        ("held_and_released", held_and_released().0),
    ]
}

/// Operations, one after the other.
#[derive(Default)]
struct Talk(Vec<u8>);

impl Talk {
    fn add(mut self, op: Op, fields: &[&[u8]]) -> Self {
        self.0.push(op as u8);
        self.0.extend(fields.iter().copied().flatten());
        self
    }

    /// The last replies come in pieces of so many bytes, of another session.
    fn changed(mut self, at: usize, pieces: u8, is_foreign: bool) -> Self {
        self.0[at] |= pieces << 4 | u8::from(is_foreign) << 7;
        self
    }

    /// A block of so many bytes, or a few less.
    fn push(self, bytes: u16) -> Self {
        let doubled = (0..9).find(|&doubled| bytes >> doubled <= 255).unwrap_or(0);
        self.add(Op::Push, &[&[(bytes >> doubled) as u8, doubled, 10]])
    }

    fn take(self, bytes: u16) -> Self {
        self.add(Op::Take, &[&bytes.to_le_bytes()])
    }

    fn wait(self, milliseconds: u16) -> Self {
        self.add(Op::Wait, &[&milliseconds.to_le_bytes()])
    }

    /// So many frames before the next one, so many blocks before the one after the next.
    fn near_ack(self, frames: u8, history: u32, blocks: u8) -> Self {
        self.add(Op::NearAck, &[&[RECEIVER, frames], &history.to_le_bytes(), &[blocks]])
    }

    fn near_resume(self, receiver: u8, blocks: u8) -> Self {
        self.add(Op::NearResume, &[&[receiver, blocks]])
    }

    fn resume(self, block: u32, pass: u8, position: u64) -> Self {
        self.add(Op::Resume, &[&[RECEIVER], &block.to_le_bytes(), &[pass], &position.to_le_bytes()])
    }

    fn request(self, number: u32, first_pfn: u64, pages: u8, urgency: u8) -> Self {
        let first_pfn = first_pfn.to_le_bytes();
        let request = [&[RECEIVER][..], &number.to_le_bytes(), &first_pfn[..5], &[pages, urgency]];
        self.add(Op::Request, &request)
    }

    fn course(self, course: u8) -> Self {
        self.add(Op::Course, &[&[RECEIVER, course]])
    }

    /// So many bytes, times a power of two.
    fn answer(self, bytes: u8, doubled: u8) -> Self {
        self.add(Op::Answer, &[&[bytes, doubled, 0]])
    }

    fn end(self) -> Self {
        self.add(Op::End, &[])
    }
}

/// A fragment gets lost and comes again; then all is stored.
fn honest() -> Talk {
    let talk = Talk::default().take(ALL).near_resume(RECEIVER, 1).push(3000).push(2000).take(ALL);
    let talk = talk.near_ack(1, 0b1011, 2).add(Op::Text, &[&[20]]).take(700).take(ALL).end().take(ALL);
    talk.near_ack(1, u32::MAX, 2).wait(150).take(ALL).near_ack(1, u32::MAX, 1)
}

/// Nobody answers.
fn one_way() -> Talk {
    let mut talk = Talk::default().push(3000).take(ALL).push(3000).take(100).end();
    for _ in 0..7 {
        talk = talk.take(ALL).wait(1000);
    }
    talk.take(ALL)
}

/// Acknowledged before it was sent: a frame, a block, the end.
fn never_sent() -> Talk {
    let talk = Talk::default().take(ALL).near_resume(RECEIVER, 1).push(3000).push(3000).take(1300);
    let talk = talk.near_ack(0, u32::MAX, 2).near_ack(1, u32::MAX, 2).near_ack(1, u32::MAX, 1).end();
    let ack = [&[RECEIVER][..], &0xfff0_u16.to_le_bytes(), &u32::MAX.to_le_bytes(), &2_u16.to_le_bytes()];
    talk.near_ack(1, u32::MAX, 1).add(Op::Ack, &ack).take(ALL).near_ack(1, u32::MAX, 1)
}

/// A receiver that goes on behind everything there is.
fn behind_all() -> Talk {
    let talk = Talk::default().push(500).take(ALL).push(500).near_resume(RECEIVER, 1).take(ALL);
    let talk = talk.near_resume(8, 0).resume(u32::MAX, u8::MAX, u64::MAX).resume(0, 2, 1 << 32).push(500);
    talk.near_resume(9, 0).push(700).take(ALL)
}

/// What an earlier session's receiver says.
fn another_session() -> Talk {
    let talk = Talk::default().take(ALL);
    let at = talk.0.len();
    let talk =
        talk.near_resume(RECEIVER, 1).changed(at, 5, true).near_resume(RECEIVER, 1).push(500).take(ALL);
    let at = talk.0.len();
    talk.near_ack(1, u32::MAX, 2).changed(at, 1, true).near_ack(1, u32::MAX, 2)
}

/// Receivers that are started again, and go back.
fn comes_back() -> Talk {
    let mut talk = Talk::default().take(ALL).near_resume(RECEIVER, 1);
    for receiver in 8..14 {
        talk = talk.push(900).push(900).take(ALL).near_resume(receiver, 3).push(900).take(ALL);
        talk = talk.near_resume(RECEIVER, 2).push(400).take(ALL).near_ack(1, u32::MAX, 3);
    }
    talk
}

/// More than is kept.
fn window_full() -> Talk {
    let mut talk = Talk::default().take(ALL).near_resume(RECEIVER, 1);
    for _ in 0..12 {
        talk = talk.push(60_000).take(ALL).near_ack(1, u32::MAX, u8::MAX);
    }
    for _ in 0..80 {
        talk = talk.push(30).take(ALL);
    }
    talk.near_ack(1, 0, 2).take(ALL)
}

/// The receiver is gone, and something else is on its line.
fn gone_and_noise() -> Talk {
    let noise = b"\0login: \xa1\xa2\0\x0f\xa1\x07\0";
    let talk = Talk::default().take(ALL).near_resume(RECEIVER, 1).push(3000).take(ALL);
    let talk = talk.add(Op::Bytes, &[&[noise.len() as u8], noise]).wait(60_000).take(ALL).wait(10_000);
    talk.take(ALL).near_ack(1, u32::MAX, 2).end().take(ALL)
}

/// Pages that are wanted in the middle of a block: some now, some soon, one that comes again, one that gets lost, one that is
/// given up; and of a sender that has gone back.
fn wants_pages() -> Talk {
    let talk = Talk::default().take(ALL).near_resume(RECEIVER, 1).push(3000).push(3000).take(1300);
    let talk = talk.request(5, 0x1000, 1, 1).request(6, 0x12_3456, 8, 0).request(6, 0x12_3456, 8, 0);
    let talk =
        talk.take(ALL).answer(200, 4).take(ALL).add(Op::Answer, &[&[9, 0, 1]]).near_ack(2, u32::MAX, 4);
    let talk = talk.near_ack(1, u32::MAX, 4).wait(150).take(ALL).near_ack(1, u32::MAX, 2);
    let talk = talk.request(7, 1, 1, 0).near_resume(8, 3).take(ALL).answer(9, 0).push(500).take(ALL);
    talk.request(7, 1, 1, 0).answer(9, 0).take(ALL)
}

/// More than anybody may want, of pages that cannot be, and none of it acknowledged.
fn floods() -> Talk {
    let mut talk = Talk::default().take(ALL).near_resume(RECEIVER, 1).push(900);
    for number in 0..70 {
        talk = talk.request(number, number.into(), 16, 0);
    }
    talk = talk.request(100, u64::MAX, 1, 0).request(101, 0, 0, 0).request(102, 0, 17, 0);
    for _ in 0..40 {
        talk = talk.answer(250, 3).take(ALL).answer(u8::MAX, 8);
    }
    talk.wait(150).take(ALL)
}

/// The passes are held, and the machine is released; one that was set up to stay does.
fn held_and_released() -> Talk {
    let talk = Talk::default().add(Op::Stay, &[&[0]]).take(ALL).near_resume(RECEIVER, 1).course(1).push(900);
    let talk = talk.take(ALL).wait(1000).take(ALL).request(1, 1, 1, 0).answer(100, 0).take(ALL);
    let talk = talk.course(3).wait(1100).take(ALL).end().take(ALL).near_ack(1, u32::MAX, 1).take(ALL);
    talk.wait(1000).take(ALL).course(2).take(ALL).course(1).wait(1000).take(ALL)
}
