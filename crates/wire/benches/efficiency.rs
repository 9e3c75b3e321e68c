//! How much of a line's rate is left for blocks, by the sessions that the tests simulate. Time is virtual: the same
//! numbers come out on any machine.
#![allow(missing_docs, reason = "a benchmark")]

#[path = "../tests/simulation/mod.rs"]
mod simulation;

use simulation::{COMPRESSED, Efficiency, MS, Noise};

fn main() {
    // Criterion's way of choosing: names that contain the word.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if filter.is_some_and(|filter| !"efficiency".contains(&filter)) {
        return;
    }
    let dropped = Noise { drop: 1e-3, ..Noise::default() };
    let errors = [
        ("none", Noise::default()),
        ("bits 1e-6", Noise::bit_errors(1e-6)),
        ("bits 1e-5", Noise::bit_errors(1e-5)),
        ("0.1 % lost", dropped),
    ];
    // Between the marks of the table's place in docs/benchmarks.md.
    println!("<!-- begin efficiency -->");
    println!("| baud | latency | errors: {} |", errors.map(|(name, _)| name).join(" | "));
    println!("| ---: | ---: |{}", errors.map(|_| " ---: |").concat());
    for baud in [115_200, 921_600, 3_000_000] {
        for latency in [0, 20, 200] {
            let cells = errors.map(|(_, noise)| {
                let Efficiency { of_bytes, of_rate } =
                    Efficiency::measure(baud, latency * MS, noise, COMPRESSED);
                format!(" {:.1} % ({:.1} %) |", of_bytes * 100.0, of_rate * 100.0)
            });
            println!("| {baud} | {latency} ms |{}", cells.concat());
        }
    }
    println!("<!-- end efficiency -->");
}
