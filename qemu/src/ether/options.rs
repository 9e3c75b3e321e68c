//! What an Ethernet does to frames, as the command line of `rcapture-qemu ether`.

use clap::Args;

use crate::noise::probability;

/// The faults of an Ethernet. [`EtherOptions::default`] is one without.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct EtherOptions {
    /// Seed of everything that happens by chance
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,
    /// Probability that a frame is lost
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.0, value_parser = probability)]
    pub loss: f64,
    /// Probability that a frame is held back for 3 ms, and overtaken by those that follow meanwhile
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.0, value_parser = probability)]
    pub reorder: f64,
    /// Probability that a frame comes twice
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.0, value_parser = probability)]
    pub double: f64,
    /// Bytes that a TCP segment carries at most: both ends are told that the other takes no more (MSS, RFC 9293 3.7.1)
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(32..))]
    pub mss: Option<u16>,
}

impl EtherOptions {
    /// As arguments of `rcapture-qemu ether`.
    pub(super) fn arguments(&self) -> Vec<String> {
        let Self { seed, loss, reorder, double, mss } = self;
        let mut arguments = vec![
            format!("--seed={seed}"),
            format!("--loss={loss}"),
            format!("--reorder={reorder}"),
            format!("--double={double}"),
        ];
        arguments.extend(mss.map(|mss| format!("--mss={mss}")));
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Ether {
        #[command(flatten)]
        options: EtherOptions,
    }

    #[test]
    fn options_survive_the_command_line() {
        let all = EtherOptions { seed: u64::MAX, loss: 0.01, reorder: 1e-7, double: 1.0, mss: Some(100) };
        for options in [all, EtherOptions::default()] {
            let arguments = std::iter::once("ether".to_owned()).chain(options.arguments());
            assert_eq!(Ether::parse_from(arguments).options, options);
        }
        for wrong in ["--loss=2", "--mss=0", "--seed=x"] {
            assert!(Ether::try_parse_from(["ether", wrong]).is_err(), "{wrong}");
        }
    }
}
