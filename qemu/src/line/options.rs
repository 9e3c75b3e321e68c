//! What a line is between and what it does, as the command line of `rcapture-qemu line`.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::channel::Quality;
use super::endpoint::Endpoint;
use crate::noise::probability;

/// A paced line buffers what a tty in the kernel does; beyond that a receiver that does not read loses.
const PACED_BUFFER: usize = 64 << 10;
/// At full speed nothing is to be lost: a whole dump fits.
const FULL_SPEED_BUFFER: usize = 1 << 30;

/// A line: its ends, its rate, its faults. [`LineOptions::default`] is a perfect one at full speed.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct LineOptions {
    /// The target's end
    #[arg(long, value_name = "ENDPOINT")]
    pub target: Option<Endpoint>,
    /// The host's end
    #[arg(long, value_name = "ENDPOINT")]
    pub host: Option<Endpoint>,
    /// Bits per second, ten to a byte [default: full speed]
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u32).range(50..))]
    pub baud: Option<u32>,
    /// Seed of everything that happens by chance
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,
    /// Probability that a bit is wrong, for each of a byte's ten
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.0, value_parser = probability)]
    pub bit_errors: f64,
    /// Probability that a byte vanishes
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.0, value_parser = probability)]
    pub drop: f64,
    /// Probability that a random byte follows a byte
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.0, value_parser = probability)]
    pub insert: f64,
    /// Milliseconds a byte is on its way
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    pub latency_ms: u64,
    /// Nothing gets through from this to that second after the start (may be repeated)
    #[arg(long, value_name = "FROM..TO", value_parser = window)]
    pub cut: Vec<CutWindow>,
    /// Nothing gets from the host to the target
    #[arg(long)]
    pub one_way: bool,
    /// Bytes kept for a host that does not read; later ones are lost [default: 64 KiB, 1 GiB at full speed]
    #[arg(long, value_name = "BYTES")]
    pub buffer: Option<usize>,
    /// Write what the target sent, before any fault, to this file
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

/// A time during which a line is cut, in milliseconds after its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutWindow {
    /// First millisecond.
    pub from_ms: u64,
    /// First millisecond after it.
    pub to_ms: u64,
}

impl LineOptions {
    /// As arguments of `rcapture-qemu line`.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                arguments.push(format!("--{name}={value}"));
            }
        };
        add("target", self.target.as_ref().map(ToString::to_string));
        add("host", self.host.as_ref().map(ToString::to_string));
        add("baud", self.baud.map(|baud| baud.to_string()));
        add("seed", Some(self.seed.to_string()));
        add("bit-errors", Some(self.bit_errors.to_string()));
        add("drop", Some(self.drop.to_string()));
        add("insert", Some(self.insert.to_string()));
        add("latency-ms", Some(self.latency_ms.to_string()));
        for CutWindow { from_ms, to_ms } in &self.cut {
            let seconds = |ms: &u64| format!("{}.{:03}", ms / 1000, ms % 1000);
            add("cut", Some(format!("{}..{}", seconds(from_ms), seconds(to_ms))));
        }
        add("buffer", self.buffer.map(|buffer| buffer.to_string()));
        add("record", self.record.as_ref().map(|path| path.to_string_lossy().into_owned()));
        if self.one_way {
            arguments.push("--one-way".into());
        }
        arguments
    }

    pub(crate) fn to_host(&self) -> Quality {
        Quality {
            baud: self.baud,
            latency: Duration::from_millis(self.latency_ms),
            bit_errors: self.bit_errors,
            drop: self.drop,
            insert: self.insert,
            cuts: self.cut.iter().map(CutWindow::range).collect(),
            severed: false,
            buffer: self.buffer.unwrap_or(if self.baud.is_some() { PACED_BUFFER } else { FULL_SPEED_BUFFER }),
        }
    }

    pub(crate) fn to_target(&self) -> Quality {
        Quality { severed: self.one_way, ..self.to_host() }
    }
}

impl CutWindow {
    const fn range(&self) -> Range<Duration> {
        Duration::from_millis(self.from_ms)..Duration::from_millis(self.to_ms)
    }
}

fn window(text: &str) -> Result<CutWindow, String> {
    let (from, to) = text.split_once("..").ok_or("FROM..TO, in seconds")?;
    let milliseconds = |seconds: &str| {
        let time = seconds.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let time = time.ok_or_else(|| format!("{seconds:?} is not a number of seconds"))?;
        // Rounded, because 1.001 s is 1.000999… as a double.
        u64::try_from((time + Duration::from_micros(500)).as_millis()).map_err(|error| error.to_string())
    };
    Ok(CutWindow { from_ms: milliseconds(from)?, to_ms: milliseconds(to)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: LineOptions,
    }

    fn parse(arguments: Vec<String>) -> LineOptions {
        Line::parse_from(std::iter::once("line".to_owned()).chain(arguments)).options
    }

    #[test]
    fn options_survive_the_command_line() {
        let options = LineOptions {
            target: Some(Endpoint::UnixListen("/run/a b".into())),
            host: Some(Endpoint::TcpConnect("localhost:7707".into())),
            baud: Some(115_200),
            seed: u64::MAX,
            bit_errors: 1e-5,
            drop: 0.25,
            insert: 3e-7,
            latency_ms: 40,
            cut: vec![CutWindow { from_ms: 1001, to_ms: 2500 }, CutWindow { from_ms: 60_000, to_ms: 61_000 }],
            one_way: true,
            buffer: Some(4096),
            record: Some("/tmp/-record".into()),
        };
        assert_eq!(parse(options.arguments()), options);
        assert_eq!(parse(LineOptions::default().arguments()), LineOptions::default());
    }

    #[test]
    fn wrong_values_are_refused() {
        for wrong in ["--bit-errors=2", "--cut=5", "--cut=a..b", "--baud=0", "--target=gopher:x"] {
            assert!(Line::try_parse_from(["line", wrong]).is_err(), "{wrong}");
        }
    }
}
