//! Trials of one snapshot: the same vmcore comes of each.

use std::fs;
use std::sync::OnceLock;

use crate::{Crashed, Received, info};

/// The vmcore that every trial of a machine has to give.
#[derive(Default)]
pub struct SameVmcore(OnceLock<Vec<u8>>);

impl SameVmcore {
    /// Of which no trial is known yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// What was received of `crashed` is complete, and to the byte what came of the first trial, which is compared with the
    /// machine's memory.
    pub fn judge(&self, crashed: &Crashed, received: &Received) {
        let path = received.vmcore();
        let info = info(&path);
        assert!(info.lines().any(|line| line.starts_with("complete") && line.ends_with("yes")), "{info}");
        let vmcore = fs::read(&path).unwrap();
        let first = self.0.get_or_init(|| {
            received.compare(&crashed.truth).assert_every_page();
            vmcore.clone()
        });
        assert!(vmcore == *first, "it is not the vmcore of the first trial");
    }
}
