//! What each fuzz target does with its input, as ordinary functions.
//!
//! A function here is a target: `fuzz_targets/NAME.rs` hands it what libFuzzer makes up, `tests/corpus.rs` the inputs
//! kept in `corpus/NAME/`, on a stable compiler. It panics where the code breaks a promise: that any bytes are read
//! without a panic, that what was accepted is within its bounds, and that it is written back as it was read.
//!
//! To fuzz, with inputs found on the way kept apart from the corpus:
//!
//! ```text
//! cargo +nightly fuzz run NAME target/found/NAME corpus/NAME -- -max_total_time=60
//! ```
//!
//! To add a target: a function here and in [`TARGETS`], a file in `fuzz_targets/`, a `[[bin]]` in Cargo.toml, a few
//! inputs in [`seeds`], written by `cargo run --no-default-features --example write_seeds`.

mod crash;
mod device_tree;
mod dump;
mod host;
pub mod seeds;
mod sender;
mod slice_memory;

pub use crash::{elfcorehdr, memmap, notes_vmcoreinfo, page_walk, printk};
pub use device_tree::device_tree;
pub use dump::{elfcore, flattened, kdump_header};
pub use host::{block, frame_decoder, journal, kdump_reader, session};
pub use sender::sender;

/// A target's name and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("elfcorehdr", elfcorehdr),
    ("device_tree", device_tree),
    ("notes_vmcoreinfo", notes_vmcoreinfo),
    ("printk", printk),
    ("page_walk", page_walk),
    ("memmap", memmap),
    ("elfcore", elfcore),
    ("flattened", flattened),
    ("kdump_header", kdump_header),
    ("journal", journal),
    ("kdump_reader", kdump_reader),
    ("frame_decoder", frame_decoder),
    ("block", block),
    ("sender", sender),
    ("session", session),
];
