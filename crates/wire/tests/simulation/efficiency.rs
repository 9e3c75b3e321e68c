//! How much of a line is left for what it is for.

use std::time::Duration;

use super::{Channel, Machine, Noise, Setup, Simulation};

/// Bytes of blocks, as a share of what they cost.
#[derive(Clone, Copy, Debug)]
pub struct Efficiency {
    /// Of all bytes on the line.
    pub of_bytes: f64,
    /// Of what the line can carry, while the session is under way. Less: the line was idle.
    pub of_rate: f64,
}

impl Efficiency {
    /// Over 10 MiB of blocks, which have half as many bytes as the largest on average.
    pub fn measure(baud: u32, latency: Duration, noise: Noise, max_block_bytes: u64) -> Self {
        let blocks = (21 << 20) / max_block_bytes as u32;
        let machine = Machine { blocks, max_block_bytes, seed: 3 };
        let mut session = Simulation::new(Setup { baud, latency, noise, machine, ..Setup::default() });
        session.run(Duration::from_secs(3600));
        session.assert_complete();

        // At the begin the sender does not know yet that it is heard; at the end it waits for what gets lost.
        let mut arrivals: Vec<_> = session.host.arrivals().map(|(number, at)| (at, number)).collect();
        arrivals.sort_unstable();
        let tenth = arrivals.len() / 10;
        let [under_way @ .., (end, _)] = &arrivals[tenth..9 * tenth] else { unreachable!() };
        let bytes: usize = under_way.iter().map(|&(_, number)| machine.block(number, 0).len()).sum();
        assert!(bytes >= 8 << 20, "{bytes}");
        let time = *end - under_way[0].0;
        Self {
            of_bytes: machine.bytes() as f64 / session.forward.carried as f64,
            of_rate: bytes as f64 / (Channel::bytes_per_second(baud) * time.as_secs_f64()),
        }
    }
}
