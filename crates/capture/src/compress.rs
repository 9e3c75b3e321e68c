//! Which way of compressing suits a line and a processor.

use alloc::vec::Vec;

use codec::{BLOCK_BYTES, Effort, Encoder as _, Lzma, Method, PIECE_BYTES, max_encoded_bytes};

use crate::Clock;
use crate::config::Compress;

/// The fastest line, in bytes per second, for which a dense LZMA's pauses do not matter: at 115200 baud a UART's FIFO of
/// 16 bytes holds what comes in 1.4 ms, and an acknowledgement is 16 bytes.
const DENSE_LINE: u64 = 11_520;

/// How many bytes a fast LZMA must compress for each byte of the line, that a dense one, three times as slow, keeps the line
/// full with pages that compress to a twelfth, as slab does.
const DENSE_SPEED: u64 = 36;

/// The most of a sample that is compressed to see how fast that is: at 1 MB/s, an emulated processor, 4 ms.
const MAX_SAMPLE_BYTES: usize = 4096;

/// How fast a method is, compared to LZMA, and how much smaller than it was it makes memory, in tenths.
///
/// On 1 MiB of kernel text and data, and on the machines of docs/benchmarks.md.
const METHODS: [(Method, u64, u64); 4] = [
    (Method::Lzma(Effort::Fast), 1, 50),
    (Method::Deflate, 5, 34),
    (Method::Lz4, 15, 26),
    (Method::None, 400, 10),
];

/// The method that gets most memory through: no more than it can compress, and no more than the line takes of what it makes.
#[must_use]
pub fn method_for(line_bytes_per_second: u64, lzma_bytes_per_second: u64) -> Method {
    let memory_per_second = |(_, speed, smaller): (Method, u64, u64)| {
        let compressed = lzma_bytes_per_second.saturating_mul(speed);
        compressed.min(line_bytes_per_second.saturating_mul(smaller) / 10)
    };
    // Of equals the first: it makes less.
    let best = METHODS
        .into_iter()
        .reduce(|best, other| if memory_per_second(other) > memory_per_second(best) { other } else { best });
    match best {
        Some((Method::Lzma(_), ..)) | None => lzma_for(line_bytes_per_second, lzma_bytes_per_second),
        Some((method, ..)) => method,
    }
}

fn lzma_for(line_bytes_per_second: u64, lzma_bytes_per_second: u64) -> Method {
    let is_dense = line_bytes_per_second <= DENSE_LINE.min(lzma_bytes_per_second / DENSE_SPEED);
    Method::Lzma(if is_dense { Effort::Dense } else { Effort::Fast })
}

/// The method that was asked for, or that suits a line. `lzma_speed` measures the processor, in bytes per second.
#[must_use]
pub fn choose(asked: Compress, line_bytes_per_second: u64, lzma_speed: impl FnOnce() -> u64) -> Method {
    match asked {
        Compress::Auto => method_for(line_bytes_per_second, lzma_speed()),
        // Without a look at the processor: who asks knows it.
        Compress::Lzma => lzma_for(line_bytes_per_second, u64::MAX),
        Compress::Deflate => Method::Deflate,
        Compress::Lz4 => Method::Lz4,
        Compress::None => Method::None,
    }
}

/// The method that was asked for, or LZ4: a network carries what the processor makes of it.
#[must_use]
pub fn for_network(asked: Compress) -> Method {
    match asked {
        Compress::Auto => Method::Lz4,
        asked => choose(asked, u64::MAX, || 0),
    }
}

/// How many bytes of `sample` LZMA would compress in a second. 0: there is no memory for it.
#[must_use]
pub fn lzma_speed(sample: &[u8], clock: &impl Clock) -> u64 {
    let sample = sample.get(..MAX_SAMPLE_BYTES).unwrap_or(sample);
    let Some(mut lzma) = Lzma::new(Effort::Fast) else { return 0 };
    let mut out = Vec::with_capacity(max_encoded_bytes(BLOCK_BYTES));
    lzma.begin();
    let started = clock.now();
    for piece in sample.chunks(PIECE_BYTES) {
        // That it does not fit is no matter here.
        let _ = lzma.write(piece, &mut out);
    }
    let _ = lzma.finish(&mut out);
    let nanoseconds = clock.now().saturating_sub(started).as_nanos().max(1);
    u64::try_from(sample.len() as u128 * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;
    use core::time::Duration;

    const MB: u64 = 1_000_000;

    #[test]
    fn slow_lines_get_lzma_even_of_slow_processors() {
        for lzma in [MB / 2, 4 * MB, 60 * MB] {
            assert_eq!(method_for(11_520, lzma), Method::Lzma(Effort::Dense), "{lzma}");
        }
        assert_eq!(method_for(960, 40_000), Method::Lzma(Effort::Dense));
        assert_eq!(method_for(960, 10_000), Method::Lzma(Effort::Fast), "dense is slower");
        assert_eq!(method_for(92_160, 4 * MB), Method::Lzma(Effort::Fast));
    }

    #[test]
    fn a_processor_too_slow_for_the_line_gets_something_faster() {
        assert_eq!(method_for(92_160, 60_000), Method::Deflate);
        assert_eq!(method_for(11_520, 1000), Method::Lz4);
        assert_eq!(method_for(92_160, 0), Method::Lzma(Effort::Fast), "unknown, and the encoder falls back");
    }

    #[test]
    fn fast_lines_get_what_keeps_them_full() {
        assert_eq!(method_for(10 * MB, 15 * MB), Method::Deflate);
        assert_eq!(method_for(125 * MB, 15 * MB), Method::Lz4);
        assert_eq!(method_for(2000 * MB, 15 * MB), Method::None);
    }

    #[test]
    fn hostile_rates_are_no_overflow() {
        for rate in [0, 1, u64::MAX] {
            let _ = (method_for(rate, u64::MAX), method_for(u64::MAX, rate));
        }
    }

    #[test]
    fn what_is_asked_for_is_not_measured() {
        let never = || unreachable!("only auto has to know");
        assert_eq!(choose(Compress::Lzma, 92_160, never), Method::Lzma(Effort::Fast));
        assert_eq!(choose(Compress::Lzma, 11_520, never), Method::Lzma(Effort::Dense));
        assert_eq!(choose(Compress::Lz4, 960, never), Method::Lz4);
        assert_eq!(choose(Compress::Auto, 11_520, || MB), Method::Lzma(Effort::Dense));
    }

    #[test]
    fn the_speed_is_the_sample_by_the_clock() {
        /// A millisecond from one look to the next.
        struct Steps(Cell<u64>);
        impl Clock for Steps {
            fn now(&self) -> Duration {
                self.0.set(self.0.get() + 1);
                Duration::from_millis(self.0.get())
            }
        }
        let steps = || Steps(Cell::new(0));
        assert_eq!(lzma_speed(&[7; 4096], &steps()), 4096 * 1000);
        assert_eq!(lzma_speed(&[7; 9999], &steps()), 4096 * 1000, "and no more than that is compressed");
        assert_eq!(lzma_speed(&[], &steps()), 0);
    }
}
